"""The bus on Apache Kafka, by kafka-python. Every setting that matters is stated, none left to its default.

Why not the defaults: auto-commit would answer for parts nobody decided, 1 MiB requests refuse a frame, a 45 s
session alone breaks any recovery goal, and reset `latest` or `earliest` jumps silently over deleted records.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from workers.address import shown
from workers.bus._client import (
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    KafkaProducer,
    KafkaTopicPartition,
    kafka_errors,
    opened,
    record_util,
)
from workers.bus._probe import Refused, probe
from workers.bus._reach import reachable, said
from workers.bus.base import BATCH_OVERHEAD_BYTES, MAX_BATCH_BYTES, TopicPartition, TopicSpec
from workers.bus.kafka_consumer import KafkaBusConsumer
from workers.bus.kafka_producer import KafkaBusProducer
from workers.bus.kafka_transactions import KafkaTransactionalProducer
from workers.bus.security import KafkaSecurity
from workers.contact import Contact
from workers.errors import BusError, SettingsError

_FORMS = (
    "expected HOST:PORT, as 127.0.0.1:9092; user and password go into CROSSCHECK_KAFKA_USER and"
    " CROSSCHECK_KAFKA_PASSWORD"
)
_clients = itertools.count(1)


@dataclass(frozen=True, slots=True)
class GroupMember:
    """One member of a consumer group.

    Attributes:
        client: its client id.
        host: where it runs.
        partitions: what was assigned to it; empty where the broker cannot say.
        ours: whether its client id is one that a bus of this program makes.
    """

    client: str
    host: str
    partitions: frozenset[TopicPartition]
    ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """How to reach the brokers. Times in seconds; ``bootstrap`` is host:port, several with commas."""

    bootstrap: str
    connect_timeout: float = 4.0
    request_timeout: float = 10.0
    replication_factor: int = -1
    client: str = "crosscheck"
    security: KafkaSecurity = KafkaSecurity()  # noqa: RUF009 frozen

    def __post_init__(self) -> None:
        for address in self.brokers():
            host, _, port = address.rpartition(":")
            if "@" in self.bootstrap or "://" in address:
                # A comma in a password would cut it: of such a text nothing can be shown piece by piece.
                raise SettingsError(f"Kafka address {shown(self.bootstrap)!r}: {_FORMS}")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise SettingsError(f"Kafka address {shown(address)!r}: {_FORMS}")

    def brokers(self) -> list[str]:
        """The addresses one by one."""
        return [address.strip() for address in self.bootstrap.split(",")]

    def common(self) -> dict[str, Any]:
        """What producers, consumers and administration have in common, in kafka-python's words."""
        return {
            "bootstrap_servers": self.brokers(),
            "client_id": f"{self.client}-{socket.gethostname()}-{os.getpid()}-{next(_clients)}",
            "bootstrap_timeout_ms": round(self.connect_timeout * 1000),
            "request_timeout_ms": round(self.request_timeout * 1000),
            "reconnect_backoff_ms": 50,
            # A broker that restarts is found again within a second, not after half a minute.
            "reconnect_backoff_max_ms": 1000,
            "retry_backoff_ms": 100,
            "metadata_max_age_ms": 30_000,
            "max_in_flight_requests_per_connection": 5,
            **self.security.common(),
        }


