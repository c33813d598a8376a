"""Files that were rotated: which belong together, and which is older.

A journal counts up: ``JOURNAL.1`` is its oldest segment, ``JOURNAL`` the current one, so that one rename
makes a new segment. An agent's log counts from the newest: ``LOG.1`` was ``LOG`` before the last rotation.
"""

from __future__ import annotations

import os
from pathlib import Path


def identity(status: os.stat_result) -> tuple[int, int]:
    """What a file is, whatever its name: device and inode."""
    return status.st_dev, status.st_ino


def numbered(path: Path) -> list[tuple[int, Path]]:
    """The files ``PATH.1``, ``PATH.2`` and so on that exist, by number."""
    prefix = path.name + "."
    try:
        names = [item.name for item in path.parent.iterdir()]
    except OSError:
        return []
    numbers = [
        rest
        for name in names
        if name.startswith(prefix)
        and (rest := name[len(prefix) :]).isascii()
        and rest.isdigit()
        and rest[0] != "0"
    ]
    return sorted((int(rest), path.with_name(prefix + rest)) for rest in numbers)


def journal_segments(path: Path) -> list[Path]:
    """All segments of a gate's journal, oldest first; the current one may be missing."""
    return [file for _, file in numbered(path)] + ([path] if path.exists() else [])


def log_segments(path: Path) -> list[Path]:
    """All files of an agent's log, oldest first; the current one may be missing."""
    return [file for _, file in reversed(numbered(path))] + ([path] if path.exists() else [])
