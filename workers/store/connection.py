"""Reaching Redis, and saying what is wrong when it cannot be reached."""

from __future__ import annotations

import inspect
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from workers.address import parsed, shown
from workers.errors import SettingsError, StoreError
from workers.secret import Secret
from workers.store.kind import require_single
from workers.tls import client_context, tls_problem


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSecurity:
    """Who we are to Redis, and whom we trust; the files are PEM and for ``rediss://`` only.

    ``user`` and ``password`` stand where the URL names none; ``ca`` is the authority that signed the server's
    certificate (None: those the system trusts), ``cert`` and ``key`` our own, where the server asks for one.
    """

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def options(self, url: str) -> dict[str, Any]:
        """What redis-py is told beside the URL.

        Raises:
            SettingsError: a combination that cannot work, or a file that cannot be read.
        """
        if self.user and not self.password and urlsplit(url).password is None:
            raise SettingsError("CROSSCHECK_REDIS_USER without a password: set CROSSCHECK_REDIS_PASSWORD too")
        options: dict[str, Any] = {}
        # What the URL says wins, as it does in redis-py.
        if self.password:
            options["password"] = Secret(self.password)
        if self.user:
            options["username"] = self.user
        if not url.startswith("rediss://"):
            if self.ca or self.cert or self.key:
                raise SettingsError(
                    f"CROSSCHECK_REDIS_CA, _CERT and _KEY are not used by {shown(url)}: write rediss://, or"
                    " take them away"
                )
            return options
        context = client_context("REDIS", self.ca, self.cert, self.key)
        return options | {"connection_class": _TlsConnection, "tls": context}


_FORMS = "write it as redis://HOST:PORT/DATABASE, the password in CROSSCHECK_REDIS_PASSWORD"

# Names of client libraries came with Redis 7.2. Before it, 7.0 does not even take a right to tell one.
_UNNAMED: dict[str, None] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


class _TlsConnection(redis.SSLConnection):
    """redis-py's own, with our context: its own would trust the system's authorities beside the one named,
    and let options in the URL switch the checks off."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        return self._tls.wrap_socket(sock, server_hostname=self.host)


def connect(
    url: str,
    *,
    timeout_s: float = 2.0,
    retries: int = 2,
    max_connections: int | None = None,
    security: RedisSecurity | None = None,
) -> redis.Redis:
    """A client that has answered a ping. Replies are bytes.

    A command that fails on the connection is sent again up to ``retries`` times, 10 to 200 ms apart: all
    commands of the store may be repeated (an attempt may then count twice, which errs on the safe side).

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout_s: for connecting and for each reply.
        security: user, password and certificates that the URL does not carry.

    Raises:
        SettingsError: not a Redis URL, or a Sentinel or a Redis Cluster answers there.
        StoreError: no Redis answers there.
    """
    if timeout_s <= 0 or retries < 0:
        raise SettingsError(f"redis: timeout {timeout_s} s and {retries} retries; use above 0 and at least 0")
    parsed("redis URL", url, _FORMS)
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            # None yet: what is wrong with the settings stays wrong, and is said at once.
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.01), 0),
            max_connections=max_connections,
            decode_responses=False,
            **_UNNAMED,
            **(security or RedisSecurity()).options(url),
        )
    except ValueError as error:
        raise SettingsError(f"redis URL {shown(url)}: {error}; {_FORMS}") from None
    with guarded(client, "answer a ping"):
        client.ping()
        try:
            require_single(client, address(client))
        except BaseException:
            client.close()
            raise
    client.set_retry(Retry(ExponentialBackoff(cap=0.2, base=0.01), retries))
    return client


def address(client: redis.Redis) -> str:
    """Where the client speaks to, without a password."""
    options = client.connection_pool.connection_kwargs
    if "path" in options:
        return f"unix://{options['path']}"
    return f"redis://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"


@contextmanager
def guarded(client: redis.Redis, what: str) -> Iterator[None]:
    """Turn whatever the client raises into a StoreError that names the server and the fix."""
    try:
        yield
    except redis.RedisError as error:
        raise StoreError(
            f"redis at {address(client)}: could not {what}: {error}; {_fix(client, error)}"
        ) from error
    except OSError as error:
        raise StoreError(f"redis at {address(client)}: could not {what}: {error}; {_REACH}") from error


_REACH = (
    "check that it runs and that this address reaches it; try `crosscheck services up`, or name it with"
    " --redis or CROSSCHECK_REDIS"
)


def _fix(client: redis.Redis, error: redis.RedisError) -> str:
    text = str(error).upper()
    if isinstance(error, redis.AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text:
        return (
            "check the user and the password in the URL (redis://USER:PASSWORD@HOST:PORT) or in"
            " CROSSCHECK_REDIS_USER and CROSSCHECK_REDIS_PASSWORD"
        )
    # Redis 6 has words of its own for what a script may not do.
    denied = isinstance(error, redis.exceptions.NoPermissionError)
    if denied or "NOPERM" in text or "USER EXECUTING THE SCRIPT" in text:
        return "this user may not do that: give it the rights that `crosscheck rights` prints for its process"
    if isinstance(error, redis.TimeoutError):
        if "connecting" in str(error) and client.connection_pool.connection_class is _TlsConnection:
            return "it does not speak TLS on this port, or is slow: use its TLS port, or write redis://"
        return "it is up but slow, or the network drops packets: look at its load, or raise the timeout"
    if isinstance(error, redis.ConnectionError):
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ssl.SSLError):
            return tls_problem(cause, "REDIS")
        if isinstance(error, redis.exceptions.InvalidResponse) or "CLOSED BY SERVER" in text:
            return "if it speaks TLS, write rediss:// in the URL; otherwise " + _REACH
        return _REACH
    if isinstance(error, redis.exceptions.InvalidResponse):
        return "what answers is not Redis in the open: if it speaks TLS, write rediss:// in the URL"
    if text.startswith("OOM") or "MAXMEMORY" in text:
        return "its memory limit is reached: raise maxmemory, or keep verdicts for a shorter time"
    if text.startswith(("MOVED", "ASK ", "CROSSSLOT", "CLUSTERDOWN")):
        return "it is a node of a Redis Cluster: name a server with cluster-enabled no"
    if "READONLY" in text:
        return "it is a replica: point the URL at the primary"
    if "WRONGTYPE" in text:
        return "another program uses this database: give Crosscheck a database of its own"
    return "see the server's log"
