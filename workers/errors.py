"""Errors of the processes.

CrosscheckError                 schemas/errors.py
└── WorkerError
    ├── SettingsError           a setting is missing, of the wrong type or impossible
    ├── ServiceError            Kafka or Redis cannot be reached, started or stopped
    │   ├── BusError            a record could not be produced, consumed or committed
    │   │   ├── OffsetGap       records were deleted before they were read
    │   │   └── RecordTooLarge  a record is over a limit: sending it again never helps
    │   └── StoreError          Redis refused or lost a write
    ├── SourceError             a capture source cannot be read
    └── DeadLetterFlood         too many unreadable records: the worker stops loudly
"""

from __future__ import annotations

from schemas.errors import CrosscheckError


class WorkerError(CrosscheckError):
    """Base of what goes wrong in a process rather than in a message or a model."""

    reason = "worker"


class SettingsError(WorkerError):
    """A setting is missing, of the wrong type or impossible."""

    reason = "settings"


class ServiceError(WorkerError):
    """Kafka or Redis cannot be reached, started or stopped."""

    reason = "service"
    retriable = True


class BusError(ServiceError):
    """A record could not be produced, consumed or committed."""

    reason = "bus"


class OffsetGap(BusError):
    """Records were deleted before they were read, or the topic was made anew under a committed offset.

    ``wanted`` is the offset to be read next; ``beginning`` and ``end`` are what the partition holds now.
    """

    reason = "offset_gap"
    retriable = False

    def __init__(self, topic: str, partition: int, *, wanted: int, beginning: int, end: int) -> None:
        self.topic = topic
        self.partition = partition
        self.wanted = wanted
        self.beginning = beginning
        self.end = end
        if wanted < beginning:
            what = f"{self.missing} records were deleted before they were read: raise the topic's retention"
        else:
            what = "the topic is shorter than what was read of it: it was deleted and made anew"
        where = f"{topic}[{partition}]"
        super().__init__(f"{where}: expected offset {wanted}, kept are {beginning} to {end}; {what}")

    @property
    def missing(self) -> int:
        """How many records are gone unread."""
        return max(0, self.beginning - self.wanted)

    @property
    def resume_at(self) -> int:
        """Where to seek: the first record that was not read and still exists."""
        return self.beginning


class RecordTooLarge(BusError):
    """A record is over the client's or the topic's limit: sending it again never helps."""

    reason = "record_too_large"
    retriable = False


class StoreError(ServiceError):
    """Redis refused or lost a write."""

    reason = "store"


class SourceError(WorkerError):
    """A capture source cannot be read."""

    reason = "source"


class DeadLetterFlood(WorkerError):
    """Too many unreadable records: something upstream is broken, and going on would hide it."""

    reason = "deadletter_flood"
