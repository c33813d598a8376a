"""Drift beside a worker: the loop only notes, Redis has the state, and a station takes it along."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import thread_time
from typing import Any, cast

import pytest
import structlog
from structlog.testing import capture_logs

from inference.inspection import Inspection
from inference.sample import Sample
from inference.sketch import Sketches
from schemas.verdict import Mode
from tests.workers.drift.outcomes import SKETCHES, good, outcome
from tests.workers.drift.streams import Line as Stream
from tests.workers.frames import START, frame
from tests.workers.line import Line
from tests.workers.standin import StandInModel, inspection
from workers.drift.collector import DriftCollector
from workers.drift.reading import READINGS, DriftReading, read_drift, readings_from
from workers.drift.series import Seen
from workers.drift.station import MAX_STATE, PRODUCTS, StationDrift
from workers.drift.watch import NOTED, DriftWatch
from workers.drift.window import Pace
from workers.steps.publishing import Outcome
from workers.store import keys
from workers.store.verdicts import VerdictStore

PACE = Pace(block=10, window=100, learn=200)


@pytest.fixture
def line() -> Line:
    return Line()


def watch(line: Line, worker: str = "w1") -> DriftWatch:
    return DriftWatch(line.store, worker, clock=line.clock, pace=PACE)


def told(one: DriftWatch, outcomes: list[Outcome]) -> None:
    one.answered(outcomes)
    one.look()


def by_kind(readings: list[DriftReading]) -> dict[str, DriftReading]:
    return {one.kind: one for one in readings}


def test_a_line_that_stays_as_it_was_is_told_of_without_a_warning(line: Line) -> None:
    told(watch(line), good(600))
    found = by_kind(read_drift(line.store, "s1"))
    assert set(found) == {"scores", "brightness", "belt"}
    assert not any(one.warning for one in found.values())
    assert found["scores"].reference == "bundle+station"
    assert found["brightness"].reference == "station"
    assert found["scores"].value is not None
    assert found["scores"].limit is not None
    assert found["scores"].value < found["scores"].limit


def test_a_warning_is_told_once_with_what_and_by_how_much_and_so_is_its_end(line: Line) -> None:
    structlog.reset_defaults()
    one = watch(line)
    with capture_logs() as logs:
        told(one, good(400))
        told(one, good(400, seed=2, brightness=90.0))
        told(one, good(100, seed=3, brightness=90.0))
        warned = by_kind(read_drift(line.store, "s1"))["brightness"]
        told(one, good(1200, seed=4))
    events = [entry for entry in logs if entry["event"] in ("drift.warning", "drift.over")]
    assert [(e["event"], e["station"], e["kind"]) for e in events] == [
        ("drift.warning", "s1", "brightness"),
        ("drift.over", "s1", "brightness"),
    ]
    assert events[0]["value"] < -0.03
    assert warned.warning
    assert warned.value == pytest.approx(-0.1, abs=0.01)
    assert warned.since == START


def test_scores_that_creep_warn(line: Line) -> None:
    one = watch(line)
    told(one, good(400))
    told(one, good(600, seed=2, creep=1.0))
    scores = by_kind(read_drift(line.store, "s1"))["scores"]
    assert scores.warning
    assert scores.shift is not None
    assert scores.shift > 0.5


def test_a_bundle_from_before_there_were_sketches_has_no_calibration_and_the_rest_is_learnt(
    line: Line,
) -> None:
    told(watch(line), good(300, sketches=Sketches()))
    found = by_kind(read_drift(line.store, "s1"))
    assert found["scores"].reference == "no calibration"
    assert found["scores"].value is None
    assert found["brightness"].reference == "station"


def test_a_model_that_is_no_bundle_is_followed_without_one(line: Line) -> None:
    told(watch(line), good(50, sketches=None))
    assert by_kind(read_drift(line.store, "s1"))["brightness"].reference == "learning"


def test_the_next_worker_of_a_station_goes_on_where_the_last_one_was(line: Line) -> None:
    first, second = watch(line, "w1"), watch(line, "w2")
    told(first, good(400))
    told(second, good(10, seed=2))
    found = by_kind(read_drift(line.store, "s1"))
    assert found["scores"].reference == "bundle+station"
    assert found["scores"].parts > 100
    # And back: what the second has seen is not lost on the first.
    told(second, good(600, seed=3, creep=1.0))
    told(first, good(10, seed=4, creep=1.0))
    assert by_kind(read_drift(line.store, "s1"))["scores"].warning


def test_another_bundle_begins_anew(line: Line) -> None:
    one = watch(line)
    told(one, good(600, creep=1.5))
    assert by_kind(read_drift(line.store, "s1"))["scores"].warning
    told(one, good(150, seed=2, bundle="c" * 64))
    found = by_kind(read_drift(line.store, "s1"))["scores"]
    assert not found.warning
    assert found.reference == "bundle"


def test_a_verdict_that_stood_already_is_not_counted_twice(line: Line) -> None:
    told(watch(line), [outcome(n, 1.0, standing=b"stands") for n in range(50)])
    assert read_drift(line.store, "s1") == []


def test_while_redis_is_away_parts_are_counted_and_what_was_kept_is_taken_up_afterwards(line: Line) -> None:
    told(watch(line, "w1"), good(400))
    again = watch(line, "w1")  # started anew, under the same name
    line.server.connected = False
    told(again, good(20, seed=2))
    assert again.readings["s1"]
    line.server.connected = True
    told(again, good(20, seed=3))
    assert by_kind(read_drift(line.store, "s1"))["scores"].reference == "bundle+station"


def test_what_is_kept_of_a_station_is_small_and_lives_a_week(line: Line) -> None:
    one = watch(line)
    for number in range(PRODUCTS + 3):
        told(one, good(300, product=f"p{number}"))
        line.clock.advance(1)
    assert len(cast(bytes, line.redis.hget(keys.drift("s1"), "state"))) < MAX_STATE / 4
    assert {reading.product for reading in one.readings["s1"]} == {f"p{n}" for n in range(3, PRODUCTS + 3)}
    assert 6 * 86_400 < cast(int, line.redis.ttl(keys.drift("s1"))) <= 7 * 86_400


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"[1]",
        b"{",
        b"x" * (MAX_STATE + 1),
        json.dumps({"cap": {"bundle": "b" * 64, "series": 3}}).encode(),
    ],
)
def test_a_damaged_state_is_begun_anew(line: Line, state: bytes) -> None:
    line.redis.hset(keys.drift("s1"), mapping={"by": "w9", "state": state, READINGS: b"no json"})
    assert read_drift(line.store, "s1") == []
    told(watch(line), good(300))
    assert len(read_drift(line.store, "s1")) == 3


def test_a_state_with_any_part_of_it_damaged_is_begun_anew_for_that_series() -> None:
    whole = StationDrift("s1", pace=PACE)
    for at, one in enumerate(good(300)):
        assert one.verdict is not None
        assert one.look is not None
        assert one.verdict.score is not None
        list(whole.see(seen(one), START + at))
    state = json.loads(whole.state())
    series = state["cap"]["series"]
    for damage in _damages(series["FUSED"]["fast"]["window"]):
        series["FUSED"]["fast"]["window"] = damage
        again = StationDrift("s1", json.dumps(state).encode(), pace=PACE)
        for one in good(30, seed=5):
            list(again.see(seen(one), START))
        found = by_kind(again.readings(START))
        assert found["scores"].reference == "bundle", damage
        assert found["brightness"].reference == "station", "the others are as they were"


def _damages(window: dict[str, Any]) -> Iterator[object]:
    yield None
    yield {}
    yield window | {"sums": [1.0]}
    yield window | {"weight": "many"}
    yield window | {"square": -1.0}
    yield window | {"means": [None]}


def seen(one: Outcome) -> Seen:
    assert one.verdict is not None
    assert one.look is not None
    assert one.verdict.score is not None
    look = one.look
    return Seen(
        "s1",
        one.verdict.product,
        look.bundle,
        Mode.FUSED,
        one.verdict.score,
        look.brightness,
        look.distance,
        None,
        None,
        look.sketches,
    )


def test_readings_survive_redis_and_what_is_none_is_left_out() -> None:
    reading = DriftReading(
        station="s1", product="cap", mode="", kind="belt", value=-3.5, limit=20.0, reference="station", at=5
    )
    raw = json.dumps([reading.to_map(), {"kind": "belt"}, 3, reading.to_map() | {"kind": "else"}]).encode()
    assert readings_from(raw) == [reading]


def test_the_loop_spends_microseconds_a_part_and_notes_are_bounded(line: Line) -> None:
    one = watch(line)
    parts = good(1000)
    started = thread_time()
    for _ in range(25):
        one.answered(parts)
    spent = (thread_time() - started) / 25_000
    assert spent < 50e-6
    assert len(one._noted) == NOTED


def test_metrics_tell_of_the_product_that_is_on_the_line(line: Line) -> None:
    one = watch(line)
    told(one, good(600, product="old", creep=1.5))
    line.clock.advance(1)
    told(one, good(300, product="new"))
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for found in DriftCollector(one).collect()
        for sample in found.samples
    }
    assert samples["crosscheck_drift_warning", "s1", "scores"] == 0
    assert ("crosscheck_drift_ks", "s1", "new", "FUSED") in samples
    assert ("crosscheck_drift_ks", "s1", "old", "FUSED") not in samples
    assert abs(samples["crosscheck_brightness_shift", "s1"]) < 0.01
    assert ("crosscheck_belt_shift_counts", "s1") in samples


def test_a_station_that_went_elsewhere_is_forgotten_by_the_metrics(line: Line) -> None:
    one = watch(line)
    told(one, good(50))
    line.clock.advance(700)
    one.look()
    assert one.readings == {}


def test_a_worker_with_drift_beside_it_decides_as_it_would_without(line: Line) -> None:
    class Judged(StandInModel):
        sketches = SKETCHES

    scores = iter(Stream.of(1, 40).scores.tolist())

    def answer(sample: Sample) -> Inspection:
        return inspection(float(next(scores)) / 3)

    one = watch(line)
    worker = line.worker(Judged(answer), observers=[one])
    for number in range(1, 41):
        line.send(frame(number))
    line.turn(worker, lambda: worker.answered == 40)
    one.look()
    assert len(line.verdicts()) == 40
    found = by_kind(read_drift(line.store, "s1"))
    assert set(found) == {"scores", "brightness", "belt"}


def test_the_thread_looks_once_more_at_its_end(line: Line) -> None:
    one = watch(line)
    with one.running():
        one.answered(good(50))
    assert read_drift(line.store, "s1")


def test_a_look_that_fails_is_told_of_and_the_next_one_works(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = watch(line)
    structlog.reset_defaults()

    def broken(store: VerdictStore) -> None:
        raise ZeroDivisionError

    with capture_logs() as logs, monkeypatch.context() as patch:
        patch.setattr(one, "_drained", broken)
        with one.running():
            pass
    assert [entry["event"] for entry in logs] == ["drift.failed"]
    told(one, good(50))
    assert read_drift(line.store, "s1")
