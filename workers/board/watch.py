"""What Redis says of the line, looked at once a second: sensors, workers, product changes, drift."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import structlog

from workers.board.sinks import Redis
from workers.drift.reading import READINGS, DriftReading, readings_from
from workers.errors import ServiceError, SettingsError
from workers.store import keys
from workers.store.connection import guarded
from workers.store.verdicts import VerdictStore

log = structlog.get_logger(__name__)

EVERY_S = 1.0
MAX_WORKERS = 1_000
WALK_STEPS = 10
WALK_COUNT = 1_000
_MS = 1_000_000
SENSORS = ("rgb", "depth")
"""As the worker names them in Redis. Its own list lies beside what imports torch, which takes seconds."""
STATES = ("up", "suspect", "down", "recovering")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look.

    Attributes:
        up: whether Redis answered.
        sensors: by station and sensor: state, since (milliseconds), why.
        due: by station, the product that is due by the PLC's word, where one says.
        drift: by station, what of it warns now.
        workers: those whose heartbeat is fresh.
    """

    up: bool = False
    sensors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    due: Mapping[str, str] = field(default_factory=dict)
    drift: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    workers: tuple[dict[str, Any], ...] = ()


class Watch:
    """Looks at Redis; the last look is in ``seen``. While Redis is away the look before stays, marked so."""

    def __init__(
        self, redis: Redis, stations: Callable[[], list[str]], workers: Callable[[], list[str]]
    ) -> None:
        self._redis = redis
        self._stations = stations
        self._told = workers
        self._roll = Roll()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._away = False
        self.seen = Seen()

    def start(self) -> None:
        """Begin to look."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="board-redis", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait for its end."""
        if self._thread is not None:
            self._thread.join(timeout)

    def look(self) -> Seen:
        """One look, kept in ``seen``. Never raises."""
        try:
            store = self._redis.get()
            names = self._stations()
            self.seen = Seen(
                up=True,
                workers=self._roll.look(store, self._told()),
                **_stations_of(store, names),
            )
        except ServiceError as error:
            if not self._away:
                log.warning("board.redis_away", error=str(error))
            before = self.seen
            # Lamps of a line that cannot be seen are not shown as if they were.
            self.seen = Seen(up=False, due=before.due, drift=before.drift)
        if self._away and self.seen.up:
            log.info("board.redis_back")
        self._away = not self.seen.up
        return self.seen

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:  # a thread that ends unseen would show old lamps
                log.exception("board.look_failed")
                self.seen = Seen()
            self._stop.wait(EVERY_S)


class Roll:
    """Which workers there are: those that verdicts name, and those that a walk over Redis' keys finds.

    A database holds a key for each part of a week. To look through all of them every second would cost Redis
    more than the line does, so the walk takes some thousand a second and begins again at its end.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._cursor = 0

    def look(self, store: VerdictStore, told: Iterable[str]) -> tuple[dict[str, Any], ...]:
        """The heartbeats that are fresh, by name; ``told`` are names out of verdicts. Raises StoreError."""
        self._walk(store)
        for name in told:
            if _is_name(name):
                self._names[name] = None
        while len(self._names) > MAX_WORKERS:
            del self._names[next(iter(self._names))]
        names = sorted(self._names)
        states = hashes(store, [keys.worker(name) for name in names])
        self._names = {name: None for name, state in zip(names, states, strict=True) if state}
        return tuple(worker_of(name, state) for name, state in zip(names, states, strict=True) if state)

    def _walk(self, store: VerdictStore) -> None:
        with guarded(store.client, "list workers"):
            for _ in range(WALK_STEPS):
                found = store.client.scan(self._cursor, match="worker:*", count=WALK_COUNT)
                self._cursor, names = cast("tuple[int, list[bytes]]", found)
                for name in names:
                    text = name.decode(errors="replace").removeprefix("worker:")
                    if _is_name(text):
                        self._names[text] = None
                if self._cursor == 0:
                    return


def _is_name(text: str) -> bool:
    try:
        return bool(keys.worker(text))
    except SettingsError:
        return False


def _stations_of(store: VerdictStore, names: list[str]) -> dict[str, Any]:
    wanted = [keys.sensor(name, sensor) for name in names for sensor in SENSORS]
    wanted += [keys.product(name) for name in names]
    found = hashes(store, wanted)
    each = len(SENSORS)
    sensors = {
        name: {sensor: sensor_of(found[at * each + number]) for number, sensor in enumerate(SENSORS)}
        for at, name in enumerate(names)
    }
    changes = dict(zip(names, found[each * len(names) :], strict=True))
    due = {name: text for name, state in changes.items() if (text := state.get("product", "")[:128])}
    return {"sensors": sensors, "due": due, "drift": _drift(store, names)}


def _drift(store: VerdictStore, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    if not names:
        return {}
    with guarded(store.client, "read what drifts"):
        # Not the whole hash: the sketches beside it are large.
        pipe = store.client.pipeline(transaction=False)
        for name in names:
            pipe.hget(keys.drift(name), READINGS)
        raw = cast("list[bytes | None]", pipe.execute())
    return {
        # Everything that is followed is kept there, most of it well: a warning is what the page shows.
        name: [drift_of(reading) for reading in readings_from(found) if reading.warning]
        for name, found in zip(names, raw, strict=True)
        if found is not None
    }


def drift_of(reading: DriftReading) -> dict[str, Any]:
    """A reading as the state has it; times in milliseconds."""
    since = reading.since
    return reading.to_map() | {"since": None if since is None else since // _MS, "at": reading.at // _MS}


def hashes(store: VerdictStore, names: list[str]) -> list[dict[str, str]]:
    """The hashes of these keys, in one round trip; empty where there is none. Raises StoreError."""
    if not names:
        return []
    with guarded(store.client, "read the state of the line"):
        # The stations' hash tags may lie on different nodes of a cluster.
        pipe = store.client.pipeline(transaction=False)
        for name in names:
            pipe.hgetall(name)
        found = cast("list[dict[bytes, bytes]]", pipe.execute())
    return [
        {key.decode(errors="replace"): value.decode(errors="replace") for key, value in raw.items()}
        for raw in found
    ]


def sensor_of(state: Mapping[str, str]) -> dict[str, Any]:
    """A lamp: what the worker left of a sensor in Redis; one it left nothing of is up."""
    name = state.get("state", "up")
    since = _number(state.get("since"))
    return {
        "state": name if name in STATES else "suspect",
        "since": since // _MS if since else None,
        "why": state.get("why", "")[:200] or None,
    }


def worker_of(name: str, state: Mapping[str, str]) -> dict[str, Any]:
    """A worker's heartbeat; whatever is missing or damaged is left empty."""
    partitions = [int(each) for each in state.get("partitions", "").split(",") if each.isdecimal()]
    return {
        "name": name,
        "partitions": partitions[:1000],
        "lag": _number(state.get("lag")),
        "answered": _number(state.get("answered")) or 0,
        "held": _number(state.get("held")) or 0,
        "paused": state.get("paused") == "1",
        "dead_letters": _number(state.get("dead_letters")) or 0,
        "at": (_number(state.get("at")) or 0) // _MS,
        "bundles": [each for each in state.get("bundles", "").split(",") if each][:100],
        "refused": [each for each in state.get("refused", "").split("\n") if each][:20],
    }


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 20 else None
