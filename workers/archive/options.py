"""What is archived, and how."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from schemas.part import PartKey
from workers.archive.rows import Format
from workers.archive.shifts import Shifts


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOptions:
    """The choices of one archive.

    Attributes:
        shifts: when a shift begins.
        format: of the tables.
        sample: share of passed parts whose images are kept, chosen by a hash of the part key.
        max_rows, max_age_s: a chunk of one partition is written with so many rows, or so many seconds after
            its first.
        grace_s: seconds after its end before a shift is sealed; what comes later is filed under the next.
    """

    shifts: Shifts
    format: Format = "parquet"
    sample: float = 0.01
    max_rows: int = 5000
    max_age_s: float = 300.0
    grace_s: float = 300.0


def sampled(part: PartKey, share: float) -> bool:
    """Whether a part is in the sample: the same answer on every machine and every time."""
    return int.from_bytes(hashlib.sha256(str(part).encode()).digest()[:8]) < share * 2**64
