"""Profiles: one a file, all behind the protocol of base.py."""
