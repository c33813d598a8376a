"""The dead letters read back, and sent again without ever changing what was decided."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_capture, decode_verdict, salvage_part
from workers.bus.base import Bus, Headers, Producer, Record, TopicPartition
from workers.clock import Clock
from workers.errors import SourceError
from workers.scan import record_at, records
from workers.steps.deadletter import ERROR, LEFT_OUT, ORIGIN, REASON, REPLAYED, TIME, UNTIL, WORKER
from workers.store.verdicts import VerdictStore

REPLAY_OF = "crosscheck-replay-of"
"""On a note in the dead-letter topic: the letter of this offset was sent again."""
SENT_TO = "crosscheck-sent-to"

_OURS = frozenset({REASON, ERROR, ORIGIN, WORKER, TIME, LEFT_OUT, UNTIL, REPLAYED})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One dead letter, without its bytes.

    Attributes:
        offset: in the dead-letter topic.
        reason, error: why it could not be read.
        origin: where it lay; None where its header cannot be read.
        part: whose it is, as far as it still says.
        at: when it was put there, integer nanoseconds since the epoch.
        size: bytes of the original value.
        until: the last offset of a stretch that could not be decoded; None: it was one record.
        left_out: its value is not in the letter: it was too large.
        replay_of: it is itself a letter that was sent again and died again.
        sent_to: where it was sent again, as TOPIC/PARTITION/OFFSET; None for never.
    """

    offset: int
    reason: str
    error: str
    origin: tuple[TopicPartition, int] | None
    part: PartKey | None
    worker: str
    at: int
    size: int
    until: int | None = None
    left_out: bool = False
    replay_of: int | None = None
    sent_to: str | None = None


def _text(record: Record, name: str) -> str:
    return (record.header(name) or b"").decode("utf-8", "replace")


