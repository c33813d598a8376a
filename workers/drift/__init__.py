"""Drift: what a station's good parts look like now, against how they looked when thresholds were set."""

from workers.drift.reading import DriftReading, read_drift

__all__ = ["DriftReading", "read_drift"]
