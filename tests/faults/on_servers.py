"""Faults of the servers: broker and Redis stopped, killed, and Redis back without what it knew."""

from __future__ import annotations

import shutil
import signal

import redis

from tests.faults.rig import Line, LineSetup
from tests.faults.stage import Fault, Stage, pace

KINDS = (signal.SIGKILL, signal.SIGTERM)


def broker_away(stage: Stage, line: Line, times: int) -> None:
    """The one broker killed or stopped, and started again on its data."""
    while line.wants(times):
        number = len(line.injections)
        kind = KINDS[number % 2]
        fault = line.injected(f"broker {kind.name}")
        stage.end_server("kafka", kind)
        stage.services.start_kafka()
        line.over(fault)
        line.recovered(fault, 90.0)
        pace(0.5)


def redis_away(stage: Stage, line: Line, times: int) -> None:
    """Redis killed or stopped, a moment of nothing, started again on its data."""
    while line.wants(times):
        number = len(line.injections)
        kind = KINDS[number % 2]
        fault = line.injected(f"Redis {kind.name}")
        stage.end_server("redis", kind)
        pace(1.0)
        stage.services.start_redis()
        line.over(fault)
        line.recovered(fault)
        pace(0.5)


def redis_emptied(stage: Stage, line: Line, times: int) -> None:
    """Redis comes back without its data, or is emptied while it runs."""
    while line.wants(times):
        number = len(line.injections)
        if number % 3 == 2:
            fault = line.injected("emptied")
            client = redis.Redis.from_url(stage.rig.redis_url)
            client.flushall()
            client.close()
        else:
            fault = line.injected("back without data")
            stage.end_server("redis", signal.SIGKILL)
            shutil.rmtree(stage.services.folder / "redis-data")
            stage.services.start_redis()
        line.over(fault)
        line.recovered(fault)
        pace(0.7)


FAULTS = (
    Fault(
        key="broker",
        name="broker killed or stopped, back",
        setup=LineSetup(real=True, workers=2, rate=2.0, to_gate_s=90.0),
        inject=broker_away,
    ),
    Fault(
        key="redis",
        name="Redis killed or stopped, back with its data",
        setup=LineSetup(real=True, workers=2, rate=2.0),
        inject=redis_away,
    ),
    Fault(
        key="redis-empty",
        name="Redis back without its data",
        setup=LineSetup(workers=2),
        inject=redis_emptied,
        data_lost=True,
    ),
)
