"""What the board remembers of verdicts, labels and dead letters: bounded, whatever comes in."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog

from schemas.errors import SchemaError
from schemas.label import Label, LabelKind
from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_label, decode_verdict
from workers.board.rows import Row, label_of, row_of
from workers.board.scores import Scores
from workers.board.window import SCORED, STEP_S, Window
from workers.bus.base import Record
from workers.clock import Clock
from workers.deadletters import letter_of

log = structlog.get_logger(__name__)

MAX_VERDICT_BYTES = 64 * 1024
MAX_STATIONS = 1_000
RECENT = 5_000
"""Parts whose verdict is at hand without asking Redis."""
QUEUE = 2_000
"""Verdicts that wait to be shown."""
WAITING = 2_000
"""Parts in the review queue; the oldest goes first."""
FIRST = 50_000
"""Part keys remembered, so that a verdict that is said again is not counted again."""
LABELS = 50_000
LETTERS = 50
WORKERS = 200

TO_REVIEW = (Decision.REJECT, Decision.REVIEW)


@dataclass(slots=True)
class StationView:
    """One station as its verdicts show it.

    Attributes:
        last: the row of its newest verdict, by when it was decided.
        mode: the mode of its newest verdict that was scored.
    """

    name: str
    last: Row | None = None
    mode: str | None = None
    window: Window = field(default_factory=Window)


class Feed:
    """Everything that comes from topics. Filled by the tails' threads, read by any.

    Args:
        clock: the wall's time.
        stations: those known before any verdict, from the station map.
    """

    def __init__(self, clock: Clock, stations: Iterable[str] = ()) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._stations: OrderedDict[str, StationView] = OrderedDict()
        self._all = Window()
        self._recent: OrderedDict[PartKey, tuple[Verdict, Row]] = OrderedDict()
        self._first: OrderedDict[PartKey, None] = OrderedDict()
        self._waiting: OrderedDict[PartKey, Row] = OrderedDict()
        self._labels: OrderedDict[PartKey, Label] = OrderedDict()
        self._said: dict[str, Counter[LabelKind]] = {}
        self._queue: deque[tuple[int, Row]] = deque(maxlen=QUEUE)
        self._workers: dict[str, None] = {}
        self._sequence = 0
        self._letters: deque[dict[str, Any]] = deque(maxlen=LETTERS)
        self.scores = Scores()
        self.verdicts = 0
        """Verdicts taken in since the start, history included."""
        for name in stations:
            self._station(name)

    # Filling

    def take_verdict(self, record: Record, live: bool) -> None:
        """A record of the verdicts topic. The first of a part is the one that counts."""
        try:
            verdict = decode_verdict(record.value, MAX_VERDICT_BYTES)
        except SchemaError as error:
            log.warning("board.verdict_unreadable", reason=error.reason, offset=record.offset)
            return
        with self._lock:
            if verdict.part in self._first:
                return
            self._first[verdict.part] = None
            if len(self._first) > FIRST:
                self._first.popitem(last=False)
            self._add(verdict, live)

    def _add(self, verdict: Verdict, live: bool) -> None:
        self.verdicts += 1
        label = self._labels.get(verdict.part)
        row = row_of(verdict, label)
        self._recent[verdict.part] = (verdict, row)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        if verdict.decision in TO_REVIEW and row["label"] is None:
            self._wait(verdict.part, row)
        self._workers[verdict.worker] = None
        if len(self._workers) > WORKERS:
            del self._workers[next(iter(self._workers))]
        self.scores.add(verdict)
        station = self._station(verdict.part.station)
        at, now = verdict.decided_at / 1e9, self._clock.now() / 1e9
        # A part that nobody scored took no time to score.
        latency = row["latency_ms"] if verdict.score is not None else None
        self._all.add(row["decision"], latency, at, now)
        station.window.add(row["decision"], latency, at, now)
        if station.last is None or station.last["decided_at"] <= row["decided_at"]:
            station.last = row
            station.mode = row["mode"] or station.mode
        if live:
            self._sequence += 1
            self._queue.append((self._sequence, row))

    def _wait(self, part: PartKey, row: Row) -> None:
        self._waiting[part] = row
        if len(self._waiting) > WAITING:
            self._waiting.popitem(last=False)

    def take_label(self, record: Record, live: bool) -> None:
        """A record of the labels topic."""
        try:
            self.label(decode_label(record.value, MAX_VERDICT_BYTES))
        except SchemaError as error:
            log.warning("board.label_unreadable", reason=error.reason, offset=record.offset)

    def label(self, label: Label, row: Row | None = None) -> None:
        """Note what a person said of a part; the highest revision holds.

        Args:
            row: the part's, where it may be none of the newest: it waits again once its label is taken back.
        """
        with self._lock:
            before = self._labels.get(label.part)
            if before is not None and before.revision > label.revision:
                return
            if before is None and len(self._labels) >= LABELS:
                self._count(self._labels.popitem(last=False)[1], -1)
            if before is not None:
                self._count(before, -1)
            self._labels[label.part] = label
            self._count(label, 1)
            self._waiting.pop(label.part, None)
            found = self._recent.get(label.part)
            if found is not None:
                row = found[1]
            if row is not None:
                # A new dict: the old one may be on its way to a client.
                row = row | label_of(label)
                if label.label is LabelKind.WITHDRAWN:
                    self._wait(label.part, row)
            if found is not None and row is not None:
                self._recent[label.part] = (found[0], row)
                station = self._stations.get(label.part.station)
                if station is not None and station.last is not None and station.last["part"] == row["part"]:
                    station.last = row

    def _count(self, label: Label, by: int) -> None:
        # A part that was held, not rejected, and is confirmed says nothing of false rejects.
        if label.label is LabelKind.WITHDRAWN or label.decision is not Decision.REJECT:
            return
        # Beside the stations: a label of one that is long gone does not bring it back.
        said = self._said.setdefault(label.part.station, Counter())
        said[label.label] += by
        if not said.total():
            del self._said[label.part.station]

    def _reviewed(self, station: str) -> tuple[int, int]:
        """How many of a station's rejects were labelled, and how many of them as false."""
        said = self._said.get(station, Counter())
        return said.total(), said[LabelKind.FALSE_REJECT]

    def take_letter(self, record: Record, live: bool) -> None:
        """A record of the dead letters."""
        letter = letter_of(record)
        if not record.value and letter.reason == "unknown":
            return  # the note of a replay
        with self._lock:
            self._letters.append(
                {
                    "reason": letter.reason[:80],
                    "station": None if letter.part is None else letter.part.station,
                    "part": None if letter.part is None else str(letter.part),
                    "at": letter.at // 1_000_000,
                    "partition": record.partition,
                    "offset": letter.offset,
                }
            )

    def _station(self, name: str) -> StationView:
        view = self._stations.get(name)
        if view is None:
            view = self._stations[name] = StationView(name)
            while len(self._stations) > MAX_STATIONS:
                self._stations.popitem(last=False)
        return view

    # Reading

    def rows_after(self, place: int) -> tuple[int, list[Row]]:
        """The place after the newest verdict, and the rows behind ``place`` that are still held."""
        with self._lock:
            rows = [row for number, row in self._queue if number > place]
            return self._sequence, rows

    def newest(self, count: int) -> list[Row]:
        """The newest rows, oldest first."""
        with self._lock:
            rows = [row for _, row in self._recent.values()]
        return _newest(rows, count)

    def part(self, part: PartKey) -> tuple[Verdict, Row] | None:
        """A part's verdict and row, while they are at hand."""
        with self._lock:
            return self._recent.get(part)

    def label_of(self, part: PartKey) -> Label | None:
        """What was last said of a part."""
        with self._lock:
            return self._labels.get(part)

    def waiting(self, limit: int) -> tuple[int, list[Row]]:
        """How many parts wait for a label, and the newest ``limit`` of them, newest first."""
        with self._lock:
            rows = list(self._waiting.values()) if limit else []
            count = len(self._waiting)
        return count, _newest(rows, limit)[::-1]

    def letters(self) -> list[dict[str, Any]]:
        """The newest dead letters, newest first."""
        with self._lock:
            return list(self._letters)[::-1]

    def stations(self, now: float) -> list[dict[str, Any]]:
        """Each station as the state has it, by name; ``now`` is seconds since the epoch."""
        with self._lock:
            views = sorted(self._stations.values(), key=lambda view: view.name)
            return [_station_map(view, now, *self._reviewed(view.name)) for view in views]

    def names(self) -> list[str]:
        """The stations that are known."""
        with self._lock:
            return list(self._stations)

    def products(self) -> list[str]:
        """The products there are scores of."""
        with self._lock:
            return sorted({product for product, _ in self.scores.kinds()})

    def workers(self) -> list[str]:
        """Whom verdicts name as their worker; not all of them need be workers, or live."""
        with self._lock:
            return list(self._workers)

    def rate(self, now: float) -> float:
        """Verdicts a second, of all stations, over the last ten seconds."""
        with self._lock:
            return self._all.rate(now)

    def series(self, now: float, station: str | None) -> dict[str, Any] | None:
        """The last half hour of a station, or of all; None for one that is not known."""
        with self._lock:
            view = None if station is None else self._stations.get(station)
            if station is not None and view is None:
                return None
            window = self._all if view is None else view.window
            counts = window.counts(now)
            reviewed = [self._reviewed(name) for name in ([station] if station else self._said)]
            labelled, false = (sum(each[at] for each in reviewed) for at in (0, 1))
            return {"step_s": STEP_S, **window.series(now), "rates": rates(counts, labelled, false)}

    def scores_of(self, product: str, mode: str, station: str | None) -> dict[str, Any]:
        """The newest scores of a product and mode, and what people said of its rejects."""
        with self._lock:
            found = self.scores.of(product, mode, station)
            said = [
                label.label
                for label in self._labels.values()
                if label.label is not LabelKind.WITHDRAWN
                and label.decision is Decision.REJECT
                and label.product == product
                and (label.mode is None or label.mode.value == mode)
                and (station is None or label.part.station == station)
            ]
        false = sum(kind is LabelKind.FALSE_REJECT for kind in said)
        return found | {"false_rejects": {"labelled": len(said), "false": false}}


def _newest(rows: list[Row], count: int) -> list[Row]:
    """By when they were decided, oldest first: history comes partition by partition."""
    return sorted(rows, key=lambda row: row["decided_at"])[-count:] if count else []


def rates(counts: Counter[str], labelled: int, false: int) -> dict[str, float | None]:
    """Shares of what came: ``rejected`` of the scored parts; ``false``, of the rejects that were labelled,
    those labelled as good parts; None where there is nothing to take a share of."""
    scored = sum(counts[each] for each in SCORED)
    return {
        "rejected": round(counts[Decision.REJECT.value] / scored, 6) if scored else None,
        "false": round(false / labelled, 6) if labelled else None,
    }


def _station_map(view: StationView, now: float, labelled: int, false: int) -> dict[str, Any]:
    counts = view.window.counts(now)
    last = view.last
    return {
        "name": view.name,
        "product": None if last is None else last["product"],
        "mode": view.mode,
        "last": last,
        "rate": view.window.rate(now),
        "counts": dict(counts),
        "false_rejects": {"labelled": labelled, "false": false},
        "rates": rates(counts, labelled, false),
    }
