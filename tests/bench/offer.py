"""The capture process of the benchmark: frames of a pool, on a schedule that waits for nobody.

A frame's ``captured_at`` is the moment its schedule names, not the moment this process got round to it: what
a slow sender loses counts as latency, as it would on a line.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from schemas.part import PartKey
from schemas.wire import encode
from tests.bench.pool import read_pool
from workers.bus.kafka import KafkaBus

LEAD_S = 0.5


def main() -> None:
    """Send ``--count`` frames at ``--rate`` and print what was done as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--station", required=True)
    parser.add_argument("--run", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--deadline", type=float, required=True)
    args = parser.parse_args()

    pool = list(read_pool(args.pool))
    bus = KafkaBus(args.kafka)
    producer = bus.producer(max_in_flight_bytes=256 * 2**20, max_block=120.0, delivery_timeout=120.0)
    producer.flush(10.0)
    period = 1e9 / args.rate
    start = time.time_ns() + round(LEAD_S * 1e9)
    worst = 0
    for index in range(args.count):
        due = start + round(index * period)
        while (wait := due - time.time_ns()) > 0:
            time.sleep(wait / 1e9)
        worst = max(worst, -wait)
        frame = replace(
            pool[index % len(pool)],
            part=PartKey(args.station, args.run, index),
            captured_at=due,
            deadline=due + round(args.deadline * 1e9),
        )
        producer.send(args.topic, encode(frame), key=str(frame.part).encode(), partition=0)
    producer.flush(120.0)
    bus.close()
    print(json.dumps({"start": start, "period": period, "count": args.count, "worst_late_ms": worst / 1e6}))


if __name__ == "__main__":
    main()
