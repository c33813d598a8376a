"""A TCP proxy that can be cut, slowed and narrowed: the network between clients and a server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from enum import Enum
from types import TracebackType
from typing import Any, Self

_CHUNK = 64 * 1024
_QUEUED = 64


class Cut(Enum):
    """How a network fails."""

    REFUSED = "refused"
    """Connections are reset, new ones too: a host or a process that is gone."""
    SILENT = "silent"
    """Nothing arrives and nobody says so: a pulled cable. What was sent arrives after ``restore``."""


class Proxy:
    """Listens on 127.0.0.1 and passes bytes on to ``to``. Use it as a context manager.

    Attributes:
        latency_s: added to each direction, seconds.
        bandwidth: of each direction, all connections together, bytes a second; None is no limit.
    """

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.bandwidth: float | None = None
        self._target: tuple[str, int] | None = None
        self._cut: Cut | None = None
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._free_at = [0.0, 0.0]
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)

    async def _listen(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    @property
    def address(self) -> str:
        """host:port where it listens."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    def to(self, address: str) -> None:
        """Pass bytes on to host:port."""
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))

    # What goes wrong

    def cut(self, kind: Cut) -> None:
        """Let nothing through."""

        async def act() -> None:
            self._cut = kind
            self._open.clear()
            if kind is Cut.REFUSED:
                for writer in set(self._writers):
                    writer.transport.abort()

        self._call(act())

    def restore(self) -> None:
        """Let everything through again, at full speed."""

        async def act() -> None:
            self._cut, self.latency_s, self.bandwidth = None, 0.0, None
            self._open.set()

        self._call(act())

    # Bytes

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut is Cut.REFUSED or self._target is None:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            back, onward = await asyncio.open_connection(*self._target)
            self._writers.add(onward)
            ways = (self._pump(reader, onward, 0), self._pump(back, writer, 1))
            pumps = {asyncio.ensure_future(way) for way in ways}
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, onward):
                if each is not None:
                    self._writers.discard(each)
                    each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED)
        filling = asyncio.ensure_future(self._fill(reader, queue))
        try:
            while True:
                came, data = await queue.get()
                if not data:
                    return
                await self._hold(came, len(data), way)
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except (ConnectionError, OSError):
            return
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)

    async def _fill(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"begin"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except (ConnectionError, OSError):
                data = b""
            await queue.put((self._loop.time(), data))

    async def _hold(self, came: float, size: int, way: int) -> None:
        ready = came + self.latency_s
        if self.bandwidth is not None:
            self._free_at[way] = max(self._loop.time(), self._free_at[way]) + size / self.bandwidth
            ready = max(ready, self._free_at[way])
        if (wait := ready - self._loop.time()) > 0:
            await asyncio.sleep(wait)

    # Start and end

    def close(self) -> None:
        """Reset every connection and stop listening."""

        async def act() -> None:
            assert self._server is not None
            self._server.close()
            tasks = set(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        if self._loop.is_closed():
            return
        with contextlib.suppress(TimeoutError):
            self._call(act())
        stop: Callable[[], None] = self._loop.stop
        self._loop.call_soon_threadsafe(stop)
        self._thread.join(5.0)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
