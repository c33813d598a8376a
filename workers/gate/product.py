"""Whether a part's verdict was made for the product that the line really carries, where a PLC says which.

What is known comes from Redis (``workers.changeover``) and only ever grows with the PLC's word, so that an
old copy of it, a lost one or none can keep a good part out, and never let a wrong one through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from schemas.errors import SchemaError
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict
from workers.changeover.due import Due
from workers.clock import Clock
from workers.errors import StoreError
from workers.gate import events
from workers.gate.decision import GateDecision, Reason, closed
from workers.gate.parts import Arrival

ASK_S = 0.02
"""Seconds between two questions, at least."""
_DEAF_S = 0.5
_NOTHING = Due(product=None, number=None, since=0, issued_at=0, seen_at=0, why="nothing is known")


class ProductStore(Protocol):
    """The part of ``workers.store.VerdictStore`` that says the product. It may raise StoreError."""

    def product(self, station: str) -> dict[str, str]:
        """What was said last; empty where no PLC says it."""
        ...


class DueProduct:
    """The product check of one gate.

    ``ask`` belongs to the thread that speaks with the store, everything else to the gate's loop.

    A station whose hash is missing is not checked, unless it was there before in the life of this process or
    ``required`` says that it must be: a Redis that lost its data must not end the check. Until Redis has
    answered for the first time nothing passes.

    Args:
        required: a PLC says the product: without its word nothing passes.
        alarm: called with an event name and facts.
    """

    def __init__(
        self,
        *,
        station: str,
        clock: Clock,
        required: bool,
        alarm: Callable[[str, Mapping[str, object]], None],
    ) -> None:
        self._station = station
        self._clock = clock
        self._alarm = alarm
        # Replaced as a whole: the gate's loop reads it while the other thread writes.
        self._due: Due | None = _NOTHING
        self._sticky = required
        self._seen: tuple[bytes, Verdict | None] | None = None
        self._ask_at = 0.0
        self._deaf = False
        self._unreadable = False

    def ask(self, store: ProductStore) -> None:
        """Hear what is known now. Raises no StoreError: verdicts may come where this is refused."""
        now = self._clock.monotonic()
        if now < self._ask_at:
            return
        self._ask_at = now + ASK_S
        try:
            raw = store.product(self._station)
        except StoreError as error:
            self._ask_at = now + _DEAF_S
            if not self._deaf:
                self._alarm(events.ALARM_PRODUCT_DEAF, {"error": str(error)})
            self._deaf = True
            return
        self._deaf = False
        if not raw:
            self._due = _NOTHING if self._sticky else None
            return
        self._sticky = True
        try:
            self._due = Due.from_map(raw)
        except SchemaError as error:
            self._due = _NOTHING
            if not self._unreadable:
                self._alarm(events.ALARM_PRODUCT_DEAF, {"error": str(error)})
            self._unreadable = True
            return
        self._unreadable = False

    def waits(self, arrival: Arrival, verdict: bytes) -> bool:
        """Whether more may yet be known of this part's product: an early gate waits until the part is due."""
        due = self._due
        if due is None:
            return False
        if not due.settled(arrival.triggered_at):
            return True
        said = self._read(verdict)
        return said is not None and not due.settled(said.captured_at)

    def judge(self, found: GateDecision, arrival: Arrival, verdict: bytes | None) -> GateDecision:
        """What the gate does, where without this check it would do ``found``.

        Args:
            verdict: the bytes that it rests on.
        """
        due = self._due
        if due is None or not found.opened or verdict is None:
            return found
        said = self._read(verdict)
        if said is not None:
            # An agent may say that it took the picture before or after the trigger.
            first, last = sorted((arrival.triggered_at, said.captured_at))
            if due.covers(said.product, first, last):
                return found
        return closed(found.part, Decision.ERROR, Reason.PRODUCT)

    def _read(self, verdict: bytes) -> Verdict | None:
        """The verdict; an early gate asks after the same one in every turn."""
        if self._seen is None or self._seen[0] is not verdict:
            try:
                self._seen = (verdict, decode_verdict(verdict))
            except SchemaError:
                self._seen = (verdict, None)
        return self._seen[1]

    def name(self, moment: int, otherwise: str) -> str:
        """The product that was due at that moment, for records; ``otherwise`` where nobody knows."""
        due = self._due
        return otherwise if due is None else due.at(moment) or otherwise
