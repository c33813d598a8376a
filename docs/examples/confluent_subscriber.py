"""A subscriber without any of our code: confluent-kafka, msgpack, and docs/asyncapi.yaml.

python confluent_subscriber.py BROKER TOPIC GROUP [COUNT]
"""

import sys

import confluent_kafka
import msgpack


def main(broker: str, topic: str, group: str, count: str = "0") -> None:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": broker, "group.id": group, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    seen: set[str] = set()  # grows by one a part: forget old ones in a program that runs for weeks
    while not int(count) or len(seen) < int(count):
        record = consumer.poll(1.0)
        if record is None:
            continue
        if record.error():
            print(record.error(), file=sys.stderr)
            continue
        verdict = msgpack.unpackb(record.value())
        if verdict["v"] != 1 or verdict["kind"] != "verdict":
            sys.exit(f"version {verdict['v']}, kind {verdict['kind']}: this reader is too old")
        part = "/".join(map(str, verdict["part"]))
        if part not in seen:  # the first verdict of a part counts
            seen.add(part)
            print(part, verdict["decision"], verdict["score"], flush=True)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) in (4, 5) else sys.exit(__doc__)
