"""Shadow mode: a candidate bundle scores the frames of the line and decides nothing."""

from workers.shadow.report import ShadowPart, ShadowReport, read_shadow

__all__ = ["ShadowPart", "ShadowReport", "read_shadow"]
