"""The whole line on one machine: taught, run, broken on purpose, and counted."""
