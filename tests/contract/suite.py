"""What every bus backend must do. Inherited by the in-memory and the Kafka tests."""

from __future__ import annotations

import pytest

from tests.contract.suite_groups import GroupContract
from tests.contract.suite_membership import MembershipContract
from tests.contract.suite_producing import ProducingContract
from tests.contract.suite_transactions import TransactionContract
from tests.contract.suite_undecodable import UndecodableContract
from workers.bus.base import Bus, TopicSpec
from workers.errors import BusError


class BusContract(
    ProducingContract, GroupContract, MembershipContract, TransactionContract, UndecodableContract
):
    """One suite, any backend."""

    def test_topics_are_made_widened_and_never_narrowed(self, bus: Bus, topic: str) -> None:
        assert bus.partitions(topic) == 4
        assert bus.partitions(topic + "-none") is None
        bus.ensure_topics({topic: TopicSpec(partitions=6), topic + "-b": TopicSpec(partitions=1)})
        assert (bus.partitions(topic), bus.partitions(topic + "-b")) == (6, 1)
        with pytest.raises(BusError, match="6 partitions"):
            bus.ensure_topics({topic: TopicSpec(partitions=2)})

    def test_closing_twice_is_allowed_and_a_closed_client_says_so(
        self, bus: Bus, topic: str, group: str
    ) -> None:
        producer, consumer = bus.producer(), bus.consumer(group)
        consumer.subscribe({topic})
        for client in (producer, producer, consumer, consumer):
            client.close()
        with pytest.raises(BusError, match="closed"):
            producer.send(topic, b"x", partition=0)
        with pytest.raises(BusError, match="closed"):
            consumer.poll(0)
