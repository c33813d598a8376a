"""A name and an open file are two things: twice a second the gate sees that they still belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workers.clock import Clock
from workers.gate import events
from workers.gate.journal import Journal, JournalError
from workers.gate.parts import PartSource

_LOOK_S = 0.5


class FileWatch:
    """Looks after the journal and the source of a gate, and tells what befell them.

    Args:
        shut: called where the journal cannot be made good: the gate closes.

    Attributes:
        gone: the journal is not at its name and could not be made good.
    """

    def __init__(
        self,
        journal: Journal,
        source: PartSource,
        clock: Clock,
        alarm: Callable[[str, Mapping[str, object]], None],
        shut: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._source = source
        self._clock = clock
        self._alarm = alarm
        self._shut = shut
        self._next = 0.0
        self.gone = False

    def look(self) -> None:
        """Called in every turn."""
        now = self._clock.monotonic()
        if now >= self._next:
            self._next = now + _LOOK_S
            self._look_at_journal()
            for says in self._source.look():
                self._alarm(events.ALARM_SOURCE_FILE, {"error": says})
        # Writing looks too.
        for says in self._journal.befallen():
            self._alarm(events.ALARM_JOURNAL_FILE, {"error": says})

    def _look_at_journal(self) -> None:
        try:
            self._journal.look()
        except JournalError as error:
            self._shut()
            if not self.gone:
                self._alarm(events.ALARM_JOURNAL, {"error": str(error)})
            self.gone = True
            return
        self.gone = False
        self._journal.remember()
