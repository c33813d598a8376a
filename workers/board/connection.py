"""Connections that ask for nothing, or read nothing, are ended: there is room for so many only."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 240
"""Connections at once. For one more the oldest gives way that has not asked its question yet, or else not
taken its answer; uvicorn's own limit, above this one, turns the new one away instead."""
REQUEST_S = 10.0
"""How long a client may take to send a request's head, all of it."""
ANSWER_S = 60.0
"""How long it may take from there until it has the whole answer, whatever comes in between."""
READ_S = 60.0
"""How long it may take to read the next piece of an answer that has no end: a wall that lost its network, or
worse."""
ENDLESS = "/api/events"


class Protocol(H11Protocol):
    """uvicorn's, which waits for a request for ever."""

    _late: asyncio.TimerHandle | None = None
    _timed: object = None
    _begun = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begun = self.loop.time()
        if len(self.connections) > MOST:
            self._make_room()
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        self._leave()
        self._begun, before = self.loop.time(), self.cycle
        super().on_response_complete()
        if self.cycle is not before:  # the next question came with the last one
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._leave()

    def _make_room(self) -> None:
        others = (cast("Protocol", other) for other in self.connections if other is not self)
        waiting = [other for other in others if not other.transport.is_closing() and other._rank() < _STREAM]
        if waiting:
            min(waiting, key=lambda other: (other._rank(), other._begun)).transport.abort()

    def _rank(self) -> int:
        """Who gives way first: the lowest."""
        if self._waits():
            return 0
        if self.cycle.more_body:
            return 1
        return _STREAM if self.scope["path"] == ENDLESS else 2

    def _waits(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        # One that is idle after an answer is ended by uvicorn, an endless answer by its reader's time.
        if self._waits():
            if self._late is None:
                self._limit(REQUEST_S)
        elif self._timed is not self.cycle:
            self._timed = self.cycle
            self._leave()
            if self.scope["path"] != ENDLESS:
                self._limit(ANSWER_S)

    def _limit(self, seconds: float) -> None:
        self._late = self.loop.call_later(seconds, self.transport.abort)

    def _leave(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


_STREAM = 3


def end_readers_that_stand_still(listening: socket.socket) -> None:
    """Let the kernel end connections whose answers nobody takes; those that are accepted inherit it."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(READ_S * 1000))