def _number(record: Record, name: str) -> int | None:
    text = _text(record, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def letter_of(record: Record) -> DeadLetter:
    """What the headers of a dead letter say; whatever is missing or damaged is left empty."""
    topic, _, rest = _text(record, ORIGIN).rpartition("/")[0].rpartition("/")
    offset = _text(record, ORIGIN).rpartition("/")[2]
    known = topic and rest.isascii() and rest.isdigit() and offset.isascii() and offset.isdigit()
    left_out, until = _number(record, LEFT_OUT), _number(record, UNTIL)
    return DeadLetter(
        offset=record.offset,
        reason=_text(record, REASON) or "unknown",
        error=_text(record, ERROR),
        origin=(TopicPartition(topic, int(rest)), int(offset)) if known else None,
        part=salvage_part(record.value, record.key) if until is None else None,
        worker=_text(record, WORKER),
        at=_number(record, TIME) or record.timestamp_ms * 1_000_000,
        size=len(record.value) if left_out is None else left_out,
        until=until,
        left_out=left_out is not None,
        replay_of=_number(record, REPLAYED),
    )


def letters(bus: Bus, topic: str) -> list[DeadLetter]:
    """All letters of a dead-letter topic, oldest first, each with whether it was sent again."""
    found: dict[int, DeadLetter] = {}
    for record in records(bus, topic):
        noted = _number(record, REPLAY_OF)
        if noted is None:
            found[record.offset] = letter_of(record)
        elif noted in found:
            found[noted] = replace(found[noted], sent_to=_text(record, SENT_TO))
    return list(found.values())


class Fate(StrEnum):
    """What became of a letter that was to be sent again."""

    SENT = "sent"
    ALREADY = "sent before"
    REFUSED = "not sent"


@dataclass(frozen=True, slots=True)
class Replayed:
    """The outcome of one letter, and why or where."""

    letter: DeadLetter
    fate: Fate
    says: str


class Replayer:
    """Sends dead letters to where they came from.

    Before a record goes out, its part holds a verdict in Redis: the one that stands (its lifetime begins
    anew), the one that the result topic still has where Redis has forgotten it, or else STALE. First write
    wins, so that whatever a worker now makes of the record, the part's decision is that verdict: none that
    stood changes, and none becomes a PASS.
    """

    def __init__(
        self, bus: Bus, store: VerdictStore, *, dead: str, verdicts: str, clock: Clock, dry_run: bool = False
    ) -> None:
        self._bus = bus
        self._store = store
        self._dead, self._verdicts = dead, verdicts
        self._clock = clock
        self._dry = dry_run
        self._producer: Producer | None = None
        self._told: dict[PartKey, Verdict] | None = None

    def replay(self, chosen: list[DeadLetter]) -> Iterator[Replayed]:
        """Send each again, in order.

        Raises:
            BusError, StoreError: Kafka or Redis is away; what was not yielded was not noted as sent.
        """
        for letter in chosen:
            fate, says = self._one(letter)
            yield Replayed(letter, fate, says)

    def _one(self, letter: DeadLetter) -> tuple[Fate, str]:
        if letter.sent_to is not None:
            return Fate.ALREADY, f"to {letter.sent_to}; nothing was sent"
        if letter.replay_of is not None:
            return Fate.REFUSED, f"it is letter {letter.replay_of}, sent again, and it died again"
        if letter.origin is None:
            return Fate.REFUSED, "its headers do not say where it came from"
        if letter.until is not None:
            return Fate.REFUSED, "it is a batch that could not be decoded: its sender has to send it again"
        record = original(self._bus, self._dead, letter)
        if isinstance(record, str):
            return Fate.REFUSED, record
        parts = _parts(record)
        if not parts:
            return Fate.REFUSED, "nobody can read whose it is: no decision could be held against it"
        held = []
        for part in sorted(parts):
            said = self._hold(part)
            if said is None:
                return Fate.REFUSED, (
                    f"{part} was passed, by the result topic, and Redis has forgotten it:"
                    " a replay must not tell the gate of a PASS"
                )
            held.append(said)
        place = letter.origin[0]
        if self._dry:
            return Fate.SENT, f"to {place}; {'; '.join(held)}"
        sent = self._send(place, record, letter)
        return Fate.SENT, f"to {sent}; {'; '.join(held)}"

    def _hold(self, part: PartKey) -> str | None:
        """See that the part has a verdict in Redis that outlives the replay; None: it must not be sent."""
        standing = self._store.standing(part)
        if standing is not None:
            decision = decode_verdict(standing).decision
            if self._dry or self._store.renew(part):
                return f"{part} stands as {decision}"
        before = self._on_topic().get(part)
        if before is not None and before.decision is Decision.PASS:
            return None
        verdict = before or _stale(part, self._clock.now())
        if not self._dry:
            standing = self._store.decide(verdict).standing
            verdict = decode_verdict(standing)
        return f"{part} is held as {verdict.decision}"

    def _on_topic(self) -> dict[PartKey, Verdict]:
        """The first verdict of each part on the result topic, read once."""
        if self._told is None:
            self._told = {}
            for record in records(self._bus, self._verdicts):
                try:
                    verdict = decode_verdict(record.value)
                except SchemaError:
                    continue
                self._told.setdefault(verdict.part, verdict)
        return self._told

    def _send(self, place: TopicPartition, record: Record, letter: DeadLetter) -> str:
        if self._producer is None:
            self._producer = self._bus.producer()
        self._producer.prepare(place, 10.0)
        headers: Headers = (
            *((name, value) for name, value in record.headers if name not in _OURS),
            (REPLAYED, str(letter.offset).encode()),
        )
        at, offset = self._producer.send(
            place.topic, record.value, key=record.key, partition=place.partition, headers=headers
        ).wait(15.0)
        sent = f"{at.topic}/{at.partition}/{offset}"
        note: Headers = (
            (REPLAY_OF, str(letter.offset).encode()),
            (SENT_TO, sent.encode()),
            (TIME, str(self._clock.now()).encode()),
        )
        # Sent first: a note of what was not sent would keep it from ever being sent.
        self._producer.send(self._dead, b"", partition=0, headers=note).wait(15.0)
        return sent

    def close(self) -> None:
        """Let go of the broker."""
        if self._producer is not None:
            self._producer.close()


def original(bus: Bus, dead: str, letter: DeadLetter) -> Record | str:
    """The record as it came, or why it cannot be had: from the letter, or from its origin where left out."""
    kept = record_at(bus, TopicPartition(dead, 0), letter.offset)
    if kept is None:
        return f"offset {letter.offset} is no longer in {dead}"
    if not letter.left_out:
        return kept
    if letter.origin is None:
        return "its bytes were left out of the letter, and its headers do not say where they were"
    place, offset = letter.origin
    found = record_at(bus, place, offset)
    if found is None:
        return f"its {letter.size} bytes were left out of the letter; {place} at {offset} has them no more"
    if len(found.value) != letter.size or (kept.key is not None and found.key != kept.key):
        return f"its bytes were left out of the letter; {place} at {offset} holds another record by now"
    return found


def _parts(record: Record) -> set[PartKey]:
    """Every part that any reader could take this record for."""
    named = {salvage_part(b"", record.key), salvage_part(record.value)}
    with suppress(SchemaError):
        named.add(decode_capture(record.value).part)
    return {part for part in named if part is not None}


def _stale(part: PartKey, now: int) -> Verdict:
    return Verdict(
        part=part,
        product="unknown",
        decision=Decision.STALE,
        reason="replayed",
        worker="deadletter-replay",
        captured_at=now,
        decided_at=now,
        deadline=now,
    )


def find(bus: Bus, topic: str, offset: int) -> DeadLetter:
    """The letter at an offset.

    Raises:
        SourceError: there is none.
    """
    for letter in letters(bus, topic):
        if letter.offset == offset:
            return letter
    raise SourceError(f"{topic}: no dead letter at offset {offset}; see `crosscheck deadletter list`")
