"""What is used of kafka-python, imported without the deprecation warning of its schema loader.

It reads its schemas by `importlib.resources.read_text` while it is imported; where warnings are errors, as in
the tests, that would stop every process that uses Kafka.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="(read|open)_text is deprecated", category=DeprecationWarning)
    from kafka import (
        KafkaAdminClient,
        KafkaConsumer,
        KafkaProducer,
    )
    from kafka import errors as kafka_errors
    from kafka.admin import ConfigResource, ConfigResourceType
    from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
    from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
    from kafka.future import Future
    from kafka.record import util as record_util
    from kafka.structs import OffsetAndMetadata
    from kafka.structs import TopicPartition as KafkaTopicPartition

__all__ = [
    "AsyncConsumerRebalanceListener",
    "ConfigResource",
    "ConfigResourceType",
    "CooperativeStickyAssignor",
    "Future",
    "KafkaAdminClient",
    "KafkaConsumer",
    "KafkaProducer",
    "KafkaTopicPartition",
    "OffsetAndMetadata",
    "kafka_errors",
    "record_util",
]
