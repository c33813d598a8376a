"""A station whose records cannot be read is parked; the others, and its worker, go on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import structlog

from schemas.frame import Frame
from schemas.part import PartKey
from schemas.verdict import Decision
from tests.workers.frames import frame
from tests.workers.line import DEAD, Line
from tests.workers.standin import StandInModel
from workers.bus.base import TopicPartition
from workers.errors import DeadLetterFlood
from workers.steps.parking import WINDOW, Parking


@pytest.fixture
def line() -> Line:
    return Line()


def parked_by(line: Line) -> object:
    told: Any = line.redis.hgetall("worker:w1")
    return told[b"parked"]


def undecodable(trigger: int, station: str = "s1") -> Frame:
    """Found only when it is decoded: a header of another size than the image."""
    sound = frame(trigger, station=station)
    assert sound.rgb is not None
    return replace(sound, rgb=replace(sound.rgb, height=17))


def test_a_station_that_sends_rubbish_is_parked_and_the_others_go_on(line: Line) -> None:
    with structlog.testing.capture_logs() as logs:
        worker = line.worker(deadletter_run=5, deadletter_good=4)
        for trigger in range(20):
            line.send(frame(trigger, station="bad"), value=b"\xc1" if trigger < 10 else None)
            line.send(frame(trigger, station="good"))
        line.turn(worker, lambda: worker.answered == 40)
    found = {(v.part.station, v.part.trigger): v for v in line.verdicts()}
    assert {found["good", trigger].decision for trigger in range(20)} == {Decision.PASS}
    # Sound ones too, until four in a row could be read; those after them are judged again.
    assert {found["bad", trigger].decision for trigger in range(14)} == {Decision.ERROR}
    parked = found["bad", 11].reason or ""
    assert parked.startswith("parked: station bad is parked: 6 unreadable records in a row")
    assert "CROSSCHECK_DEADLETTER_GOOD" in parked
    assert found["bad", 19].decision is Decision.PASS
    assert len(line.read(DEAD)) == 10
    events = [(entry["event"], entry.get("station")) for entry in logs]
    assert ("worker.station_parked", "bad") in events
    assert ("worker.station_judged_again", "bad") in events
    worker.close()


def test_a_share_of_them_parks_too_although_good_ones_lie_between(line: Line) -> None:
    worker = line.worker(deadletter_run=5, deadletter_ratio=0.5)
    for trigger in range(30):
        line.send(frame(trigger), value=b"\xc1" if trigger % 3 > 0 else None)
    line.turn(worker, lambda: worker.answered == 30)
    reasons = [v.reason or "" for v in line.verdicts() if (v.reason or "").startswith("parked")]
    assert reasons
    assert "CROSSCHECK_DEADLETTER_RATIO" in reasons[0]
    worker.close()


def test_images_that_cannot_be_decoded_park_and_do_not_end_the_parking_themselves(line: Line) -> None:
    model = StandInModel()
    worker = line.worker(model, deadletter_run=3, deadletter_good=2)
    for trigger in range(30):
        line.send(undecodable(trigger))
    line.send(frame(30))
    line.turn(worker, lambda: worker.answered == 31)
    assert len(line.read(DEAD)) == 30
    assert (line.standing(PartKey("s1", 1, 30)).reason or "").startswith("parked")
    assert model.batches == []
    worker.close()


def test_what_is_parked_stands_in_the_heartbeat_until_it_is_judged_again(line: Line) -> None:
    worker = line.worker(deadletter_run=2, deadletter_good=2)
    for trigger in range(4):
        line.send(frame(trigger), value=b"\xc1")
    line.turn(worker, lambda: worker.answered == 4)
    line.clock.advance(5)
    worker.step()
    assert parked_by(line) == b"s1"
    for trigger in range(4, 7):
        line.send(frame(trigger))
    line.turn(worker, lambda: worker.answered == 7)
    line.clock.advance(5)
    worker.step()
    assert parked_by(line) == b""
    worker.close()


def test_records_that_name_no_station_count_to_their_partition_and_park_no_station(line: Line) -> None:
    worker = line.worker(deadletter_run=3)
    for _ in range(8):
        line.send(frame(0), value=b"\xc1", key=b"nobody")
    line.send(frame(1))
    line.send(frame(1, station="s2"), partition=1)
    line.turn(worker, lambda: line.committed() == 9 and line.committed(1) == 1)
    assert line.standing(PartKey("s1", 1, 1)).decision is Decision.PASS
    assert line.standing(PartKey("s2", 1, 1)).decision is Decision.PASS
    assert list(worker._parking.parked) == ["partition 0"]
    worker.close()


def test_a_worker_that_can_read_nothing_of_several_stations_stops_and_says_that_it_may_be_its_own(
    line: Line,
) -> None:
    worker = line.worker(deadletter_run=3)
    for trigger in range(8):
        for station in ("s1", "s2"):
            line.send(frame(trigger, station=station), value=b"\xc1")
    with pytest.raises(DeadLetterFlood, match=r"all 2 sources .*s1, s2.*release"):
        line.turn(worker, lambda: False)
    worker.close()


def test_a_partition_that_goes_takes_its_count_along() -> None:
    parking = Parking(run_limit=2, ratio_limit=1.0, good=5)
    for _ in range(3):
        parking.answered("s1", 0, dead=True)
        parking.answered("s2", 1, dead=True)
    assert set(parking.parked) == {"s1", "s2"}
    parking.forget({TopicPartition("frames", 0)})
    assert set(parking.parked) == {"s2"}
    assert parking.refusal("s1") is None


def test_a_share_is_of_the_last_thousand_alone() -> None:
    parking = Parking(run_limit=100, ratio_limit=0.25, good=20)
    for _ in range(10):
        for at in range(WINDOW):
            parking.answered("s1", 0, dead=at % 5 == 0)
    assert not parking.parked
