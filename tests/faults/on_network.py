"""Faults between clients and servers: the network cut or slow, a leader of the cluster gone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from compose.cluster import Cluster
from compose.services import Services
from tests.faults.proxy import Cut, Proxy
from tests.faults.rig import Line, LineSetup
from tests.faults.stage import Fault, Stage, pace

SLOW_S = 0.2
NARROW = 1e6
REDIS_SLOW_S = 0.02
"""A worker asks Redis several times a batch, the broker twice."""


@dataclass(frozen=True, slots=True)
class Links:
    """The proxies before the two servers."""

    kafka: Proxy
    redis: Proxy


@contextmanager
def behind_proxies(stage: Stage) -> Iterator[Stage]:
    """A broker that advertises the proxy before it, and a Redis behind another."""
    with Proxy() as kafka, Proxy() as redis:
        services = Services(stage.rig.folder / "proxied", kafka_advertised=kafka.address)
        try:
            endpoints = services.up(docker=False)
            kafka.to(endpoints.kafka)
            redis.to(endpoints.redis_url.removeprefix("redis://").partition("/")[0])
            rig = stage.rig.elsewhere(kafka=kafka.address, redis_url=f"redis://{redis.address}/0")
            yield Stage(rig, services, {"links": Links(kafka, redis)})
        finally:
            kafka.restore()
            redis.restore()
            services.down(delete=True)


def links_of(stage: Stage) -> Links:
    """The proxies of a stage behind them."""
    links = stage.extra["links"]
    assert isinstance(links, Links)
    return links


def network_cut(stage: Stage, line: Line, times: int) -> None:
    """Broker, Redis, both; refused and silent; two seconds, and now and then longer than the session."""
    links = links_of(stage)
    sides = {"broker": (links.kafka,), "Redis": (links.redis,), "both": (links.kafka, links.redis)}
    kinds = itertools.cycle((name, kind) for name in sides for kind in Cut)
    while line.wants(times):
        number = len(line.injections)
        name, kind = next(kinds)
        fault = line.injected(f"{name} {kind.value}")
        for proxy in sides[name]:
            proxy.cut(kind)
        pace(8.0 if number % 6 == 1 else 2.0)
        for proxy in sides[name]:
            proxy.restore()
        line.over(fault)
        line.recovered(fault, 90.0)
        pace(0.3)


def slow_links(stage: Stage, line: Line, times: int) -> None:
    """Late and narrow links for three seconds each: the line goes on over them."""
    links = links_of(stage)
    while line.wants(times):
        number = len(line.injections)
        what = ("broker late", "broker narrow", "Redis late")[number % 3]
        fault = line.injected(what)
        if what == "broker late":
            links.kafka.latency_s = SLOW_S
        elif what == "broker narrow":
            links.kafka.bandwidth = NARROW
        else:
            links.redis.latency_s = REDIS_SLOW_S
        line.recovered(fault)
        pace(2.0)
        links.kafka.restore()
        links.redis.restore()
        pace(0.3)


@contextmanager
def on_a_cluster(stage: Stage) -> Iterator[Stage]:
    """Three brokers in place of one."""
    cluster = Cluster(stage.rig.folder / "cluster")
    try:
        bootstrap = cluster.up()
        yield Stage(stage.rig.elsewhere(kafka=bootstrap), stage.services, {"cluster": cluster})
    finally:
        cluster.down(delete=True)


def leader_killed(stage: Stage, line: Line, times: int) -> None:
    """SIGKILL of the broker that leads a partition; back once another leads."""
    cluster = stage.extra["cluster"]
    assert isinstance(cluster, Cluster)
    while line.wants(times):
        number = len(line.injections)
        station = sorted(line.stations)[number % len(line.stations)]
        leader = cluster.leader(line.frames, line.map.partition(station))
        fault = line.injected("leader SIGKILL", frozenset({station}))
        cluster.kill(leader)
        line.recovered(fault, 90.0)
        cluster.start(leader)


FAULTS = (
    Fault(
        key="cut",
        name="network cut",
        setup=LineSetup(workers=3, to_gate_s=90.0),
        inject=network_cut,
        place=behind_proxies,
    ),
    Fault(
        key="slow-link",
        name="late and narrow links",
        setup=LineSetup(workers=3, settings={"max_batch": 16}),
        inject=slow_links,
        place=behind_proxies,
    ),
    Fault(
        key="leader",
        name="leader of three brokers killed",
        setup=LineSetup(workers=2, to_gate_s=90.0, replication=3),
        inject=leader_killed,
        place=on_a_cluster,
    ),
)
