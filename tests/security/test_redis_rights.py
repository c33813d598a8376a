"""Each process at a real Redis with users and the rights of the table, and by TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from schemas.label import LabelKind
from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Verdict
from schemas.wire import decode_verdict
from tests.security.servers import PASSWORD, Authority, TlsFront
from tests.workers.drift.outcomes import outcome
from workers.board.review import Said, write_label
from workers.board.sinks import Sink
from workers.board.watch import Watch
from workers.commands.local import open_store
from workers.drift.reading import read_drift
from workers.drift.watch import DriftWatch
from workers.errors import StoreError
from workers.rights import RIGHTS, redis_command, user
from workers.settings import Settings
from workers.shadow.keeping import Keeping
from workers.shadow.report import read_shadow
from workers.shadow.tally import Tally
from workers.store import keys
from workers.store.verdicts import VerdictStore

pytestmark = pytest.mark.services

PROCESSES = [row.process for row in RIGHTS if row.commands]
PART = PartKey("s1", 7, 1)
OTHER = PartKey("s2", 7, 1)


@pytest.fixture(scope="module")
def port(secure_redis: int) -> int:
    return secure_redis


def as_user(port: int, process: str, **more: Any) -> Settings:
    return Settings(
        redis=f"redis://127.0.0.1:{port}/0", redis_user=user(process), redis_password=PASSWORD, **more
    )


@pytest.fixture(scope="module")
def stores(port: int) -> dict[str, VerdictStore]:
    made = {process: open_store(as_user(port, process)) for process in PROCESSES}
    # Every script is known to the server: what is refused is refused for the rights it lacks.
    worker = made["worker"]
    worker.decide(verdict(PartKey("s1", 1, 1), Decision.PASS))
    worker.begin_attempt(PartKey("s1", 1, 2))
    worker.put_heatmap(PartKey("s1", 1, 1), b"map")
    return made


def verdict(part: PartKey, decision: Decision) -> Verdict:
    proof: dict[str, Any] = (
        dict(mode=Mode.FUSED, score=0.5, threshold=1.0, bundle="casting/1", bundle_hash="ab")
        if decision is Decision.PASS
        else {}
    )
    return Verdict(
        part=part,
        product="casting",
        decision=decision,
        captured_at=1,
        decided_at=2,
        deadline=3,
        worker="w1",
        **proof,
    )


def test_a_worker_decides_counts_shows_and_remembers(stores: dict[str, VerdictStore]) -> None:
    store = stores["worker"]
    assert store.begin_attempts([PART]) == [1]
    assert store.decide(verdict(PART, Decision.PASS)).first
    assert not store.decide(verdict(PART, Decision.REJECT)).first
    ((standing, attempts),) = store.standing_and_attempts([PART])
    assert standing is not None
    assert decode_verdict(standing).decision is Decision.PASS
    assert attempts == 0
    for trigger in range(300):
        assert store.put_heatmap(PartKey("s1", 8, trigger), b"map") is not None
    assert store.get_heatmap(PartKey("s1", 8, 299)) == b"map"
    store.set_sensor("s1", "top", {"state": "up"})
    store.set_sensors_many({("s1", "side"): {"state": "down"}})
    assert store.get_sensor("s1", "top") == {"state": "up"}
    assert store.get_sensors_many("s1", ["side", "top"]) == [{"state": "down"}, {"state": "up"}]
    store.beat("w1", {"frames": 1})


def test_a_worker_keeps_drift_and_a_board_reads_it(stores: dict[str, VerdictStore]) -> None:
    watch = DriftWatch(stores["worker"], "w1")
    watch.answered([outcome(number, 1.0) for number in range(3)])
    with capture_logs() as logs:
        watch.look()
        watch.answered([outcome(4, 1.0)])
        watch.look()
    assert logs == []
    assert {reading.kind for reading in read_drift(stores["board"], "s1")} == {"scores", "brightness", "belt"}


def test_a_shadow_run_reads_verdicts_and_keeps_what_it_finds(stores: dict[str, VerdictStore]) -> None:
    store = stores["shadow"]
    keeping = Keeping(store, "casting")
    keeping.begin()
    passed = verdict(PartKey("s1", 1, 1), Decision.PASS)
    assert store.standing_many([passed.part]) != [None]
    tally = Tally("casting", "casting/2", 1)
    tally.compared(passed, Decision.PASS, 0.4, 1.0, 2)
    tally.compared(passed, Decision.REJECT, 1.4, 1.0, 2)
    keeping.write(tally, 3)
    (report,) = read_shadow(stores["board"])
    assert (report.count, report.agree, len(report.recent)) == (2, 1, 2)
    with pytest.raises(StoreError, match="write verdicts"):
        store.decide(passed)


def test_a_gate_reads_its_decisions_and_writes_missing(stores: dict[str, VerdictStore]) -> None:
    store, part = stores["gate"], PartKey("s1", 9, 1)
    stores["worker"].decide(verdict(part, Decision.PASS))
    assert part in {entry.part for entry in store.gate_entries("s1")}
    assert store.gate_tail("s1") != "0-0"
    assert store.standing_many([part, PartKey("s1", 9, 2)])[1] is None
    assert store.decide(verdict(PartKey("s1", 9, 2), Decision.MISSING)).first
    assert not store.decide(verdict(part, Decision.MISSING)).first
    stores["operator"].arm_challenge("s1", parts=2)
    armed = store.armed_challenge("s1")
    assert armed is not None
    store.take_challenge("s1", armed.id)
    assert store.armed_challenge("s1") is None


def test_a_board_sees_the_line(stores: dict[str, VerdictStore]) -> None:
    store = stores["board"]
    stores["worker"].beat("w2", {"frames": 1})
    assert store.latest("s1") is not None
    assert store.standing(PartKey("s1", 1, 1)) is not None
    stores["worker"].put_heatmap(PartKey("s1", 12, 1), b"map")
    assert store.get_heatmap(PartKey("s1", 12, 1)) == b"map"
    assert "w2" in store.workers()
    assert store.worker("w2") == {"frames": "1"}
    assert store.get_sensor("s1", "none") == {}
    assert store.gate_entries("s1")


def test_a_board_takes_labels_and_looks_at_lamps(
    stores: dict[str, VerdictStore],
) -> None:
    store, part = stores["board"], PartKey("s1", 14, 1)
    said = Said(LabelKind.FALSE_REJECT, "", "ada")
    assert write_label(store, part, said, at=5).revision == 1
    stands = write_label(store, part, Said(LabelKind.TRUE_REJECT, "", "bob"), at=6)
    assert (stands.label, stands.by) == (LabelKind.FALSE_REJECT, "ada")
    seen = Watch(Sink.of(store), lambda: ["s1"], lambda: ["w1"]).look()
    assert seen.up
    assert seen.sensors["s1"]["rgb"]["state"] == "up"


def test_a_replay_holds_a_part_before_it_is_sent_again(stores: dict[str, VerdictStore]) -> None:
    store, part = stores["replay"], PartKey("s1", 13, 1)
    assert store.standing(part) is None
    assert store.decide(verdict(part, Decision.STALE)).first
    assert store.renew(part)
    assert not stores["worker"].decide(verdict(part, Decision.PASS)).first


def test_a_changeover_says_the_product_to_the_gate_and_hears_which_workers_have_it(
    stores: dict[str, VerdictStore],
) -> None:
    store = stores["changeover"]
    store.set_product("s1", {"product": "cap"})
    assert store.product("s1") == stores["gate"].product("s1") == stores["board"].product("s1")
    stores["worker"].beat("w3", {"due": "s1:5"})
    assert "w3" in store.workers()
    assert store.worker("w3") == {"due": "s1:5"}
    assert store.forget_product("s1")


PART_2 = PartKey("s1", 10, 1)
LABEL = Said(LabelKind.TRUE_REJECT, "", "ada")
# Process, what it must not do.
REFUSED: list[tuple[str, str, Callable[[VerdictStore], object]]] = [
    ("worker", "decide for a station that is not its own", lambda s: s.decide(verdict(OTHER, Decision.PASS))),
    ("worker", "announce a challenge", lambda s: s.arm_challenge("s1")),
    ("worker", "say which product is due", lambda s: s.set_product("s1", {"product": "cap"})),
    ("changeover", "decide", lambda s: s.decide(verdict(PART_2, Decision.PASS))),
    ("changeover", "read decisions", lambda s: s.standing(PART)),
    ("changeover", "say another station's product", lambda s: s.set_product("s2", {"product": "cap"})),
    ("gate", "read another station's decisions", lambda s: s.gate_entries("s2")),
    ("gate", "decide for another station", lambda s: s.decide(verdict(OTHER, Decision.MISSING))),
    ("gate", "count attempts", lambda s: s.begin_attempt(PART_2)),
    ("gate", "change a sensor", lambda s: s.set_sensor("s1", "depth", {"state": "up"})),
    ("gate", "sign on as a worker", lambda s: s.beat("w9", {"a": 1})),
    ("worker", "label a part", lambda s: write_label(s, PART_2, LABEL, at=5)),
    ("gate", "label a part", lambda s: write_label(s, PART_2, LABEL, at=5)),
    ("board", "label another station's part", lambda s: write_label(s, OTHER, LABEL, at=5)),
    ("board", "decide", lambda s: s.decide(verdict(PART_2, Decision.MISSING))),
    ("board", "change a sensor", lambda s: s.set_sensor("s1", "depth", {"state": "up"})),
    ("board", "announce a challenge", lambda s: s.arm_challenge("s1")),
    ("operator", "decide", lambda s: s.decide(verdict(PART_2, Decision.PASS))),
    ("replay", "count attempts", lambda s: s.begin_attempt(PART_2)),
    ("replay", "announce a challenge", lambda s: s.arm_challenge("s1")),
    ("replay", "decide for another station", lambda s: s.decide(verdict(OTHER, Decision.STALE))),
    ("operator", "read decisions", lambda s: s.standing(PART)),
]


@pytest.mark.parametrize(("process", "what", "act"), REFUSED, ids=[f"{p} {w}" for p, w, _ in REFUSED])
def test_what_a_process_must_not_do_is_refused(
    stores: dict[str, VerdictStore], process: str, what: str, act: Callable[[VerdictStore], object]
) -> None:
    with pytest.raises(StoreError, match="crosscheck rights"):
        act(stores[process])


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("ACL", "SETUSER", "crosscheck-gate", "+@all"),
        ("SHUTDOWN",),
        ("KEYS", "*"),
        ("SET", "{s2}:verdict:7:1", "forged"),
        ("GET", "somebody:elses"),
        ("PUBLISH", "anything", "at all"),
        ("SCRIPT", "FLUSH"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_nobody_has_the_keys_of_the_house(port: int, process: str, command: tuple[str, ...]) -> None:
    with (
        redis.Redis(port=port, username=user(process), password=PASSWORD) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*command)


def test_a_script_does_no_more_than_its_user_may(port: int) -> None:
    with redis.Redis(port=port, username=user("gate"), password=PASSWORD) as client:
        for key, command in (("{s1}:gate", "FLUSHALL"), (keys.verdict(OTHER), "SET")):
            arguments = ", KEYS[1], 'x'" if command == "SET" else ""
            with pytest.raises(redis.ResponseError):
                client.eval(f"return redis.call('{command}'{arguments})", 1, key)
        # Nor by a key that it does not name.
        with pytest.raises(redis.ResponseError):
            client.eval(f"return redis.call('SET', '{keys.verdict(OTHER)}', 'x')", 0)
    with redis.Redis(port=port, username="crosscheck-admin", password=PASSWORD) as admin:
        assert admin.get(keys.verdict(OTHER)) is None


def test_agents_and_archives_have_no_user_at_redis() -> None:
    assert set(PROCESSES) == {"worker", "gate", "board", "operator", "replay", "changeover", "shadow"}
    for row in RIGHTS:
        line = redis_command(row, ["s1", "s2"], "PASSWORD")
        assert (line is None) == (row.process in ("agent", "archive"))
        if line is not None:
            assert line.startswith(f"ACL SETUSER crosscheck-{row.process} reset on '~")
            assert line.endswith(">PASSWORD")


def test_the_worker_and_the_gate_work_through_tls(port: int, authority: Authority) -> None:
    front = TlsFront(port, authority.issue("127.0.0.1").context())
    try:
        for process in ("worker", "gate"):
            settings = as_user(port, process, redis_ca=authority.ca).model_copy(
                update={"redis": f"rediss://127.0.0.1:{front.port}/0"}
            )
            store, part = open_store(settings), PartKey("s1", 11, PROCESSES.index(process))
            assert store.decide(verdict(part, Decision.MISSING)).first
            assert store.gate_tail("s1") if process == "gate" else store.begin_attempt(PART_2)
        # It did come through here, and the user's password with it.
        assert PASSWORD.encode() in bytes(front.sent)
    finally:
        front.close()
