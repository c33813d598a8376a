"""Every metric of every process: its name, kind, unit, labels and help, written once.

Dashboards, alert rules and the reference are held to this list, and so is every collector. A name ends in its
unit, and a counter's in ``_total``. A new metric is one constant here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Process = Literal["worker", "agent", "gate", "archive", "board", "changeover", "shadow"]

PROCESSES: tuple[Process, ...] = ("worker", "agent", "gate", "archive", "board", "changeover", "shadow")
"""What the ``process`` label of ``crosscheck_live`` and ``crosscheck_ready`` may say."""

OTHER = "other"
"""The label value that stands for all stations, products or reasons beyond the first thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: as a sample of it is called; of a histogram without ``_bucket``, ``_sum`` and ``_count``.
        unit: what is counted or measured; empty for a flag or a plain number.
        help: what it says, and what to read from it.
        labels: names of its labels, in order.
        buckets: upper bounds of a histogram's buckets, in its unit; the last, infinity, goes without saying.
        processes: which of them export it.
    """

    name: str
    kind: Kind
    help: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    processes: tuple[Process, ...] = ("worker",)


# The worker: what came in and what it ended in.

FRAMES = Metric(
    name="crosscheck_frames_total",
    kind="counter",
    unit="frames",
    labels=("station",),
    help="Records of frames whose parts were answered since the process started; a part whose sensors came"
    " apart counts twice",
)
VERDICTS = Metric(
    name="crosscheck_verdicts_total",
    kind="counter",
    unit="verdicts",
    labels=("station", "product", "decision", "mode"),
    help="Parts answered, by decision and by the sensors the score rests on; mode is empty where nothing was"
    " scored. Only PASS opens a gate",
)
REPEATS = Metric(
    name="crosscheck_repeats_total",
    kind="counter",
    unit="repeats",
    help="Parts whose verdict stood already, repeated byte for byte: after a crash, a rebalance or an outage",
)
DEAD_LETTERS = Metric(
    name="crosscheck_dead_letters_total",
    kind="counter",
    unit="dead_letters",
    labels=("reason",),
    help="Records that could not be read or scored and went to the dead letters, by the error's reason",
)
VERDICT_LATENCY = Metric(
    name="crosscheck_verdict_latency_seconds",
    kind="histogram",
    unit="seconds",
    buckets=(0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0),
    help="From the capture of a part, by its agent's clock, to its verdict, by the worker's; repeats are left"
    " out",
)

# The worker's loop.

STAGE_SECONDS = Metric(
    name="crosscheck_stage_seconds_total",
    kind="counter",
    unit="seconds",
    labels=("stage",),
    help="Seconds the loop spent in a stage: idle, poll, open, decode, inspect, store, publish, commit, and"
    " inspect.NAME within the model",
)
STAGE_ENTRIES = Metric(
    name="crosscheck_stage_entries_total",
    kind="counter",
    unit="entries",
    labels=("stage",),
    help="How often the loop entered a stage; seconds by entries is what one entry takes",
)
BATCH_SIZE = Metric(
    name="crosscheck_batch_size",
    kind="histogram",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    help="Parts in one model run. Always one: the worker is idle; always at max_batch: it is at its limit",
)
BATCH_WAIT = Metric(
    name="crosscheck_batch_wait_seconds",
    kind="histogram",
    unit="seconds",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
    help="How long a part waited in the worker before the model saw it: for its other sensor, for its turn",
)
LAG = Metric(
    name="crosscheck_lag_records",
    kind="gauge",
    unit="records",
    labels=("partition",),
    help="Records of a partition of the frames that are not decided: its end less the oldest undecided. Asked"
    " of the broker every few seconds",
)
HELD = Metric(
    name="crosscheck_held_parts", kind="gauge", unit="parts", help="Parts read and not answered: in flight"
)
HELD_BYTES = Metric(
    name="crosscheck_held_bytes",
    kind="gauge",
    unit="bytes",
    help="Bytes of the records and images of the parts in flight",
)
PAUSED = Metric(
    name="crosscheck_paused",
    kind="gauge",
    help="1 while the worker takes no frames: too much is in flight, the model is busy, or a sink is away",
)
PARTITIONS = Metric(
    name="crosscheck_partitions",
    kind="gauge",
    help="Partitions of the frames the worker holds; 0 while the group is rebalanced, or one worker too many",
)

# Stations, as the worker sees them.

SENSOR_STATE = Metric(
    name="crosscheck_sensor_state",
    kind="gauge",
    labels=("station", "sensor", "state"),
    help="1 for the state a sensor is in (up, suspect, down, recovering), 0 for the others",
)
CLOCK_OFFSET = Metric(
    name="crosscheck_clock_offset_seconds",
    kind="gauge",
    unit="seconds",
    labels=("station",),
    help="By how much the clock of a station's worst agent is ahead of the worker's",
)
CLOCK_REFUSED = Metric(
    name="crosscheck_clock_refused",
    kind="gauge",
    labels=("station",),
    help="1 for a station whose deadlines are refused for its clock: its parts are ERROR",
)

STATION_PARKED = Metric(
    name="crosscheck_station_parked",
    kind="gauge",
    labels=("station",),
    help="1 for a station of whose records too many could not be read: its parts are ERROR until they can"
    " again. 'partition N' stands for records that name no station",
)

# Models and the accelerator.

MODEL_INFO = Metric(
    name="crosscheck_model_info",
    kind="gauge",
    labels=("product", "bundle", "hash"),
    help="1 for the bundle that judges a product now, with the digest of its manifest",
)
MODEL_SWAPS = Metric(
    name="crosscheck_model_swaps_total",
    kind="counter",
    unit="swaps",
    labels=("product", "result"),
    help="Bundles asked for through the control topic since the process started, by what became of it",
)
GPU_MEMORY = Metric(
    name="crosscheck_gpu_memory_bytes",
    kind="gauge",
    unit="bytes",
    labels=("device", "kind"),
    help="Memory of the GPU: allocated (by tensors of this process), reserved (by its allocator), free and"
    " total (of the device). Not there on the CPU",
)

# Drift.

DRIFT_PSI = Metric(
    name="crosscheck_drift_psi",
    kind="gauge",
    labels=("station", "product", "mode"),
    help="Population stability index of a station's last scores against calibration; what chance makes of it"
    " depends on how many parts were seen, and is in crosscheck_drift_warning",
)
DRIFT_KS = Metric(
    name="crosscheck_drift_ks",
    kind="gauge",
    labels=("station", "product", "mode"),
    help="Kolmogorov-Smirnov distance, 0 to 1, of a station's last scores from those of calibration",
)
BRIGHTNESS_SHIFT = Metric(
    name="crosscheck_brightness_shift",
    kind="gauge",
    labels=("station",),
    help="By what share a station's pictures are brighter (above 0) or darker (below 0) than its own normal",
)
BELT_SHIFT = Metric(
    name="crosscheck_belt_shift_counts",
    kind="gauge",
    unit="counts",
    labels=("station",),
    help="By how many depth counts the belt lies farther (above 0) or nearer (below 0) than its own normal",
)
DRIFT_WARNING = Metric(
    name="crosscheck_drift_warning",
    kind="gauge",
    labels=("station", "kind"),
    help="1 while a station drifts, by kind: scores, brightness or belt. False rejects come next",
)

# Every process.

LIVE = Metric(
    name="crosscheck_live",
    kind="gauge",
    labels=("process",),
    processes=PROCESSES,
    help="1 while the process moves; at 0 its supervisor is to start it again. As /health/live says",
)
READY = Metric(
    name="crosscheck_ready",
    kind="gauge",
    labels=("process",),
    processes=PROCESSES,
    help="1 while the process can do its work: /health/ready lists what is missing",
)
CHECK = Metric(
    name="crosscheck_check_ok",
    kind="gauge",
    labels=("process", "check"),
    processes=PROCESSES,
    help="1 while a check of the process's health is well, 0 while it is not; readiness is all of them",
)
START_TIME = Metric(
    name="crosscheck_start_time_seconds",
    kind="gauge",
    unit="seconds",
    labels=("process",),
    processes=PROCESSES,
    help="When the process started, seconds since the epoch: each change is a start",
)

# The capture agent.

AGENT_TRIGGERS = Metric(
    name="crosscheck_agent_triggers_total",
    kind="counter",
    unit="triggers",
    labels=("station",),
    processes=("agent",),
    help="Triggers of the line: parts minted since the agent started",
)
AGENT_PUBLISHED = Metric(
    name="crosscheck_agent_published_total",
    kind="counter",
    unit="published",
    labels=("station",),
    processes=("agent",),
    help="Records of frames that the broker has acknowledged",
)
AGENT_FAILED = Metric(
    name="crosscheck_agent_failed_total",
    kind="counter",
    unit="failed",
    labels=("station",),
    processes=("agent",),
    help="Frames that did not reach the broker, and parts for which no sensor gave anything",
)
AGENT_NOTICES = Metric(
    name="crosscheck_agent_notices_total",
    kind="counter",
    unit="notices",
    labels=("station",),
    processes=("agent",),
    help="Parts told to the broker without images, because they were given up; they end in MISSING",
)
AGENT_BUFFERED_FRAMES = Metric(
    name="crosscheck_agent_buffered_frames",
    kind="gauge",
    unit="frames",
    labels=("station",),
    processes=("agent",),
    help="Records that wait on the agent's disk until the broker answers",
)
AGENT_BUFFERED_BYTES = Metric(
    name="crosscheck_agent_buffered_bytes",
    kind="gauge",
    unit="bytes",
    labels=("station",),
    processes=("agent",),
    help="Bytes that these take on the disk",
)
FOREIGN_MEMBERS = Metric(
    name="crosscheck_foreign_members",
    kind="gauge",
    unit="members",
    processes=("worker",),
    help="Members of the workers' group that are no workers: the parts they read get no verdict; 0 is right",
)
AGENT_OTHERS = Metric(
    name="crosscheck_agent_other_agents",
    kind="gauge",
    unit="agents",
    labels=("station",),
    processes=("agent",),
    help="Other agents that make parts of the same station: each trigger is a part twice; 0 is right",
)
AGENT_PUBLISH = Metric(
    name="crosscheck_agent_publish_seconds",
    kind="histogram",
    unit="seconds",
    processes=("agent",),
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    help="How long the camera's loop was held up by publishing one part: encoding, and a full send buffer",
)

# The gate.

GATE_TRIGGERS = Metric(
    name="crosscheck_gate_triggers_total",
    kind="counter",
    unit="triggers",
    labels=("station",),
    processes=("gate",),
    help="Parts the gate's own eyes have seen since it started",
)
GATE_DECISIONS = Metric(
    name="crosscheck_gate_decisions_total",
    kind="counter",
    unit="decisions",
    labels=("station", "decision"),
    processes=("gate",),
    help="Parts decided at the gate since it started; only PASS let one through",
)
GATE_WAIT = Metric(
    name="crosscheck_gate_wait_seconds",
    kind="histogram",
    unit="seconds",
    processes=("gate",),
    buckets=(0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0),
    help="From the trigger of a part to the moment the gate held its verdict; parts without one are left out",
)
GATE_ALARMS = Metric(
    name="crosscheck_gate_alarms_total",
    kind="counter",
    unit="alarms",
    labels=("station", "kind"),
    processes=("gate",),
    help="Alarms the gate raised since it started, by the name of their event in the log",
)
GATE_LOCKED = Metric(
    name="crosscheck_gate_locked",
    kind="gauge",
    labels=("station",),
    processes=("gate",),
    help="1 while nothing passes until a challenge part is rejected",
)

# The product change.

CHANGEOVER_KNOWN = Metric(
    name="crosscheck_changeover_known",
    kind="gauge",
    labels=("station",),
    processes=("changeover",),
    help="1 while the PLC says a product that is known; at 0 no part captured meanwhile passes",
)
CHANGEOVER_CHANGES = Metric(
    name="crosscheck_changeover_changes_total",
    kind="counter",
    unit="changes",
    labels=("station",),
    processes=("changeover",),
    help="How often a product began since the process started, the one it found included",
)
CHANGEOVER_ALARMS = Metric(
    name="crosscheck_changeover_alarms_total",
    kind="counter",
    unit="alarms",
    labels=("station", "kind"),
    processes=("changeover",),
    help="Alarms since the process started, by the name of their event in the log",
)

# The archive.

ARCHIVE_ROWS = Metric(
    name="crosscheck_archive_rows_total",
    kind="counter",
    unit="rows",
    processes=("archive",),
    help="Rows in the archive and committed since the process started",
)
ARCHIVE_IMAGES = Metric(
    name="crosscheck_archive_images_total",
    kind="counter",
    unit="images",
    processes=("archive",),
    help="Images and heatmaps in the archive and committed since the process started",
)
ARCHIVE_LAG = Metric(
    name="crosscheck_archive_lag_records",
    kind="gauge",
    unit="records",
    processes=("archive",),
    help="Verdicts and heatmaps on their topics that are not archived yet. Retention must not reach them",
)

# The board.

BOARD_CLIENTS = Metric(
    name="crosscheck_board_clients",
    kind="gauge",
    processes=("board",),
    help="Browsers that listen to the board now",
)
BOARD_VERDICTS = Metric(
    name="crosscheck_board_verdicts_total",
    kind="counter",
    unit="verdicts",
    processes=("board",),
    help="Verdicts the board has read since it started",
)

METRICS: tuple[Metric, ...] = tuple(each for each in list(globals().values()) if isinstance(each, Metric))
"""All of them, in the order of this page and of the reference."""
