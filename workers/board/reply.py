"""Answers as JSON, and what a refused request is told."""

from __future__ import annotations

import json
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

MAX_BODY = 16 * 1024
"""Bytes of a request's body: a label with its note is far below."""
BODY_S = 10.0
"""How long it may take to come."""


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status: the HTTP status.
        why: what is wrong and what helps, for a person.
        more: further fields of the answer.
    """

    def __init__(self, status: int, why: str, **more: Any) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.more = more


def json_reply(value: Any, status: int = 200, **headers: str) -> Response:
    """``value`` as JSON, never cached."""
    body = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return bytes_reply(body, status, **headers)


def bytes_reply(body: bytes, status: int = 200, **headers: str) -> Response:
    """JSON that is encoded already, never cached."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(
        body, status, media_type="application/json", headers={"cache-control": "no-store", **named}
    )


def refusal(error: Refused) -> Response:
    """The answer to a refused request: ``{"error": why, ...}``."""
    headers = {"retry_after": str(error.more["retry_after_s"])} if "retry_after_s" in error.more else {}
    return json_reply({"error": error.why, **error.more}, error.status, **headers)


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that a request carries.

    Raises:
        Refused: another content type (a form of a foreign page can send none of this one), too long, too
            slow, or not a JSON object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "send JSON, with the content type application/json")
    body = b""
    try:
        with anyio.fail_after(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise Refused(413, f"the body is longer than {MAX_BODY} bytes")
    except TimeoutError:
        raise Refused(408, f"the body took longer than {BODY_S:g} s") from None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refused(400, "the body is not a JSON object")
    return value


def text_of(body: dict[str, Any], name: str, limit: int, default: str | None = None) -> str:
    """A text of the body.

    Raises:
        Refused: it is missing, no text, too long, or holds control characters.
    """
    value = body.get(name, default)
    if not isinstance(value, str):
        raise Refused(400, f"{name}: expected a text")
    if len(value) > limit:
        raise Refused(400, f"{name}: {len(value)} characters, at most {limit}")
    if any(ord(char) < 32 and char not in "\n\t" for char in value) or not _is_text(value):
        raise Refused(400, f"{name}: holds control characters")
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
