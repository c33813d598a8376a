"""What is used of kafka-python, imported without the deprecation warning of its schema loader.

It reads its schemas by `importlib.resources.read_text` while it is imported; where warnings are errors, as in
the tests, that would stop every process that uses Kafka.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="(read|open)_text is deprecated", category=DeprecationWarning)
    from kafka import (
        KafkaAdminClient,
        KafkaConsumer,
        KafkaProducer,
        codec,
    )
    from kafka import errors as kafka_errors
    from kafka.admin import ConfigResource, ConfigResourceType
    from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    from kafka.coordinator.base import MemberState
    from kafka.future import Future
    from kafka.net.compat import KafkaNetClient
    from kafka.net.inet import KafkaNetSocket
    from kafka.net.sasl import get_sasl_mechanism
    from kafka.net.sasl.oauth import AbstractTokenProvider
    from kafka.producer.transaction_manager import TransactionState
    from kafka.protocol.sasl import SaslAuthenticateRequest, SaslBytesRequest
    from kafka.record import util as record_util
    from kafka.record.default_records import DefaultRecordBatch
    from kafka.record.legacy_records import LegacyRecordBatch
    from kafka.record.util import decode_varint
    from kafka.structs import OffsetAndMetadata
    from kafka.structs import TopicPartition as KafkaTopicPartition

__all__ = [
    "AbstractTokenProvider",
    "AsyncConsumerRebalanceListener",
    "ConfigResource",
    "ConfigResourceType",
    "CooperativeStickyAssignor",
    "DefaultRecordBatch",
    "Future",
    "KafkaAdminClient",
    "KafkaConsumer",
    "KafkaProducer",
    "KafkaTopicPartition",
    "LegacyRecordBatch",
    "MemberState",
    "OffsetAndMetadata",
    "TransactionState",
    "codec",
    "decode_varint",
    "get_sasl_mechanism",
    "kafka_errors",
    "opened",
    "record_util",
]


def opened(kind: type[Any], **settings: Any) -> Any:
    """A client of kafka-python. One that finds no broker while it is made lets go of its thread and sockets.

    Args:
        kind: KafkaProducer, KafkaConsumer or KafkaAdminClient, each of which makes its client of the network
            first and asks the brokers afterwards.
    """
    made: list[Any] = []

    def network(**configs: Any) -> Any:
        made.append(KafkaNetClient(**configs))
        return made[-1]

    try:
        return kind(**settings, kafka_client=network)
    except BaseException:
        for one in made:
            one.close()
        raise


_connect = KafkaNetSocket.sock_connect


async def _connect_or_close(*arguments: Any, **named: Any) -> Any:
    """Close the socket of a refused connection: kafka-python leaves that to the garbage collector, and while
    a broker is away the descriptors would pile up."""
    try:
        return await _connect(*arguments, **named)
    except BaseException:
        # Of (self, net, sock, address).
        arguments[2].close()
        raise


KafkaNetSocket.sock_connect = _connect_or_close


def _hidden(request: Any) -> str:
    """Of a login: kafka-python logs every request at DEBUG, with a token or a password of PLAIN in it."""
    return f"{type(request).__name__}(***)"


def _no_bytes(record: logging.LogRecord) -> bool:
    """Of the lines in which every request and answer is written as it goes over the wire."""
    return "Send: %r" not in record.msg and "Recv: %r" not in record.msg


logging.getLogger("kafka.protocol.parser").addFilter(_no_bytes)
for _request in (SaslAuthenticateRequest, SaslBytesRequest):
    _request.__repr__ = _request.__str__ = _hidden
