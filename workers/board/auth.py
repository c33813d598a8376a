"""Who may act: whoever knows the board's token, by a session of this process or with each request."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from workers.board.reply import Refused
from workers.clock import Clock
from workers.errors import SettingsError

COOKIE = "crosscheck_session"
SESSION_S = 12 * 3600
"""A shift and what follows it."""
MAX_SESSIONS = 256
LEAST_TOKEN = 8
FAILURES = 5
"""Wrong tokens of one address in ``WINDOW_S``; the next is refused unseen."""
ALL_FAILURES = 60
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


class Auth:
    """Tokens, sessions and failed tries. Used on the event loop only.

    Args:
        token: what is to be known; None: nobody may act.
        clock: for lifetimes.

    Raises:
        SettingsError: a token that can be guessed.
    """

    def __init__(self, token: str | None, clock: Clock) -> None:
        if token is not None and len(token) < LEAST_TOKEN:
            raise SettingsError(
                f"CROSSCHECK_BOARD_TOKEN has fewer than {LEAST_TOKEN} characters: take a long random text, as"
                " `openssl rand -hex 24` prints"
            )
        # Digests of one length: how long a comparison takes says nothing of the token.
        self._token = None if token is None else _digest(token)
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] = deque(maxlen=ALL_FAILURES)

    @property
    def can_sign_in(self) -> bool:
        """Whether there is a token to sign in with."""
        return self._token is not None

    def sign_in(self, request: Request, token: str, name: str) -> str:
        """A new session's secret, for the cookie.

        Raises:
            Refused: no token is set (403), a wrong one (401), or too many wrong ones (429).
        """
        self._check(request, token)
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

    def require(self, request: Request) -> str:
        """Who acts by this request.

        Raises:
            Refused: nobody who may (401, 403), a page of another origin (403), or too many tries (429).
        """
        if self._token is None:
            raise Refused(403, HOW)
        same_origin(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            self._check(request, token.strip())
            return "token"
        session = self.session_of(request)
        if session is None:
            raise Refused(401, "sign in first: POST /api/login with the board's token")
        return session.name

    def _check(self, request: Request, token: str) -> None:
        if self._token is None:
            raise Refused(403, HOW)
        now = self._clock.monotonic()
        address = request.client.host if request.client is not None else ""
        tries = self._failed.get(address, deque())
        while tries and now - tries[0] >= WINDOW_S:
            tries.popleft()
        while self._all and now - self._all[0] >= WINDOW_S:
            self._all.popleft()
        if len(tries) >= FAILURES or len(self._all) >= ALL_FAILURES:
            wait = WINDOW_S - (now - (tries[0] if len(tries) >= FAILURES else self._all[0]))
            raise Refused(429, "too many wrong tokens: wait a minute", retry_after_s=max(1, round(wait)))
        if hmac.compare_digest(_digest(token), self._token):
            self._failed.pop(address, None)
            return
        tries.append(now)
        self._all.append(now)
        self._failed[address] = tries
        while len(self._failed) > MAX_ADDRESSES:
            self._failed.popitem(last=False)
        raise Refused(401, "this is not the board's token (CROSSCHECK_BOARD_TOKEN where it was started)")


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
