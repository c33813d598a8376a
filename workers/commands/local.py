"""Where Kafka and Redis are, when nobody said: the ones that ``crosscheck services up`` started from here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import structlog

from compose.services import Services
from workers.bus.kafka import KafkaBus, KafkaSettings
from workers.bus.oauth import COMMAND, EXTENSIONS, FILE, OAuthToken
from workers.bus.security import KafkaSecurity
from workers.errors import BusError, SettingsError
from workers.settings import PREFIX, Settings, load_settings
from workers.store.connection import RedisSecurity, connect
from workers.store.settings import StoreSettings
from workers.store.verdicts import VerdictStore

SERVICES = Path(".crosscheck") / "services"

log = structlog.get_logger(__name__)


def settings_here(file: Path | None = None, **flags: Any) -> Settings:
    """Settings, with the local services of this folder where neither environment, file nor flag names others.

    Raises:
        SettingsError: an impossible value.
    """
    settings = load_settings(file, **flags)
    unset = {
        name
        for name in ("kafka", "redis")
        if name not in settings.model_fields_set and f"{PREFIX}{name.upper()}" not in os.environ
    }
    if not unset:
        return settings
    endpoints = Services(SERVICES).status().endpoints
    if endpoints is None:
        return settings
    local = {"kafka": endpoints.kafka, "redis": endpoints.redis_url}
    return load_settings(file, **(flags | {name: local[name] for name in unset}))


def open_bus(settings: Settings, *topics: str) -> KafkaBus:
    """The Kafka of the settings, with these topics in it (``frames``, ``verdicts``, ...).

    Raises:
        BusError: no answer, or a topic is missing: without this look an agent would send into nothing, and
            a worker would wait for ever.
    """
    bus = KafkaBus(kafka_settings(settings))
    for name in topics:
        if bus.partitions(settings.topic(name)) is None:
            bus.close()
            hidden = f", or user {settings.kafka_user!r} may not see it" if settings.kafka_user else ""
            raise BusError(
                f"topic {settings.topic(name)} does not exist in Kafka at {settings.kafka}{hidden}: make the"
                " topics with `crosscheck topics`, or name theirs with CROSSCHECK_TOPIC_PREFIX"
            )
    return bus


def open_store(settings: Settings) -> VerdictStore:
    """The Redis of the settings. Raises StoreError."""
    return VerdictStore(
        connect(settings.redis, security=redis_security(settings)),
        StoreSettings(
            verdict_ttl_s=settings.verdict_ttl_s,
            clock_bound_ms=max(1, round(settings.max_clock_offset_ms)),
        ),
    )


def kafka_settings(settings: Settings) -> KafkaSettings:
    """How the Kafka of the settings is reached.

    Raises:
        SettingsError: encryption and user do not go together, or a file cannot be read.
    """
    password = settings.kafka_password
    security = KafkaSecurity(
        protocol=settings.kafka_security,
        mechanism=settings.kafka_sasl,
        user=settings.kafka_user,
        password=None if password is None else password.get_secret_value(),
        ca=settings.kafka_ca,
        cert=settings.kafka_cert,
        key=settings.kafka_key,
        oauth=_oauth(settings),
    )
    return KafkaSettings(bootstrap=settings.kafka, security=security)


def _oauth(settings: Settings) -> OAuthToken | None:
    command = settings.kafka_oauth_command
    if settings.kafka_oauth_file is None and command is None:
        if settings.kafka_oauth_extensions:
            raise SettingsError(f"{EXTENSIONS} is sent with a token: set {FILE} or {COMMAND}")
        return None
    return OAuthToken(
        file=settings.kafka_oauth_file,
        command=None if command is None else command.get_secret_value(),
        extensions=settings.kafka_oauth_extensions,
    )


def redis_security(settings: Settings) -> RedisSecurity:
    """How the Redis of the settings is spoken to."""
    password = settings.redis_password
    return RedisSecurity(
        user=settings.redis_user,
        password=None if password is None else password.get_secret_value(),
        ca=settings.redis_ca,
        cert=settings.redis_cert,
        key=settings.redis_key,
    )
