"""Colour, depth and heatmap of a part, fetched when somebody looks: from the frames topic, and from Redis."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import SchemaError
from schemas.frame import Frame
from schemas.headers import read_jpeg, read_png
from schemas.heatmap import HeatmapEncoding
from schemas.images import decode_colour, decode_depth, decode_map
from schemas.part import PartKey
from schemas.payload import ColourEncoding, ImagePayload
from schemas.verdict import Verdict
from schemas.wire import decode_capture, decode_heatmap
from workers.archive.frames import FrameReader
from workers.board.sinks import Kafka, Redis
from workers.errors import BusError

CACHE_BYTES = 64 * 2**20
FETCH_S = 5.0
"""How long a broker may take to give one record."""
MAX_PIXELS = 24 * 2**20
"""Of an image that is decoded to be shown. A larger one is told to be too large."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Bytes that a browser shows, and their media type."""

    data: bytes
    media: str


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a part as they were sent; None for a sensor that gave nothing, or that is gone.

    Attributes:
        why: why nothing is there, where nothing is.
    """

    rgb: ImagePayload | None = None
    depth: ImagePayload | None = None
    depth_scale: float | None = None
    why: str | None = None

    @property
    def size(self) -> int:
        """Bytes it holds."""
        return sum(len(image.data) for image in (self.rgb, self.depth) if image is not None) + 200


REACH_PARTS = 32
REACH_KINDS = 512


class Cache:
    """The images looked at last, within so many bytes."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._held: OrderedDict[PartKey, Images] = OrderedDict()
        self.size = 0

    def get(self, part: PartKey) -> Images | None:
        """What is held of a part."""
        found = self._held.get(part)
        if found is not None:
            self._held.move_to_end(part)
        return found

    def put(self, part: PartKey, images: Images) -> None:
        """Hold it, and drop what was not looked at for longest."""
        before = self._held.pop(part, None)
        self.size -= 0 if before is None else before.size
        if images.size > self._limit:
            return
        self._held[part] = images
        self.size += images.size
        while self.size > self._limit:
            self.size -= self._held.popitem(last=False)[1].size


class Pictures:
    """Fetches images by the sources that verdicts name. One caller at a time gets to Kafka; others wait.

    What Kafka does not have any more is not remembered as missing: a broker that comes back may have it.
    """

    def __init__(self, kafka: Kafka, redis: Redis, frames: str) -> None:
        self._kafka = kafka
        self._redis = redis
        self._topic = frames
        self._reader: FrameReader | None = None
        self._lock = threading.Lock()
        self._cache = Cache()

    def images(self, verdict: Verdict) -> Images:
        """The images of a verdict's part.

        Raises:
            BusError: the broker does not answer.
        """
        with self._lock:
            found = self._cache.get(verdict.part)
            if found is None:
                found = self._fetch(verdict)
                if found.why is None:
                    self._cache.put(verdict.part, found)
            return found

    def _fetch(self, verdict: Verdict) -> Images:
        if not verdict.sources:
            return Images(why="its verdict names no record: no image of it reached the worker")
        try:
            if self._reader is None:
                self._reader = FrameReader(self._kafka.get(), self._topic, timeout_s=FETCH_S)
            records = list(self._reader.records(verdict))
        except BusError:
            self._let_go()
            raise
        rgb = depth = scale = None
        damaged = False
        for record in records:
            if record is None:
                continue
            try:
                frame = decode_capture(record.value)
            except SchemaError:
                damaged = True
                continue
            if isinstance(frame, Frame) and frame.part == verdict.part:
                rgb, depth = rgb or frame.rgb, depth or frame.depth
                scale = scale or frame.depth_scale
        if rgb is not None or depth is not None:
            return Images(rgb, depth, scale)
        if damaged:
            return Images(why="its record cannot be read: `crosscheck deadletter list` shows it")
        if any(record is not None for record in records):
            return Images(why="its agent sent word that its images were given up")
        return Images(why="Kafka has deleted its frame: the retention of the frames topic is over")

    def heatmap(self, part: PartKey) -> tuple[Picture, dict[str, float | int | str]] | None:
        """The heatmap of a part as an 8-bit grey PNG, and its scale; None where none is kept.

        Raises:
            StoreError: Redis does not answer.
            SchemaError: what Redis holds is no heatmap.
        """
        raw = self._redis.get().get_heatmap(part)
        if raw is None:
            return None
        found = decode_heatmap(raw)
        image = found.image
        facts: dict[str, float | int | str] = {
            "low": found.low,
            "high": found.high,
            "mode": found.mode.value,
            "width": image.width,
            "height": image.height,
        }
        if image.encoding == HeatmapEncoding.PNG8:
            image.verify()
            header, data = read_png(image.data)
            if (header.width, header.height, header.channels) == (image.width, image.height, 1):
                return Picture(data, "image/png"), facts
        return Picture(_png(decode_map(image, max_pixels=MAX_PIXELS)), "image/png"), facts

    def _let_go(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def close(self) -> None:
        """Let go of the broker."""
        with self._lock:
            self._let_go()


def colour_picture(payload: ImagePayload) -> Picture:
    """The colour image as it was sent, once its header agrees with the message; raw ones as a PNG.

    Raises:
        SchemaError: the bytes are not the image that the message describes, or it is too large to show.
    """
    if payload.encoding != ColourEncoding.RAW:
        payload.verify()
        jpeg = payload.encoding == ColourEncoding.JPEG
        header, data = (read_jpeg(payload.data), payload.data) if jpeg else read_png(payload.data)
        small = header.width * header.height <= MAX_PIXELS
        if (header.width, header.height) == (payload.width, payload.height) and small:
            return Picture(data, "image/jpeg" if jpeg else "image/png")
    # Decoding says in its own words what is wrong with it.
    rgb = decode_colour(payload, max_pixels=MAX_PIXELS)
    return Picture(_png(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)), "image/png")


