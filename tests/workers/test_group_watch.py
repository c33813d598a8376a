"""A member of the workers' group that is no worker is noticed and named; workers are not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import uuid4

import confluent_kafka
import pytest
from structlog.testing import capture_logs

from workers.bus.base import TopicPartition, TopicSpec
from workers.bus.kafka import GroupMember, KafkaBus
from workers.errors import BusError
from workers.group_watch import GroupWatch

PLACE = TopicPartition("inspection.frames", 3)
WORKER = GroupMember("w1-crosscheck-host-9-1", "10.0.0.4", frozenset(), ours=True)
STRANGER = GroupMember("report-job", "10.0.0.9", frozenset({PLACE}), ours=False)


class Broker:
    """Says who is in the group."""

    def __init__(self, *members: GroupMember) -> None:
        self.found: Sequence[GroupMember] | BusError = members

    def members(self) -> Sequence[GroupMember]:
        if isinstance(self.found, BusError):
            raise self.found
        return self.found


def test_a_stranger_is_an_alarm_once_with_its_client_id_its_host_and_what_it_reads() -> None:
    broker = Broker(WORKER, STRANGER)
    watch = GroupWatch(broker.members, "crosscheck-workers")
    with capture_logs() as logs:
        watch.look()
        watch.look()
    assert [line["event"] for line in logs] == ["worker.foreign_member"]
    assert (logs[0]["client"], logs[0]["host"]) == ("report-job", "10.0.0.9")
    assert logs[0]["partitions"] == ["inspection.frames[3]"]
    trouble = watch.trouble()
    assert trouble is not None
    assert "group crosscheck-workers has a member that is no worker: report-job at 10.0.0.9" in trouble
    assert [sample.value for family in watch.collect() for sample in family.samples] == [1.0]


def test_it_is_over_when_the_stranger_is_gone() -> None:
    broker = Broker(WORKER, STRANGER)
    watch = GroupWatch(broker.members, "crosscheck-workers")
    watch.look()
    broker.found = [WORKER]
    watch.look()
    assert watch.trouble() is None


def test_a_broker_that_does_not_say_is_told_once_and_takes_nothing_back() -> None:
    broker = Broker(STRANGER)
    watch = GroupWatch(broker.members, "crosscheck-workers")
    watch.look()
    broker.found = BusError("away")
    with capture_logs() as logs:
        watch.look()
        watch.look()
    assert [line["event"] for line in logs] == ["worker.group_unknown"]
    assert watch.trouble() is not None


class Listener:
    """Of a consumer in the group."""

    def on_assigned(self, partitions: set[TopicPartition]) -> None:
        pass

    on_revoked = on_lost = on_assigned


def test_a_foreign_client_in_the_real_group_is_found_beside_a_worker(
    kafka_bootstrap: str, kafka_topic: str
) -> None:
    group = f"group-{uuid4().hex}"
    bus = KafkaBus(kafka_bootstrap)
    bus.ensure_topics({kafka_topic: TopicSpec(partitions=4)})
    worker = bus.consumer(group, name="w1")
    stranger = confluent_kafka.Consumer(
        {
            "bootstrap.servers": kafka_bootstrap,
            "group.id": group,
            "client.id": "report-job",
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    try:
        watch = GroupWatch(lambda: bus.members(group), group)
        worker.subscribe({kafka_topic}, Listener())
        stranger.subscribe([kafka_topic])
        until = time.monotonic() + 60
        while time.monotonic() < until and not (stranger.assignment() and worker.assignment()):
            worker.poll(0.1)
            stranger.poll(0.1)
        watch.look()
        assert [(one.client, one.host) for one in watch.foreign] == [("report-job", "127.0.0.1")]
        assert watch.foreign[0].partitions <= {TopicPartition(kafka_topic, n) for n in range(4)}
        assert sorted(one.ours for one in bus.members(group)) == [False, True]
    finally:
        stranger.close()
        bus.close()


def test_a_stranger_that_keeps_the_workers_out_is_said_in_words(
    kafka_bootstrap: str, kafka_topic: str
) -> None:
    group = f"group-{uuid4().hex}"
    bus = KafkaBus(kafka_bootstrap)
    bus.ensure_topics({kafka_topic: TopicSpec(partitions=2)})
    stranger = confluent_kafka.Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": group})
    worker = bus.consumer(group, name="w1")
    try:
        stranger.subscribe([kafka_topic])
        until = time.monotonic() + 60
        while time.monotonic() < until and not stranger.assignment():
            stranger.poll(0.1)

        def poll_both(until: float) -> None:
            while time.monotonic() < until:
                worker.poll(0.1)
                stranger.poll(0.05)

        worker.subscribe({kafka_topic}, Listener())
        with pytest.raises(BusError, match="a consumer that is no worker is in the group already"):
            poll_both(until)
    finally:
        stranger.close()
        bus.close()
