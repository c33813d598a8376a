"""Parts from a ROS 2 bag: colour and depth topics that a depth camera's driver has recorded.

    pip install rosbags
    python docs/examples/ros2_bag.py recording/ --kafka broker:9092 --stations stations.json \
        --station s1 --product cap

Take the driver's depth that is aligned to colour (realsense-ros: /camera/camera/aligned_depth_to_color/
image_raw): depth must lie on the colour image's pixels. Pairs are made by the stamps in the messages'
headers. Parts are published at the recorded pace, as of now: deadlines of a recording are long over.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from crosscheck import AgentLog, Publisher, StationMap

COLOUR = "/camera/camera/color/image_raw"
DEPTH = "/camera/camera/aligned_depth_to_color/image_raw"
_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0)}


@dataclass(frozen=True, slots=True)
class Pair:
    """What the sensors saw at one moment; ``stamp`` is nanoseconds since the epoch, by the camera's clock."""

    stamp: int
    colour: NDArray[np.uint8] | None
    depth: NDArray[np.uint16] | None


def pixels(message: Any) -> NDArray[Any]:
    """The pixels of a ``sensor_msgs/msg/Image``: RGB uint8, or uint16 depth in counts.

    Raises:
        ValueError: an encoding that is neither.
    """
    rows = np.asarray(message.data, np.uint8).reshape(message.height, message.step)
    if message.encoding in _CHANNELS:
        channels = 4 if message.encoding.endswith("a8") else 3
        image = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
        return np.ascontiguousarray(image[:, :, list(_CHANNELS[message.encoding])])
    if message.encoding in ("16UC1", "mono16"):
        order = ">u2" if message.is_bigendian else "<u2"
        row = np.ascontiguousarray(rows[:, : message.width * 2])
        return row.view(order).astype(np.uint16)
    raise ValueError(f"encoding {message.encoding!r}: expected rgb8, bgr8, rgba8, bgra8, 16UC1 or mono16")


def pairs(bag: Path, *, colour: str = COLOUR, depth: str = DEPTH, within_ms: float = 20.0) -> Iterator[Pair]:
    """Colour and depth of each moment, by their stamps; a partner that is missing is None.

    Raises:
        ValueError: a topic is not in the bag.
    """
    waiting: Pair | None = None
    store = get_typestore(Stores.ROS2_HUMBLE)
    with AnyReader([bag], default_typestore=store) as reader:
        for topic in (colour, depth):
            if topic not in reader.topics:
                raise ValueError(f"{bag}: no topic {topic}; it has {', '.join(sorted(reader.topics))}")
        wanted = [each for each in reader.connections if each.topic in (colour, depth)]
        for connection, _, raw in reader.messages(connections=wanted):
            message: Any = reader.deserialize(raw, connection.msgtype)
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            image = pixels(message)
            seen = Pair(stamp, image, None) if connection.topic == colour else Pair(stamp, None, image)
            if waiting is not None and _fit(waiting, seen, within_ms):
                yield Pair(
                    min(waiting.stamp, stamp),
                    seen.colour if waiting.colour is None else waiting.colour,
                    seen.depth if waiting.depth is None else waiting.depth,
                )
                waiting = None
                continue
            if waiting is not None:
                yield waiting
            waiting = seen
    if waiting is not None:
        yield waiting


def _fit(one: Pair, other: Pair, within_ms: float) -> bool:
    different = (one.colour is None) != (other.colour is None)
    return different and abs(one.stamp - other.stamp) <= within_ms * 1e6


def run(publisher: Publisher, found: Iterator[Pair], sleep: Callable[[float], None] = time.sleep) -> int:
    """Publish each pair as one part, at the pace of the stamps; how many there were."""
    count, before = 0, None
    for pair in found:
        if before is not None:
            sleep(max(0.0, (pair.stamp - before) / 1e9))
        before = pair.stamp
        part = publisher.next_part()
        publisher.publish(part, rgb=pair.colour, depth=pair.depth)
        count += 1
    return count


def main() -> None:
    """Read the command line and publish the bag."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("bag", type=Path)
    for name in ("--kafka", "--stations", "--station", "--product"):
        options.add_argument(name, required=True)
    given = options.parse_args()
    with Publisher(
        given.kafka,
        station=given.station,
        product=given.product,
        station_map=StationMap.load(Path(given.stations)),
        deadline_s=2.0,
        depth_scale=0.001,  # 16UC1 is millimetres by ROS's convention
        log=AgentLog(Path("triggers.jsonl")),
        heartbeats="inspection.heartbeats",
    ) as publisher:
        run(publisher, pairs(given.bag))


if __name__ == "__main__":
    main()
