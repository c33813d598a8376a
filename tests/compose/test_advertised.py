"""A broker behind a TCP proxy: clients are told the proxy's address and no other."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from compose.kafka import KafkaServer
from compose.process import LocalServicesError, free_ports
from compose.services import Services
from workers.bus._client import KafkaAdminClient, KafkaConsumer, KafkaProducer, KafkaTopicPartition
from workers.bus.kafka import KafkaBus
from workers.errors import BusError


class Forwarder:
    """Accepts on ``port`` of 127.0.0.1 and copies bytes to and from ``upstream``; counts connections."""

    def __init__(self, port: int) -> None:
        self.upstream = 0
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.upstream))
                self.accepted += 1
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for each in (self._listener, *self._open):
            each.close()


@pytest.mark.services
def test_clients_come_through_the_advertised_address_and_tests_past_it(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    proxy = Forwarder(port)
    mine = Services(tmp_path / "services", kafka_advertised=f"127.0.0.1:{port}")
    try:
        behind = mine.up().kafka
        proxy.upstream = int(behind.rpartition(":")[2])
        admin = KafkaAdminClient(bootstrap_servers=mine.direct())
        admin.create_topics({"parts": {"num_partitions": 1, "replication_factor": 1}})
        told = {each["port"] for each in admin.describe_cluster()["brokers"]}
        assert told == {int(mine.direct().rpartition(":")[2])}
        admin.close()
        assert proxy.accepted == 0

        producer = KafkaProducer(bootstrap_servers=behind)
        producer.send("parts", b"through the proxy", partition=0).get(timeout=30)
        producer.close()
        assert proxy.accepted > 0

        consumer = KafkaConsumer(bootstrap_servers=mine.direct())
        consumer.assign([KafkaTopicPartition("parts", 0)])
        consumer.seek_to_beginning()
        (records,) = consumer.poll(timeout_ms=20_000).values()
        consumer.close()
        assert [record.value for record in records] == [b"through the proxy"]
        # Who opens the folder later finds the same servers.
        assert Services(tmp_path / "services").up().kafka == behind
    finally:
        mine.down(delete=True)
        proxy.close()


@pytest.mark.services
def test_an_advertised_address_that_nobody_reaches_is_named_with_the_setting_to_change(
    tmp_path: Path,
) -> None:
    port, controller, inside, unreachable = free_ports(4)
    told = f"127.0.0.1:{unreachable}"
    server = KafkaServer(tmp_path, port, controller, advertised=told, internal_port=inside)
    try:
        server.start(lambda _: None)
        with pytest.raises(BusError, match=rf"127.0.0.1:{port} answers.*{told} \(.*advertised.listeners"):
            KafkaBus(f"127.0.0.1:{port}")
        # Past it the same broker is fine.
        KafkaBus(f"127.0.0.1:{inside}").close()
    finally:
        server.process.stop()


def test_a_broker_in_docker_cannot_advertise_another_address(tmp_path: Path) -> None:
    with pytest.raises(LocalServicesError, match="docker=False"):
        Services(tmp_path, kafka_advertised="127.0.0.1:1").up(docker=True)


def test_an_advertised_address_needs_a_listener_past_it(tmp_path: Path) -> None:
    with pytest.raises(LocalServicesError, match="internal port"):
        KafkaServer(tmp_path, 1, 2, advertised="127.0.0.1:3")
