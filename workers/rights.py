"""Least rights: what each process may do at Kafka and at Redis, as one table.

`crosscheck rights` prints it as commands, `docs/security.md` explains it, and the tests apply exactly it to
real servers. Where an access list cannot say what is meant, ``beyond`` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from workers.errors import SettingsError
from workers.store.keys import checked

Operation = Literal["Read", "Write", "Create", "Describe", "Alter", "DescribeConfigs", "AlterConfigs"]
Resource = Literal["topic", "group", "transactional-id"]
Pattern = Literal["literal", "prefixed"]

# What a script runs needs the same rights as if it were sent by itself.
_SCRIPTS = ("eval", "evalsha")
_DECIDE = ("get", "set", "del", "xadd", "expire", "hget", "hset")
_BASE = ("ping", "select", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What one process may do.

    Attributes:
        process: its name; its users are called ``crosscheck-PROCESS``.
        does: what it needs the rights for.
        topics: operations by topic, without the prefix; ``*`` is every topic of ours.
        group: the consumer group it reads in, with the settings' names filled in; None: none.
        transactional: whether it may open transactions of that group.
        keys: patterns of Redis keys; ``STATION`` stands for each station it serves.
        commands: Redis commands.
        beyond: what it can still do that it never should, because no access list can tell the difference.
    """

    process: str
    does: str
    topics: Mapping[str, tuple[Operation, ...]] = field(default_factory=dict)
    group: str | None = None
    transactional: bool = False
    keys: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    beyond: str = ""


RIGHTS: tuple[Rights, ...] = (
    Rights(
        process="agent",
        does="sends frames, notices and heartbeats, hears others'; sees no verdict, never speaks with Redis",
        topics={"frames": ("Write", "DescribeConfigs"), "heartbeats": ("Read", "Write")},
        beyond="it can send frames in the name of another station: a topic is one right, a partition none",
    ),
    Rights(
        process="worker",
        does="reads frames and heartbeats, decides, writes verdicts, heatmaps and dead letters",
        topics={
            "frames": ("Read",),
            "heartbeats": ("Read",),
            "control": ("Read",),
            "verdicts": ("Write",),
            "heatmaps": ("Write",),
            "deadletter": ("Write",),
        },
        group="GROUP",
        transactional=True,
        keys=(
            "{STATION}:verdict:*",
            "{STATION}:attempts:*",
            "{STATION}:heatmap:*",
            "{STATION}:heatmaps",
            "{STATION}:latest",
            "{STATION}:gate",
            "{STATION}:sensor:*",
            "{STATION}:drift",
            "worker:*",
        ),
        commands=(
            *_SCRIPTS,
            *_DECIDE,
            "incr",
            "lpush",
            "llen",
            "rpop",
            "hgetall",
            "hmget",
            "multi",
            "exec",
        ),
        beyond="its word is the decision: whoever has a worker's password can pass any part",
    ),
    Rights(
        process="gate",
        does="reads its station's decisions, writes MISSING for parts without one, takes challenges",
        keys=(
            "{STATION}:verdict:*",
            "{STATION}:attempts:*",
            "{STATION}:latest",
            "{STATION}:gate",
            "{STATION}:challenge",
            "{STATION}:product",
        ),
        commands=(*_SCRIPTS, *_DECIDE, "xread", "xrevrange", "hgetall"),
        beyond="it can write any decision for its own station, not only MISSING: Redis checks commands and"
        " keys, not values. It moves the actuator anyway; other stations are out of its reach",
    ),
    Rights(
        process="changeover",
        does="tells gate and workers which product the PLC says, and the PLC when they have it",
        topics={"control": ("Write",)},
        keys=("{STATION}:product", "worker:*"),
        commands=("hset", "hgetall", "scan", "del"),
        beyond="its word is the product: it can have parts judged as another one that is known. It can send"
        " every command, and write or delete a worker's heartbeat, but no verdict",
    ),
    Rights(
        process="archive",
        does="files verdicts, heatmaps and the frames of parts that were not passed",
        topics={"verdicts": ("Read",), "heatmaps": ("Read",), "frames": ("Read",)},
        group="PREFIX-archive",
    ),
    Rights(
        process="board",
        does="shows the line, with the images of a part; takes labels. Enough for an audit too",
        topics={
            "verdicts": ("Read",),
            "heartbeats": ("Read",),
            "frames": ("Read",),
            "heatmaps": ("Read",),
            "deadletter": ("Read",),
            "labels": ("Read", "Write"),
            "control": ("Write",),
        },
        keys=(
            "{STATION}:verdict:*",
            "{STATION}:heatmap:*",
            "{STATION}:latest",
            "{STATION}:gate",
            "{STATION}:sensor:*",
            "{STATION}:drift",
            "{STATION}:product",
            "{STATION}:review:*",
            "worker:*",
            "shadow:*",
        ),
        commands=(
            *_SCRIPTS,
            "get",
            "hget",
            "hgetall",
            "hset",
            "expire",
            "xread",
            "xrevrange",
            "scan",
        ),
        beyond="it can falsify what Redis says of a sensor or of the product that is due, and have a verdict"
        " forgotten early, which closes the gate; it can write no decision. A read-only one goes without"
        " eval, evalsha, hset, expire and Write",
    ),
    Rights(
        process="shadow",
        does="scores frames with a candidate bundle beside the workers and compares; decides nothing",
        topics={"frames": ("Read",)},
        keys=("{STATION}:verdict:*", "shadow:*"),
        commands=("get", "hset", "xadd", "expire", "del"),
    ),
    Rights(
        process="operator",
        does="makes topics, looks at dead letters, announces challenge parts, activates bundles",
        topics={
            "*": ("Create", "Describe", "Alter", "DescribeConfigs", "AlterConfigs"),
            "deadletter": ("Read",),
            "control": ("Read", "Write"),
        },
        keys=("{STATION}:challenge", "worker:*"),
        commands=("del", "hset", "expire", "hgetall", "multi", "exec", "scan"),
        beyond="it can shorten the retention of any topic, and so lose what is not read yet; it chooses by"
        " which bundle and threshold parts are passed",
    ),
    Rights(
        process="replay",
        does="sends dead letters again, once the part's decision stands: STALE where it had none",
        topics={"deadletter": ("Read", "Write"), "verdicts": ("Read",), "frames": ("Write",)},
        keys=("{STATION}:verdict:*", "{STATION}:attempts:*", "{STATION}:latest", "{STATION}:gate"),
        commands=(*_SCRIPTS, *_DECIDE),
        beyond="as the gate it can write any decision; for a person who repairs the line, not for a service",
    ),
)


