"""Kafka keeps the bus contract: the same suite on a real broker."""

from __future__ import annotations

import gc
import logging
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.contract import foreign
from tests.contract.suite import BusContract
from workers.bus.base import Bus, Producer
from workers.bus.kafka import KafkaBus, KafkaSettings
from workers.errors import BusError, SettingsError


@pytest.mark.services
class TestKafkaBus(BusContract):
    @pytest.fixture
    def bus(self, kafka_bootstrap: str) -> Iterator[KafkaBus]:
        bus = KafkaBus(kafka_bootstrap)
        yield bus
        bus.close()

    def pass_time(self, seconds: float) -> None:
        # The broker's clock cannot be set: this one test waits for a session to end.
        time.sleep(seconds)

    @contextmanager
    def unacknowledged(self, bus: Bus) -> Iterator[Producer]:
        # Nothing leaves before the linger is over.
        yield bus.producer(max_in_flight_bytes=1000, max_block=0.2, linger=1.5)

    @pytest.fixture(autouse=True)
    def _patching(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def spoil_record(self, bus: Bus, topic: str, key: bytes, value: bytes) -> None:
        assert isinstance(bus, KafkaBus)
        foreign.send(
            bus.settings.bootstrap,
            topic,
            [value],
            keys=[key],
            headers=[[("a", b"1"), (foreign.RawName(), b"2")]],
        )

    def spoil_batch(self, bus: Bus, topic: str, values: list[bytes]) -> None:
        assert isinstance(bus, KafkaBus)
        foreign.keep_codecs(bus.settings.bootstrap, topic)
        foreign.send(bus.settings.bootstrap, topic, [value * 100 for value in values], codec="snappy")
        # As on a machine that lacks it.
        self._patch.setattr("kafka.codec.snappy", None)

    def delete_topic(self, bus: Bus, topic: str) -> None:
        assert isinstance(bus, KafkaBus)
        with bus._admin() as admin:
            admin.delete_topics([topic])
        deadline = time.monotonic() + self.patience
        while bus.partitions(topic) is not None:
            assert time.monotonic() < deadline, f"{topic} is still there"


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_unreachable_broker_is_named_within_seconds_and_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = f"127.0.0.1:{unused_port()}"
    started = time.monotonic()
    with pytest.raises(BusError, match=rf"{address}.*crosscheck services up"):
        KafkaBus(KafkaSettings(bootstrap=address, connect_timeout=1.0))
    assert time.monotonic() - started < 3
    # kafka-python leaves the sockets of its failed attempts to the garbage collector, which warns of each.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", ":9092", "localhost:kafka", "a:1,b"])
def test_a_broker_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="HOST:PORT"):
        KafkaSettings(bootstrap=address)


def test_without_the_c_checksum_the_bus_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.record.util.crc32c_c", None)
    with pytest.raises(SettingsError, match=r"pip install 'kafka-python\[crc32c\]'"):
        KafkaBus("127.0.0.1:9")
