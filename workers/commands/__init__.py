"""The commands of ``crosscheck``, one a file."""