class KafkaBus:
    """Producers and consumers of one Kafka cluster; see `workers.bus.base.Bus`.

    Raises:
        BusError: no broker answered within ``connect_timeout``.
        SettingsError: the C checksum is missing, with which a record of 1 MB costs 0.3 ms instead of 111 ms.
    """

    def __init__(self, settings: KafkaSettings | str) -> None:
        self.settings = KafkaSettings(bootstrap=settings) if isinstance(settings, str) else settings
        require_fast_checksum()
        quiet_kafka_logging()
        self._lock = threading.Lock()
        self._open: list[KafkaBusProducer | KafkaBusConsumer] = []
        self.contact = Contact("kafka")
        """How the last exchange of any producer or consumer from here went."""
        require_listener(self.settings)
        with self._admin():
            pass

    def producer(
        self,
        *,
        max_in_flight_bytes: int = 64 * 2**20,
        max_block: float = 5.0,
        delivery_timeout: float = 10.0,
        linger: float = 0.0,
        transactional_id: str | None = None,
        transaction_timeout: float = 10.0,
    ) -> KafkaBusProducer:
        """A new producer; times in seconds."""
        common = self.settings.common()
        # Kafka wants delivery_timeout >= linger + request_timeout, or it could never try at all.
        request = min(common["request_timeout_ms"], max(1, round((delivery_timeout - linger) * 1000)))
        common |= {
            "request_timeout_ms": request,
            "acks": "all",
            "enable_idempotence": True,
            "retries": float("inf"),
            "delivery_timeout_ms": round(delivery_timeout * 1000),
            "max_block_ms": round(max_block * 1000),
            "max_request_size": MAX_BATCH_BYTES,
            "linger_ms": round(linger * 1000),
            "batch_size": 16384,
            # Frames are compressed images already.
            "compression_type": None,
            "allow_auto_create_topics": False,
        }

        if transactional_id is not None:
            common |= {
                "transactional_id": transactional_id,
                "transaction_timeout_ms": round(transaction_timeout * 1000),
                # A transaction that follows another waits for the end of that one by asking again.
                "retry_backoff_ms": 10,
            }

        def connect() -> Any:
            with reachable(self.settings.bootstrap):
                return opened(KafkaProducer, **common)

        make: Callable[..., KafkaBusProducer] = KafkaBusProducer
        if transactional_id is not None:
            make = partial(KafkaTransactionalProducer, transactional_id=transactional_id)
        producer = make(
            connect,
            self.settings.bootstrap,
            max_in_flight_bytes=max_in_flight_bytes,
            max_block=max_block,
            contact=self.contact,
        )
        with self._lock:
            self._open.append(producer)
        return producer

    def consumer(
        self,
        group: str | None,
        *,
        max_poll_records: int = 64,
        start: str = "earliest",
        session_timeout: float = 6.0,
        max_poll_interval: float = 60.0,
        name: str = "",
        read_committed: bool = False,
        member: str | None = None,
    ) -> KafkaBusConsumer:
        """A new consumer; times in seconds. ``name`` shows up in the broker's lists of members."""
        if start not in ("earliest", "latest"):
            raise ValueError(f"start is 'earliest' or 'latest', not {start!r}")
        common = self.settings.common()
        if name:
            common["client_id"] = f"{name}-{common['client_id']}"
        consumer = KafkaBusConsumer.connect(
            common,
            self.settings.bootstrap,
            group=group,
            start=start,
            max_poll_records=max_poll_records,
            session_timeout=session_timeout,
            max_poll_interval=max_poll_interval,
            fetch_bytes=MAX_BATCH_BYTES,
            contact=self.contact,
            read_committed=read_committed,
            member=member,
        )
        with self._lock:
            self._open.append(consumer)
        return consumer

    def ensure_topics(self, topics: Mapping[str, TopicSpec]) -> None:
        """Create missing topics, widen and set those that exist."""
        with self._admin() as admin, reachable(self.settings.bootstrap):
            present = {topic: self._count(admin, topic) for topic in topics}
            for topic, spec in topics.items():
                count = present[topic]
                if count is not None and spec.partitions < count:
                    raise BusError(
                        f"{topic} has {count} partitions, {spec.partitions} were asked for:"
                        " partitions cannot be taken away; delete the topic or ask for as many"
                    )
            missing = {
                topic: {
                    "num_partitions": spec.partitions,
                    "replication_factor": self.settings.replication_factor,
                    "configs": _topic_configs(spec),
                }
                for topic, spec in topics.items()
                if present[topic] is None
            }
            if missing:
                for answer in admin.create_topics(missing, raise_errors=False)["topics"]:
                    # Someone else may make the same topic at the same moment.
                    if answer["error_code"] not in (0, kafka_errors.TopicAlreadyExistsError.errno):
                        raise self._not_taken(
                            answer["name"],
                            topics[answer["name"]],
                            kafka_errors.for_code(answer["error_code"]),
                            answer["error_message"],
                        )
            for topic in topics.keys() - missing.keys():
                spec = topics[topic]
                if (count := present[topic]) is not None and count < spec.partitions:
                    admin.create_partitions({topic: spec.partitions})
                configs = dict(_topic_configs(spec))
                try:
                    outcome = admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
                except ValueError as error:
                    # The client looks at the settings first, and finds none where we may not see them.
                    refused = kafka_errors.TopicAuthorizationFailedError(str(error))
                    raise BusError(f"{topic} at {self.settings.bootstrap}: {said(refused)}") from None
                result = outcome["topic"][topic]
                if result != "OK":
                    raise self._not_taken(topic, spec, kafka_errors.PolicyViolationError, result)
            admin.wait_for_topics(list(topics))

    def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has, or None."""
        with self._admin() as admin, reachable(self.settings.bootstrap):
            return self._count(admin, topic)

    def largest_record(self, topic: str) -> int | None:
        """The topic's ``max.message.bytes`` less what is around a record, or None."""
        asked = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": None})
        with self._admin() as admin, reachable(self.settings.bootstrap):
            found = admin.describe_configs([asked], config_filter="all")
        entry = found.get("topic", {}).get(topic, {}).get("max.message.bytes")
        return None if entry is None else int(entry["value"]) - BATCH_OVERHEAD_BYTES

    def _not_taken(self, topic: str, spec: TopicSpec, kind: type[Exception], told: str | None) -> BusError:
        """The broker does not make or set a topic as asked."""
        where = f"{topic} at Kafka at {self.settings.bootstrap}"
        if issubclass(kind, kafka_errors.PolicyViolationError | kafka_errors.InvalidConfigurationError):
            return BusError(
                f"{where}: the broker does not take these settings, max.message.bytes="
                f"{spec.max_message_bytes + BATCH_OVERHEAD_BYTES} among them ({told or kind.__name__}): where"
                " it allows less for a record, set CROSSCHECK_MAX_RECORD_BYTES to that (often 8388608 or"
                " 1048588 on managed brokers) for `crosscheck topics`, agents and workers"
            )
        return BusError(f"{where}: {said(kind(told) if told else kind())}")

    def members(self, group: str) -> list[GroupMember]:
        """Who is in a group at this moment, as the broker says; nobody where there is no such group.

        Raises:
            BusError: the broker does not answer, or does not let us ask.
        """
        with self._admin() as admin, reachable(self.settings.bootstrap):
            found = admin.describe_groups([group])[group]
        if found["error"] and found["group_state"] != "Dead":
            raise BusError(f"Kafka at {self.settings.bootstrap}: group {group}: {found['error']}")
        ours = re.compile(rf".*\b{re.escape(self.settings.client)}-.+-\d+-\d+")
        members = []
        for member in found["members"]:
            assigned = (member.get("member_assignment") or {}).get("assigned_partitions") or []
            members.append(
                GroupMember(
                    client=member["client_id"],
                    host=member["client_host"].lstrip("/"),
                    partitions=frozenset(
                        TopicPartition(topic["topic"], number)
                        for topic in assigned
                        for number in topic["partitions"]
                    ),
                    ours=ours.fullmatch(member["client_id"]) is not None,
                )
            )
        return members

    def delete_before(self, partition: TopicPartition, offset: int) -> None:
        """Delete the records before ``offset``."""
        with self._admin() as admin, reachable(self.settings.bootstrap):
            admin.delete_records({KafkaTopicPartition(partition.topic, partition.partition): offset})

    def close(self) -> None:
        """Close every producer and consumer that came from here."""
        with self._lock:
            clients, self._open = self._open, []
        for client in clients:
            client.close()

    @staticmethod
    def _count(admin: Any, topic: str) -> int | None:
        found = admin.describe_topics([topic])
        return len(found[0]["partitions"]) if found and not found[0]["error_code"] else None

    @contextlib.contextmanager
    def _admin(self) -> Iterator[Any]:
        # Opened for each task: administration is rare, and an idle client would keep a thread and a socket.
        with reachable(self.settings.bootstrap):
            admin = opened(KafkaAdminClient, **self.settings.common())
        try:
            yield admin
        finally:
            admin.close()


