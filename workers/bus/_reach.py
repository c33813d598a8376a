"""The Kafka client's errors as ours: which broker, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from workers.bus._client import kafka_errors
from workers.errors import BusError


@contextlib.contextmanager
def reachable(bootstrap: str) -> Iterator[None]:
    """Turn the client's errors into ours, with the address and what to do."""
    try:
        yield
    except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError, OSError) as error:
        raise BusError(
            f"no answer from Kafka at {bootstrap} ({type(error).__name__}):"
            " is it running? try `crosscheck services up`"
        ) from None
    except kafka_errors.AuthorizationError as error:
        raise BusError(
            f"Kafka at {bootstrap}: this user may not do that ({type(error).__name__}): give it the rights that"
            " `crosscheck rights` prints for its process"
        ) from None
    except kafka_errors.KafkaError as error:
        raise BusError(f"Kafka at {bootstrap}: {error}") from None
