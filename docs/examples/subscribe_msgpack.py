"""The same without any of our code: a verdict is one msgpack map. docs/asyncapi.yaml has every field."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import msgpack


def first_of_each_part(values: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Verdicts as maps; of several of one part (station, run, trigger) the first one counts."""
    seen: set[tuple[Any, ...]] = set()
    for value in values:
        verdict = msgpack.unpackb(value)
        if verdict["v"] != 1 or verdict["kind"] != "verdict":
            raise ValueError(f"version {verdict['v']}, kind {verdict['kind']}: this reader is too old")
        part = tuple(verdict["part"])
        if part not in seen:
            seen.add(part)  # grows by one a part: forget old ones in a program that runs for weeks
            yield verdict


if __name__ == "__main__":
    from kafka import KafkaConsumer

    broker, topic = (*sys.argv[1:], "inspection.verdicts")[:2] if sys.argv[1:] else sys.exit(__doc__)
    consumer = KafkaConsumer(topic, bootstrap_servers=broker, group_id=None, auto_offset_reset="latest")
    for verdict in first_of_each_part(record.value for record in consumer):
        print(*verdict["part"], verdict["product"], verdict["decision"], verdict["score"], flush=True)
