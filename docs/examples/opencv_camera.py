"""A colour camera through OpenCV, depth from a second source, one part for each line that a trigger writes.

    photo-eye-tool | python docs/examples/opencv_camera.py --kafka broker:9092 --stations stations.json \
        --station s1 --product cap --camera 0 --depth-url http://depth-camera/still.png

A camera of this kind has no hardware trigger: a thread reads it all the time, so that what is taken at the
trigger is at most one frame old. Depth must lie on the colour image's pixels ("registered to colour"), in
counts, with 0 where there is no reading: nearly every depth camera does that itself when told to.
"""

from __future__ import annotations

import argparse
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crosscheck import AgentLog, Publisher, StationMap

Colour = NDArray[np.uint8]
Depth = NDArray[np.uint16]


class LatestFrame:
    """The newest colour image of a camera, RGB; each is given once, so that a frozen camera gives nothing."""

    def __init__(self, camera: cv2.VideoCapture) -> None:
        self._camera = camera
        self._fresh = threading.Condition()
        self._frame: Colour | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._ended:
            ok, bgr = self._camera.read()
            with self._fresh:
                self._ended = self._ended or not ok
                # OpenCV's order is BGR; the model was taught on RGB.
                self._frame = np.ascontiguousarray(bgr[:, :, ::-1], np.uint8) if ok else None
                self._fresh.notify_all()

    def take(self, timeout_s: float = 0.2) -> Colour | None:
        """The next image, or None where the camera gives none in time."""
        with self._fresh:
            self._frame = None
            self._fresh.wait_for(lambda: self._frame is not None or self._ended, timeout_s)
            return self._frame

    def close(self) -> None:
        """Stop reading."""
        self._ended = True
        self._thread.join(2.0)
        self._camera.release()


def depth_from_url(url: str, timeout_s: float = 0.2) -> Depth | None:
    """A still of 16 bits a pixel from a network depth camera, or None where it gives none."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            image = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    except OSError:
        return None
    if image is None or image.dtype != np.uint16 or image.ndim != 2:
        return None
    return np.asarray(image, np.uint16)


def run(
    publisher: Publisher,
    triggers: Iterable[object],
    colour: Callable[[], Colour | None],
    depth: Callable[[], Depth | None],
) -> int:
    """Publish one part for each trigger; how many there were."""
    count = 0
    for _ in triggers:
        # Minted once, at the trigger and before anything can fail: the gate waits for this very part.
        part = publisher.next_part()
        # A sensor that gave nothing is None. With neither, the part is told of all the same, as MISSING.
        publisher.publish(part, rgb=colour(), depth=depth())
        count += 1
    return count


def main() -> None:
    """Read the command line, open both cameras, and publish until the triggers end."""
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("--kafka", "--stations", "--station", "--product", "--camera", "--depth-url"):
        options.add_argument(name, required=True)
    given = options.parse_args()
    camera = cv2.VideoCapture(int(given.camera) if given.camera.isdecimal() else given.camera)
    if not camera.isOpened():
        raise SystemExit(f"camera {given.camera}: cannot be opened")
    latest = LatestFrame(camera)
    with Publisher(
        given.kafka,
        station=given.station,
        product=given.product,
        station_map=StationMap.load(Path(given.stations)),
        deadline_s=2.0,
        log=AgentLog(Path("triggers.jsonl")),
        heartbeats="inspection.heartbeats",
    ) as publisher:
        run(publisher, sys.stdin, latest.take, lambda: depth_from_url(given.depth_url))
    latest.close()


if __name__ == "__main__":
    main()
