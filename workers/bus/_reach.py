"""The Kafka client's errors as ours: which broker, and what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from workers.bus._client import kafka_errors
from workers.contact import Contact
from workers.errors import BusError

_REFUSAL = re.compile(r"\w+AuthorizationFailed\w*")


@contextlib.contextmanager
def reachable(bootstrap: str, contact: Contact | None = None) -> Iterator[None]:
    """Turn the client's errors into ours, with the address and what to do.

    Args:
        contact: told how it went, where the call cannot do without the broker.
    """
    try:
        with _ours(bootstrap):
            yield
    except BusError as error:
        if contact is not None:
            contact.failed(str(error))
        raise
    if contact is not None:
        contact.succeeded()


@contextlib.contextmanager
def _ours(bootstrap: str) -> Iterator[None]:
    try:
        yield
    except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError) as error:
        raise BusError(
            f"no answer from Kafka at {bootstrap} ({type(error).__name__}):"
            " is it running? try `crosscheck services up`"
        ) from None
    except kafka_errors.KafkaError as error:
        raise BusError(f"Kafka at {bootstrap}: {said(error)}") from None


def said(error: Exception) -> str:
    """A refusal in words: the client's own, and what to do where it is a matter of rights."""
    # Some are wrapped: "Unexpected error in InitProducerIdResponse: [Error 31] ClusterAuthorization...".
    refusal = _REFUSAL.search(f"{type(error).__name__} {error}")
    if refusal:
        return (
            f"this user may not do that ({refusal.group()}): give it the rights that `crosscheck rights`"
            " prints for its process"
        )
    if isinstance(error, kafka_errors.InconsistentGroupProtocolError):
        return (
            "a consumer that is no worker is in the group already, and shares its partitions out in another"
            " way: stop it, or give it a group of its own; `kafka-consumer-groups --describe --members` names"
            " it"
        )
    return str(error)
