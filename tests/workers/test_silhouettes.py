"""The station's last good silhouette: learned from good parts, lent to its own product, kept in Redis."""

from __future__ import annotations

from dataclasses import replace

import fakeredis
import numpy as np
import pytest
import redis

from inference.inspection import Inspection
from inference.sample import SILHOUETTE, Sample
from schemas.verdict import Decision, Mode
from tests.workers import standin
from tests.workers.frames import frame
from tests.workers.line import Line
from workers.steps.silhouettes import LEAST_COVERAGE, Known, Mask, Silhouettes
from workers.store.verdicts import VerdictStore

HASH = "a" * 64
RGB_ONLY = Sample(np.zeros((4, 4, 3), np.uint8), None)


def silhouette(seed: int = 0) -> Mask:
    return np.random.default_rng(seed).random(SILHOUETTE) > 0.5


def seen(mask: Mask | None, *, mode: Mode = Mode.FUSED, coverage: float = 1.0) -> Inspection:
    return replace(standin.inspection(mode=mode, coverage=coverage), silhouette=mask)


@pytest.fixture
def store() -> VerdictStore:
    return VerdictStore(fakeredis.FakeRedis())


def lent(memory: Silhouettes, *, product: str = "cover", bundle_hash: str = HASH) -> Mask | None:
    return memory.lend("s1", product, bundle_hash, RGB_ONLY).silhouette


def test_a_good_part_lends_its_silhouette_to_the_next_of_its_product(store: VerdictStore) -> None:
    memory = Silhouettes(store)
    assert lent(memory) is None
    memory.learn("s1", "cover", HASH, seen(silhouette()), Decision.PASS)
    found = lent(memory)
    assert found is not None
    assert np.array_equal(found, silhouette())
    assert memory.lend("s2", "cover", HASH, RGB_ONLY).silhouette is None


@pytest.mark.parametrize("decision", [d for d in Decision if d is not Decision.PASS])
def test_a_part_that_did_not_pass_teaches_nothing(store: VerdictStore, decision: Decision) -> None:
    memory = Silhouettes(store)
    memory.learn("s1", "cover", HASH, seen(silhouette()), decision)
    assert lent(memory) is None


@pytest.mark.parametrize(
    "inspection",
    [
        seen(silhouette(), mode=Mode.RGB),
        seen(silhouette(), mode=Mode.DEPTH),
        seen(silhouette(), coverage=LEAST_COVERAGE - 0.01),
        seen(silhouette(), coverage=float("nan")),
        seen(None),
    ],
)
def test_a_part_seen_badly_teaches_nothing(store: VerdictStore, inspection: Inspection) -> None:
    memory = Silhouettes(store)
    memory.learn("s1", "cover", HASH, seen(silhouette(1)), Decision.PASS)
    memory.learn("s1", "cover", HASH, inspection, Decision.PASS)
    found = lent(memory)
    assert found is not None
    assert np.array_equal(found, silhouette(1))


def test_another_product_or_another_bundle_is_not_told(store: VerdictStore) -> None:
    memory = Silhouettes(store)
    memory.learn("s1", "cover", HASH, seen(silhouette()), Decision.PASS)
    assert lent(memory, product="lid") is None
    assert lent(memory, bundle_hash="b" * 64) is None
    memory.learn("s1", "lid", HASH, seen(silhouette(2)), Decision.PASS)
    assert lent(memory) is None
    found = lent(memory, product="lid")
    assert found is not None
    assert np.array_equal(found, silhouette(2))


def test_the_next_worker_knows_what_the_last_one_kept(store: VerdictStore) -> None:
    first = Silhouettes(store)
    first.learn("s1", "cover", HASH, seen(silhouette(3)), Decision.PASS)
    first.keep(["s1", "never-seen"])
    second = Silhouettes(store)
    assert lent(second) is None
    second.recall("s1")
    found = lent(second)
    assert found is not None
    assert np.array_equal(found, silhouette(3))
    assert lent(second, product="lid") is None


def test_a_worker_that_lost_the_station_and_got_it_back_asks_again(store: VerdictStore) -> None:
    first, second = Silhouettes(store), Silhouettes(store)
    first.recall("s1")
    first.learn("s1", "cover", HASH, seen(silhouette(1)), Decision.PASS)
    first.keep(["s1"])
    first.forget(["s1"])
    assert lent(first) is None
    second.learn("s1", "cover", HASH, seen(silhouette(2)), Decision.PASS)
    second.keep(["s1"])
    first.recall("s1")
    found = lent(first)
    assert found is not None
    assert np.array_equal(found, silhouette(2))


