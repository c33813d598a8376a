"""Errors of the processes.

    CrosscheckError                 schemas/errors.py
    └── WorkerError
        ├── SettingsError           a setting is missing, of the wrong type or impossible
        ├── ServiceError            Kafka or Redis cannot be reached, started or stopped
        │   ├── BusError            a record could not be produced, consumed or committed
        │   │   └── OffsetGap       records were deleted before they were read
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
    """Records were deleted before they were read."""

    reason = "offset_gap"
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
