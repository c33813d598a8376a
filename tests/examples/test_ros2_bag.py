"""A real ROS 2 bag, written and read by rosbags, becomes parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from docs.examples.ros2_bag import COLOUR, DEPTH, pairs, run
from schemas.images import decode_colour, decode_depth
from schemas.notice import Notice
from tests.examples.published import Published

START = 1_700_000_000_000_000_000
MS = 10**6
STORE = get_typestore(Stores.ROS2_HUMBLE)
RNG = np.random.default_rng(3)
RGB = [RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8) for _ in range(3)]
COUNTS = [RNG.integers(0, 60_000, (6, 8), dtype=np.uint16) for _ in range(3)]


def image(pixels: NDArray[np.uint8] | NDArray[np.uint16], stamp: int, encoding: str) -> bytes:
    types = STORE.types
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    raw = np.frombuffer(pixels.tobytes(), np.uint8)
    message = types["sensor_msgs/msg/Image"](
        header=types["std_msgs/msg/Header"](stamp=time, frame_id="camera"),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=len(raw) // pixels.shape[0],
        data=raw,
    )
    return bytes(STORE.serialize_cdr(message, "sensor_msgs/msg/Image"))


def write(bag: Path, records: Sequence[tuple[str, int, bytes]], storage: StoragePlugin) -> Path:
    with Writer(bag, version=9, storage_plugin=storage) as writer:
        topics = {
            topic: writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=STORE)
            for topic in (COLOUR, DEPTH)
        }
        for topic, stamp, raw in records:
            writer.write(topics[topic], stamp, raw)
    return bag


@pytest.mark.parametrize("storage", list(StoragePlugin))
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_each_pair_of_a_bag_is_one_part_with_its_own_pixels(
    tmp_path: Path, storage: StoragePlugin, encoding: str
) -> None:
    records = []
    for n in range(3):
        stamp = START + n * 100 * MS
        colour = RGB[n] if encoding == "rgb8" else np.ascontiguousarray(RGB[n][:, :, ::-1])
        records.append((COLOUR, stamp, image(colour, stamp, encoding)))
        records.append((DEPTH, stamp + 3 * MS, image(COUNTS[n], stamp + 3 * MS, "16UC1")))
    bag = write(tmp_path / "bag", records, storage)
    published = Published(tmp_path)
    paces: list[float] = []
    assert run(published.publisher, pairs(bag), paces.append) == 3
    frames = published.frames()
    assert [frame.part.trigger for frame in frames] == [0, 1, 2]
    assert paces == [0.1, 0.1]
    for n, frame in enumerate(frames):
        assert frame.rgb is not None
        assert frame.depth is not None
        np.testing.assert_array_equal(decode_colour(frame.rgb), RGB[n])
        np.testing.assert_array_equal(decode_depth(frame.depth), COUNTS[n])


def test_a_sensor_that_is_missing_for_a_moment_is_none_and_takes_no_other_parts_image(tmp_path: Path) -> None:
    stamps = [START, START + 100 * MS, START + 200 * MS]
    records = [
        (COLOUR, stamps[0], image(RGB[0], stamps[0], "rgb8")),
        (DEPTH, stamps[1], image(COUNTS[1], stamps[1], "16UC1")),
        (DEPTH, stamps[2], image(COUNTS[2], stamps[2], "16UC1")),
        (COLOUR, stamps[2] + MS, image(RGB[2], stamps[2] + MS, "rgb8")),
    ]
    found = list(pairs(write(tmp_path / "bag", records, StoragePlugin.SQLITE3)))
    assert [(pair.colour is not None, pair.depth is not None) for pair in found] == [
        (True, False),
        (False, True),
        (True, True),
    ]
    published = Published(tmp_path)
    run(published.publisher, iter(found), lambda _: None)
    assert not any(isinstance(message, Notice) for message in published.messages())


def test_a_topic_that_is_not_in_the_bag_is_named_with_those_that_are(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", [(COLOUR, START, image(RGB[0], START, "rgb8"))], StoragePlugin.SQLITE3)
    with pytest.raises(ValueError, match=f"no topic /other; it has {DEPTH}, {COLOUR}"):
        list(pairs(bag, depth="/other"))


def test_an_encoding_that_is_no_image_of_ours_is_refused(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", [(DEPTH, START, image(COUNTS[0], START, "32FC1"))], StoragePlugin.SQLITE3)
    with pytest.raises(ValueError, match="32FC1"):
        list(pairs(bag))
