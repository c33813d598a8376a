"""What a camera's own loop calls: ``next_part`` at the trigger, then ``publish``.

with Publisher("broker:9092", station="s1", product="cap", station_map=stations) as publisher:
    while camera.running:
        camera.wait_for_trigger()
        part = publisher.next_part()
        publisher.publish(part, rgb=camera.colour(), depth=camera.depth())
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from schemas.errors import BadImage, CrosscheckError, InvalidField
from schemas.frame import Frame
from schemas.images import encode_colour, encode_depth
from schemas.part import PartKey
from schemas.payload import ColourEncoding, DepthEncoding
from schemas.wire import encode
from workers.bus.base import Bus, Delivery, TopicPartition
from workers.capture import events
from workers.capture.log import AgentLog
from workers.clock import Clock, SystemClock
from workers.errors import BusError

_log = structlog.get_logger(__name__)

RGB = "rgb"
DEPTH = "depth"
_REMEMBERED = 1024
_PREPARE_S = 5.0


class Stations(Protocol):
    """Which partition a station's records go to (``workers.topics.StationMap``)."""

    def partition(self, station: str) -> int:
        """The partition; raises SettingsError for a station that is not on the map."""
        ...


class Undelivered:
    """The delivery of a frame that was never accepted: known at once, and never good."""

    def __init__(self, error: BusError) -> None:
        self._error = error

    def done(self) -> bool:
        """True."""
        return True

    def wait(self, timeout: float) -> tuple[TopicPartition, int]:
        """Raises the BusError that says why."""
        raise self._error


@dataclass(frozen=True, slots=True)
class _Open:
    part: PartKey
    sensors: str
    delivery: Delivery


