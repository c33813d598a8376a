"""When frames go to the disk, when they are given up, and how long the broker may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxSettings:
    """How an outbox behaves; times in seconds, sizes in bytes.

    Attributes:
        window_bytes: in flight at once; as much again may wait in memory.
        delivery_timeout_s: after this the broker is asked anew.
        spill_after_s: what is not acknowledged after this goes to the disk.
        expired_after_s: a frame that waits this long past its deadline is told by a notice instead of being
            sent; None sends it all the same.
    """

    window_bytes: int = 64 * 2**20
    delivery_timeout_s: float = 10.0
    spill_after_s: float = 1.0
    expired_after_s: float | None = 1.0
