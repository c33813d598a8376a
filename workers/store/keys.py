"""The name of every key in Redis.

All keys of a station share the hash tag ``{STATION}``, so that one Lua call may touch them in a cluster too.
A ``PartKey`` station cannot hold braces, colons or spaces, hence no two names can collide.
"""

from __future__ import annotations

import re

from schemas.part import PartKey
from workers.errors import SettingsError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


def checked(what: str, name: str) -> str:
    """``name``, if it can be part of a key.

    Raises:
        SettingsError: it is empty, too long or holds separators.
    """
    if not _NAME.match(name):
        raise SettingsError(f"{what} {name[:140]!r}: use 1 to 128 letters, digits, '.', '_' or '-'")
    return name


def order(part: PartKey) -> str:
    """(run, trigger) as text of fixed width: Lua numbers are doubles and confuse integers above 2^53."""
    return f"{part.run:019d}{part.trigger:019d}"


def verdict(part: PartKey) -> str:
    """String: the bytes of the verdict that stands, as on the topic of verdicts."""
    return f"{{{part.station}}}:verdict:{part.run}:{part.trigger}"


def attempts(part: PartKey) -> str:
    """Counter: how often a worker began this part without deciding it. Gone once the part is decided.

    One key a part and not one hash a station: each then has a lifetime of its own, and parts that
    nobody ever decides cannot pile up.
    """
    return f"{{{part.station}}}:attempts:{part.run}:{part.trigger}"


def heatmap(part: PartKey) -> str:
    """String: an encoded heatmap message."""
    return f"{{{part.station}}}:heatmap:{part.run}:{part.trigger}"


def heatmaps(station: str) -> str:
    """List: the keys of the heatmaps kept, newest first. What falls off its end is deleted."""
    return f"{{{checked('station', station)}}}:heatmaps"


def latest(station: str) -> str:
    """Hash: the newest verdict of the station by (run, trigger). Fields: ``part`` (STATION/RUN/TRIGGER),
    ``decision``, ``verdict`` (the bytes of the verdict), ``order`` (run and trigger as 19 digits each),
    ``seen`` (the latest run that was believed then, 19 digits)."""
    return f"{{{checked('station', station)}}}:latest"


def gate(station: str) -> str:
    """Stream: first decisions in the order they were taken. Fields: ``part`` (STATION/RUN/TRIGGER),
    ``decision``, ``deadline`` (nanoseconds since the epoch), ``verdict`` (the bytes of the verdict)."""
    return f"{{{checked('station', station)}}}:gate"


def challenge(station: str) -> str:
    """Hash: the next parts are challenge parts; written by an operator, taken by the gate."""
    return f"{{{checked('station', station)}}}:challenge"


def product(station: str) -> str:
    """Hash: which product is due by the PLC's word, and since when; absent where no PLC says."""
    return f"{{{checked('station', station)}}}:product"


def review(part: PartKey) -> str:
    """Hash: what a person said of a part that was kept out."""
    return f"{{{part.station}}}:review:{part.run}:{part.trigger}"


def sensor(station: str, name: str) -> str:
    """Hash: the state of one sensor, NAME ``rgb`` or ``depth``. Fields for readers: ``state`` (``up``,
    ``suspect``, ``down``, ``recovering``), ``since`` (nanoseconds since the epoch), ``why``; the others are
    the workers' own."""
    return f"{{{checked('station', station)}}}:sensor:{checked('sensor', name)}"


def worker(name: str) -> str:
    """Hash: the heartbeat of one worker."""
    return f"worker:{checked('worker', name)}"


def drift(station: str) -> str:
    """Hash: ``readings``, what drift last said of the station, as JSON;
    ``state``, its sketches, for whichever worker has the station next; ``by``, the worker that wrote them."""
    return f"{{{checked('station', station)}}}:drift"


def shadow(product: str) -> str:
    """Hash: the counts of a product's shadow run."""
    return f"shadow:{checked('product', product)}"


def shadow_recent(product: str) -> str:
    """Stream: the newest parts of a product's shadow run on which both bundles agreed."""
    return f"shadow:{checked('product', product)}:recent"


def shadow_disagreed(product: str) -> str:
    """Stream: those on which they did not, which are kept for longer."""
    return f"shadow:{checked('product', product)}:disagreed"
