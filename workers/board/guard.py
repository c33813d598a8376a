"""What holds for every request, before any of them is understood: host names, headers, sizes."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.board.reply import Refused, refusal

MAX_URL = 2_048
INSIDE = (".local", ".lan", ".home.arpa", ".internal", ".localhost", ".svc")

HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


class Hosts:
    """By which names the board may be asked for.

    A foreign page can give its own name our address (DNS rebinding) and then read the line in a browser
    inside the plant, but it cannot choose what the browser sends as Host. So names are taken that nobody
    outside can own: addresses, localhost, this machine's, names without a dot, those under ``INSIDE``, and
    those that are listed.

    Args:
        listed: further names, as behind a proxy.
    """

    def __init__(self, listed: Iterable[str] = ()) -> None:
        self._names = {name.lower().rstrip(".") for name in listed}
        self._names |= {socket.gethostname().lower(), "localhost"}

    def allows(self, header: str) -> bool:
        """Whether a request with this Host header is answered."""
        name = header.lower()
        if name.startswith("["):
            return _is_address(name[1:].partition("]")[0])
        name = name.partition(":")[0].rstrip(".")
        if name in self._names or name.endswith(INSIDE):
            return True
        return _is_address(name) or _ONE_LABEL.match(name) is not None


_ONE_LABEL = re.compile(r"[a-z0-9-]{1,63}\Z")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Guard:
    """Middleware in the plainest form, since streams pass through it."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        if not self._hosts.allows(host):
            why = (
                f"the board is not known as {host[:100]!r}: ask for it by its address, or name it in"
                " CROSSCHECK_BOARD_HOSTS"
            )
            await refusal(Refused(421, why))(scope, receive, guarded)
        elif len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > MAX_URL:
            await refusal(Refused(414, "the address is too long"))(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)
