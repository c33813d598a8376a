"""Every error Crosscheck raises on purpose.

    CrosscheckError
    ├── SchemaError                 a message that is not what it says it is
    │   ├── MalformedMessage        not msgpack, truncated, or not a map
    │   ├── UnsupportedVersion      schema version missing or unknown
    │   ├── InvalidField            a field missing, of the wrong type, or out of range
    │   ├── MessageTooLarge         over the limit that the reader states
    │   ├── DigestMismatch          the bytes of an image are not those that were sent
    │   └── BadImage                an image payload that its encoding does not allow
    ├── InferenceError              see inference/errors.py
    └── WorkerError                 see workers/errors.py

``reason`` is the code that travels in dead letters, verdicts and metrics: it never changes once shipped.
``retriable`` says whether the same call may succeed later without anybody mending anything.
"""

from __future__ import annotations

from typing import ClassVar


class CrosscheckError(Exception):
    """Base of every error raised on purpose; its text names the thing, the place and the fix."""

    reason: ClassVar[str] = "error"
    retriable: ClassVar[bool] = False


class SchemaError(CrosscheckError):
    """A message that is not what it says it is. Trying again never helps."""

    reason = "schema"


class MalformedMessage(SchemaError):
    """Not msgpack, truncated, trailing bytes, or not a map."""

    reason = "malformed"


class UnsupportedVersion(SchemaError):
    """The schema version is missing or is one this reader does not know."""

    reason = "version"


class InvalidField(SchemaError):
    """A field is missing, has the wrong type, or is out of range."""

    reason = "field"


class MessageTooLarge(SchemaError):
    """The message, or what it claims to contain, is over the limit that the reader states."""

    reason = "too_large"


class DigestMismatch(SchemaError):
    """The bytes of an image are not the bytes that were sent."""

    reason = "digest"


class BadImage(SchemaError):
    """An image payload that its encoding does not allow: wrong header, size, or undecodable data."""

    reason = "image"
