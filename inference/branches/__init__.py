"""Scoring branches: one a file, all behind the protocol of base.py."""
