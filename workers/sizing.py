"""What a line will need, worked out from what its stations produce: pure arithmetic, shown step by step.

``crosscheck topics`` makes the topics by the same plan (``workers.topics.TopicPlan``); what is measured here
and not chosen is measured by ``tests/bench/sizes.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from workers.errors import SettingsError
from workers.store.settings import StoreSettings
from workers.topics import StationMap, TopicPlan

# Measured: bytes of one part, keys, expiry and allocator's rounding included (tests/bench/sizes.py).
VERDICT_KEY = 900
"""Bytes of a verdict in Redis."""
GATE_ENTRY = 950
"""Bytes of one entry of a station's stream to its gate."""
HEATMAP_KEY = 3_400
"""Bytes of a heatmap in Redis, of a 256 x 256 picture."""
STATION_KEYS = 12_000
"""Bytes of what a station has once in Redis: newest verdict, sensors, its list of heatmaps."""
VERDICT_RECORD = 800
"""Bytes of a verdict on its topic."""
HEATMAP_RECORD = 3_000
"""Bytes of a heatmap on its topic."""
REDIS_VERDICTS_S = 20_000
"""First verdicts a second that one Redis takes."""

# Chosen: how full things are planned to be. Change them where you know your machines better.
WORKER_LOAD = 0.6
"""Of a worker's time: the rest catches up after a takeover, and takes the swing of the line."""
SURVIVOR_LOAD = 0.9
"""Of each worker's time while one of them is gone: below 1, or nothing is ever caught up."""
REDIS_LOAD = 0.5
"""Of a Redis' writes a second: gates and board read from the same thread."""
REDIS_SPARE = 1.5
"""Memory to buy per byte stored: fragmentation, client buffers, the copy that a rewrite of its file makes."""
REDIS_GB = 64.0
"""Of one Redis. Beyond it a restart loads for minutes, while the gates are closed."""
BROKER_MB_S = 250.0
"""Written and read by one broker, copies included: a quarter of 10 Gbit/s, and what an SSD bears all day."""
BROKER_TB = 8.0
"""Disk of one broker."""
BROKER_PARTITIONS = 4_000
"""Copies of partitions on one broker."""
MOST_CORES = 8
"""Cores that one worker makes use of; then start another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is known of a line before it is built.

    Attributes:
        stations: cameras that look at a belt; each has a partition of its own.
        fps: parts a second of one station.
        frame_bytes: one frame record, both sensors.
        frame_ms: what one frame takes one core, or one GPU.
        cores: of one worker; a GPU counts as 1.
        retention_hours: how long frames are kept.
        verdict_hours: how long a verdict stands in Redis; not less than frames are kept.
        replicas: brokers that hold each record.
        not_passed: share of parts that do not pass, and so keep a heatmap.
        outage_s: seconds without a broker that an agent's disk bridges.

    Raises:
        SettingsError: a number that makes no line.
    """

    stations: int = 40
    fps: float = 5.0
    frame_bytes: int = 200_000
    frame_ms: float = 24.0
    cores: int = 4
    retention_hours: float = 4.0
    verdict_hours: float = StoreSettings().verdict_ttl_s / 3600
    replicas: int = 3
    not_passed: float = 0.05
    outage_s: float = 600.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0.0 if field.name in ("not_passed", "outage_s") else 1e-6
            if not (math.isfinite(value) and value >= least):
                raise SettingsError(f"{field.name.replace('_', ' ')} {value}: expected a number above 0")
        if self.not_passed > 1:
            raise SettingsError(f"not passed {self.not_passed}: expected a share from 0 to 1")
        if self.verdict_hours < self.retention_hours:
            raise SettingsError(
                f"verdicts stand {self.verdict_hours:g} h, frames stay {self.retention_hours:g} h: a frame"
                " read after its verdict is gone would be judged anew; raise the first or lower the second"
            )


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that is needed: how much, and the arithmetic."""

    what: str
    amount: str
    how: str


@dataclass(frozen=True, slots=True)
class Size:
    """The plan of a line; every number follows from ``line``."""

    line: Line

    @property
    def frames_per_s(self) -> float:
        """Of all stations."""
        return self.line.stations * self.line.fps

    @property
    def partitions(self) -> int:
        """Of the frames topic: one a station, as ``crosscheck topics`` makes them."""
        return self.line.stations

    @property
    def in_mb_s(self) -> float:
        """Megabytes a second from the agents."""
        return self.frames_per_s * self.line.frame_bytes / 1e6

    @property
    def broker_mb_s(self) -> float:
        """Megabytes a second through the brokers: in, copied, and read once by the workers."""
        return self.in_mb_s * (1 + (self.line.replicas - 1) * 2 + 1)

    @property
    def disk_gb(self) -> float:
        """Of all brokers together: the limits that ``crosscheck topics`` sets, on every copy."""
        plan = self.topics
        frames = plan.specs()[f"{plan.prefix}.frames"]
        hours = plan.specs()[f"{plan.prefix}.verdicts"].retention_ms / 3_600_000
        parts = self.frames_per_s * 3600 * plan.reserve
        small = parts * (
            VERDICT_RECORD * hours + HEATMAP_RECORD * self.line.not_passed * self.line.retention_hours
        )
        return (frames.retention_bytes * self.partitions + small) * self.line.replicas / 1e9

    @property
    def topics(self) -> TopicPlan:
        """The plan by which ``crosscheck topics`` makes them, for one station: each has its own partition."""
        return TopicPlan(
            StationMap({"s1": 0}),
            frames_per_second=self.line.fps,
            frame_bytes=self.line.frame_bytes,
            retention_hours=self.line.retention_hours,
        )

    @property
    def brokers(self) -> int:
        """As many as hold the copies, move the bytes, keep them, and carry the partitions."""
        copies = 3 * self.partitions * self.line.replicas  # frames, verdicts, heatmaps
        return max(
            self.line.replicas,
            math.ceil(self.broker_mb_s / BROKER_MB_S),
            math.ceil(self.disk_gb / 1000 / BROKER_TB),
            math.ceil(copies / BROKER_PARTITIONS),
        )

    @property
    def worker_fps(self) -> float:
        """Frames a second that one worker is planned with."""
        return min(self.line.cores, MOST_CORES) * 1000 / self.line.frame_ms * WORKER_LOAD

    @property
    def workers(self) -> int:
        """As many as score all frames at the planned load, and keep up when one of them has died.

        More than there are partitions would stand idle: see ``fits``.
        """
        surviving = self.worker_fps / WORKER_LOAD * SURVIVOR_LOAD
        return max(_up(self.frames_per_s / self.worker_fps), _up(self.frames_per_s / surviving) + 1)

    @property
    def fits(self) -> bool:
        """Whether the workers can share the partitions: a station is never scored by two at once."""
        return self.line.fps <= self.worker_fps and self.workers <= max(2, self.partitions)

    @property
    def redis_gb(self) -> float:
        """Memory to buy for Redis, of all of them together."""
        line, store = self.line, StoreSettings()
        verdicts = self.frames_per_s * line.verdict_hours * 3600 * VERDICT_KEY
        gate = min(store.gate_stream_maxlen, line.fps * line.verdict_hours * 3600) * GATE_ENTRY
        maps = min(store.heatmap_max_count, line.fps * line.not_passed * store.heatmap_ttl_s) * HEATMAP_KEY
        return (verdicts + line.stations * (gate + maps + STATION_KEYS)) * REDIS_SPARE / 1e9

    @property
    def redis_servers(self) -> int:
        """How many: each with topics, workers and stations of its own (``CROSSCHECK_TOPIC_PREFIX``)."""
        by_rate = math.ceil(self.frames_per_s / (REDIS_VERDICTS_S * REDIS_LOAD))
        return max(1, by_rate, math.ceil(self.redis_gb / REDIS_GB))

    @property
    def buffer_mb(self) -> float:
        """Of one agent's disk, for ``--buffer-mb``."""
        return self.line.fps * self.line.frame_bytes * self.line.outage_s / 1e6

    @property
    def lag_threshold(self) -> int:
        """Records behind per worker at which another is started: one second of its work."""
        return max(1, round(self.worker_fps))

    def needs(self) -> Iterator[Need]:
        """Every line of the plan."""
        line = self.line
        yield Need(
            "frames", f"{self.frames_per_s:,.1f} /s", f"{line.stations:,} stations x {line.fps:g} /s each"
        )
        yield Need("partitions", f"{self.partitions:,}", "one a station: its parts stay in order")
        yield Need(
            "from agents",
            f"{self.in_mb_s:,.1f} MB/s",
            f"{self.frames_per_s:,.1f} /s x {line.frame_bytes / 1000:,.0f} kB",
        )
        yield Need(
            "through brokers",
            f"{self.broker_mb_s:,.1f} MB/s",
            f"in once, copied {line.replicas - 1} times (out and in), read once",
        )
        yield Need(
            "broker disks",
            size_of(self.disk_gb),
            f"frames {line.retention_hours:g} h, verdicts 7 d, heatmaps; x {self.topics.reserve:g} in reserve"
            f" x {line.replicas} copies",
        )
        yield Need(
            "brokers",
            f"{self.brokers:,}",
            f"at most {BROKER_MB_S:g} MB/s, {BROKER_TB:g} TB and {BROKER_PARTITIONS:,} copies of partitions"
            f" each; {line.replicas} at least",
        )
        yield Need(
            "one worker",
            f"{self.worker_fps:,.1f} /s",
            f"{min(line.cores, MOST_CORES)} x 1000 / {line.frame_ms:g} ms x {WORKER_LOAD:g} of its time",
        )
        why = f"and the rest keeps up at {SURVIVOR_LOAD:g} of its time when one is gone"
        if not self.fits:
            why = "MORE THAN PARTITIONS CAN FEED: a station is scored by one worker; give workers more cores"
        yield Need(
            "workers", f"{self.workers:,}", f"{self.frames_per_s:,.1f} / {self.worker_fps:,.1f}; {why}"
        )
        yield Need(
            "Redis memory",
            size_of(self.redis_gb),
            f"{VERDICT_KEY} B a verdict for {line.verdict_hours:g} h, streams, heatmaps; x {REDIS_SPARE:g}",
        )
        more = "; each with stations, topics and workers of its own" if self.redis_servers > 1 else ""
        yield Need(
            "Redis servers",
            f"{self.redis_servers:,}",
            f"at most {REDIS_GB:g} GB and {REDIS_VERDICTS_S * REDIS_LOAD:,.0f} verdicts/s each{more}",
        )
        yield Need(
            "agent's buffer",
            f"{self.buffer_mb:,.0f} MB",
            f"{line.fps:g} /s x {line.frame_bytes / 1000:,.0f} kB x {line.outage_s:g} s without a broker",
        )
        yield Need(
            "lag to scale at",
            f"{self.lag_threshold:,}",
            "records behind a worker: one second of its work",
        )


