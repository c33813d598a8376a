"""Capture: what a camera's loop calls, sources that stand in for cameras, and the agent that runs them."""

from workers.capture.agent import CaptureAgent, CaptureReport
from workers.capture.buffer import DiskBuffer
from workers.capture.log import AgentLog
from workers.capture.publisher import Publisher
from workers.capture.sources import FolderSource, Shot, SyntheticLine

__all__ = [
    "AgentLog",
    "CaptureAgent",
    "CaptureReport",
    "DiskBuffer",
    "FolderSource",
    "Publisher",
    "Shot",
    "SyntheticLine",
]