class Publisher:
    """Sends the frames of one station. Threads may share it.

    ``publish`` never raises for what the bus does and never holds the camera longer than ``max_block_s``
    beside the time of encoding: a frame that cannot be sent is logged, counted in ``failed`` and answered
    with a delivery that raises. It does raise, at once, for an array that is not an image.

    Args:
        bus: a bus, or Kafka bootstrap servers as text.
        station: whose parts these are.
        product: which product's bundle judges them.
        station_map: which partition the station's records go to.
        topic: where frames are sent.
        deadline_s: from trigger to gate; a verdict later than that is of no use.
        colour, depth, quality: how images are encoded; ``quality`` (1 to 100) is for JPEG.
        depth_scale: metres per depth count; None for a sensor without a metric scale.
        calibration: id of the station's calibration.
        expects: which sensors the station has; a part is complete when they are all there.
        log: where triggers and outcomes are written.
        max_block_s: how long a full send buffer may hold ``publish`` up.
        max_in_flight_bytes: size of that buffer.
        delivery_timeout_s: after this a frame without an acknowledgement has failed.

    Raises:
        SettingsError: the station is not on the map.
        CrosscheckError: station or product cannot be part of a message.
    """

    def __init__(
        self,
        bus: Bus | str,
        *,
        station: str,
        product: str,
        station_map: Stations,
        topic: str = "inspection.frames",
        deadline_s: float = 2.0,
        colour: ColourEncoding = ColourEncoding.JPEG,
        depth: DepthEncoding = DepthEncoding.DELTA16,
        quality: int = 92,
        depth_scale: float | None = None,
        calibration: str | None = None,
        expects: Sequence[str] = (RGB, DEPTH),
        clock: Clock | None = None,
        log: AgentLog | None = None,
        max_block_s: float = 0.05,
        max_in_flight_bytes: int = 64 * 2**20,
        delivery_timeout_s: float = 10.0,
    ) -> None:
        if deadline_s <= 0:
            raise ValueError(f"deadline_s {deadline_s}: expected seconds from trigger to gate, above 0")
        self._clock: Clock = clock or SystemClock()
        self._partition = station_map.partition(station)
        self._own_bus: Bus | None = None
        if isinstance(bus, str):
            from workers.bus.kafka import KafkaBus  # only those who name a broker need its client

            self._own_bus = KafkaBus(bus)
        chosen = self._own_bus if isinstance(bus, str) else bus
        assert chosen is not None
        self._producer = chosen.producer(
            max_in_flight_bytes=max_in_flight_bytes,
            max_block=max_block_s,
            delivery_timeout=delivery_timeout_s,
        )
        # Where the partition is takes longer to learn than a frame may wait: the first one would be lost. A
        # broker that is away now may be back by then; if not, each frame says so.
        with suppress(BusError):
            self._producer.prepare(TopicPartition(topic, self._partition), _PREPARE_S)
        self.station = station
        self._product = product
        self._topic = topic
        self._deadline = round(deadline_s * 1e9)
        self._colour = colour
        self._depth = depth
        self._quality = quality
        self._depth_scale = depth_scale
        self._calibration = calibration
        self._expects = tuple(expects)
        self._log = log
        before = None if log is None else log.last_run(station)
        # A clock set back between two runs must not mint the keys of the earlier one again.
        self.run = self._clock.now() if before is None else max(self._clock.now(), before + 1)
        self._lock = threading.Lock()
        self._triggers = 0
        self._triggered: OrderedDict[PartKey, int] = OrderedDict()
        self._open: deque[_Open] = deque()
        self.published = 0
        """Records that the bus has acknowledged."""
        self.failed = 0
        """Records that did not reach the bus, and parts for which no sensor gave anything."""

    @property
    def triggers(self) -> int:
        """Parts minted so far."""
        return self._triggers

    # Parts

    def next_part(self, at: int | None = None, facts: Mapping[str, str] | None = None) -> PartKey:
        """Mint the key of the part that is in front of the camera now, and write it to the log.

        Args:
            at: when the trigger fired, integer nanoseconds since the epoch; now where not given.
            facts: added to the log line.

        Raises:
            SourceError: the log cannot be written.
        """
        at = self._clock.now() if at is None else at
        with self._lock:
            part = PartKey(self.station, self.run, self._triggers)
            self._triggers += 1
            self._triggered[part] = at
            if len(self._triggered) > _REMEMBERED:
                self._triggered.popitem(last=False)
        if self._log is not None:
            self._log.trigger(part, at, facts)
        return part

    # Frames

    def publish(
        self,
        part: PartKey,
        rgb: NDArray[np.uint8] | None = None,
        depth: NDArray[np.uint16] | None = None,
        *,
        captured_at: int | None = None,
        encoder: int | None = None,
    ) -> Delivery:
        """Send what the sensors saw of a part as one record.

        Args:
            part: from ``next_part``, of this agent or of the station's other agent.
            rgb: (H, W, 3) uint8, RGB order; None where the camera gave nothing.
            depth: (h, w) uint16 counts, 0 = no reading; None where the depth sensor gave nothing.
            captured_at: integer nanoseconds since the epoch; the trigger's time where not given.
            encoder: belt position, encoder counts.

        Raises:
            BadImage: an array of another shape or type.
            InvalidField: a part of another station, or a value that a frame cannot carry.
            SourceError: the agent's log cannot be written.
        """
        if part.station != self.station:
            raise InvalidField(f"part {part}: this publisher sends for station {self.station}")
        _check("rgb", rgb, np.uint8, 3)
        _check("depth", depth, np.uint16, 2)
        triggered_at = self._triggered.get(part)
        if captured_at is None:
            captured_at = self._clock.now() if triggered_at is None else triggered_at
        since = captured_at if triggered_at is None else triggered_at
        sensors = "+".join(name for name, image in ((RGB, rgb), (DEPTH, depth)) if image is not None)
        if rgb is None and depth is None:
            return self._fail(part, BusError(f"part {part}: no sensor gave an image"), events.NO_SENSOR)
        frame = Frame(
            part=part,
            product=self._product,
            captured_at=captured_at,
            # A capture after the deadline is sent too: the worker answers it STALE, which is on record.
            deadline=max(since + self._deadline, captured_at),
            rgb=None if rgb is None else encode_colour(rgb, self._colour, quality=self._quality),
            depth=None if depth is None else encode_depth(depth, self._depth),
            depth_scale=None if depth is None else self._depth_scale,
            encoder=encoder,
            calibration=self._calibration,
            expects=self._expects,
        )
        delivery = self._send(frame, sensors)
        self._reap()
        return delivery

    def publish_split(
        self,
        part: PartKey,
        rgb: NDArray[np.uint8] | None = None,
        depth: NDArray[np.uint16] | None = None,
        *,
        captured_at: int | None = None,
        encoder: int | None = None,
    ) -> list[Delivery]:
        """Send colour and depth as two records of one part, as two agents of one station would.

        Arguments and errors as for ``publish``. A sensor that gave nothing sends nothing.
        """
        _check("rgb", rgb, np.uint8, 3)
        _check("depth", depth, np.uint16, 2)
        deliveries = []
        if rgb is not None or depth is None:
            deliveries.append(self.publish(part, rgb, captured_at=captured_at, encoder=encoder))
        if depth is not None:
            deliveries.append(self.publish(part, None, depth, captured_at=captured_at, encoder=encoder))
        return deliveries

    def _send(self, frame: Frame, sensors: str) -> Delivery:
        try:
            delivery = self._producer.send(
                self._topic, encode(frame), key=str(frame.part).encode(), partition=self._partition
            )
        except BusError as error:
            return self._fail(frame.part, error, events.FRAME_FAILED)
        with self._lock:
            self._open.append(_Open(frame.part, sensors, delivery))
        return delivery

    def _fail(self, part: PartKey, error: CrosscheckError, event: str) -> Delivery:
        with self._lock:
            self.failed += 1
        _log.error(event, part=str(part), error=str(error))
        if self._log is not None:
            self._log.failed(part, self._clock.now(), str(error))
        return Undelivered(error if isinstance(error, BusError) else BusError(str(error)))

    def _reap(self) -> None:
        """Count what has become of earlier sends, without waiting."""
        with self._lock:
            done: list[_Open] = []
            left: deque[_Open] = deque()
            for item in self._open:
                (done if item.delivery.done() else left).append(item)
            self._open = left
        for item in done:
            try:
                item.delivery.wait(0.0)
            except BusError as error:
                self._fail(item.part, error, events.FRAME_FAILED)
                continue
            with self._lock:
                self.published += 1
            if self._log is not None:
                self._log.sent(item.part, self._clock.now(), item.sensors)

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until the outcome of every frame is known and counted.

        Raises:
            BusError: some were still open after ``timeout_s`` seconds.
        """
        try:
            self._producer.flush(timeout_s)
        finally:
            self._reap()

    def settle(self, timeout_s: float = 10.0) -> int:
        """``flush`` for those who count instead of catching: how many records are still open afterwards."""
        with suppress(BusError):
            self.flush(timeout_s)
        return len(self._open)

    def close(self, timeout_s: float = 5.0) -> None:
        """Flush and let go of the broker; what is still open then has failed. Closing twice is allowed."""
        self._producer.close(timeout_s)
        self._reap()
        with self._lock:
            left, self._open = list(self._open), deque()
        for item in left:
            error = BusError(f"part {item.part}: closed before the broker had acknowledged its frame")
            self._fail(item.part, error, events.FRAME_FAILED)
        if self._own_bus is not None:
            self._own_bus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check(
    name: str, image: NDArray[np.uint8] | NDArray[np.uint16] | None, kind: type[np.generic], dimensions: int
) -> None:
    if image is None:
        return
    want = "uint8 (H, W, 3) in RGB order" if dimensions == 3 else "uint16 (H, W) in sensor counts"
    if not isinstance(image, np.ndarray):
        raise BadImage(f"{name}: found {type(image).__name__}, expected a numpy array, {want}")
    fits = image.dtype == kind and image.ndim == dimensions and (dimensions == 2 or image.shape[2] == 3)
    if not fits or not image.size:
        raise BadImage(
            f"{name}: found {image.dtype} {image.shape}, expected {want}; convert it before sending"
        )
