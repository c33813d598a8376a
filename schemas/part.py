"""The identity of a part: which station, which capture run, which trigger."""

from __future__ import annotations

import re
from dataclasses import dataclass

from schemas.errors import InvalidField

# A station name becomes part of Redis keys, file names and topic keys: no separators, no braces, no spaces.
_STATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_TEXT = re.compile(r"([^/]+)/(\d{1,19})/(\d{1,19})\Z", re.ASCII)
_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class PartKey:
    """Which part a message speaks of. Minted by the trigger source, never by Kafka.

    ``run`` is the start of the capture run in integer nanoseconds since the epoch, so that a restarted
    agent or a recreated topic never reuses a key; ``trigger`` counts the parts of that run.
    Within a station parts are ordered by (run, trigger).

    Raises:
        InvalidField: a station name with characters that keys cannot carry, or a negative number.
    """

    station: str
    run: int
    trigger: int

    def __post_init__(self) -> None:
        # What is refused is shown in part only: it may be sixteen megabytes of somebody's bytes.
        checked_station(self.station)
        for name, value in (("run", self.run), ("trigger", self.trigger)):
            if type(value) is not int or not 0 <= value <= _MAX:
                raise InvalidField(f"part key {name} {_shown(value)}: expected an integer from 0 to 2^63 - 1")

    def __str__(self) -> str:
        return f"{self.station}/{self.run}/{self.trigger}"

    @property
    def order(self) -> tuple[int, int]:
        """(run, trigger): the order of parts within their station."""
        return (self.run, self.trigger)

    @classmethod
    def parse(cls, text: str) -> PartKey:
        """The key written by ``str(key)``, as ``STATION/RUN/TRIGGER``.

        Raises:
            InvalidField: the text has another form.
        """
        match = _TEXT.match(text)
        if match is None:
            raise InvalidField(f"part key {text[:120]!r}: expected STATION/RUN/TRIGGER")
        return cls(match[1], int(match[2]), int(match[3]))


def checked_station(station: object) -> str:
    """The station's name, if keys, files and topics can carry it. Raises InvalidField."""
    if not isinstance(station, str) or not _STATION.match(station):
        raise InvalidField(
            f"station {_shown(station)}: use 1 to 64 letters, digits, '.', '_' or '-', "
            "first a letter or digit"
        )
    return station


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(value[:80])
    return repr(value) if isinstance(value, int) else f"of type {type(value).__name__}"
