"""Clients that find no broker while they are made: the folder's check names what they would leave behind."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from workers.bus._client import KafkaAdminClient, KafkaConsumer, KafkaProducer, kafka_errors, opened


@pytest.mark.parametrize("kind", [KafkaAdminClient, KafkaConsumer, KafkaProducer])
def test_a_client_that_finds_no_broker_leaves_no_thread_and_no_socket(kind: type[Any]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(kafka_errors.KafkaError):
            opened(kind, bootstrap_servers=[address], bootstrap_timeout_ms=300)
