"""Verdicts as they are decided: `python docs/examples/subscribe_verdicts.py broker:9092`."""

import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from schemas.part import PartKey
from schemas.verdict import Verdict
from schemas.wire import decode_verdict


def first_of_each_part(values: Iterable[bytes], remember: int = 100_000) -> Iterator[Verdict]:
    """The topic is at-least-once: a worker that died may have told a verdict twice. The first one counts."""
    seen: OrderedDict[PartKey, None] = OrderedDict()
    for value in values:
        verdict = decode_verdict(value)
        if verdict.part not in seen:
            seen[verdict.part] = None
            if len(seen) > remember:
                seen.popitem(last=False)
            yield verdict


if __name__ == "__main__":
    from kafka import KafkaConsumer

    broker, topic = (*sys.argv[1:], "inspection.verdicts")[:2] if sys.argv[1:] else sys.exit(__doc__)
    consumer = KafkaConsumer(topic, bootstrap_servers=broker, group_id=None, auto_offset_reset="latest")
    for verdict in first_of_each_part(record.value for record in consumer):
        print(verdict.part, verdict.product, verdict.decision, verdict.score, verdict.reason, flush=True)
