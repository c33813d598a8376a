"""Feature extractors: one a file."""
