"""One secure broker and one authority for the whole session of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.servers import Authority, SecureKafka, grant, secure_kafka
from workers.rights import RIGHTS, kafka_rights, user

PREFIX = "inspection"
GROUP = "crosscheck-workers"


@pytest.fixture(scope="session")
def secure_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A broker with a user for each process, and exactly the rights of the table."""
    users = [user(row.process) for row in RIGHTS]
    with secure_kafka(tmp_path_factory.mktemp("secure-kafka"), users) as broker:
        table = [right for row in RIGHTS for right in kafka_rights(row, prefix=PREFIX, group=GROUP)]
        grant(broker.inside, table)
        yield broker


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the certificates of a test."""
    return Authority(tmp_path_factory.mktemp("authority"))
