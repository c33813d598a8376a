"""``crosscheck gate`` and ``crosscheck challenge`` as processes: a real Redis, a real PLC."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from compose.process import free_ports
from compose.redis import RedisServer
from schemas.verdict import Decision
from tests.workers.gate_line import STATION, key, verdict
from tests.workers.plc import HEARTBEAT, Plc
from workers.capture.log import AgentLog
from workers.clock import SystemClock
from workers.commands.challenge import run_challenge
from workers.commands.local import settings_here
from workers.gate.decision import Reason, closed
from workers.gate.journal import Entry, Journal
from workers.store import VerdictStore, connect

_CLI = [sys.executable, "-c", "from workers.cli import main; main()"]


@pytest.fixture
def redis_here(tmp_path: Path) -> Iterator[str]:
    server = RedisServer(tmp_path, free_ports(1)[0])
    server.start()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.process.kill()


def crosscheck(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_CLI, *arguments], capture_output=True, text=True, timeout=60)


def test_a_plc_opens_for_the_pass_and_a_failed_challenge_keeps_everything_out(
    tmp_path: Path, redis_here: str
) -> None:
    store, clock = VerdictStore(connect(redis_here)), SystemClock()
    log_path, report_path = tmp_path / "agent.log", tmp_path / "report.json"
    arguments = ["gate", "--parts", str(log_path), "--station", STATION, "--redis", redis_here]
    arguments += ["--journal", str(tmp_path / "gate.jsonl"), "--json", str(report_path)]
    arguments += ["--early", "--until", "4", "--travel", "30"]
    with Plc() as plc, AgentLog(log_path) as log:
        gate = subprocess.Popen(
            [*_CLI, *arguments, "--actuator", plc.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until = time.monotonic() + 60.0
            while not plc.register(HEARTBEAT):
                assert time.monotonic() < until
                assert gate.poll() is None, gate.communicate()[1]
                time.sleep(0.02)

            def part(trigger: int, decision: Decision) -> None:
                log.trigger(key(trigger), clock.now())
                store.decide(verdict(key(trigger), decision))

            part(0, Decision.PASS)
            while not plc.is_open():
                assert time.monotonic() < until, "never open"
                time.sleep(0.01)
            part(1, Decision.REJECT)
            while plc.is_open():
                assert time.monotonic() < until, "never closed"
                time.sleep(0.01)
            armed = crosscheck("challenge", "--station", STATION, "--redis", redis_here)
            assert armed.returncode == 0, armed.stderr
            assert "armed: the next part" in armed.stdout
            part(2, Decision.PASS)
            part(3, Decision.PASS)
            printed, errors = gate.communicate(timeout=60)
        finally:
            gate.kill()
            gate.wait(10.0)
        assert gate.returncode == 0, errors
        assert not plc.is_open()
    report = json.loads(report_path.read_text())
    assert report["by_reason"] == {"pass": 1, "reject": 1, "challenge_part": 1, "challenge": 1}
    assert (report["opened"], report["lost"], report["duplicates"]) == (1, 0, 0)
    assert report["locked"] == "failed"
    assert 0.0 < report["round_trip_ms"]["p50"] <= report["actuator_ms"]["p50"] < 60_000.0
    words = " ".join(printed.split())
    assert "verdict to actuator: p50" in words
    assert "challenge parts: 0 rejected, 1 not" in words
    assert "locked (failed): nothing passes" in words


def test_a_gate_that_is_killed_leaves_the_coil_as_it_was_and_only_the_heartbeat_stops(
    tmp_path: Path, redis_here: str
) -> None:
    store, clock = VerdictStore(connect(redis_here)), SystemClock()
    log_path = tmp_path / "agent.log"
    arguments = ["gate", "--parts", str(log_path), "--station", STATION, "--redis", redis_here]
    arguments += ["--journal", str(tmp_path / "gate.jsonl"), "--early", "--travel", "600"]

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*_CLI, *arguments, "--actuator", plc.address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_for(done: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + 60.0
        while not done():
            assert time.monotonic() < until, f"never: {what}"
            time.sleep(0.02)

    with Plc() as plc, AgentLog(log_path) as log:
        gate = started()
        try:
            wait_for(lambda: plc.register(HEARTBEAT) > 0, "a heartbeat")
            log.trigger(key(0), clock.now())
            store.decide(verdict(key(0)))
            wait_for(plc.is_open, "open")
            gate.kill()
            gate.wait(10.0)
            last = plc.register(HEARTBEAT)
            time.sleep(0.5)
            assert plc.is_open(), "nobody is left to switch it off: that is what the PLC's rule is for"
            assert plc.register(HEARTBEAT) == last
            gate = started()
            wait_for(lambda: not plc.is_open(), "closed by the first word of the next one")
            gate.terminate()
            assert gate.wait(30.0) == 0
        finally:
            gate.kill()
            gate.wait(10.0)


def test_a_challenge_that_no_gate_takes_is_said(redis_here: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_here(None, redis=redis_here)
    try:
        assert run_challenge(settings, station=STATION, parts=2, within_s=60, wait_s=0.1) == 1
    finally:
        structlog.reset_defaults()  # the command sets up its process's log
    assert "no gate of s1 has taken it" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--actuator", "modbus://plc/1?coul=1"], "unknown option 'coul'"),
        (["--challenge-every", "0"], "--challenge-every"),
        (["--station", "a b/c"], "station 'a b/c'"),
        (["--parts", "/"], "--parts /: a folder"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(tmp_path: Path, arguments: list[str], named: str) -> None:
    found = crosscheck("gate", "--parts", str(tmp_path / "log"), *arguments)
    assert found.returncode == 2
    assert named in found.stderr
    assert found.stderr.count("\n") == 1


def refused(tmp_path: Path, redis: str, *arguments: str, what: str = "settings") -> str:
    done = crosscheck("gate", "--redis", redis, "--until", "1", *arguments)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"crosscheck: {what}: "), last
    return last


def test_a_misspelt_station_refuses_the_trigger_log_and_the_journal_of_another(
    tmp_path: Path, redis_here: str
) -> None:
    triggers, journal = tmp_path / "agent.log", tmp_path / "gate.jsonl"
    with AgentLog(triggers) as log:
        log.trigger(key(0), SystemClock().now())
    with Journal(journal) as mine:
        mine.append([Entry(closed(key(0), Decision.MISSING, Reason.MISSING), 1, 2, 3, None)])
    files = ["--journal", str(journal), "--parts"]
    said = refused(tmp_path, redis_here, "--station", "s11", *files, str(triggers))
    assert f"--parts {triggers}: its triggers are of station 's1', none of 's11'" in said
    assert "mend --station" in said
    said = refused(tmp_path, redis_here, "--station", "s11", *files, str(tmp_path / "not-yet.log"))
    assert f"--journal {journal}: it holds the decisions of station 's1', not of 's11'" in said


@pytest.mark.parametrize("option", [("--travel", "100000"), ("--travel", "inf"), ("--hold", "inf")])
def test_an_impossible_time_names_its_option(
    tmp_path: Path, redis_here: str, option: tuple[str, str]
) -> None:
    files = ["--journal", str(tmp_path / "gate.jsonl"), "--parts", str(tmp_path / "a.log")]
    if option[1] == "inf":
        said = refused(tmp_path, redis_here, *files, *option, what="usage")
        assert f"'{option[0]}': inf is no number that is meant here" in said
    else:
        said = refused(tmp_path, redis_here, *files, *option)
        assert f"({option[0]}) {option[1]} s: use" in said
