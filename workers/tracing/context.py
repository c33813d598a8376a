"""Trace context made from part keys: every process comes to the same ids without asking another.

The trace id is the 16-byte BLAKE2b of the part key as text, a span's id the 8-byte BLAKE2b of part key, space
and span name. What travels is a W3C ``traceparent`` (Trace Context, level 1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

from schemas.part import PartKey

HEADER = "traceparent"
CAPTURE = "capture"
"""The first span of a part, its agent's: all others hang under it."""

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z", re.DOTALL)
_LOW = 2**64


@dataclass(frozen=True, slots=True)
class Context:
    """Where in which trace something happened."""

    trace: int
    span: int
    sampled: bool = True

    def header(self) -> bytes:
        """As ``traceparent``."""
        return b"00-%032x-%016x-%02x" % (self.trace, self.span, self.sampled)

    @classmethod
    def parse(cls, header: bytes) -> Context | None:
        """The context in a ``traceparent``, or None for anything that is none: it informs, and no more."""
        match = _FORM.match(header)
        if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5]):
            return None
        trace, span = int(match[2], 16), int(match[3], 16)
        return cls(trace, span, bool(int(match[4], 16) & 1)) if trace and span else None


def trace_id(part: bytes) -> int:
    """The trace of a part, from its key as it stands in records: ``str(part).encode()``."""
    return int.from_bytes(blake2b(part, digest_size=16).digest(), "big") or 1


def span_id(part: bytes, name: str) -> int:
    """A span of a part."""
    return int.from_bytes(blake2b(part + b" " + name.encode(), digest_size=8).digest(), "big") or 1


def context(part: PartKey | bytes, name: str) -> Context:
    """The context of one span of a part."""
    key = part if isinstance(part, bytes) else str(part).encode()
    return Context(trace_id(key), span_id(key, name))


@dataclass(frozen=True, slots=True)
class Sampler:
    """Which parts are traced: the same in every process with the same ratio, since trace ids decide.

    Attributes:
        ratio: share of the parts, 0 to 1.
    """

    ratio: float = 1.0

    def __call__(self, trace: int) -> bool:
        """Whether this trace is kept; by its low 8 bytes, as OpenTelemetry's ratio sampler does."""
        return trace % _LOW < round(self.ratio * _LOW)
