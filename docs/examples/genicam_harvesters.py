"""A GenICam camera that sends colour and depth as two components of one buffer, by `harvesters`.

    pip install harvesters
    python docs/examples/genicam_harvesters.py --kafka broker:9092 --stations stations.json \
        --station s1 --product cap --cti /opt/vendor/producer.cti

The photo-eye itself triggers the camera (TriggerMode On, TriggerSource Line0): each buffer is one part.
harvesters drops a buffer that arrives incomplete, and so its part is never minted: let the gate compare the
PLC's count of parts with its own (`--actuator 'modbus://...&counter=N'`), which finds and tells it. Switch
the camera's own registration on, so that depth lies on the colour image's pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from crosscheck import AgentLog, Publisher, StationMap

# The GenICam name says which pixel comes first, OpenCV's which comes second: RG is BG there.
BAYER_FORMATS = {
    "BayerRG8": cv2.COLOR_BayerBG2RGB,
    "BayerGB8": cv2.COLOR_BayerGR2RGB,
    "BayerGR8": cv2.COLOR_BayerGB2RGB,
    "BayerBG8": cv2.COLOR_BayerRG2RGB,
}
DEPTH_FORMATS = ("Coord3D_C16", "Mono16")


class Component(Protocol):
    """What is used of harvesters' ``Component2DImage``."""

    data_format: str
    width: int
    height: int
    data: NDArray[Any] | None


class Payload(Protocol):
    """What is used of harvesters' payloads."""

    components: Sequence[Component]


class Buffer(Protocol):
    """What is used of harvesters' ``Buffer``; leaving its context gives the memory back to the camera."""

    payload: Payload


class Acquirer(Protocol):
    """What is used of harvesters' ``ImageAcquirer``."""

    def start(self) -> None:
        """Begin to acquire."""
        ...

    def stop(self) -> None:
        """End it."""
        ...

    def try_fetch(self, *, timeout: float) -> AbstractContextManager[Buffer] | None:
        """The next buffer, or None where none has come within ``timeout`` seconds."""
        ...


def images(components: Sequence[Component]) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint16] | None]:
    """Colour (RGB) and depth of one buffer; None for what is not there, or is shorter than it says."""
    colour: NDArray[np.uint8] | None = None
    depth: NDArray[np.uint16] | None = None
    for each in components:
        plane = (each.height, each.width)
        count = each.height * each.width
        if each.data is None or not count:
            continue
        # Copies all: the buffer's memory is the camera's again once we leave it.
        if each.data_format in DEPTH_FORMATS and each.data.size == count:
            depth = each.data.reshape(plane).astype(np.uint16)
        elif each.data_format in BAYER_FORMATS and each.data.size == count:
            mosaic = each.data.reshape(plane)
            colour = np.asarray(cv2.cvtColor(mosaic, BAYER_FORMATS[each.data_format]), np.uint8)
        elif each.data_format in ("RGB8", "BGR8") and each.data.size == 3 * count:
            image = each.data.reshape(*plane, 3)
            colour = np.array(image if each.data_format == "RGB8" else image[:, :, ::-1], np.uint8)
    return colour, depth


def run(
    publisher: Publisher, acquirer: Acquirer, going_on: Callable[[], bool], timeout_s: float = 1.0
) -> int:
    """Publish one part for each buffer while ``going_on``; how many there were."""
    count = 0
    acquirer.start()
    try:
        while going_on():
            fetched = acquirer.try_fetch(timeout=timeout_s)
            if fetched is None:
                continue  # no trigger within this second
            # Minted once a trigger. The camera's own clock is another one than the gate's: ours counts.
            part = publisher.next_part()
            with fetched as buffer:
                colour, depth = images(buffer.payload.components)
            publisher.publish(part, rgb=colour, depth=depth)
            count += 1
    finally:
        acquirer.stop()
    return count


def main() -> None:
    """Open the first camera of a GenTL producer and publish until Ctrl-C."""
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("--kafka", "--stations", "--station", "--product", "--cti"):
        options.add_argument(name, required=True)
    given = options.parse_args()
    from harvesters.core import Harvester

    with Harvester() as harvester:
        harvester.add_file(given.cti)
        harvester.update()
        with (
            harvester.create(0) as acquirer,
            Publisher(
                given.kafka,
                station=given.station,
                product=given.product,
                station_map=StationMap.load(Path(given.stations)),
                deadline_s=2.0,
                log=AgentLog(Path("triggers.jsonl")),
                heartbeats="inspection.heartbeats",
            ) as publisher,
        ):
            nodes = acquirer.remote_device.node_map
            nodes.TriggerMode.value = "On"
            nodes.TriggerSource.value = "Line0"
            run(publisher, acquirer, lambda: True)


if __name__ == "__main__":
    main()
