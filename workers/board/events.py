"""Server-sent events: what came in, at most four times a second, encoded once for all who watch."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import structlog

from workers.board.feed import Feed
from workers.board.rows import Row
from workers.board.state import State

log = structlog.get_logger(__name__)

BEAT_S = 0.25
STATE_EVERY = 4
"""Beats between two states."""
MOST_ROWS = 100
"""Rows of one message: a page cannot show more, and the newest of each station is among them."""
MOST_WAITING = 4
"""Batches that wait for one reader; for a slower one the oldest are skipped, and counted."""
MOST_CLIENTS = 64
FIRST_ROWS = 240
"""Rows that a new reader is given at once."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as JSON, how many they are, and how many more there were."""

    rows: bytes
    count: int
    skipped: int


@dataclass(slots=True, eq=False)
class Client:
    """One reader: what waits for it."""

    signed_in: Callable[[], bool]
    batches: deque[Batch] = field(default_factory=deque)
    state: bool = True
    skipped: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, batch: Batch) -> None:
        """Let a batch wait, in the place of the oldest where too many do."""
        while len(self.batches) >= MOST_WAITING:
            oldest = self.batches.popleft()
            self.skipped += oldest.count + oldest.skipped
        self.batches.append(batch)
        self.wake.set()


class Full(Exception):
    """As many clients as are allowed watch already."""


class Events:
    """Takes new rows off the feed and hands them to every client. Lives on the server's event loop."""

    def __init__(self, feed: Feed, state: State) -> None:
        self._feed = feed
        self._state = state
        self._clients: set[Client] = set()
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    @property
    def clients(self) -> int:
        """How many watch."""
        return len(self._clients)

    def close(self) -> None:
        """End every stream. To be called on the event loop."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        for client in self._clients:
            client.wake.set()

    def stream(self, signed_in: Callable[[], bool]) -> AsyncIterator[bytes]:
        """The messages of one client, until it goes or the board ends.

        Raises:
            Full: too many watch already.
        """
        if len(self._clients) >= MOST_CLIENTS:
            raise Full
        return self._messages(Client(signed_in))

    async def _messages(self, client: Client) -> AsyncIterator[bytes]:
        # Here and not before: a stream that is never begun is never ended either.
        self._clients.add(client)
        self._begin()
        try:
            yield b"retry: 2000\n\n"
            first = self._feed.newest(FIRST_ROWS)
            yield _verdicts(Batch(_encode(first), len(first), 0), 0)
            while not self._closed:
                if client.state:
                    client.state = False
                    body = await asyncio.to_thread(self._state.body, client.signed_in())
                    yield b"event: state\ndata: " + body + b"\n\n"
                while client.batches and not self._closed:
                    batch, skipped = client.batches.popleft(), client.skipped
                    client.skipped = 0
                    yield _verdicts(batch, skipped)
                if not client.state and not client.batches and not self._closed:
                    await client.wake.wait()
                client.wake.clear()
        finally:
            self._clients.discard(client)

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        """Runs while anybody watches."""
        place, _ = self._feed.rows_after(2**63)
        beats = 0
        while self._clients and not self._closed:
            await asyncio.sleep(BEAT_S)
            beats += 1
            try:
                place = self._share(place)
            except Exception:  # the next beat may do better; without one every page would stand still
                log.exception("board.events_failed")
            if beats % STATE_EVERY == 0:
                for client in self._clients:
                    client.state = True
                    client.wake.set()

    def _share(self, place: int) -> int:
        end, rows = self._feed.rows_after(place)
        if end > place:
            chosen = choose(rows, MOST_ROWS)
            batch = Batch(_encode(chosen), len(chosen), end - place - len(chosen))
            for client in self._clients:
                client.offer(batch)
        return end


def choose(rows: list[Row], most: int) -> list[Row]:
    """At most so many of them, in order: the newest of each station, then the newest of all."""
    if len(rows) <= most:
        return rows
    newest: dict[str, int] = {}
    for at, row in enumerate(rows):
        newest[row["station"]] = at
    chosen = sorted(newest.values())[-most:]
    taken = set(chosen)
    for at in range(len(rows) - 1, -1, -1):
        if len(taken) >= most:
            break
        taken.add(at)
    return [rows[at] for at in sorted(taken)]


def _encode(rows: list[Row]) -> bytes:
    return json.dumps(rows, separators=(",", ":"), allow_nan=False).encode()


def _verdicts(batch: Batch, skipped: int) -> bytes:
    more = str(batch.skipped + skipped).encode()
    return b'event: verdicts\ndata: {"rows":' + batch.rows + b',"skipped":' + more + b"}\n\n"
