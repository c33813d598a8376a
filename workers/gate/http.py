"""An actuator behind HTTP: a small server beside the output card, a PLC's gateway."""

from __future__ import annotations

import http.client
import json

from schemas.part import PartKey
from workers.address import parsed, shown
from workers.clock import Clock, SystemClock
from workers.errors import ActuatorError, SettingsError
from workers.gate.backoff import Backoff

_FORMS = "write it as http://HOST:PORT/PATH"
_MOST_ANSWER = 1 << 16


class HttpActuator:
    """POSTs to ``URL/energise``, ``URL/release`` and ``URL/heartbeat``; only 2xx is a confirmation.

    The body of ``energise`` is ``{"part": "STATION/RUN/TRIGGER"}`` and that key is its ``Idempotency-Key``:
    a server that gets it twice opens once. The server answers when its output is confirmed, and closes by
    itself when heartbeats stop. Any other status, a redirect and no answer are failures.

    Args:
        url: http:// or https://, without user, options or fragment.
        timeout_s: for connecting and for each answer.

    Raises:
        SettingsError: not such a URL.
    """

    def __init__(self, url: str, *, timeout_s: float = 0.2, clock: Clock | None = None) -> None:
        parts = parsed("actuator", url, _FORMS)
        host, port = parts.hostname, parts.port
        if parts.username is not None or parts.password is not None:
            raise SettingsError("actuator: user and password in its URL are not supported; leave them out")
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise SettingsError(f"actuator {shown(url)}: {_FORMS}")
        if timeout_s <= 0:
            raise SettingsError(f"actuator timeout {timeout_s} s: expected seconds above 0")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(host, port, timeout=timeout_s)
        self._path = parts.path.rstrip("/")
        self._name = f"{parts.scheme}://{parts.netloc}{self._path}"
        self._backoff = Backoff(clock or SystemClock())

    def energise(self, part: PartKey) -> None:
        self._post("energise", {"part": str(part)}, key=str(part))

    def release(self) -> None:
        self._post("release", {})

    def heartbeat(self) -> None:
        self._post("heartbeat", {})

    def _post(self, action: str, body: dict[str, str], *, key: str | None = None) -> None:
        left = self._backoff.left_s()
        if left > 0:
            raise ActuatorError(f"actuator {self._name}: it failed before; next try in {left:.1f} s")
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        text = json.dumps(body).encode()
        reused = self._connection.sock is not None
        try:
            try:
                status = self._exchange(action, text, headers)
            except (http.client.RemoteDisconnected, ConnectionError):
                # A server may end an idle connection at any time. All three may be sent again.
                self._connection.close()
                if not reused:
                    raise
                status = self._exchange(action, text, headers)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._backoff.failed()
            raise ActuatorError(f"actuator {self._name}: {action}: {error or repr(error)}") from error
        if 200 <= status < 300:
            self._backoff.answered()
        else:
            if action != "energise":
                # A server that refuses to close is asked again, not at every turn of the gate. Where it
                # refused to open, closing comes next, and at once.
                self._backoff.failed()
            raise ActuatorError(f"actuator {self._name}: {action} was answered {status}, not 2xx")

    def _exchange(self, action: str, body: bytes, headers: dict[str, str]) -> int:
        self._connection.request("POST", f"{self._path}/{action}", body, headers)
        answer = self._connection.getresponse()
        if len(answer.read(_MOST_ANSWER)) == _MOST_ANSWER:
            self._connection.close()  # not read to its end: the next answer would begin in the middle
        return answer.status

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
