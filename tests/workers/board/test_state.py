"""What the board shows: stations, lamps, workers, dead letters, curves, scores; bounded whatever comes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from schemas.label import Label, LabelKind
from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Verdict
from schemas.wire import encode
from tests.workers.board.setting import BoardLine, bad
from tests.workers.frames import frame
from tests.workers.line import DEAD, VERDICTS
from tests.workers.standin import StandInModel
from workers.board import feed as feed_module
from workers.board.watch import Seen
from workers.bus.base import Record
from workers.drift.reading import READINGS, DriftReading
from workers.store import keys


def verdict(line: BoardLine, trigger: int, *, station: str = "s1", **more: Any) -> Verdict:
    now = line.clock.now()
    values: dict[str, Any] = {
        "product": "widget",
        "decision": Decision.ERROR,
        "captured_at": now,
        "decided_at": now,
        "deadline": now,
        "worker": "w1",
    }
    return Verdict(part=PartKey(station, 1, trigger), **(values | more))


def record(value: bytes, offset: int = 0) -> Record:
    return Record(VERDICTS, 0, offset, None, value, (), 0)


def test_a_station_shows_its_last_part_and_what_became_of_its_parts(line: BoardLine) -> None:
    line.rejected(1, 2)
    line.inspected(frame(3, captured_at=line.clock.now()), model=StandInModel())
    line.read_all()
    station = line.station()
    assert station["last"]["part"] == "s1/1/3"
    assert station["last"]["decision"] == "PASS"
    assert station["last"]["run"] == "1"
    assert station["last"]["captured_at"] < 2**53
    assert station["counts"] == {"REJECT": 2, "PASS": 1}
    assert station["rates"] == {"rejected": pytest.approx(2 / 3, abs=1e-5), "false": None}
    assert (station["product"], station["mode"]) == ("widget", "FUSED")


def test_a_verdict_that_is_said_again_is_counted_once_and_the_first_counts(line: BoardLine) -> None:
    first, second = verdict(line, 1), verdict(line, 1, decision=Decision.MISSING)
    line.board.feed.take_verdict(record(encode(first)), True)
    line.board.feed.take_verdict(record(encode(second), 1), True)
    assert line.station()["counts"] == {"ERROR": 1}
    assert line.board.feed.verdicts == 1


def test_what_cannot_be_read_takes_nothing_else_with_it(line: BoardLine) -> None:
    line.producer.send(VERDICTS, b"\xc1 no message", partition=0).wait(1)
    line.producer.send("inspection.labels", b"\xc1", partition=0).wait(1)
    line.producer.send(VERDICTS, encode(verdict(line, 7)), partition=0).wait(1)
    line.read_all()
    assert line.station()["last"]["part"] == "s1/1/7"


def test_rates_count_the_last_ten_seconds_and_counts_the_last_ten_minutes(line: BoardLine) -> None:
    for trigger in range(20):
        line.board.feed.take_verdict(record(encode(verdict(line, trigger)), trigger), True)
        line.clock.advance(0.5)
    state = line.state()
    assert state["verdicts_per_s"] == pytest.approx(2.0, abs=0.3)
    line.clock.advance(30)
    assert line.state()["verdicts_per_s"] == 0
    assert line.station()["counts"] == {"ERROR": 20}
    line.clock.advance(600)
    assert line.station()["counts"] == {}
    assert line.station()["last"]["part"] == "s1/1/19"


def test_lamps_are_those_that_the_worker_left_and_a_sensor_nobody_spoke_of_is_up(line: BoardLine) -> None:
    line.rejected(1)
    since = line.clock.now()
    line.store.set_sensor("s1", "depth", {"state": "down", "since": str(since), "why": "depth:frozen"})
    line.board.watch.look()
    sensors = line.station()["sensors"]
    assert sensors["rgb"]["state"] == "up"
    assert sensors["depth"] == {"state": "down", "since": since // 1_000_000, "why": "depth:frozen"}


def test_no_lamp_is_up_while_redis_cannot_be_asked(line: BoardLine) -> None:
    line.rejected(1)
    line.board.watch.look()
    assert {lamp["state"] for lamp in line.station()["sensors"].values()} == {"up"}
    line.board.watch.seen = Seen()
    line.clock.advance(5)
    assert {lamp["state"] for lamp in line.station()["sensors"].values()} == {"suspect"}
    assert {lamp["why"] for lamp in line.station()["sensors"].values()} == {"Redis is away"}


def test_workers_drift_and_the_product_that_is_due_come_from_redis(line: BoardLine) -> None:
    line.rejected(1)
    line.store.beat("idle", {"at": line.clock.now(), "partitions": "0,2", "lag": 7, "held": 3, "paused": 1})
    reading = DriftReading(
        station="s1",
        product="widget",
        mode="FUSED",
        kind="scores",
        value=0.4,
        limit=0.2,
        reference="bundle",
        warning=True,
        since=5_000_000,
    )
    line.redis.hset(keys.drift("s1"), READINGS, json.dumps([reading.to_map()]))
    line.redis.hset(keys.product("s1"), mapping={"product": "lid"})
    line.board.watch.look()
    state = line.state()
    idle = next(each for each in state["workers"] if each["name"] == "idle")
    assert (idle["partitions"], idle["lag"], idle["held"], idle["paused"]) == ([0, 2], 7, 3, True)
    assert {each["name"] for each in state["workers"]} == {"idle", "w1"}
    (drift,) = line.station()["drift"]
    assert (drift["kind"], drift["value"], drift["warning"], drift["since"]) == ("scores", 0.4, True, 5)
    assert line.station()["product_due"] == "lid"


def test_what_is_newest_is_so_by_when_it_was_decided_though_history_comes_by_partition(
    line: BoardLine,
) -> None:
    now, order = line.clock.now(), (3, 4, 1, 2)
    for number, trigger in enumerate(order):
        found = verdict(line, trigger, decision=Decision.REJECT, decided_at=now - (9 - trigger) * 10**9)
        line.board.feed.take_verdict(record(encode(found), number), False)
    assert [row["trigger"] for row in line.board.feed.newest(3)] == ["2", "3", "4"]
    count, rows = line.board.feed.waiting(2)
    assert (count, [row["trigger"] for row in rows]) == (4, ["4", "3"])


def test_only_what_warns_of_the_product_on_the_line_is_told_as_drift(line: BoardLine) -> None:
    line.rejected(1)
    well = DriftReading(
        station="s1", product="widget", mode="FUSED", kind="scores", value=0.1, limit=0.2, reference="bundle"
    )
    gone = replace(well, product="lid", kind="belt", warning=True, since=1)
    line.redis.hset(keys.drift("s1"), READINGS, json.dumps([well.to_map(), gone.to_map()]))
    line.board.watch.look()
    assert line.station()["drift"] == []
    now = replace(well, kind="brightness", warning=True, since=1)
    line.redis.hset(keys.drift("s1"), READINGS, json.dumps([each.to_map() for each in (well, gone, now)]))
    line.board.watch.look()
    assert [each["kind"] for each in line.station()["drift"]] == ["brightness"]


def test_labels_of_stations_that_are_gone_neither_bring_them_back_nor_count_below_nothing(
    line: BoardLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "LABELS", 3)
    feed = line.board.feed
    for number in range(5):
        said = Label(
            part=PartKey(f"old{number}", 1, 1),
            product="widget",
            decision=Decision.REJECT,
            label=LabelKind.FALSE_REJECT,
            at=1,
            by="Ada",
        )
        feed.label(said)
    assert feed.names() == []
    for number, labelled in ((0, 0), (4, 1)):
        found = verdict(line, 1, station=f"old{number}")
        feed.take_verdict(record(encode(found), number), True)
        station = line.station(f"old{number}")
        assert station["false_rejects"] == {"labelled": labelled, "false": labelled}
    rates = line.browser.get("/api/series").json()["rates"]
    assert rates["false"] == 1.0


def test_rejects_are_a_share_of_the_scored_parts_in_the_curves_too(line: BoardLine) -> None:
    line.rejected(1)
    line.board.feed.take_verdict(record(encode(verdict(line, 2, decision=Decision.MISSING)), 1), True)
    line.clock.advance(25)
    body = line.browser.get("/api/series", params={"station": "s1"}).json()
    assert [sum(body[name]) for name in ("verdicts", "scored", "rejected")] == [2, 1, 1]
    assert line.station()["rates"]["rejected"] == 1.0


def test_a_worker_is_found_by_its_verdicts_in_a_database_too_large_to_walk(
    line: BoardLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.board.watch.WALK_STEPS", 1)
    monkeypatch.setattr("workers.board.watch.WALK_COUNT", 1)
    for number in range(300):
        line.redis.set(f"key{number}", b"")
    line.rejected(1)
    assert [each["name"] for each in line.state()["workers"]] == ["w1"]


def test_dead_letters_are_counted_and_the_newest_named(line: BoardLine) -> None:
    line.inspected()
    line.send(frame(1), value=b"\xc1 no frame")
    inspector = line.worker(bad(), name="w2")
    line.turn(inspector, lambda: len(line.read(DEAD)) == 1)
    inspector.close()
    line.read_all()
    letters = line.state()["dead_letters"]
    assert letters["total"] == 1
    (letter,) = letters["recent"]
    assert (letter["station"], letter["part"], letter["offset"]) == ("s1", "s1/1/1", 0)
    assert letter["reason"] == "malformed"


def test_redis_that_is_away_is_said_and_the_rest_still_shown(line: BoardLine) -> None:
    line.rejected(1)
    line.server.connected = False
    line.board.watch.look()
    state = line.state()
    assert state["sinks"] == {"kafka": True, "redis": False}
    assert state["stations"][0]["last"]["part"] == "s1/1/1"
    assert line.browser.get("/health/ready").status_code == 503
    assert line.browser.get("/health/live").status_code == 200
    line.server.connected = True
    line.board.watch.look()
    assert line.state()["sinks"]["redis"] is True


def test_series_have_a_step_for_each_ten_seconds_of_half_an_hour(line: BoardLine) -> None:
    line.rejected(1, 2, 3)
    line.clock.advance(25)
    body = line.browser.get("/api/series", params={"station": "s1"}).json()
    assert body["step_s"] == 10
    assert {len(body[name]) for name in ("t", "verdicts", "scored", "rejected", "p50", "p95")} == {180}
    assert sum(body["verdicts"]) == sum(body["rejected"]) == 3
    assert [p for p in body["p50"] if p is not None] != []
    assert line.browser.get("/api/series").json()["verdicts"] == body["verdicts"]
    assert line.browser.get("/api/series", params={"station": "nowhere"}).status_code == 404


def test_scores_are_kept_by_product_and_mode_with_the_threshold_they_were_held_against(
    line: BoardLine,
) -> None:
    line.rejected(1, 2)
    line.rejected(3, station="s2")
    body = line.browser.get("/api/scores", params={"product": "widget", "mode": "FUSED"}).json()
    assert (body["count"], body["threshold"], body["scores"]) == (3, 1.0, [5.0, 5.0, 5.0])
    assert (body["decisions"], body["above"]) == ({"REJECT": 3}, 1.0)
    of_one = line.browser.get("/api/scores", params={"product": "widget", "mode": "FUSED", "station": "s2"})
    assert of_one.json()["count"] == 1
    none = line.browser.get("/api/scores", params={"product": "<script>", "mode": "x"}).json()
    assert (none["count"], none["threshold"], none["above"]) == (0, None, None)


def test_invented_stations_products_and_workers_do_not_fill_the_memory(
    line: BoardLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "MAX_STATIONS", 20)
    monkeypatch.setattr(feed_module, "RECENT", 30)
    monkeypatch.setattr(feed_module, "WAITING", 10)
    monkeypatch.setattr(feed_module, "FIRST", 40)
    proof: dict[str, Any] = {"mode": Mode.FUSED, "score": 2.0, "threshold": 1.0}
    feed = line.board.feed
    for number in range(200):
        found = verdict(
            line,
            number,
            station=f"s{number}",
            product=f"p{number}",
            worker=f"w{number}",
            decision=Decision.REJECT,
            **proof,
        )
        feed.take_verdict(record(encode(found), number), True)
    assert len(feed.names()) == 20
    assert feed.waiting(500)[0] == 10
    assert len(feed.newest(500)) == 30
    assert len(feed.workers()) == feed_module.WORKERS
    assert len(feed.products()) == 64
    assert feed.waiting(3)[1][0]["part"] == "s199/1/199"


def test_a_deadline_far_ahead_or_long_gone_does_not_bend_the_curves(line: BoardLine) -> None:
    now = line.clock.now()
    ahead = verdict(line, 1, decided_at=now + 86_400 * 10**9)
    gone = verdict(line, 2, decided_at=now - 86_400 * 10**9)
    for number, each in enumerate((ahead, gone)):
        line.board.feed.take_verdict(record(encode(each), number), True)
    assert line.station()["counts"] == {"ERROR": 1}
    line.clock.advance(20)
    assert sum(line.browser.get("/api/series").json()["verdicts"]) == 1
