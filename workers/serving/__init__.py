"""Bundles in service: which one judges which product, and how another takes over while the line runs."""
