"""Telling never waits; what a collector does not take is lost, counted, and said once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial

import structlog

from schemas.part import PartKey
from tests.workers.tracing.helpers import Away
from workers.tracing.recorder import BATCH, Recorder
from workers.tracing.span import Span


def spans_of(number: int, count: int = 1) -> list[Span]:
    return [Span(part=PartKey("s1", 1, number), name=f"span {i}", start=1, end=2) for i in range(count)]


def test_what_was_told_is_sent_in_order_and_in_batches() -> None:
    away = Away(away=False)
    recorder = Recorder(away)
    for number in range(BATCH + 10):
        recorder.tell(partial(spans_of, number))
    assert recorder.flush()
    assert [span.part.trigger for span in away.got] == list(range(BATCH + 10))
    assert away.asked == 2
    assert recorder.lost == 0


def test_a_collector_that_is_away_is_said_once_and_once_when_it_is_back() -> None:
    away = Away()
    recorder = Recorder(away)
    with structlog.testing.capture_logs() as logs:
        for number in range(20):
            recorder.tell(partial(spans_of, number, 3))
            assert not recorder.flush()
        away.away = False
        recorder.tell(lambda: spans_of(99))
        assert recorder.flush()
        recorder.tell(lambda: spans_of(100))
        assert recorder.flush()
    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("traces.collector_away", "warning"),
        ("traces.collector_back", "info"),
    ]
    assert logs[0]["error"] == "connection refused"
    assert logs[1]["lost"] == recorder.lost == 60
    assert [span.part.trigger for span in away.got] == [99, 100]


def test_memory_is_bounded_while_nobody_takes_anything() -> None:
    recorder = Recorder(Away(), capacity=100)
    for number in range(1000):
        recorder.tell(partial(spans_of, number))
    assert recorder.lost == 900
    recorder.flush()
    assert recorder.lost == 1000


def test_every_span_of_a_failed_send_is_counted() -> None:
    recorder = Recorder(Away())
    recorder.tell(lambda: spans_of(1, 3 * BATCH + 7))
    recorder.flush()
    assert recorder.lost == 3 * BATCH + 7


def test_a_mistake_in_making_spans_costs_those_spans_and_one_line() -> None:
    away = Away(away=False)
    recorder = Recorder(away)

    def broken() -> Iterator[Span]:
        yield from spans_of(5)
        raise ValueError("no such thing")

    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            recorder.tell(broken)
        recorder.tell(lambda: spans_of(6))
        assert recorder.flush()
    assert [log["event"] for log in logs] == ["traces.not_made"]
    assert away.got[-1].part.trigger == 6
    assert recorder.lost == 3


def test_an_exporter_that_raises_is_a_collector_that_is_away() -> None:
    class Broken(Away):
        def export(self, spans: Sequence[Span]) -> str | None:
            raise RuntimeError("their code")

    recorder = Recorder(Broken())
    recorder.tell(lambda: spans_of(1))
    with structlog.testing.capture_logs() as logs:
        assert not recorder.flush()
    assert "their code" in logs[0]["error"]


class Hanging(Away):
    """A collector that answers nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.hanging = threading.Event()
        self.release = threading.Event()

    def export(self, spans: Sequence[Span]) -> str | None:
        self.hanging.set()
        self.release.wait(30.0)
        return "given up"

    def close(self) -> None:
        self.release.set()


def test_a_collector_that_hangs_holds_neither_the_line_nor_the_end_of_the_process() -> None:
    hanging = Hanging()
    recorder = Recorder(hanging, capacity=50, every_s=0.001)
    recorder.start()
    recorder.tell(lambda: spans_of(0))
    assert hanging.hanging.wait(10.0)
    before = time.perf_counter()
    for number in range(10_000):
        recorder.tell(partial(spans_of, number))
    assert time.perf_counter() - before < 1.0
    recorder.close(timeout_s=0.05)
    recorder.close(timeout_s=0.05)
    assert hanging.release.is_set()


def test_what_waits_at_the_end_is_sent() -> None:
    away = Away(away=False)
    recorder = Recorder(away, every_s=60.0)
    recorder.start()
    recorder.tell(lambda: spans_of(7))
    recorder.close()
    assert [span.part.trigger for span in away.got] == [7]
