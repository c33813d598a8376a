"""Two faults of kafka-python's producer (3.0.12), mended on each client after it is made.

Both show only while a broker is away. They are seen in `kafka/producer/transaction_manager.py` and
`kafka/producer/sender.py`; a release that mends them itself makes this file superfluous, and harmless.
"""

from __future__ import annotations

import time
from typing import Any

from workers.bus._client import TransactionState

LEADERLESS_PAUSE_S = 0.02


def mended(client: Any) -> Any:
    """The same ``KafkaProducer``, mended."""
    _asks_for_a_new_id(client)
    _waits_for_leaders(client)
    return client


def _asks_for_a_new_id(client: Any) -> None:
    """A producer whose record expired after a retry gives up its producer id, and asks for no other.

    ``reset_producer_id`` leaves the state at READY, in which ``init_producer_id`` does nothing: the sender
    waits for an id that nobody has asked for, and no record is sent, acknowledged or failed ever again.
    """
    transactions = client._transaction_manager
    if transactions is None or transactions.is_transactional():
        return
    reset = transactions.reset_producer_id

    def reset_and_begin_anew() -> None:
        reset()
        with transactions._lock:
            if transactions._current_state == TransactionState.READY:
                transactions._current_state = TransactionState.UNINITIALIZED

    transactions.reset_producer_id = reset_and_begin_anew


def _waits_for_leaders(client: Any) -> None:
    """A sender that knows no leader asks for metadata and wakes itself by asking: a core's worth of turns.

    On a small machine that starves the very broker that everybody waits for.
    """
    accumulator = client._accumulator
    ready = accumulator.ready

    def ready_in_peace(*words: Any, **named: Any) -> Any:
        found = ready(*words, **named)
        if found[2]:
            time.sleep(LEADERLESS_PAUSE_S)
        return found

    accumulator.ready = ready_in_peace
