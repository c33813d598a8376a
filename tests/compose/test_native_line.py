"""The line of compose.yaml comes up and decides parts, each of its commands a plain process."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from inference.datasets.surface import SurfaceDataset, write_surface_layout
from inference.datasets.synthetic import SyntheticDataset
from inference.teach import teach
from inference.teach_settings import TeachSettings
from schemas.verdict import Decision
from tests.compose.containers import services
from tests.compose.native import NativeLine
from tests.e2e.processes import wait_until
from workers.gate import Audit, audit
from workers.gate.lines import Entry, read_lines

STATIONS = ("s1", "s2")
PARTS_EACH = 6

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]


def test_the_services_of_the_compose_file_come_up_decide_parts_and_stop(
    kafka_bootstrap: str, redis_url: str, tmp_path: Path
) -> None:
    ours = {name: service for name, service in services().items() if service.ours and not service.optional}
    prefix = f"compose-{time.time_ns()}"
    line = NativeLine(
        ours,
        kafka_bootstrap,
        # A database of its own: the stations are called s1 and s2 in the file.
        redis_url.rpartition("/")[0] + "/9",
        tmp_path,
        {"CROSSCHECK_TOPIC_PREFIX": prefix, "CROSSCHECK_GROUP": f"{prefix}.workers"},
    )
    # As after a first `up`: frames and bundle are on their volumes, and nothing is taught again.
    frames = SyntheticDataset(train=24, validation=12, test_good=8, defects_per_kind=1, size=64, lot_size=4)
    write_surface_layout(frames, line.volume("parts"))
    # As small a bundle as scores at all: how well it judges is for other tests.
    small = TeachSettings(folds=0)
    teach(SurfaceDataset(line.volume("parts")), line.volume("models"), name="demo-part", settings=small)
    try:
        line.start(timeout=180.0)
        journals = {s: line.volume(f"journal-{s}") / "gate.jsonl" for s in STATIONS}
        wait_until(
            lambda: all(len(_decided(journal)) >= PARTS_EACH for journal in journals.values()),
            60.0,
            "parts decided at both gates",
        )
        board = line.processes["board-1"]
        state = json.loads(line.get(board, "http://127.0.0.1:8600/api/state") or b"{}")
        assert [station["name"] for station in state["stations"]] == list(STATIONS)
        assert len(state["workers"]) == 2
        metrics = line.get(line.processes["worker-1"], "http://127.0.0.1:9100/metrics")
        assert metrics is not None
        assert b"crosscheck_frames_total" in metrics
        assert all(line.check(each) for each in line.processes.values() if not each.once)
        codes = line.stop(timeout=30.0, kind="station-")
        # The last parts are on their way still; a gate that is stopped before they come ends with 1.
        wait_until(
            lambda: not any(_audit(line, station).lost for station in STATIONS), 30.0, "the last parts"
        )
        codes |= line.stop(timeout=30.0)
    finally:
        line.kill()
    assert {name: code for name, code in codes.items() if code != 0} == {}
    for station in STATIONS:
        assert not _audit(line, station).duplicates
        decisions = [entry.decision.decision for entry in _decided(journals[station])]
        # The model has judged them: only a busy machine makes a part late.
        assert {Decision.PASS, Decision.REJECT, Decision.REVIEW} & set(decisions)
        assert Decision.ERROR not in decisions


def _audit(line: NativeLine, station: str) -> Audit:
    log, journal = line.volume(f"line-{station}"), line.volume(f"journal-{station}")
    return audit(log / "triggers.jsonl", journal / "gate.jsonl", station=station)


def _decided(journal: Path) -> list[Entry]:
    return (
        [line for line in read_lines(journal.read_bytes()) if isinstance(line, Entry)]
        if journal.exists()
        else []
    )
