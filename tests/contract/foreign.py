"""Records as other people's producers send them: names that are no text, codecs, several in one batch."""

from __future__ import annotations

from typing import Any

from workers.bus._client import ConfigResource, ConfigResourceType, KafkaAdminClient, KafkaProducer


class RawName(str):
    """A header's name of any bytes: kafka-python asks it to encode itself."""

    def encode(self, *_: Any) -> bytes:
        return b"caf\xe9"


def send(
    bootstrap: str,
    topic: str,
    values: list[bytes],
    *,
    codec: str | None = None,
    keys: list[bytes | None] | None = None,
    headers: list[list[tuple[str, bytes]]] | None = None,
    partition: int = 0,
) -> None:
    """Send all values in one batch."""
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=codec,
        linger_ms=500,
        batch_size=2**24,
        max_request_size=2**24,
    )
    try:
        for at, value in enumerate(values):
            producer.send(
                topic,
                value,
                key=keys[at] if keys else None,
                headers=headers[at] if headers else [],
                partition=partition,
            )
        producer.flush(20)
    finally:
        producer.close()


def keep_codecs(bootstrap: str, topic: str) -> None:
    """Let the topic keep batches as they come, as the topics of other people do."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        configs = {"compression.type": "producer"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
    finally:
        admin.close()