def test_redis_is_written_when_the_part_moved_noticeably_and_not_for_every_part(
    store: VerdictStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    real = store.set_sensor

    def counted(station: str, name: str, state: dict[str, str | int | float]) -> None:
        written.append(name)
        real(station, name, state)

    monkeypatch.setattr(store, "set_sensor", counted)
    memory = Silhouettes(store)
    mask = silhouette()
    for _ in range(3):
        memory.learn("s1", "cover", HASH, seen(mask.copy()), Decision.PASS)
        memory.keep(["s1"])
    assert written == ["silhouette"]
    memory.learn("s1", "cover", HASH, seen(~mask), Decision.PASS)
    memory.keep(["s1"])
    assert written == ["silhouette"] * 2
    # A copy that is never written again is forgotten by Redis, however still the parts lie.
    for _ in range(1000):
        memory.learn("s1", "cover", HASH, seen(~mask), Decision.PASS)
        memory.keep(["s1"])
    assert written == ["silhouette"] * 4


@pytest.mark.parametrize(
    "values",
    [
        {"bits": "!!!", "product": "cover", "bundle": HASH},
        {"bits": "AAAA", "product": "cover", "bundle": HASH},
        {"product": "cover", "bundle": HASH},
        {"bits": "AAAA"},
        {"state": "up"},
    ],
)
def test_what_another_version_left_is_not_used(store: VerdictStore, values: dict[str, str]) -> None:
    store.set_sensor("s1", "silhouette", values)
    memory = Silhouettes(store)
    memory.recall("s1")
    assert lent(memory) is None


def test_without_redis_nothing_stops_and_it_is_kept_once_redis_is_back() -> None:
    server = fakeredis.FakeServer()
    store = VerdictStore(redis.Redis(connection_pool=fakeredis.FakeRedis(server=server).connection_pool))
    server.connected = False
    memory = Silhouettes(store)
    memory.recall("s1")
    memory.learn("s1", "cover", HASH, seen(silhouette()), Decision.PASS)
    memory.keep(["s1"])
    assert lent(memory) is not None
    server.connected = True
    memory.keep(["s1"])
    after = Silhouettes(store)
    after.recall("s1")
    assert lent(after) is not None


def test_a_known_silhouette_survives_packing_bit_for_bit(store: VerdictStore) -> None:
    for seed in range(5):
        memory, other = Silhouettes(store), Silhouettes(store)
        memory.learn("s1", "cover", HASH, seen(silhouette(seed)), Decision.PASS)
        memory.keep(["s1"])
        other.recall("s1")
        found = other._known["s1"]
        assert found == Known("cover", HASH, found.mask)
        assert np.array_equal(found.mask, silhouette(seed))


class Watching(standin.StandInModel):
    """Sees a silhouette in frames with depth; remembers what the frames without it were lent."""

    def __init__(self) -> None:
        self.lent: list[Mask | None] = []
        super().__init__(self._look)

    def _look(self, sample: Sample) -> Inspection:
        if sample.depth is not None:
            return seen(silhouette(7))
        self.lent.append(sample.silhouette)
        return standin.by_sensors(sample)


def test_a_part_without_depth_is_lent_the_silhouette_of_the_part_before_also_after_a_restart() -> None:
    line, model = Line(), Watching()
    worker = line.worker(model, max_batch=1, pair_wait_ms=1)
    line.send(frame(1))
    line.send(frame(2, with_depth=False, expects=("rgb",)))
    line.turn(worker, lambda: worker.answered == 2)
    worker.close()
    restarted = line.worker(model, max_batch=1, pair_wait_ms=1, name="w2")
    line.send(frame(3, with_depth=False, expects=("rgb",)))
    line.send(frame(4, with_depth=False, expects=("rgb",), product="lid"))
    line.send(frame(5, with_depth=False, expects=("rgb",), station="s2"))
    line.turn(restarted, lambda: restarted.answered == 3)
    restarted.close()
    known, after_restart, other_product, other_station = model.lent
    assert known is not None
    assert after_restart is not None
    assert np.array_equal(known, silhouette(7))
    assert np.array_equal(after_restart, silhouette(7))
    assert other_product is None
    assert other_station is None
