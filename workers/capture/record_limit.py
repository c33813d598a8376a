"""How large a frame may be: what the settings say, or the topic where it takes less."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from schemas.part import PartKey
from schemas.wire import MAX_MESSAGE_BYTES
from workers.bus.base import BATCH_OVERHEAD_BYTES, MAX_BATCH_BYTES, Bus, largest_message
from workers.capture import events
from workers.errors import BusError, RecordTooLarge, SettingsError
from workers.topics import SMALLER

_log = structlog.get_logger(__name__)


class RecordLimit:
    """The largest frame of one topic, known before it is sent. Any thread may call it.

    Args:
        topic: where frames go.
        record_bytes: what brokers take at most, batch and all (their ``max.message.bytes``).

    Raises:
        SettingsError: a limit under which no frame could be sent, or over that of the wire.
    """

    def __init__(self, topic: str, record_bytes: int = MAX_BATCH_BYTES) -> None:
        if not 0 < largest_message(record_bytes - BATCH_OVERHEAD_BYTES) <= MAX_MESSAGE_BYTES:
            raise SettingsError(
                f"largest record (max_record_bytes, CROSSCHECK_MAX_RECORD_BYTES) {record_bytes}: use what the"
                f" brokers take, from 262144 to {MAX_BATCH_BYTES}"
            )
        self._topic = topic
        self._lock = threading.Lock()
        self._ours = record_bytes
        self._record_bytes = record_bytes

    @property
    def message(self) -> int:
        """The largest encoded frame, bytes."""
        return max(0, largest_message(self._record_bytes - BATCH_OVERHEAD_BYTES))

    def seen_at(self, open_bus: Callable[[], Bus]) -> Callable[[], Bus]:
        """The same, and the topic's own limit is looked at whenever a bus was opened."""

        def opened() -> Bus:
            bus = open_bus()
            self.look(bus)
            return bus

        return opened

    def look(self, bus: Bus) -> None:
        """See what the topic takes, and say it where that is less than the settings say."""
        try:
            found = bus.largest_record(self._topic)
        except BusError:
            return  # away again: what is too large for the topic is refused by it
        if found is None:
            return
        theirs = found + BATCH_OVERHEAD_BYTES
        with self._lock:
            lower = theirs < self._ours
            self._record_bytes = min(self._ours, theirs)
        if lower:
            _log.warning(
                events.TOPIC_LIMIT,
                topic=self._topic,
                topic_takes=theirs,
                setting=self._ours,
                largest_frame=self.message,
                fix="larger frames are refused here: raise the topic's limit with `crosscheck topics`, or set"
                f" CROSSCHECK_MAX_RECORD_BYTES={theirs} for agents, workers and `crosscheck topics`",
            )

    def refusal(self, part: PartKey, size: int) -> RecordTooLarge | None:
        """Why a frame of ``size`` bytes is not sent; None where it may be."""
        limit = self.message
        if size <= limit:
            return None
        whose = "CROSSCHECK_MAX_RECORD_BYTES" if self._record_bytes == self._ours else f"topic {self._topic}"
        return RecordTooLarge(
            f"part {part}: its frame of {size} bytes is over the limit of {limit} bytes ({whose}):"
            f" {SMALLER}; or raise CROSSCHECK_MAX_RECORD_BYTES (now {self._ours}) for agents, workers and"
            " `crosscheck topics`, as far as the broker allows"
        )