def _up(count: float) -> int:
    """Rounded up, but for what arithmetic with floats adds."""
    return math.ceil(count - 1e-9)


def size_of(gigabytes: float) -> str:
    """Gigabytes in words."""
    if gigabytes < 1:
        return f"{gigabytes * 1000:,.0f} MB"
    return f"{gigabytes:,.1f} GB" if gigabytes < 1000 else f"{gigabytes / 1000:,.1f} TB"


COLUMNS = (
    "lines",
    "frames/s",
    "MB/s in",
    "partitions",
    "brokers",
    "broker disks",
    "workers",
    "Redis memory",
    "Redis servers",
)


def row(line: Line) -> tuple[str, ...]:
    """One row of the table of ``docs/sizing.md``, a station a line; see ``COLUMNS``."""
    plan = Size(line)
    return (
        f"{line.stations:,}",
        f"{plan.frames_per_s:,.0f}",
        f"{plan.in_mb_s:,.0f}",
        f"{plan.partitions:,}",
        f"{plan.brokers:,}",
        size_of(plan.disk_gb),
        f"{plan.workers:,}",
        size_of(plan.redis_gb),
        f"{plan.redis_servers:,}",
    )


def markdown(lines: list[Line]) -> str:
    """The table of ``docs/sizing.md`` for these lines."""
    rows = [COLUMNS, tuple("---:" for _ in COLUMNS), *(row(line) for line in lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
