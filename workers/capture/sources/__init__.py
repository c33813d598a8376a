"""What stands in for cameras: a folder replayed, and a synthetic line."""

from workers.capture.sources.base import Shot
from workers.capture.sources.folder import FolderSource
from workers.capture.sources.line import SyntheticLine

__all__ = ["FolderSource", "Shot", "SyntheticLine"]
