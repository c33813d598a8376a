"""Workers come and go while the line runs; the parts do not notice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from tests.e2e.limits import hold_none_between
from tests.e2e.processes import wait_until
from tests.faults.line import BAD_EVERY, FaultLine, fault_line, freeze, thaw

PARTS_EACH = 72

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


def freeze_with_frames_in_flight(line: FaultLine, first: str, second: str) -> dict[str, set[PartKey]]:
    """Stop both workers at a moment when each has parts on its bench; returns them."""
    held: dict[str, set[PartKey]] = {}

    def both_hold() -> bool:
        for name in (first, second):
            freeze(line.workers[name])
        # Asked twice: what a worker had sent before it froze may reach Redis after the first answer.
        held.update({n: line.on_the_bench(n) & line.on_the_bench(n) for n in (first, second)})
        if all(held.values()):
            return True
        for name in (first, second):
            thaw(line.workers[name])
        return False

    wait_until(both_hold, 60.0, "a moment with frames on both benches")
    return held


def assert_scored(verdicts: dict[PartKey, Verdict]) -> None:
    """Every part was judged by the model, most good ones passed, and no bad one did."""
    for part, verdict in verdicts.items():
        bad = part.trigger % BAD_EVERY == 0
        expected = {Decision.REJECT} if bad else {Decision.PASS, Decision.REJECT}
        assert verdict.decision in expected, f"part {part}: {verdict.decision} ({verdict.reason})"
    good = [v for p, v in verdicts.items() if p.trigger % BAD_EVERY]
    assert sum(v.decision is Decision.PASS for v in good) > 0.5 * len(good)


def report(what: str, at_ns: int, verdicts: dict[PartKey, Verdict], stations: set[str]) -> float:
    """Seconds until the first of the stations' parts was decided by somebody else; also printed."""
    after = [v.decided_at for p, v in verdicts.items() if p.station in stations and v.decided_at > at_ns]
    seconds = (min(after) - at_ns) / 1e9
    decisions = {d.value: sum(v.decision is d for v in verdicts.values()) for d in Decision}
    print(f"{what}: first verdict for the partitions that were left {seconds:.1f} s later; {decisions}")
    return seconds


def test_a_worker_killed_with_frames_in_flight_leaves_no_part_without_its_decision(
    models: Path, kafka_bootstrap: str, redis_url: str, kafka_topic: str, tmp_path: Path
) -> None:
    with fault_line(tmp_path, models, kafka_bootstrap, redis_url, kafka_topic) as line:
        hold_none_between(line.bus, line.topic("control"), models)
        line.start_workers("victim", "survivor")
        left = line.partitions_of("victim")
        stations = {station for station, number in line.stations.items() if number in left}
        sent = line.send_burst(PARTS_EACH)

        held = freeze_with_frames_in_flight(line, "victim", "survivor")
        lag = line.lag()
        killed_at = time.time_ns()
        line.workers["victim"].signal(signal.SIGKILL)
        thaw(line.workers["survivor"])
        assert line.workers["victim"].wait(5.0).code == -signal.SIGKILL
        assert all(lag.values()), f"the backlog was gone before the kill: {lag}"
        line.finish(len(sent), timeout=120.0)

        verdicts = line.assert_every_part_has_its_decision(sent)
        assert line.partitions_of("survivor") == set(line.stations.values())
        # What lay on the dead worker's bench was begun a second time, and by the other one.
        for part in held["victim"]:
            assert (verdicts[part].worker, verdicts[part].attempt) == ("survivor", 2), part
        assert {v.worker for v in verdicts.values()} == {"victim", "survivor"}
        assert_scored(verdicts)
        assert report("SIGKILL", killed_at, verdicts, stations) < 60.0


def test_a_worker_told_to_stop_answers_what_it_holds_and_signs_off(
    models: Path, kafka_bootstrap: str, redis_url: str, kafka_topic: str, tmp_path: Path
) -> None:
    with fault_line(tmp_path, models, kafka_bootstrap, redis_url, kafka_topic) as line:
        hold_none_between(line.bus, line.topic("control"), models)
        # With a session of a minute nobody could take over in time from a worker that had not signed off.
        line.start_workers("leaver", "stayer", session_timeout_ms="60000")
        left = line.partitions_of("leaver")
        stations = {station for station, number in line.stations.items() if number in left}
        sent = line.send_burst(PARTS_EACH)

        held = freeze_with_frames_in_flight(line, "leaver", "stayer")
        lag = line.lag()
        told_at = time.time_ns()
        line.workers["leaver"].signal(signal.SIGTERM)
        for name in ("leaver", "stayer"):
            thaw(line.workers[name])
        done = line.workers["leaver"].wait(20.0)
        assert done.code == 0, done.err[-2000:]
        assert all(lag.values()), f"the backlog was gone before the signal: {lag}"
        line.finish(len(sent), timeout=50.0)

        verdicts = line.assert_every_part_has_its_decision(sent)
        for part in held["leaver"]:
            assert (verdicts[part].worker, verdicts[part].attempt) == ("leaver", 1), part
        assert_scored(verdicts)
        by_stayer = {p: v for p, v in verdicts.items() if v.worker == "stayer"}
        report("SIGTERM", told_at, by_stayer, stations)
