"""A part is one trace from its capture to its gate: right parents, right times, right words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace.status import StatusCode

from inference.inspection import Inspection
from inference.sample import Sample
from schemas.part import PartKey
from schemas.wire import encode
from tests.workers.frames import START, frame
from tests.workers.standin import StandInModel
from tests.workers.tracing.traced import MODEL_S, MS, PUBLISH_S, STORE_S, TRAVEL_S, TracedLine
from workers.tracing.context import HEADER, Context, context, span_id, trace_id
from workers.tracing.worker import ident


class BrokenModel(StandInModel):
    """Raises whatever it is shown."""

    def inspect(self, batch: Sequence[Sample]) -> list[Inspection]:
        raise ValueError("out of order")


STEPS = {"wait", "decode", "inspect", "store", "publish"}


@pytest.fixture
def line(tmp_path: Path) -> Iterator[TracedLine]:
    with TracedLine(tmp_path) as found:
        yield found


def ms(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / MS


def test_a_part_is_one_trace_from_capture_to_gate(line: TracedLine) -> None:
    part = line.capture()
    worker = line.worker()
    line.line.turn(worker, lambda: worker.answered == 1)
    line.through_the_gate()
    worker.close()

    spans = line.spans(part)
    assert set(spans) == {"capture", "transit", "part", "gate"} | STEPS
    assert {span.context.trace_id for span in spans.values()} == {trace_id(str(part).encode())}
    root, own = spans["capture"], spans["part"]
    assert root.parent is None
    for name in ("transit", "part", "gate"):
        assert spans[name].parent == root.context, name
    for name in STEPS:
        assert spans[name].parent == own.context, name
    assert len({span.context.span_id for span in spans.values()}) == len(spans)


def test_each_span_lies_where_it_happened(line: TracedLine) -> None:
    part = line.capture()
    line.clock.advance(0.010)
    worker = line.worker()
    line.line.turn(worker, lambda: worker.answered == 1)
    line.through_the_gate()
    worker.close()

    spans = line.spans(part)
    assert spans["capture"].start_time == START
    assert ms(spans["capture"]) == pytest.approx(4.0)
    assert spans["transit"].start_time == START + 4 * MS
    assert ms(spans["transit"]) >= 10.0
    assert ms(spans["inspect"]) == pytest.approx(MODEL_S * 1e3, abs=0.01)
    assert ms(spans["store"]) == pytest.approx(STORE_S * 1e3, abs=0.01)
    assert ms(spans["publish"]) == pytest.approx(PUBLISH_S * 1e3, abs=0.01)
    # One after the other, without a hole: what a part waits for is in one of them.
    order = ["transit", "wait", "decode", "inspect", "store", "publish"]
    for before, after in itertools.pairwise(order):
        assert spans[before].end_time == spans[after].start_time, (before, after)
    assert spans["part"].start_time == spans["wait"].start_time
    assert spans["part"].end_time == spans["publish"].end_time
    assert spans["gate"].start_time == START
    assert ms(spans["gate"]) == pytest.approx(TRAVEL_S * 1e3, abs=20)
    [held] = spans["gate"].events
    assert held.name == "verdict held"
    start, end = spans["part"].start_time, spans["gate"].end_time
    assert start is not None
    assert end is not None
    assert start < held.timestamp < end


def test_spans_say_what_was_decided_and_by_what(line: TracedLine) -> None:
    part = line.capture()
    worker = line.worker()
    line.line.turn(worker, lambda: worker.answered == 1)
    line.through_the_gate()
    worker.close()

    spans = line.spans(part)
    said = dict(spans["part"].attributes or {})
    assert said["crosscheck.part"] == str(part)
    assert said["crosscheck.station"] == "s1"
    assert said["crosscheck.decision"] == "PASS"
    assert said["crosscheck.mode"] == "FUSED"
    assert said["crosscheck.worker"] == "w1"
    assert said["crosscheck.bundle"] == "widget/1"
    inspected = dict(spans["inspect"].attributes or {})
    assert inspected["crosscheck.batch.size"] == 1
    decided = dict(spans["gate"].attributes or {})
    assert decided["crosscheck.opened"] is True
    assert decided["crosscheck.decision"] == "PASS"
    assert all(span.status.status_code is StatusCode.OK for span in spans.values())
    assert line.actuator.passed == [part]


def test_records_carry_the_context_of_the_span_that_their_readers_continue(line: TracedLine) -> None:
    part = line.capture()
    worker = line.worker()
    line.line.turn(worker, lambda: worker.answered == 1)
    worker.close()
    spans = line.spans(part)
    for topic, name in (("frames", "capture"), ("verdicts", "part")):
        [record] = line.records(topic)
        header = record.header(HEADER)
        assert header is not None
        found = Context.parse(header)
        assert found is not None
        assert found.sampled
        assert (found.trace, found.span) == (
            spans[name].context.trace_id,
            spans[name].context.span_id,
        )
    # A reader in another language needs neither our keys nor our hash.
    verdict = Context.parse(line.records("verdicts")[0].header(HEADER) or b"")
    assert verdict is not None
    assert verdict.span == span_id(str(part).encode(), ident("w1"))


def test_parts_of_one_batch_are_traces_of_their_own(line: TracedLine) -> None:
    parts = [line.capture(seed=number) for number in range(5)]
    worker = line.worker()
    line.line.turn(worker, lambda: worker.answered == 5)
    worker.close()
    for part in parts:
        spans = line.spans(part)
        assert dict(spans["inspect"].attributes or {})["crosscheck.batch.size"] == 5
        # A part's share of the model's time, though it waits for all of it.
        assert dict(spans["inspect"].attributes or {})["crosscheck.share_ms"] == pytest.approx(MODEL_S * 200)
        assert ms(spans["inspect"]) == pytest.approx(MODEL_S * 1e3, abs=0.01)


def test_a_part_that_comes_too_late_has_a_span_and_no_inspection(line: TracedLine) -> None:
    part = line.capture()
    line.clock.advance(5.0)
    worker = line.worker()
    line.line.turn(worker, lambda: worker.answered == 1)
    worker.close()
    spans = line.spans(part)
    assert set(spans) == {"capture", "part", "store", "publish"}
    assert dict(spans["part"].attributes or {})["crosscheck.decision"] == "STALE"
    assert spans["part"].status.status_code is StatusCode.OK


def test_a_part_that_cannot_be_scored_is_an_error_that_says_why(line: TracedLine) -> None:
    part = line.capture()
    worker = line.worker(model=BrokenModel())
    line.line.turn(worker, lambda: worker.answered == 1)
    worker.close()
    status = line.spans(part)["part"].status
    assert status.status_code is StatusCode.ERROR
    assert status.description is not None
    assert status.description == "model: ValueError: out of order"


def test_a_part_for_which_no_sensor_gave_anything_is_traced_too(line: TracedLine) -> None:
    part = line.capture(rgb=False, depth=False)
    line.through_the_gate()
    spans = line.spans(part)
    assert spans["capture"].status.status_code is StatusCode.ERROR
    assert spans["capture"].status.description == "no sensor gave an image"
    assert dict(spans["gate"].attributes or {})["crosscheck.decision"] == "MISSING"
    assert not spans["gate"].events, "it never held a verdict"
    assert line.actuator.passed == []


def test_a_part_answered_again_by_another_worker_is_a_second_span_under_the_same_root(
    line: TracedLine,
) -> None:
    line.capture()
    first = line.worker("w1")
    line.line.turn(first, lambda: first.answered == 1)
    first.close()
    # Nothing is committed in another group, as after a crash before the commit.
    second = line.worker("w2", group="another")
    line.line.turn(second, lambda: second.answered == 1)
    second.close()
    found = [span for span in line.collected.spans() if span.name == "part"]
    workers = [dict(span.attributes or {})["crosscheck.worker"] for span in found]
    assert workers == ["w1", "w2"]
    assert dict(found[1].attributes or {})["crosscheck.repeated"] is True
    assert found[0].context.trace_id == found[1].context.trace_id
    assert found[0].context.span_id != found[1].context.span_id
    assert found[0].parent == found[1].parent


def test_a_frame_that_came_with_somebody_elses_trace_is_linked_to_it(line: TracedLine) -> None:
    other = Context(trace=0xABC, span=0xDEF)
    sent = frame(7, captured_at=line.clock.now())
    line.line.producer.send(
        line.settings.topic("frames"),
        encode(sent),
        key=str(sent.part).encode(),
        partition=0,
        headers=((HEADER, other.header()),),
    ).wait(1)
    worker = line.worker()
    line.line.turn(worker, lambda: worker.answered == 1)
    worker.close()
    [link] = line.spans(sent.part)["part"].links
    assert (link.context.trace_id, link.context.span_id) == (0xABC, 0xDEF)


def test_a_ratio_keeps_the_same_parts_in_every_process(tmp_path: Path) -> None:
    with TracedLine(tmp_path, ratio=0.5) as line:
        parts = [line.capture(seed=number) for number in range(20)]
        worker = line.worker()
        line.line.turn(worker, lambda: worker.answered == 20)
        line.through_the_gate()
        worker.close()
        kept = {part for part in parts if line.spans(part)}
        assert 0 < len(kept) < 20
        for part in kept:
            assert {"capture", "part", "gate"} <= set(line.spans(part))
        marked = {
            PartKey.parse((record.key or b"").decode())
            for record in line.records("frames")
            if record.header(HEADER) is not None
        }
        assert marked == kept


def test_a_ratio_of_nothing_leaves_records_as_they_are(tmp_path: Path) -> None:
    with TracedLine(tmp_path, ratio=0.0) as line:
        part = line.capture()
        worker = line.worker()
        line.line.turn(worker, lambda: worker.answered == 1)
        worker.close()
        assert line.spans(part) == {}
        assert all(not record.headers for topic in ("frames", "verdicts") for record in line.records(topic))


def test_a_collector_that_is_away_costs_no_part(line: TracedLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line.collected.theirs, "export", lambda spans: 1 / 0)
    part = line.capture()
    worker = line.worker()
    line.line.turn(worker, lambda: worker.answered == 1)
    assert not line.collected.tracing.recorder.flush()
    line.through_the_gate()
    worker.close()
    assert line.actuator.passed == [part]
    assert context(part, "capture").trace == trace_id(str(part).encode())
