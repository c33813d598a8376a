"""A real Kafka and a real Redis, started once for the session when the first test asks for them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
import structlog

from compose.services import Services

_topics = itertools.count()


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A command run in this process sends the logs to a standard error that ends with its test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The services of this session, in a folder of their own; stopped at its end, whatever happened."""
    running = Services(tmp_path_factory.mktemp("services"))
    try:
        running.up()
        yield running
    finally:
        running.down()


@pytest.fixture(scope="session")
def kafka_bootstrap(services: Services) -> str:
    """host:port of the real Kafka."""
    endpoints = services.status().endpoints
    assert endpoints is not None
    return endpoints.kafka


@pytest.fixture(scope="session")
def redis_url(services: Services) -> str:
    """URL of the real Redis."""
    endpoints = services.status().endpoints
    assert endpoints is not None
    return endpoints.redis_url


@pytest.fixture
def kafka_topic() -> str:
    """A topic name that no other test uses; the test makes the topic."""
    return f"test-{time.time_ns()}-{next(_topics)}"
