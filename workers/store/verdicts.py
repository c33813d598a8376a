"""One verdict a part, decided once: first write wins, and everybody is told the one that stands."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import redis
from redis.exceptions import NoScriptError

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from schemas.wire import encode
from workers.contact import Contact
from workers.errors import StoreError
from workers.store import keys
from workers.store.connection import guarded
from workers.store.scripts import ATTEMPT, DECIDE, FORGET, HEATMAP, Script
from workers.store.settings import StoreSettings

START = "0-0"
"""The gate stream from its oldest entry on."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What Redis answered: the verdict that stands, as bytes, and whether this call wrote it."""

    standing: bytes = field(repr=False)
    first: bool


@dataclass(frozen=True, slots=True)
class GateEntry:
    """One decision as a gate reads it. ``id`` is its place in the stream; ``verdict`` the encoded message."""

    id: str
    part: PartKey
    decision: Decision
    deadline: int
    verdict: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Armed:
    """The next ``parts`` parts are challenge parts, for ``ttl_s`` seconds from when the gate takes it."""

    id: str
    parts: int
    ttl_s: int


class VerdictStore:
    """The store, over a client whose replies are bytes (see ``connect``). Safe to share between threads.

    Every method raises StoreError when Redis does not answer or refuses, unless it says otherwise.
    """

    def __init__(self, client: redis.Redis, settings: StoreSettings | None = None) -> None:
        self._redis = client
        self._settings = settings or StoreSettings()
        self.contact = Contact("redis")
        """How the last call went."""

    @property
    def client(self) -> redis.Redis:
        """The connection, for what is kept beside the verdicts; wrap its calls in ``guarded``."""
        return self._redis

    # Verdicts

    def decide(self, verdict: Verdict) -> Decided:
        """Write the verdict unless its part has one; either way return the one that stands."""
        return self.decide_many([verdict])[0]

    def decide_many(self, verdicts: Sequence[Verdict]) -> list[Decided]:
        """``decide`` for each, in order, in one round trip. Each is indivisible; the list is not.

        Raises:
            StoreError: one of them failed. Those before it may stand; deciding them again returns them.
        """
        settings = self._settings
        bound = settings.clock_bound_ms * 1_000_000
        calls = []
        for verdict in verdicts:
            part = verdict.part
            names = [
                keys.verdict(part),
                keys.gate(part.station),
                keys.latest(part.station),
                keys.attempts(part),
            ]
            arguments = [
                encode(verdict),
                settings.verdict_ttl_s,
                settings.gate_stream_maxlen,
                settings.latest_ttl_s,
                keys.order(part),
                str(part),
                verdict.decision.value,
                verdict.deadline,
                f"{verdict.captured_at:019d}",
                f"{verdict.decided_at + bound:019d}",
            ]
            calls.append((names, arguments))
        replies = self._run(DECIDE, calls, "write verdicts")
        return [Decided(bytes(standing), int(first) == 1) for standing, first in replies]

    def standing(self, part: PartKey) -> bytes | None:
        """The bytes of the part's verdict, or None while it has none."""
        return self.standing_many([part])[0]

    def standing_many(self, parts: Sequence[PartKey]) -> list[bytes | None]:
        """``standing`` for each, in one round trip."""
        if not parts:
            return []
        with self._guarded("read verdicts"):
            # Not MGET: the stations' hash tags may lie on different nodes of a cluster.
            pipe = self._redis.pipeline(transaction=False)
            for part in parts:
                pipe.get(keys.verdict(part))
            return cast("list[bytes | None]", pipe.execute())

    def renew(self, part: PartKey) -> bool:
        """Let the verdict that stands stand for its whole lifetime again; False where there is none."""
        with self._guarded("renew a verdict"):
            return bool(self._redis.expire(keys.verdict(part), self._settings.verdict_ttl_s))

    # Attempts

    def begin_attempt(self, part: PartKey) -> int:
        """Count one more attempt at this part and return how many there were: 1 on the first."""
        return self.begin_attempts([part])[0]

    def begin_attempts(self, parts: Sequence[PartKey]) -> list[int]:
        """``begin_attempt`` for each, in one round trip. Deciding a part clears its count."""
        ttl = self._settings.attempts_ttl_s
        replies = self._run(ATTEMPT, [([keys.attempts(part)], [ttl]) for part in parts], "count attempts")
        return [int(reply) for reply in replies]

    def standing_and_attempts(self, parts: Sequence[PartKey]) -> list[tuple[bytes | None, int]]:
        """Per part its verdict, as ``standing``, and how often it was begun without being decided; 0 for a
        fresh one. One round trip."""
        if not parts:
            return []
        with self._guarded("read verdicts and attempts"):
            pipe = self._redis.pipeline(transaction=False)
            for part in parts:
                pipe.get(keys.verdict(part))
                pipe.get(keys.attempts(part))
            found = pipe.execute()
        return [(found[at], int(found[at + 1] or 0)) for at in range(0, len(found), 2)]

    # The gate

    def gate_entries(
        self, station: str, after_id: str = START, *, block_ms: int = 0, count: int = 256
    ) -> list[GateEntry]:
        """Decisions of a station behind ``after_id``, oldest first; waits up to ``block_ms`` for the first.

        The wait is kept under half the client's reply timeout. A stream that is missing gives none. One that
        was lost and begun again (its newest entry is older than ``after_id``) is read from its start.
        Entries that were trimmed before they were read are gone from here: ask ``standing`` for their parts.
        """
        name = keys.gate(station)
        timeout = self._redis.connection_pool.connection_kwargs.get("socket_timeout")
        if timeout is not None:
            block_ms = min(block_ms, int(timeout * 500))
        with self._guarded(f"read the gate stream of {station}"):
            after = after_id
            while True:
                raw = self._read_stream(name, after, block_ms, count)
                if not raw and after != START and self._restarted(name, after):
                    after = START
                    raw = self._read_stream(name, after, 0, count)
                entries = [entry for item in raw if (entry := _gate_entry(station, *item)) is not None]
                if entries or not raw:
                    return entries
                # Nothing but foreign entries: step over them, or the caller would read them for ever.
                after, block_ms = raw[-1][0].decode(), 0

    def gate_tail(self, station: str) -> str:
        """The id of the station's newest gate entry, to read on from; ``START`` where there is none."""
        with self._guarded(f"read the gate stream of {station}"):
            return self._newest(keys.gate(station)) or START

    def _read_stream(
        self, name: str, after: str, block_ms: int, count: int
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        reply = cast(Any, self._redis.xread({name: after}, count=count, block=block_ms or None))
        if not reply:
            return []
        streams = reply.items() if isinstance(reply, dict) else reply
        for _, entries in streams:
            return list(entries)
        return []

    def _newest(self, name: str) -> str | None:
        entries = cast("list[tuple[bytes, Any]]", self._redis.xrevrange(name, count=1))
        return entries[0][0].decode() if entries else None

    def _restarted(self, name: str, after: str) -> bool:
        newest = self._newest(name)
        return newest is not None and _stream_order(newest) < _stream_order(after)

    # Challenges

    def arm_challenge(self, station: str, *, parts: int = 1, ttl_s: int = 600) -> str:
        """The next ``parts`` of the station are challenge parts, for ``ttl_s`` seconds; returns the set's id.

        It replaces one that the gate has not taken yet.
        """
        name = uuid.uuid4().hex
        self._replace(keys.challenge(station), {"id": name, "parts": parts, "ttl_s": ttl_s}, ttl_s)
        return name

    def armed_challenge(self, station: str) -> Armed | None:
        """What an operator asked for and the gate has not taken, or None. What cannot be read is None."""
        found = self._hash(keys.challenge(station))
        try:
            armed = Armed(found["id"], int(found["parts"]), int(found["ttl_s"]))
        except (KeyError, ValueError):
            return None
        return armed if armed.parts > 0 and armed.ttl_s > 0 else None

    def take_challenge(self, station: str, name: str) -> None:
        """The gate has it on its own disk: delete it, unless it was replaced meanwhile."""
        self._run(FORGET, [([keys.challenge(station)], [name])], "take a challenge")

    # The product that is due

    def set_product(self, station: str, state: Mapping[str, str | int]) -> None:
        """Say which product is due (``workers.changeover.due``): all its fields at once, and for good."""
        name = keys.product(station)
        with self._guarded(f"write {name}"):
            # Without a lifetime: a product that nobody speaks of any more must not become one unchecked.
            self._redis.hset(name, mapping=dict(state))

    def product(self, station: str) -> dict[str, str]:
        """What was said last of the product that is due; empty where no PLC says it."""
        return self._hash(keys.product(station))

    def forget_product(self, station: str) -> bool:
        """The station's product does not come from a PLC any more; False where it did not."""
        name = keys.product(station)
        with self._guarded(f"delete {name}"):
            return bool(self._redis.delete(name))

    # The board

    def latest(self, station: str) -> bytes | None:
        """The bytes of the station's newest verdict by (run, trigger), or None."""
        with self._guarded(f"read the latest verdict of {station}"):
            return cast("bytes | None", self._redis.hget(keys.latest(station), "verdict"))

    def put_heatmap(self, part: PartKey, heatmap: bytes) -> str | None:
        """Keep an encoded heatmap for a while. Best effort: returns its key, or None, and never raises."""
        settings = self._settings
        if len(heatmap) > settings.heatmap_max_bytes:
            return None
        key = keys.heatmap(part)
        arguments = [heatmap, settings.heatmap_ttl_s, settings.heatmap_max_count]
        try:
            self._run(HEATMAP, [([key, keys.heatmaps(part.station)], arguments)], "keep a heatmap")
        except StoreError:
            return None
        return key

    def get_heatmap(self, part: PartKey) -> bytes | None:
        """The encoded heatmap of a part, or None where it has gone or was never kept."""
        with self._guarded(f"read the heatmap of {part}"):
            return cast("bytes | None", self._redis.get(keys.heatmap(part)))

    # Sensors and workers

    def set_sensor(self, station: str, name: str, state: Mapping[str, str | int | float]) -> None:
        """Replace the state of a sensor. An empty state removes it."""
        self._replace(keys.sensor(station, name), state, self._settings.sensor_ttl_s)

    def get_sensor(self, station: str, name: str) -> dict[str, str]:
        """The state of a sensor; empty where none is known."""
        return self._hash(keys.sensor(station, name))

    def set_sensors_many(self, states: Mapping[tuple[str, str], Mapping[str, str]]) -> None:
        """Write the fields of many sensors, by (station, sensor), in one round trip; others stay."""
        if not states:
            return
        with self._guarded("write sensors"):
            # No MULTI: the stations' hash tags may lie on different nodes. One HSET is whole by itself.
            pipe = self._redis.pipeline(transaction=False)
            for (station, name), state in states.items():
                key = keys.sensor(station, name)
                pipe.hset(key, mapping=dict(state))
                pipe.expire(key, self._settings.sensor_ttl_s)
            pipe.execute()

    def get_sensors_many(self, station: str, names: Sequence[str]) -> list[dict[str, str]]:
        """``get_sensor`` for each, in one round trip."""
        with self._guarded(f"read the sensors of {station}"):
            pipe = self._redis.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(keys.sensor(station, name))
            found = cast("list[dict[bytes, bytes]]", pipe.execute())
        return [{k.decode(): v.decode(errors="replace") for k, v in raw.items()} for raw in found]

    def beat(self, worker: str, state: Mapping[str, str | int | float]) -> None:
        """Say that a worker is alive, and how it does. An empty state signs it off."""
        self._replace(keys.worker(worker), state, self._settings.worker_ttl_s)

    def worker(self, worker: str) -> dict[str, str]:
        """The last heartbeat of a worker; empty once it is older than ``worker_ttl_s``."""
        return self._hash(keys.worker(worker))

    def workers(self) -> list[str]:
        """The names of the workers whose heartbeat is fresh, sorted."""
        with self._guarded("list workers"):
            found = cast(Any, self._redis.scan_iter(match="worker:*", count=500))
            return sorted({key.decode().removeprefix("worker:") for key in found})

    def _replace(self, name: str, state: Mapping[str, str | int | float], ttl_s: int) -> None:
        with self._guarded(f"write {name}"):
            pipe = self._redis.pipeline(transaction=True)
            pipe.delete(name)
            if state:
                pipe.hset(name, mapping=dict(state))
                pipe.expire(name, ttl_s)
            pipe.execute()

    def _hash(self, name: str) -> dict[str, str]:
        with self._guarded(f"read {name}"):
            raw = cast("dict[bytes, bytes]", self._redis.hgetall(name))
        return {key.decode(): value.decode(errors="replace") for key, value in raw.items()}

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            with guarded(self._redis, what):
                yield
        except StoreError as error:
            self.contact.failed(str(error))
            raise
        self.contact.succeeded()

    # Lua

    def _run(self, script: Script, calls: Sequence[tuple[list[str], list[Any]]], what: str) -> list[Any]:
        """Run one script for each (keys, arguments), in one round trip; a server that forgot it is taught."""
        if not calls:
            return []
        with self._guarded(what):
            replies = self._pipe(script, calls)
            unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                # With its text at the head of the same pipeline: the server may forget it again meanwhile.
                again = self._pipe(script, [calls[at] for at in unknown], teach=True)
                for at, reply in zip(unknown, again, strict=True):
                    replies[at] = reply
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    def _pipe(
        self, script: Script, calls: Sequence[tuple[list[str], list[Any]]], *, teach: bool = False
    ) -> list[Any]:
        pipe = self._redis.pipeline(transaction=False)
        for at, (names, arguments) in enumerate(calls):
            if teach and at == 0:
                pipe.eval(script.text, len(names), *names, *arguments)
            else:
                pipe.evalsha(script.sha, len(names), *names, *arguments)
        return list(pipe.execute(raise_on_error=False))


def _stream_order(entry: str) -> tuple[int, int]:
    time, _, sequence = entry.partition("-")
    return int(time), int(sequence or 0)


def _gate_entry(station: str, entry: bytes, fields: Mapping[bytes, bytes] | None) -> GateEntry | None:
    """A stream entry as a gate reads it; None where it is not one that ``decide`` wrote for this station."""
    try:
        if not fields:
            return None
        part = PartKey.parse(fields[b"part"].decode("ascii"))
        decision = Decision(fields[b"decision"].decode("ascii"))
        deadline = int(fields[b"deadline"])
        verdict = bytes(fields[b"verdict"])
    except (KeyError, ValueError, SchemaError):
        return None
    if part.station != station:
        return None
    return GateEntry(entry.decode(), part, decision, deadline, verdict)