@dataclass(frozen=True, slots=True)
class KafkaRight:
    """One line of Kafka's access list: ``principal`` may do ``operation``."""

    principal: str
    resource: Resource
    name: str
    pattern: Pattern
    operation: Operation


def rights_of(process: str) -> Rights:
    """The row of one process.

    Raises:
        SettingsError: there is no such process.
    """
    for row in RIGHTS:
        if row.process == process:
            return row
    known = ", ".join(row.process for row in RIGHTS)
    raise SettingsError(f"process {process!r}: none of {known}")


def user(process: str) -> str:
    """The name of a process at Kafka and Redis."""
    return f"crosscheck-{process}"


def kafka_rights(row: Rights, *, prefix: str, group: str) -> Iterator[KafkaRight]:
    """The row as lines of Kafka's access list.

    Args:
        prefix: the topics are PREFIX.frames and so on.
        group: the consumer group of the workers.
    """
    principal = f"User:{user(row.process)}"
    for topic, operations in row.topics.items():
        name, pattern = (f"{prefix}.", "prefixed") if topic == "*" else (f"{prefix}.{topic}", "literal")
        for operation in operations:
            yield KafkaRight(principal, "topic", name, pattern, operation)  # type: ignore[arg-type]
    if row.group is not None:
        name = row.group.replace("GROUP", group).replace("PREFIX", prefix)
        yield KafkaRight(principal, "group", name, "literal", "Read")
        if row.transactional:
            # Each worker's id is GROUP.WORKER.
            yield KafkaRight(principal, "transactional-id", f"{name}.", "prefixed", "Write")


def kafka_commands(rights: Sequence[KafkaRight], bootstrap: str) -> list[str]:
    """The lines as calls of Kafka's own tool, those of one resource in one call."""
    calls: dict[tuple[str, str, str, str], list[str]] = {}
    for right in rights:
        at = (right.principal, right.resource, right.name, right.pattern)
        calls.setdefault(at, []).append(right.operation)
    return [
        f"kafka-acls.sh --bootstrap-server {bootstrap} --command-config admin.properties --add"
        f" --allow-principal {principal} {' '.join(f'--operation {each}' for each in operations)}"
        f" --{resource} {name} --resource-pattern-type {pattern}"
        for (principal, resource, name, pattern), operations in calls.items()
    ]


def redis_rules(row: Rights, stations: Sequence[str]) -> list[str]:
    """The row as the rules of ``ACL SETUSER``; empty where the process does not speak with Redis.

    The user begins with no right at all, and channels are not used. The password is left to the caller.

    Raises:
        SettingsError: a station's name that keys cannot carry.
    """
    if not row.commands:
        return []
    names = [checked("station", station) for station in stations]
    patterns = [
        key.replace("STATION", name) for key in row.keys for name in (names if "STATION" in key else [""])
    ]
    return [
        "reset",
        "on",
        *(f"~{pattern}" for pattern in patterns),
        "-@all",
        *(f"+{command}" for command in (*_BASE, *row.commands)),
    ]


def redis_command(row: Rights, stations: Sequence[str], password: str) -> str | None:
    """The row as one ``ACL SETUSER`` line for redis-cli; None where the process does not speak with Redis."""
    rules = redis_rules(row, stations)
    if not rules:
        return None
    quoted = " ".join(f"'{rule}'" if rule.startswith("~") else rule for rule in [*rules, f">{password}"])
    return f"ACL SETUSER {user(row.process)} {quoted}"
