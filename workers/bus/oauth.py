"""The bearer token that proves who we are to brokers that speak OAUTHBEARER: from a file, or from a command.

A token lives minutes to hours, so it is fetched anew for each login: whoever makes tokens (a sidecar, a
timer, the vendor's tool) replaces the file, or is asked by the command. The token is in no message and in no
log.
"""

from __future__ import annotations

import base64
import binascii
import json
import shlex
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from schemas.regular import read_regular
from workers.bus._client import AbstractTokenProvider
from workers.errors import BusError, SettingsError

_log = structlog.get_logger(__name__)

FILE = "CROSSCHECK_KAFKA_OAUTH_FILE"
COMMAND = "CROSSCHECK_KAFKA_OAUTH_COMMAND"
EXTENSIONS = "CROSSCHECK_KAFKA_OAUTH_EXTENSIONS"
_LARGEST = 64 * 1024
_RUN_S = 10.0
_KEPT_S = 30.0
_SHARE_OF_LIFE = 0.8
"""Of what a token of the command has left to live: after that, a new one is asked for."""


class NoToken(BusError):
    """There is no token to log in with."""

    reason = "bus_refused"


class OAuthToken(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python has no types
    """Where tokens come from; the Kafka client asks for one at each login, on its own thread.

    Args:
        file: holds the token, or the JSON answer of a token endpoint (``access_token``); read at each login.
        command: prints the same; run at each login, without a shell, unless its last token is still good.
        extensions: sent with the token, as Confluent Cloud's ``logicalCluster=lkc-1,identityPoolId=pool-1``.
        now: seconds since the epoch.

    Raises:
        SettingsError: neither file nor command, both, or text that cannot be what it should.
    """

    def __init__(
        self,
        *,
        file: Path | None = None,
        command: str | None = None,
        extensions: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        if (file is None) == (not command):
            raise SettingsError(f"Kafka by OAUTHBEARER needs a token: set {FILE} or {COMMAND}, one of them")
        self._file = file
        self._command = _words(command) if command else []
        self._extensions = _pairs(extensions)
        self._now = now
        self._lock = threading.Lock()
        self._kept = ""
        self._kept_until = 0.0
        self._problem = ""

    def __repr__(self) -> str:
        return f"OAuthToken({FILE if self._file else COMMAND})"

    def token(self) -> str:
        """A token that is good now.

        Raises:
            NoToken: there is none; the text says why, without it.
        """
        try:
            token = self._from_command() if self._file is None else self._checked(self._read(self._file))
        except NoToken as error:
            # Once for each problem: a client whose connections stand tries again several times a second.
            if str(error) != self._problem:
                _log.error("kafka.no_token", error=str(error))
            self._problem = str(error)
            raise
        self._problem = ""
        return token

    def extensions(self) -> dict[str, str]:
        """What is sent with the token."""
        return dict(self._extensions)

    def where(self) -> str:
        """What a message calls the source."""
        if self._file is not None:
            return f"{FILE}={self._file}"
        return f"{COMMAND} ({self._command[0]})"

    def _from_command(self) -> str:
        with self._lock:
            if self._now() >= self._kept_until:
                token = self._checked(self._run())
                expires = _claims(token).get("exp")
                left = expires - self._now() if isinstance(expires, int | float) else _KEPT_S / _SHARE_OF_LIFE
                self._kept, self._kept_until = token, self._now() + _SHARE_OF_LIFE * left
            return self._kept

    def _read(self, file: Path) -> str:
        try:
            return _text(read_regular(file), self.where())
        except OSError as error:
            raise NoToken(f"{self.where()}: cannot read the token ({error.strerror})") from None

    def _run(self) -> str:
        where = self.where()
        try:
            done = subprocess.run(
                self._command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_RUN_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise NoToken(f"{where}: printed no token within {_RUN_S:g} s") from None
        except OSError as error:
            raise NoToken(f"{where}: cannot be run ({error.strerror})") from None
        if done.returncode:
            # What it printed may hold a token, or the secret that it asks with.
            raise NoToken(f"{where}: ended with exit code {done.returncode} and no token; run it by hand")
        return _text(done.stdout, where)

    def _checked(self, text: str) -> str:
        """The token in a text."""
        where = self.where()
        token = text.strip()
        if token.startswith("{"):
            try:
                token = str(json.loads(token)["access_token"]).strip()
            except (ValueError, KeyError, RecursionError):
                raise NoToken(
                    f"{where}: JSON without access_token: give a token, or a token answer"
                ) from None
        token = token.removeprefix("Bearer ").strip()
        if not token:
            raise NoToken(f"{where}: it is empty: no token was written there")
        if not token.isascii() or any(not each.isprintable() or each.isspace() for each in token):
            raise NoToken(
                f"{where}: it holds no token (a token is one word; here are several, or other bytes)"
            )
        expires = _claims(token).get("exp")
        if isinstance(expires, int | float) and (late := self._now() - expires) >= 0:
            raise NoToken(
                f"{where}: the token expired {late:.0f} s ago: have it made anew, or check this"
                " machine's clock"
            )
        return token


def _text(content: bytes, where: str) -> str:
    if len(content) > _LARGEST:
        raise NoToken(f"{where}: {len(content)} bytes are no token")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NoToken(f"{where}: it holds no token (it is not text)") from None


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SettingsError(f"{COMMAND}: {error}; write it as for a shell, without pipes") from None
    if not words:
        raise SettingsError(f"{COMMAND}: it is empty")
    return words


def _pairs(text: str) -> dict[str, str]:
    found = {}
    for pair in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = pair.partition("=")
        # As RFC 7628 has them; `auth` is the token's own.
        good = (
            name.isascii() and name.isalpha() and name != "auth" and value.isascii() and value.isprintable()
        )
        if not (equals and good and value):
            raise SettingsError(f"{EXTENSIONS}: expected NAME=VALUE,NAME=VALUE with names of letters")
        found[name] = value
    return found


def _claims(token: str) -> dict[str, object]:
    """What a JWT says of itself, unproven; nothing for a token of another form."""
    parts = token.split(".")
    if len(parts) not in (3, 5):
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
