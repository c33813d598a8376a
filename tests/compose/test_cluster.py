"""Three real brokers: what was acknowledged outlives the loss of the one that led."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compose.cluster import Cluster
from compose.process import LocalServicesError
from tests.e2e.processes import wait_until
from workers.bus._client import KafkaAdminClient, KafkaConsumer, KafkaProducer, KafkaTopicPartition


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        running.up()
        yield running
    finally:
        running.down(delete=True)


@pytest.mark.services
def test_acknowledged_records_outlive_the_leader_and_its_return(cluster: Cluster) -> None:
    servers = cluster.bootstrap.split(",")
    assert len(servers) == 3
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics({"parts": {"num_partitions": 1, "replication_factor": 3}})
    admin.wait_for_topics(["parts"])
    partitions: list[dict[str, Any]] = []

    def described() -> bool:
        # Any of the three may be asked, and one of them may not have heard of the topic yet.
        partitions[:] = admin.describe_topics(["parts"])[0]["partitions"]
        return bool(partitions)

    wait_until(described, 30.0, "a broker that knows the topic")
    assert sorted(partitions[0]["replica_nodes"]) == [1, 2, 3]
    admin.close()
    cluster.wait_complete()

    first = cluster.leader("parts", 0)
    producer = KafkaProducer(
        bootstrap_servers=servers, acks="all", enable_idempotence=True, request_timeout_ms=5_000
    )
    for number in range(50):
        producer.send("parts", str(number).encode(), partition=0).get(timeout=30)
    cluster.kill(first)
    assert cluster.pid(first) is None
    assert not cluster.answers(first)
    second = cluster.wait_leader("parts", 0, not_node=first)
    assert second != first
    # Two of three replicas are enough to acknowledge.
    for number in range(50, 100):
        producer.send("parts", str(number).encode(), partition=0).get(timeout=30)
    cluster.start(first)
    assert cluster.answers(first)
    cluster.kill(second)
    third = cluster.wait_leader("parts", 0, not_node=second)
    assert third != second
    producer.close()

    consumer = KafkaConsumer(bootstrap_servers=[f"127.0.0.1:{_port(cluster, third)}"])
    consumer.assign([KafkaTopicPartition("parts", 0)])
    consumer.seek_to_beginning()
    read: list[int] = []
    while len(read) < 100:
        polled = consumer.poll(timeout_ms=20_000)
        assert polled, f"only {len(read)} of 100 records were left"
        read += [int(record.value) for records in polled.values() for record in records]
    consumer.close()
    assert read == list(range(100))
    cluster.start(second)


def _port(cluster: Cluster, node: int) -> str:
    return cluster.bootstrap.split(",")[node - 1].rpartition(":")[2]


@pytest.mark.services
def test_a_second_up_starts_only_what_does_not_run(cluster: Cluster) -> None:
    before = {node: cluster.pid(node) for node in cluster.nodes}
    assert None not in before.values()
    assert Cluster(cluster.folder).up() == cluster.bootstrap
    assert {node: cluster.pid(node) for node in cluster.nodes} == before


@pytest.mark.services
def test_a_topic_that_is_not_there_has_no_leader(cluster: Cluster) -> None:
    with pytest.raises(LocalServicesError, match=r"nowhere\[0\] is not a partition of the cluster at 127"):
        cluster.leader("nowhere", 0, timeout=0.5)


@pytest.mark.services
def test_a_folder_of_three_brokers_is_not_opened_as_one(cluster: Cluster) -> None:
    with pytest.raises(LocalServicesError, match="has 3 brokers, not 1"):
        Cluster(cluster.folder, brokers=1).up()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LocalServicesError, match="ask for 1 or more"):
        Cluster(tmp_path, brokers=0)
    with pytest.raises(LocalServicesError, match=r"has no broker 4: its are \(1, 2, 3\)"):
        Cluster(tmp_path).kill(4)
    with pytest.raises(LocalServicesError, match=r"no cluster was started in .*up\(\) first"):
        _ = Cluster(tmp_path).bootstrap
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(LocalServicesError, match="cannot be read"):
        Cluster(tmp_path).up()
