"""Connections that ask for nothing, or read nothing, are ended: there is room for so many only."""

from __future__ import annotations

import asyncio
import socket

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 10.0
"""How long a client may take to send a request's head."""
READ_S = 60.0
"""How long it may take to read the next piece of an answer: a wall that lost its network, or worse."""


class Protocol(H11Protocol):
    """uvicorn's, which waits for a request's head for ever."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._leave()

    def _watch(self) -> None:
        # One that is idle after an answer is ended by uvicorn, one in the middle of it by its reader's time.
        waits = self.cycle is None or self.cycle.response_complete
        if not waits:
            self._leave()
        elif self._late is None:
            self._late = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _leave(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def end_readers_that_stand_still(listening: socket.socket) -> None:
    """Let the kernel end connections whose answers nobody takes; those that are accepted inherit it."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(READ_S * 1000))