@dataclass(frozen=True, slots=True)
class Reach:
    """From where to where depth is drawn, in counts of the sensor: ``near`` is the lightest."""

    near: int
    far: int

    def to_map(self, scale: float | None) -> dict[str, Any]:
        """As the page has it.

        Args:
            scale: metres a count; None where the agent does not say: counts are shown as such.
        """
        unit, each = ("counts", 1.0) if scale is None else ("mm", 1e3 * scale)
        return {
            "near": self.near,
            "far": self.far,
            "shown": [self.near * each, self.far * each],
            "unit": unit,
        }


class Reaches:
    """The depth that a product's parts lie in at a station: one scale for all of them, so that two parts can
    be compared and a shallow one does not look like a deep one. Safe to share between threads.

    It rests on the parts looked at last. Its ends are round, so that one part more does not move them.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], OrderedDict[PartKey, tuple[float, float]]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, verdict: Verdict, payload: ImagePayload) -> Reach:
        """The scale to draw this part's depth on, this part taken into account.

        Raises:
            SchemaError: the bytes are not the image that the message describes, or it is too large to show.
        """
        key = (verdict.part.station, verdict.product)
        with self._lock:
            known = verdict.part in self._seen.get(key, ())
        ends = None if known else ends_of(decode_depth(payload, max_pixels=MAX_PIXELS))
        with self._lock:
            seen = self._seen.setdefault(key, OrderedDict())
            self._seen.move_to_end(key)
            if ends is not None:
                seen[verdict.part] = ends
            while len(seen) > REACH_PARTS:
                seen.popitem(last=False)
            while len(self._seen) > REACH_KINDS:
                self._seen.popitem(last=False)
            # The middle one: a sensor that read nonsense once must not flatten all others.
            near, far = np.median(list(seen.values()), axis=0) if seen else (0.0, 1.0)
        span = max(float(far - near), 1.0)
        step = 10.0 ** np.floor(np.log10(span / 2))
        low, high = near - span / 10, far + span / 10
        return Reach(max(0, int(np.floor(low / step) * step)), max(1, int(np.ceil(high / step) * step)))


def ends_of(depth: NDArray[np.uint16]) -> tuple[float, float] | None:
    """Between which counts 98 of 100 readings lie; None without a reading."""
    valid = depth[depth > 0]
    if not valid.size:
        return None
    near, far = np.percentile(valid, [1.0, 99.0])
    return float(near), float(far)


def depth_picture(payload: ImagePayload, reach: Reach | None = None) -> Picture:
    """An 8-bit grey view of the depth image: nearer is lighter, black is no reading.

    Args:
        reach: the scale; None: the image's own.

    Raises:
        SchemaError: the bytes are not the image that the message describes, or it is too large to show.
    """
    return Picture(_png(grey(decode_depth(payload, max_pixels=MAX_PIXELS), reach)), "image/png")


def grey(depth: NDArray[np.uint16], reach: Reach | None = None) -> NDArray[np.uint8]:
    """Depth counts as 8 bits on a scale, else over 98 of 100 readings: 1 is far, 255 near, 0 no reading."""
    out = np.zeros(depth.shape, np.uint8)
    ends = ends_of(depth)
    if ends is None:
        return out
    valid = depth > 0
    near, far = ends if reach is None else (float(reach.near), float(reach.far))
    span = max(far - near, 1.0)
    light = 1.0 - (depth[valid].astype(np.float32) - np.float32(near)) / np.float32(span)
    out[valid] = np.rint(1 + 254 * np.clip(light, 0, 1)).astype(np.uint8)
    return out


def _png(image: NDArray[np.uint8] | cv2.typing.MatLike) -> bytes:
    ok, data = cv2.imencode(".png", np.ascontiguousarray(image), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not ok:
        raise SchemaError("the image cannot be written as PNG")
    return data.tobytes()
