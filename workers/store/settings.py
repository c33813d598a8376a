"""How long Redis keeps what, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from workers.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Lifetimes in seconds, caps in entries and bytes. Every key has one or the other.

    Attributes:
        verdict_ttl_s: how long a part's verdict stands, and so how late a replay still repeats it.
            Keep it above the retention of the frames topic: a frame read after it would be judged anew.
        latest_ttl_s: the newest verdict of a station, for boards.
        sensor_ttl_s: the state of a sensor, written anew at each change and now and then.
        attempts_ttl_s: how long a part that killed its worker is remembered.
        worker_ttl_s: a worker whose heartbeat is older is gone.
        gate_stream_maxlen: about this many decisions wait for a gate that is away.
        clock_bound_ms: by how much the clock of an agent may be ahead of a worker's or a gate's; a run that
            begins later than that is never a station's newest.
        heatmap_ttl_s, heatmap_max_bytes, heatmap_max_count: a station's heatmaps take at most
            ``heatmap_max_bytes * heatmap_max_count`` bytes; the oldest go first.

    Raises:
        SettingsError: a value that is not above 0.
    """

    verdict_ttl_s: int = 7 * 86400
    latest_ttl_s: int = 86400
    sensor_ttl_s: int = 86400
    attempts_ttl_s: int = 3600
    worker_ttl_s: int = 15
    gate_stream_maxlen: int = 10_000
    clock_bound_ms: int = 250
    heatmap_ttl_s: int = 600
    heatmap_max_bytes: int = 256 * 1024
    heatmap_max_count: int = 256

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if type(value) is not int or value < 1:
                raise SettingsError(f"store setting {item.name}: {value!r}; use a whole number above 0")
