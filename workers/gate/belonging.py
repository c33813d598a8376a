"""Whether the files that a gate was given are its station's: a misspelt name would keep every part out."""

from __future__ import annotations

import json
from pathlib import Path

from schemas.errors import SchemaError
from schemas.part import PartKey
from workers.errors import SettingsError
from workers.gate.journal import Journal

_TAIL_BYTES = 1 << 20
_NAMED = 5


def check_journal(journal: Journal, path: Path, station: str) -> None:
    """Refuse the journal of another gate. Raises SettingsError."""
    others = {name for name, _, _ in journal.decided.runs()} - {station}
    if others:
        raise SettingsError(
            f"--journal {path}: it holds the decisions of station {_names(others)}, not of {station!r}: give"
            " each gate a journal of its own, or mend --station"
        )


def check_triggers(path: Path, station: str) -> None:
    """Refuse a trigger log that has parts of other stations at its end, and none of this one.

    An empty one, or none, may well be about to be written. Raises SettingsError.
    """
    found = _stations(path)
    if found and station not in found:
        raise SettingsError(
            f"--parts {path}: its triggers are of station {_names(found)}, none of {station!r}: name that"
            " agent's log, or mend --station"
        )


def _names(stations: set[str]) -> str:
    named = sorted(stations)
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(repr(name) for name in named[:_NAMED]) + more


def _stations(path: Path) -> set[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
    except OSError:
        return set()  # the source says it, with what to do
    stations = set()
    for line in tail.split(b"\n"):
        try:
            raw = json.loads(line)
            if raw["event"] == "trigger":
                stations.add(PartKey.parse(raw["part"]).station)
        except (ValueError, KeyError, TypeError, RecursionError, SchemaError):
            continue
    return stations
