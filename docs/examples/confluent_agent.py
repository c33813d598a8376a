"""An agent without any of our code: confluent-kafka, msgpack, crc32c, and docs/asyncapi.yaml.

python confluent_agent.py BROKER TOPIC STATIONS.json STATION PRODUCT COUNT [DEADLINE_S]
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import confluent_kafka
import crc32c
import msgpack

WIDTH, HEIGHT = 64, 48


def image(encoding: str, data: bytes) -> dict[str, Any]:
    return {
        "encoding": encoding,
        "height": HEIGHT,
        "width": WIDTH,
        "digest": crc32c.crc32c(data),
        "data": data,
    }


def colour(trigger: int) -> bytes:
    """Your camera: red, green, blue of each pixel, row by row."""
    return bytes((at * 7 + trigger) % 256 for at in range(WIDTH * HEIGHT * 3))


def depth(trigger: int) -> bytes:
    """Your depth sensor: counts as 16-bit little-endian, 0 where there is no reading."""
    counts = (1000 + at % WIDTH + trigger % 50 for at in range(WIDTH * HEIGHT))
    return b"".join(each.to_bytes(2, "little") for each in counts)


def main(
    broker: str, topic: str, stations: str, station: str, product: str, count: str, deadline_s: str = "2"
) -> None:
    partition = json.loads(Path(stations).read_text())["stations"][station]
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": broker, "enable.idempotence": True, "message.max.bytes": 16_842_752}
    )
    failed: list[str] = []

    def delivered(error: Any, record: Any) -> None:
        if error:
            failed.append(f"{record.key()}: {error}")

    run = time.time_ns()
    for trigger in range(int(count)):
        captured = time.time_ns()
        frame = {
            "v": 1,
            "kind": "frame",
            "part": [station, run, trigger],
            "product": product,
            "captured_at": captured,
            "deadline": captured + round(float(deadline_s) * 1e9),
            "rgb": image("raw", colour(trigger)),
            "depth": image("raw16", depth(trigger)),
        }
        key = f"{station}/{run}/{trigger}"
        producer.produce(
            topic,
            msgpack.packb(frame),
            key=key,
            partition=partition,
            on_delivery=delivered,
        )
        print(key, flush=True)
    if producer.flush(30) or failed:
        sys.exit(f"not delivered: {failed or 'no answer'}")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) in (7, 8) else sys.exit(__doc__)
