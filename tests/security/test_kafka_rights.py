"""Each process at a real broker with users, TLS and the rights of the table: its work and no more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.security.conftest import GROUP, PREFIX
from tests.security.servers import PASSWORD, SecureKafka
from workers.bus.base import Bus, Consumer, Record, TopicPartition
from workers.bus.kafka import KafkaBus
from workers.clock import SystemClock
from workers.commands.local import open_bus
from workers.errors import BusError
from workers.rights import RIGHTS, user
from workers.serving import desk
from workers.settings import Settings
from workers.steps.control import ControlReader
from workers.topics import StationMap, TopicPlan

pytestmark = pytest.mark.services

PLAN = TopicPlan(StationMap({"s1": 0, "s2": 1}), prefix=PREFIX)
TOPICS = ("frames", "verdicts", "heatmaps", "deadletter", "control", "heartbeats", "labels")
READS = {(row.process, topic) for row in RIGHTS for topic, may in row.topics.items() if "Read" in may}
WRITES = {(row.process, topic) for row in RIGHTS for topic, may in row.topics.items() if "Write" in may}


class Processes:
    """The bus of each process, opened as its command opens it, once."""

    def __init__(self, broker: SecureKafka) -> None:
        self._broker = broker
        self._open: dict[str, Bus] = {}
        self.stack = ExitStack()

    def settings(self, process: str) -> Settings:
        return Settings(
            kafka=self._broker.sasl_ssl,
            kafka_security="sasl_ssl",
            kafka_user=user(process),
            kafka_password=PASSWORD,
            kafka_ca=self._broker.ca,
            topic_prefix=PREFIX,
            group=GROUP,
        )

    def bus(self, process: str) -> Bus:
        if process not in self._open:
            self._open[process] = open_bus(self.settings(process))
            self.stack.callback(self._open[process].close)
        return self._open[process]


@pytest.fixture(scope="module")
def processes(secure_broker: SecureKafka) -> Iterator[Processes]:
    made = Processes(secure_broker)
    with made.stack:
        PLAN.apply(made.bus("operator"))
        inside = KafkaBus(secure_broker.inside)
        producer = inside.producer()
        for topic in TOPICS:
            producer.send(f"{PREFIX}.{topic}", b"there", key=b"k", partition=0).wait(10)
        inside.close()
        yield made


def send(bus: Bus, topic: str) -> None:
    producer = bus.producer(delivery_timeout=5.0)
    try:
        producer.send(f"{PREFIX}.{topic}", b"new", key=b"k", partition=0).wait(8)
    finally:
        producer.close()


def read(consumer: Consumer, topic: str) -> bytes:
    consumer.assign({TopicPartition(f"{PREFIX}.{topic}", 0)})
    for _ in range(100):
        for record in consumer.poll(0.1):
            return record.value
    raise BusError("nothing came within 10 s")


@pytest.mark.parametrize("process", [row.process for row in RIGHTS if row.topics])
def test_a_process_writes_to_the_topics_of_the_table_and_to_no_other(
    processes: Processes, process: str
) -> None:
    bus = processes.bus(process)
    for topic in TOPICS:
        if (process, topic) in WRITES:
            send(bus, topic)
        else:
            with pytest.raises(BusError, match="crosscheck rights"):
                send(bus, topic)


@pytest.mark.parametrize("process", [row.process for row in RIGHTS if row.topics])
def test_a_process_reads_the_topics_of_the_table_and_no_other(processes: Processes, process: str) -> None:
    consumer = processes.bus(process).consumer(None)
    try:
        for topic in TOPICS:
            if (process, topic) in READS:
                assert read(consumer, topic) == b"there", topic
            else:
                with pytest.raises(BusError, match="crosscheck rights"):
                    read(consumer, topic)
    finally:
        consumer.close()


def test_a_worker_turns_its_loop_plainly_and_in_transactions(processes: Processes) -> None:
    bus = processes.bus("worker")
    send(processes.bus("agent"), "frames")
    consumer = bus.consumer(GROUP)
    plain = bus.producer()
    transactional = bus.producer(transactional_id=f"{GROUP}.w1")
    try:
        consumer.subscribe({f"{PREFIX}.frames"})
        records: list[Record] = []
        for _ in range(150):
            records += consumer.poll(0.1)
            if records:
                break
        place = TopicPartition(f"{PREFIX}.frames", 0)
        assert records
        assert records[0].source == place
        for topic in ("verdicts", "heatmaps", "deadletter"):
            plain.send(f"{PREFIX}.{topic}", b"new", partition=0).wait(10)
        consumer.commit({place: records[0].offset + 1})
        transactional.begin()
        transactional.send(f"{PREFIX}.verdicts", b"new", partition=0)
        transactional.send_offsets({place: records[0].offset + 2}, consumer)
        transactional.commit_transaction(10.0)
        # The broker shows them once the transaction's markers are written, a moment after it has answered.
        deadline = time.monotonic() + 10
        while consumer.committed(place) != records[0].offset + 2:
            assert time.monotonic() < deadline
    finally:
        transactional.close()
        plain.close()
        consumer.close()


def poll_for_ever(consumer: Consumer) -> None:
    for _ in range(100):
        consumer.poll(0.1)


def test_a_group_or_transactional_id_of_others_is_refused(processes: Processes) -> None:
    for process, group in (("worker", f"{PREFIX}-archive"), ("archive", GROUP), ("board", GROUP)):
        consumer = processes.bus(process).consumer(group)
        try:
            consumer.subscribe({f"{PREFIX}.{'frames' if process == 'worker' else 'verdicts'}"})
            with pytest.raises(BusError, match=r"GroupAuthorizationFailed.*crosscheck rights"):
                poll_for_ever(consumer)
        finally:
            consumer.close()
    worker = processes.bus("worker")
    with pytest.raises(BusError, match=r"Authorization.*crosscheck rights"):
        worker.producer(transactional_id="another-line.w1")


def test_only_the_operator_makes_topics(processes: Processes) -> None:
    more = TopicPlan(StationMap({"s1": 0, "s2": 1, "s3": 2}), prefix=PREFIX)
    for process in ("agent", "worker", "archive", "board"):
        with pytest.raises(BusError, match="crosscheck rights"):
            more.apply(processes.bus(process))
    assert processes.bus("worker").partitions(f"{PREFIX}.frames") == 2
    more.apply(processes.bus("operator"))
    assert processes.bus("worker").partitions(f"{PREFIX}.frames") == 3
    with pytest.raises(BusError, match="crosscheck rights"):
        TopicPlan(StationMap({"s1": 0}), prefix="another").apply(processes.bus("operator"))


def test_an_operator_activates_and_a_worker_hears_it_by_its_own_rights(processes: Processes) -> None:
    topic = f"{PREFIX}.control"
    reader = ControlReader(processes.bus("worker"), topic, SystemClock())
    try:
        before = len(reader.read_all(10))
        command = desk.activation("cap", "2", None, None, "1")
        desk.send(processes.bus("operator"), topic, command)
        heard = [one.command for one in reader.read_all(10)]
        assert (before, heard) == (0, [command])
    finally:
        reader.close()
    assert desk.in_service(processes.bus("operator"), topic).activated == {"cap": command}
