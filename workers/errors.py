"""Errors of the processes.

CrosscheckError                 schemas/errors.py
└── WorkerError
    ├── SettingsError           a setting is missing, of the wrong type or impossible
    ├── ServiceError            Kafka or Redis cannot be reached, started or stopped
    │   ├── BusError            a record could not be produced, consumed or committed
    │   │   ├── Fenced          a successor has taken over: this process is to end
    │   │   ├── OffsetGap       records were deleted before they were read
    │   │   └── RecordTooLarge  a record is over a limit: sending it again never helps
    │   ├── StoreError          Redis refused or lost a write
    │   ├── ArchiveError        the archive's store is away, full or refuses
    │   └── RegistryError       the store of bundles is away, or a fetched one cannot be written
    ├── UndecodableRecord       what lies in a topic cannot be decoded by any client of ours
    ├── SourceError             a capture source cannot be read
    ├── ClockOffset             a station's clock is too far from ours for its deadlines to mean anything
    ├── FutureRun               a part's run begins later than it is now: its agent's clock was ahead once
    ├── StationTaken            another agent makes the parts of the station already
    ├── Changeover              a part was captured while its station changed from one product to another
    ├── ActuatorError           the gate's actuator did not confirm what it was told
    ├── PlcError                the PLC that says the product does not answer, or answers nonsense
    ├── BufferFull              the agent's disk buffer has no room left
    ├── StationParked           too many records of a station could not be read: its parts are not judged
    └── DeadLetterFlood         nothing that is read can be read: the worker stops loudly
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


class Fenced(BusError):
    """A newer producer of the same transactional id, or consumer of the same static member, has taken over.

    Its successor has the work already: the process that sees this is to end, and neither to retry nor to open
    a new client, which would fence the successor in turn.
    """

    reason = "fenced"
    retriable = False

    @classmethod
    def producer(cls, transactional_id: str) -> Fenced:
        """A producer's words; the broker answers one whose transaction took too long in the same way."""
        return cls(
            f"producer {transactional_id} was fenced: a newer producer has its transactional id, or its"
            " transaction was open for longer than transaction_timeout; end this process, and let its"
            " supervisor start it again"
        )

    @classmethod
    def consumer(cls, member: str) -> Fenced:
        """A static member's words."""
        return cls(
            f"consumer {member} was fenced: a newer consumer of this static member has taken over; end this"
            " process, and give each worker a member name of its own"
        )


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
            what = "what was read of the topic is not in it: it was deleted and made anew"
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


class ArchiveError(ServiceError):
    """The archive's store is away, full or refuses: nothing is committed, the same call may succeed later."""

    reason = "archive"


class RegistryError(ServiceError):
    """The store of bundles is away, or what was fetched cannot be written: trying again may help."""

    reason = "registry"


class SourceError(WorkerError):
    """A capture source cannot be read."""

    reason = "source"


class BufferFull(WorkerError):
    """The agent's disk buffer has no room, by its own bound or by the disk's. What is given up is told."""

    reason = "buffer_full"


class ActuatorError(WorkerError):
    """The gate's actuator did not confirm what it was told: the gate counts as closed and is closed again."""

    reason = "actuator"
    retriable = True


class PlcError(WorkerError):
    """The PLC that says the product does not answer, or not as agreed: the product is not known meanwhile."""

    reason = "plc"
    retriable = True


class ClockOffset(WorkerError):
    """A station's clock is too far from this machine's for its deadlines to mean anything here.

    ``offset_s`` is the station's clock less ours, ``bound_s`` what is allowed, both in seconds.
    """

    reason = "clock_offset"

    def __init__(self, station: str, offset_s: float, bound_s: float) -> None:
        self.station = station
        self.offset_s = offset_s
        self.bound_s = bound_s
        where = "ahead of" if offset_s > 0 else "behind"
        super().__init__(
            f"station {station}: its clock is {abs(offset_s):.3f} s {where} this worker's, at most"
            f" {bound_s:g} s are allowed; synchronise both by NTP or PTP, or raise"
            " CROSSCHECK_MAX_CLOCK_OFFSET_MS"
        )


class FutureRun(WorkerError):
    """A part's run begins later than it is now, so its number orders nothing: its agent's clock was ahead.

    ``ahead_s`` is how far in seconds, ``bound_s`` what is allowed.
    """

    reason = "future_run"

    def __init__(self, station: str, run: int, ahead_s: float, bound_s: float) -> None:
        self.station = station
        super().__init__(
            f"station {station}: run {run} begins {ahead_s:.3f} s after now, at most {bound_s:g} s are"
            " allowed: the agent's clock was ahead when it began; synchronise it by NTP or PTP, and start the"
            " agent again"
        )


class StationTaken(WorkerError):
    """Another agent makes the parts of the station already: two would name each trigger twice."""

    reason = "station_taken"

    def __init__(self, station: str, holder: str, free_after_s: float) -> None:
        super().__init__(
            f"station {station}: {holder}, makes its parts already: stop it, or name another station"
            " (--station); after it has ended, by a crash too, the station is free within"
            f" {free_after_s:g} s"
        )


class Changeover(WorkerError):
    """A part was captured while its station changed from one product to another: it could be of either."""

    reason = "changeover"

    def __init__(self, station: str, product: str) -> None:
        super().__init__(
            f"station {station}: captured while the line changed to product {product!r}; look at the part, or"
            " send it through again"
        )


class UndecodableRecord(WorkerError):
    """What lies in a topic could not be decoded by the Kafka client: one record, or a stretch of them."""

    reason = "undecodable"


class StationParked(WorkerError):
    """Too many records of a station could not be read: until that ends, none of its parts is judged."""

    reason = "parked"


class DeadLetterFlood(WorkerError):
    """Too many unreadable records of all stations: this worker is at fault, or all that feeds it."""

    reason = "deadletter_flood"
