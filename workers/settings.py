"""One settings object for every process: environment, then a TOML file, then flags, the last one wins."""

from __future__ import annotations

import difflib
import os
import socket
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.regular import read_regular
from workers.bus.base import BATCH_OVERHEAD_BYTES, MAX_BATCH_BYTES
from workers.errors import SettingsError

PREFIX = "CROSSCHECK_"
CONFIG_VARIABLE = "CROSSCHECK_CONFIG"
# What is said of a wrong value of these does not repeat it.
_SECRET = (
    "kafka",
    "redis",
    "trace",
    "model_store",
    "kafka_password",
    "redis_password",
    "board_token",
    "kafka_oauth_command",
)


def _worker_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class Settings(BaseSettings):
    """What a process needs to know. Each field is also the variable ``CROSSCHECK_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    kafka: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, HOST:PORT[,HOST:PORT]")
    # Not shown: a URL may carry a password.
    redis: str = Field("redis://127.0.0.1:6379/0", repr=False, description="Redis URL")
    kafka_security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="How Kafka is spoken to"
    )
    kafka_sasl: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="How a user proves itself to Kafka, with sasl_plaintext and sasl_ssl"
    )
    kafka_user: str | None = Field(None, description="Kafka user")
    kafka_password: SecretStr | None = Field(None, description="Its password")
    kafka_oauth_file: Path | None = Field(
        None,
        description="File with the token of OAUTHBEARER, read at each login: replace it before it expires",
    )
    # A command may name a secret.
    kafka_oauth_command: SecretStr | None = Field(
        None, description="Command that prints the token of OAUTHBEARER, run without a shell"
    )
    kafka_oauth_extensions: str = Field(
        "", description="Sent with the token: NAME=VALUE,NAME=VALUE, where brokers ask for it"
    )
    kafka_ca: Path | None = Field(None, description="PEM file of the authority that signed the brokers")
    kafka_cert: Path | None = Field(None, description="PEM file of our own certificate, where brokers ask")
    kafka_key: Path | None = Field(None, description="PEM file of its private key")
    redis_user: str | None = Field(None, description="Redis ACL user, where the URL names none")
    redis_password: SecretStr | None = Field(None, description="Its password")
    redis_ca: Path | None = Field(None, description="PEM file of the authority that signed Redis (rediss://)")
    redis_cert: Path | None = Field(None, description="PEM file of our own certificate for Redis")
    redis_key: Path | None = Field(None, description="PEM file of its private key")
    models: Path = Field(
        Path("models"), description="Folder of bundles: MODELS/PRODUCT/VERSION/manifest.json"
    )
    stations: Path | None = Field(None, description="Station map written by `crosscheck topics`")
    topic_prefix: str = Field("inspection", description="Topics are PREFIX.frames, PREFIX.verdicts, ...")
    group: str = Field("crosscheck-workers", description="Consumer group of the workers")
    worker: str = Field(default_factory=_worker_name, description="This worker's name in verdicts and logs")

    max_batch: int = Field(8, ge=1, le=256, description="Frames in one model run, at most")
    # Small: a busy worker fills its batches from what came in meanwhile, an idle one has nothing to wait for.
    max_delay_ms: float = Field(
        2.0,
        ge=0,
        le=10_000,
        description="A batch starts this long after its oldest frame came in, at the latest",
    )
    near_ms: float = Field(
        100.0, ge=0, le=60_000, description="A part whose deadline is this near is batched at once"
    )
    shedding: Literal["none", "late-first", "degrade"] = Field(
        "none", description="What gives way when more comes in than can be scored in time"
    )
    max_clock_offset_ms: float = Field(
        250.0,
        gt=0,
        le=60_000,
        description="An agent whose clock is further from ours sets deadlines nobody can keep: ERROR",
    )
    pair_wait_ms: float = Field(
        150.0,
        ge=0,
        le=60_000,
        description="How long one sensor's record waits for the other's, at most; what is usual is learnt",
    )
    max_in_flight: int = Field(64, ge=1, le=10_000, description="Frames held before partitions are paused")
    max_in_flight_mb: float = Field(256.0, gt=0, description="Megabytes held before partitions are paused")
    max_record_bytes: int = Field(
        MAX_BATCH_BYTES,
        ge=256 * 1024,
        le=MAX_BATCH_BYTES,
        description="What brokers take at most (their max.message.bytes): topics are made with it, agents"
        " refuse larger frames; managed brokers often allow 8388608 or 1048588",
    )
    max_attempts: int = Field(
        2, ge=1, description="Tries of one part before it is an ERROR without the model"
    )
    min_coverage: float = Field(
        0.8, ge=0, le=1, description="Share of valid readings under which the best answer is REVIEW"
    )
    sensor_down_after: int = Field(
        3, ge=1, description="Triggers without a sensor before the station stops waiting for it"
    )
    sensor_up_after: int = Field(3, ge=1, description="Good pairs before the sensor counts as up again")

    heatmaps: Literal["all", "not-passed", "none"] = Field(
        "not-passed", description="For which parts a heatmap is stored"
    )
    delivery: Literal["plain", "transactions"] = Field(
        "plain", description="transactions: verdicts and offsets commit together, for read-committed readers"
    )
    static_member: bool = Field(
        False,
        description="Keep the worker's place in its group over a restart; a dead one's partitions then wait"
        " for the whole session timeout, and --name must stay the same",
    )
    stall_s: float = Field(
        30.0, ge=5, le=600, description="A worker that has work and does not move this long ends itself"
    )
    session_timeout_ms: int = Field(6_000, ge=6_000, le=60_000, description="Kafka session timeout")
    drain_s: float = Field(2.0, gt=0, description="Longest drain of a revoked partition or on a stop signal")
    deadletter_run: int = Field(100, ge=1, description="Unreadable records in a row that park a station")
    deadletter_ratio: float = Field(
        0.25, gt=0, le=1, description="Share of unreadable records, of a station's last 1,000, that parks it"
    )
    deadletter_good: int = Field(
        20, ge=1, description="Readable records in a row after which a parked station is judged again"
    )
    verdict_ttl_s: int = Field(7 * 86_400, ge=60, description="How long a verdict stays in Redis")

    device: str = Field("cpu", description="cpu, cuda or cuda:N")
    threads: int = Field(0, ge=0, le=64, description="Frames scored at once on the CPU; 0 is one a core")
    dino: Path | None = Field(None, description="Weights file of DINO ViT-B/8, for reference bundles")
    point_mae: Path | None = Field(None, description="Weights file of Point-MAE, for reference bundles")
    colour_runtime: Literal["torch", "openvino"] = Field(
        "torch", description="What runs the colour network of compact bundles on the CPU"
    )
    metrics: str | None = Field(
        None,
        description="HOST:PORT at which a process answers Prometheus and health checks; none where not given",
    )
    trace: str | None = Field(
        None, repr=False, description="URL that spans are sent to by OTLP over HTTP; none where not given"
    )
    trace_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of the parts that are traced; give every process the same number"
    )
    board: str = Field("127.0.0.1:8600", description="HOST:PORT of the board")
    board_token: SecretStr | None = Field(
        None, description="Who knows it may act on the board; without one the board is read-only"
    )
    board_hosts: str = Field(
        "", description="Names by which browsers ask for the board behind a proxy, separated by commas"
    )
    review: Path = Field(
        Path("review"), description="Folder of the parts that an operator has labelled, for the next teach"
    )
    model_store: str | None = Field(
        None,
        repr=False,
        description="s3://BUCKET/PREFIX that bundles are fetched from into the models folder",
    )
    log: Literal["console", "json"] = Field("console", description="Log format")

    @model_validator(mode="after")
    def _batch_fits_in_flight(self) -> Settings:
        if self.max_in_flight < self.max_batch:
            # A bound under the batch size would starve the batch: it could never fill.
            raise ValueError(
                f"max_in_flight ({self.max_in_flight}) is under max_batch ({self.max_batch}): raise "
                f"{PREFIX}MAX_IN_FLIGHT or lower {PREFIX}MAX_BATCH"
            )
        return self

    @model_validator(mode="after")
    def _waiting_is_no_stall(self) -> Settings:
        longest = max(self.pair_wait_ms, self.max_delay_ms)
        if longest > 500 * self.stall_s:
            # A part that waits on purpose does not move: the watchdog would end the worker for it.
            raise ValueError(
                f"stall_s ({self.stall_s:g}) is under twice the longest wait ({longest / 1e3:g} s): "
                f"raise {PREFIX}STALL_S or lower {PREFIX}PAIR_WAIT_MS and {PREFIX}MAX_DELAY_MS"
            )
        return self

    @property
    def largest_record(self) -> int:
        """Of any topic: key, value and headers, bytes."""
        return self.max_record_bytes - BATCH_OVERHEAD_BYTES

    def topic(self, name: str) -> str:
        """The full name of one of our topics, as ``inspection.frames``."""
        return f"{self.topic_prefix}.{name}"


def _problem(error: ValidationError, file: Path | None) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if not name:
        return str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(Settings.model_fields))
        return f"{file or 'settings'}: unknown setting {name!r}; known: {known}"
    where = f" or {name!r} in {file}" if file else ""
    found = "" if name in _SECRET else f", found {first['input']!r}"
    return f"setting {PREFIX}{name.upper()}{where}: {first['msg']}{found}"


_COMPOSE = ("KAFKA_PORT", "REDIS_PORT", "BOARD_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")
ELSEWHERE = frozenset({"CONFIG", "SHIFTS", "SURFACE", "CACHE", *_COMPOSE})
"""Variables of ours that are no field: what reads them says so."""


_RENAMED = {"MAX_MESSAGE_MB": "MAX_RECORD_BYTES"}


def _refuse_unknown_variables() -> None:
    """A misspelt variable would leave its setting at the default, in silence. Raises SettingsError."""
    known = {name.upper() for name in Settings.model_fields} | ELSEWHERE
    for variable in sorted(os.environ):
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name.upper() not in known:
            renamed = _RENAMED.get(name.upper())
            near = [renamed] if renamed else difflib.get_close_matches(name.upper(), sorted(known), 1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "unset it"
            raise SettingsError(f"variable {variable}: no such setting; {hint}")


def load_settings(file: Path | None = None, **flags: Any) -> Settings:
    """Settings from the environment, the TOML file and the flags; a flag of None is not given.

    Raises:
        SettingsError: the file cannot be read, or a value is impossible; the text names the variable.
    """
    _refuse_unknown_variables()
    chosen = file or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    values: dict[str, Any] = {}
    if chosen is not None:
        try:
            values = tomllib.loads(read_regular(chosen).decode("utf-8-sig"))
        except OSError as error:
            raise SettingsError(f"settings file {chosen}: {error.strerror}; check --config") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"settings file {chosen}: not TOML ({error})") from None
    values.update({name: value for name, value in flags.items() if value is not None})
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_problem(error, chosen)) from None
