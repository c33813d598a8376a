"""What kind of Redis answers: verdicts are kept in a single server or a primary, which forgets none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
import structlog

from workers.errors import SettingsError

log = structlog.get_logger(__name__)


def require_single(client: redis.Redis, where: str) -> None:
    """Refuse what does not keep all keys in one place, and warn of what forgets them.

    Args:
        where: the server's address, for messages.

    Raises:
        SettingsError: a Sentinel or a node of a Redis Cluster answers; the text says what to name instead.
        redis.RedisError: it cannot be asked.
    """
    try:
        told: Any = client.info()
    except redis.exceptions.ResponseError as error:
        if "NOPERM" not in str(error).upper() and not isinstance(error, redis.exceptions.NoPermissionError):
            raise
        # Rights of before this question was asked: that much is known of what is not known.
        log.info(
            "redis.kind_unknown", redis=where, fix="let this user run INFO: `crosscheck rights` prints how"
        )
        return
    if problem := kind_problem(told, where):
        raise SettingsError(problem)
    if warning := eviction(told):
        policy, limit = warning
        log.warning(
            "redis.evicts",
            redis=where,
            policy=policy,
            maxmemory=limit,
            means="at its memory limit it drops verdicts that gates still wait for: their parts end MISSING",
            fix="redis-cli CONFIG SET maxmemory-policy noeviction (and in its configuration file)",
        )


def kind_problem(told: Mapping[str, Any], where: str) -> str | None:
    """Why this server cannot be used, by its INFO, or None."""
    mode = str(told.get("redis_mode", "standalone"))
    if mode == "sentinel":
        primaries = [
            f"{value.get('name')} at {value.get('address')}"
            for name, value in told.items()
            if name.startswith("master") and name[6:].isdigit() and isinstance(value, Mapping)
        ]
        seen = f" (it watches {', '.join(primaries)})" if primaries else ""
        return (
            f"redis at {where} is a Sentinel, which keeps no keys{seen}: name a primary, or an address that"
            " follows it (HAProxy, a Kubernetes service, the provider's endpoint), with --redis or"
            " CROSSCHECK_REDIS"
        )
    if mode == "cluster" or str(told.get("cluster_enabled", 0)) == "1":
        return (
            f"redis at {where} is a node of a Redis Cluster, and Crosscheck keeps all keys in one server:"
            " name one with cluster-enabled no (at a provider: cluster mode disabled); give each line its own"
            " where one is not enough"
        )
    return None


def eviction(told: Mapping[str, Any]) -> tuple[str, int] | None:
    """Policy and limit in bytes of a server that drops keys when its memory is full, or None."""
    policy, limit = str(told.get("maxmemory_policy", "noeviction")), int(told.get("maxmemory", 0) or 0)
    return (policy, limit) if limit > 0 and policy != "noeviction" else None
