"""The steps of the inspection worker's loop, one a file, none calling back."""
