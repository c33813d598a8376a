"""Who may act: whoever knows the board's token, by a session of this process or with each request."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import structlog
from starlette.requests import Request
from starlette.responses import Response

from workers.board.reply import Refused
from workers.clock import Clock
from workers.errors import SettingsError

log = structlog.get_logger(__name__)

COOKIE = "crosscheck_session"
SESSION_S = 12 * 3600
"""A shift and what follows it."""
MAX_SESSIONS = 256
LEAST_TOKEN = 12
"""Characters: so many that trying does not find it, as fast as the board can answer."""
FREE_TRIES = 3
"""Wrong tokens of one address in ``WINDOW_S`` that are answered at once."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0
MOST_WAITING = 32
"""Answers to wrong tokens that are held back; one more is given at once."""
WINDOW_S = 60.0
MAX_ADDRESSES = 1_000

HOW = (
    "this board is read-only: start it with CROSSCHECK_BOARD_TOKEN set to a long random text, and sign in"
    " with that"
)


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has signed in, until ``ends`` (monotonic seconds)."""

    name: str
    ends: float


@dataclass(slots=True)
class _Tries:
    """Wrong tokens of one address, the last of them at ``last`` (monotonic seconds)."""

    count: int = 0
    last: float = 0.0
    told: float | None = None


class Auth:
    """Tokens, sessions and failed tries. Used on the event loop only.

    A right token is taken at once, whatever others tried before: many people may come from one address, as
    behind a proxy, and none of them can lock the others out. What wrong ones get is a later answer, each
    twice as late as the one before. Against trying in parallel the token's length protects.

    Args:
        token: what is to be known; None: nobody may act.
        clock: for lifetimes.
        sleep: how an answer is held back, for so many seconds.

    Raises:
        SettingsError: a token that can be guessed.
    """

    def __init__(
        self, token: str | None, clock: Clock, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    ) -> None:
        if token is not None and len(token) < LEAST_TOKEN:
            raise SettingsError(
                f"CROSSCHECK_BOARD_TOKEN has fewer than {LEAST_TOKEN} characters: take a long random text, as"
                " `openssl rand -hex 24` prints"
            )
        # Digests of one length: how long a comparison takes says nothing of the token.
        self._token = None if token is None else _digest(token)
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._sleep = sleep
        self._failed: OrderedDict[str, _Tries] = OrderedDict()
        self._waiting = 0

    @property
    def can_sign_in(self) -> bool:
        """Whether there is a token to sign in with."""
        return self._token is not None

    async def sign_in(self, request: Request, token: str, name: str) -> str:
        """A new session's secret, for the cookie.

        Raises:
            Refused: no token is set (403), or a wrong one (401).
        """
        await self._check(request, token)
        secret = secrets.token_urlsafe(32)
        self._sessions[_digest(secret)] = Session(name, self._clock.monotonic() + SESSION_S)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return secret

    def sign_out(self, request: Request) -> None:
        """End the session of a request, if it has one."""
        self._sessions.pop(_digest(request.cookies.get(COOKIE, "")), None)

    def session_of(self, request: Request) -> Session | None:
        """The session of a request's cookie; None without one, or where it has ended."""
        key = _digest(request.cookies.get(COOKIE, ""))
        session = self._sessions.get(key)
        if session is not None and self._clock.monotonic() >= session.ends:
            del self._sessions[key]
            return None
        return session

    async def require(self, request: Request) -> str:
        """Who acts by this request.

        Raises:
            Refused: nobody who may (401, 403), or a page of another origin (403).
        """
        if self._token is None:
            raise Refused(403, HOW)
        same_origin(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            await self._check(request, token.strip())
            return "token"
        session = self.session_of(request)
        if session is None:
            raise Refused(401, "sign in first: POST /api/login with the board's token")
        return session.name

    async def _check(self, request: Request, token: str) -> None:
        if self._token is None:
            raise Refused(403, HOW)
        if hmac.compare_digest(_digest(token), self._token):
            return
        wait = self._failure(request.client.host if request.client is not None else "")
        if wait and self._waiting < MOST_WAITING:
            self._waiting += 1
            try:
                await self._sleep(wait)
            finally:
                self._waiting -= 1
        raise Refused(401, "this is not the board's token (CROSSCHECK_BOARD_TOKEN where it was started)")

    def _failure(self, address: str) -> float:
        """Count a wrong token of an address; how long its answer is held back, seconds."""
        now = self._clock.monotonic()
        tries = self._failed.pop(address, None)
        if tries is None or now - tries.last >= WINDOW_S:
            tries = _Tries()
        tries.count, tries.last = tries.count + 1, now
        self._failed[address] = tries
        while len(self._failed) > MAX_ADDRESSES:
            self._failed.popitem(last=False)
        beyond = tries.count - FREE_TRIES
        if beyond <= 0:
            return 0.0
        if tries.told is None or now - tries.told >= WINDOW_S:
            tries.told = now
            log.warning("board.wrong_tokens", address=address, tries=tries.count)
        return min(FIRST_WAIT_S * 2.0 ** min(beyond - 1, 16), LONGEST_WAIT_S)


def set_cookie(request: Request, response: Response, secret: str) -> None:
    """Give the session to the browser: not for scripts, not for requests from other pages."""
    response.set_cookie(
        COOKIE, secret, max_age=SESSION_S, httponly=True, samesite="strict", secure=_is_https(request)
    )


def clear_cookie(response: Response) -> None:
    """Take it back."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


def same_origin(request: Request) -> None:
    """See that a request comes from a page of this board, or from no page at all.

    Raises:
        Refused: it does not.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    # The scheme is left out: behind a proxy that ends TLS ours is another.
    foreign = origin is not None and origin.partition("://")[2].lower() != _host(request)
    if foreign or site not in (None, "same-origin", "none"):
        raise Refused(403, "actions are taken from the board's own page only")


def _host(request: Request) -> str:
    return request.headers.get("host", "").lower()


def _is_https(request: Request) -> bool:
    # Whoever lies here only keeps the cookie from itself.
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
