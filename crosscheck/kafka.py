"""A connection with the settings that the commands use: address, TLS, user."""

from __future__ import annotations

from pathlib import Path

from workers.bus.kafka import KafkaBus
from workers.commands.local import kafka_settings
from workers.settings import load_settings


def open_kafka(config: Path | None = None) -> KafkaBus:
    """The Kafka that ``CROSSCHECK_KAFKA`` and its neighbours name, or a TOML file.

    Give the function itself to a ``Publisher`` or to ``Verdicts``: ``Publisher(open_kafka, ...)``.

    Args:
        config: a TOML file as for ``--config``; ``CROSSCHECK_CONFIG`` and the environment where not given.

    Raises:
        SettingsError: a value that cannot be.
        BusError: no broker answers.
    """
    return KafkaBus(kafka_settings(load_settings(config)))
