"""Reaching Redis, and saying what is wrong when it cannot be reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from workers.errors import SettingsError, StoreError


def masked(url: str) -> str:
    """The URL without its password and without options, for messages and logs."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the given URL"
    user = f"{parts.username or ''}:***@" if parts.password else ""
    return urlunsplit((parts.scheme, f"{user}{host}{port}", parts.path, "", ""))


def connect(
    url: str, *, timeout_s: float = 2.0, retries: int = 2, max_connections: int | None = None
) -> redis.Redis:
    """A client that has answered a ping. Replies are bytes.

    A command that fails on the connection is sent again up to ``retries`` times, 10 to 200 ms apart: all
    commands of the store may be repeated (an attempt may then count twice, which errs on the safe side).

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout_s: for connecting and for each reply.

    Raises:
        SettingsError: not a Redis URL.
        StoreError: no Redis answers there.
    """
    if timeout_s <= 0 or retries < 0:
        raise SettingsError(f"redis: timeout {timeout_s} s and {retries} retries; use above 0 and at least 0")
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.01), retries),
            max_connections=max_connections,
            decode_responses=False,
        )
    except ValueError as error:
        raise SettingsError(
            f"redis URL {masked(url)}: {error}; write it as redis://HOST:PORT/DATABASE"
        ) from None
    with guarded(client, "answer a ping"):
        client.ping()
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
        raise StoreError(f"redis at {address(client)}: could not {what}: {error}; {_fix(error)}") from error
    except OSError as error:
        raise StoreError(f"redis at {address(client)}: could not {what}: {error}; {_REACH}") from error


_REACH = "check that it runs and that this address reaches it"


def _fix(error: redis.RedisError) -> str:
    text = str(error).upper()
    if isinstance(error, redis.AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text:
        return "give the user and password in the URL (redis://USER:PASSWORD@HOST:PORT)"
    if isinstance(error, redis.TimeoutError):
        return "it is up but slow, or the network drops packets: look at its load, or raise the timeout"
    if isinstance(error, redis.ConnectionError):
        return _REACH
    if text.startswith("OOM") or "MAXMEMORY" in text:
        return "its memory limit is reached: raise maxmemory, or keep verdicts for a shorter time"
    if "READONLY" in text:
        return "it is a replica: point the URL at the primary"
    if "WRONGTYPE" in text:
        return "another program uses this database: give Crosscheck a database of its own"
    return "see the server's log"
