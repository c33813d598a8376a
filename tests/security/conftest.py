"""One secure broker and one authority for the whole session of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from compose.process import free_ports
from compose.redis import RedisServer
from tests.security.servers import PASSWORD, Authority, SecureKafka, grant, secure_kafka
from workers.rights import RIGHTS, kafka_rights, redis_rules, user

PREFIX = "inspection"
GROUP = "crosscheck-workers"
# A second line, for the test that runs one from end to end.
LINE_PREFIX = "line"
LINE_GROUP = "line-workers"


@pytest.fixture(scope="session")
def secure_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A broker with a user for each process, and exactly the rights of the table."""
    users = [user(row.process) for row in RIGHTS]
    with secure_kafka(tmp_path_factory.mktemp("secure-kafka"), users) as broker:
        for prefix, group in ((PREFIX, GROUP), (LINE_PREFIX, LINE_GROUP)):
            table = [right for row in RIGHTS for right in kafka_rights(row, prefix=prefix, group=group)]
            grant(broker.inside, table)
        yield broker


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the certificates of a test."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def secure_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis with a user for each process, for station s1, and nobody without a password."""
    (port,) = free_ports(1)
    server = RedisServer(tmp_path_factory.mktemp("redis"), port)
    try:
        server.start()
        with redis.Redis(port=port) as admin:
            for row in RIGHTS:
                if rules := redis_rules(row, ["s1"]):
                    admin.execute_command("ACL", "SETUSER", user(row.process), *rules, f">{PASSWORD}")
            admin.execute_command("ACL", "SETUSER", "crosscheck-admin", "on", f">{PASSWORD}", "~*", "+@all")
            admin.execute_command("ACL", "SETUSER", "default", "off")
        yield port
    finally:
        server.process.kill()