def _topic_configs(spec: TopicSpec) -> dict[str, str]:
    compacted = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(spec.retention_ms),
        # What lies in the segment that is written to is never compacted.
        "segment.ms": str(spec.retention_ms),
    }
    return {
        **(compacted if spec.compacted else {"cleanup.policy": "delete"}),
        "retention.ms": str(spec.retention_ms),
        "retention.bytes": str(spec.retention_bytes),
        # Frames are compressed already, and a codec that an agent has and a worker lacks would stop the line.
        "compression.type": "uncompressed",
        "max.message.bytes": str(spec.max_message_bytes + BATCH_OVERHEAD_BYTES),
    }


def require_fast_checksum() -> None:
    """Refuse to run on the checksum in pure Python, which moves 9 MB/s.

    Raises:
        SettingsError: the crc32c package is not there.
    """
    if record_util.crc32c_c is None:
        raise SettingsError(
            "kafka-python found no C checksum and moves 9 MB/s without it: pip install 'kafka-python[crc32c]'"
        )


def require_listener(settings: KafkaSettings) -> None:
    """See that a broker listens at one of the addresses and lets us in, before a client is made.

    A client that finds nobody, or is refused, says neither which nor why, and leaves its sockets open.

    Raises:
        BusError: nobody listens, or the broker and the settings do not agree on TLS or on the user.
    """
    worst: BusError | None = None
    for address in settings.brokers():
        host, _, port = address.rpartition(":")
        try:
            probe(host.strip("[]"), int(port), settings.security, settings.connect_timeout)
        except BusError as error:
            # What one broker refuses says more than another that is away.
            worst = error if worst is None or isinstance(error, Refused) else worst
        else:
            return
    assert worst is not None
    raise worst


def quiet_kafka_logging() -> None:
    """Keep the client from logging every failed connection: errors are raised, in our words.

    A level set by the user before stays.
    """
    logger = logging.getLogger("kafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
