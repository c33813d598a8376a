"""What a camera's own loop calls: ``next_part`` at the trigger, then ``publish``.

with Publisher("broker:9092", station="s1", product="cap", station_map=stations) as publisher:
    while camera.running:
        camera.wait_for_trigger()
        part = publisher.next_part()
        publisher.publish(part, rgb=camera.colour(), depth=camera.depth())
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from schemas.errors import CrosscheckError, InvalidField
from schemas.frame import Frame
from schemas.heartbeat import Heartbeat
from schemas.images import encode_colour, encode_depth
from schemas.part import PartKey
from schemas.payload import ColourEncoding, DepthEncoding
from schemas.wire import encode
from workers.bus.base import MAX_BATCH_BYTES, Bus, Delivery, TopicPartition
from workers.capture import events
from workers.capture.beats import Beats, agent_name
from workers.capture.buffer import DiskBuffer
from workers.capture.direct import TOO_LARGE, Direct, Undelivered, opener
from workers.capture.entry import Entry
from workers.capture.image_check import checked_image
from workers.capture.log import AgentLog
from workers.capture.others import Other, Others
from workers.capture.outbox import Outbox
from workers.capture.outbox_settings import OutboxSettings
from workers.capture.record_limit import RecordLimit
from workers.capture.runs import Runs
from workers.clock import Clock, SystemClock
from workers.contact import Contact
from workers.errors import BusError, SettingsError, StationTaken
from workers.telemetry.names import AGENT_PUBLISH
from workers.telemetry.tallies import Histogram

_log = structlog.get_logger(__name__)

RGB = "rgb"
DEPTH = "depth"
NO_SENSOR = "no sensor gave an image"
STOPPED = "the agent stopped before its frame was sent"
_REMEMBERED = 1024


class Stations(Protocol):
    """Which partition a station's records go to (``workers.topics.StationMap``)."""

    def partition(self, station: str) -> int:
        """The partition; raises SettingsError for a station that is not on the map."""
        ...


class Publisher:
    """Sends the frames of one station. Threads may share it.

    ``publish`` never raises for what the bus does and never holds the camera longer than ``max_block_s``
    beside the time of encoding: a frame that cannot be sent is logged, counted in ``failed`` and answered
    with a delivery that raises. It does raise, at once, for an array that is not an image.

    With a ``buffer``, ``publish`` does not speak to the broker at all: see ``workers.capture.outbox``. The
    broker may then be away from the start; a part whose images are given up is told by a notice in its place;
    and with a ``log`` too, so are the parts that an earlier run of this agent did not bring to an end.

    Args:
        bus: a bus, Kafka bootstrap servers as text, or a function that opens a bus; with a buffer it may
            raise BusError, and is tried again.
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
        buffer: where frames wait while the broker is away; closed with the publisher.
        spill_after_s: with a buffer, what is not acknowledged after this goes to the disk.
        expired_after_s: with a buffer, a frame so long past its deadline is told by a notice instead of being
            sent; None sends it all the same.
        max_record_bytes: what the brokers take at most (their ``max.message.bytes``). A larger frame is not
            sent: a notice takes its place, and the part ends in MISSING at once. A topic that takes less
            counts, and is named when it is first reached.
        heartbeats: the topic that is told every second that the agent lives; none where not given. With it
            another agent that makes parts of the station is noticed too: see ``workers.capture.others``.

    Raises:
        StationTaken: another agent makes the parts of the station already.
        SettingsError: the station is not on the map, or the buffer holds another station's parts.
        CrosscheckError: station or product cannot be part of a message.
    """

    def __init__(
        self,
        bus: Bus | str | Callable[[], Bus],
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
        buffer: DiskBuffer | None = None,
        spill_after_s: float = 1.0,
        expired_after_s: float | None = 1.0,
        max_record_bytes: int = MAX_BATCH_BYTES,
        heartbeats: str | None = None,
    ) -> None:
        if not 0 < deadline_s <= 86_400:
            raise SettingsError(f"deadline (--deadline) {deadline_s:g} s: use seconds above 0, under a day")
        self._clock: Clock = clock or SystemClock()
        self._partition = station_map.partition(station)
        place = TopicPartition(topic, self._partition)
        self._limit = RecordLimit(topic, max_record_bytes)
        connect, owns_bus = self._limit.seen_at(opener(bus)), isinstance(bus, str)
        self._way: Direct | Outbox
        if buffer is None:
            self._way = Direct(
                connect,
                place,
                owns_bus=owns_bus,
                log=log,
                clock=self._clock,
                max_block_s=max_block_s,
                max_in_flight_bytes=max_in_flight_bytes,
                delivery_timeout_s=delivery_timeout_s,
            )
        else:
            self._way = Outbox(
                connect,
                buffer,
                place,
                station=station,
                settings=OutboxSettings(
                    window_bytes=max_in_flight_bytes,
                    delivery_timeout_s=delivery_timeout_s,
                    spill_after_s=spill_after_s,
                    expired_after_s=expired_after_s,
                ),
                owns_bus=owns_bus,
                log=log,
                clock=self._clock,
            )
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
        self._runs = Runs(() if log is None else log.runs(station), self._clock)
        self._lock = threading.Lock()
        self._triggers = 0
        self._before = 0
        self._triggered: OrderedDict[PartKey, int] = OrderedDict()
        self._unseen = 0
        self.buffer = buffer
        self.times = Histogram(AGENT_PUBLISH.buckets)
        """How long each ``publish`` held its caller up, seconds."""
        self._beats: Beats | None = None
        self._others: Others | None = None
        if heartbeats is not None:
            # Before anything is sent: what an earlier run left may be what a living agent is about to send.
            self._others = Others(self._bus, heartbeats, station, self._runs.has, self._clock)
            try:
                self._others.refuse_second()
            except StationTaken:
                self._way.close(0.0)
                raise
        if isinstance(self._way, Outbox):
            self._way.recover(lambda part, at: self._notice(part, at, STOPPED))
            self._way.start()
        if heartbeats is not None and self._others is not None:
            look = self._others.look
            self._beats = Beats(lambda: self._way.bus, heartbeats, self._beat, beside=look, clock=self._clock)
            self._beats.start()

    @property
    def run(self) -> int:
        """The run of the parts that are minted now."""
        return self._runs.current

    def _beat(self, now: int) -> Heartbeat:
        return Heartbeat(
            station=self.station,
            agent=agent_name(),
            sent_at=now,
            run=self.run,
            triggers=self._triggers,
            buffered=self.buffered,
            dropped=self.dropped,
        )

    def _bus(self) -> Bus | None:
        """The bus, opened where that can be done now."""
        with suppress(CrosscheckError):
            return self._way.reach()
        return None

    @property
    def others(self) -> tuple[Other, ...]:
        """Other agents that make parts of this station now: each trigger is a part twice. None are known
        without ``heartbeats``."""
        return () if self._others is None else self._others.now

    @property
    def trouble(self) -> str | None:
        """What is wrong with this agent's station, in one line; None where nothing is."""
        return None if self._others is None else self._others.trouble

    @property
    def published(self) -> int:
        """Records that the bus has acknowledged."""
        return self._way.published

    @property
    def failed(self) -> int:
        """Records that did not reach the bus, and parts of which there was nothing, or too much, to send."""
        return self._unseen + self._way.failed

    @property
    def dropped(self) -> int:
        """Records whose images the buffer gave up since the start; each is told by a notice."""
        return self._way.dropped

    @property
    def notices(self) -> int:
        """Notices that the bus has acknowledged: parts without images, of earlier runs too."""
        return self._way.notices

    @property
    def buffered(self) -> int:
        """Records that wait on the agent's disk."""
        return self._way.buffered

    @property
    def triggers(self) -> int:
        """Parts minted so far."""
        return self._before + self._triggers

    @property
    def contact(self) -> Contact | None:
        """How the last exchange with the broker went; None while there was none, or where the bus does not
        keep it."""
        found = getattr(self._way.bus, "contact", None)
        return found if isinstance(found, Contact) else None

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
            if self._runs.ahead:
                # Workers refuse its parts.
                _log.warning(events.RUN_AHEAD, station=self.station, left=self.run, run=self._runs.begin())
                self._before, self._triggers = self._before + self._triggers, 0
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
        started = self._clock.monotonic()
        delivery = self._publish(part, rgb, depth, captured_at, encoder)
        with self._lock:
            self.times.add(self._clock.monotonic() - started)
        return delivery

    def _publish(
        self,
        part: PartKey,
        rgb: NDArray[np.uint8] | None,
        depth: NDArray[np.uint16] | None,
        captured_at: int | None,
        encoder: int | None,
    ) -> Delivery:
        if part.station != self.station:
            raise InvalidField(f"part {part}: this publisher sends for station {self.station}")
        checked_image("rgb", rgb, np.uint8, 3)
        checked_image("depth", depth, np.uint16, 2)
        triggered_at = self._triggered.get(part)
        if captured_at is None:
            captured_at = self._clock.now() if triggered_at is None else triggered_at
        since = captured_at if triggered_at is None else triggered_at
        sensors = "+".join(name for name, image in ((RGB, rgb), (DEPTH, depth)) if image is not None)
        if rgb is None and depth is None:
            return self._unsent(part, since, NO_SENSOR, BusError(f"part {part}: {NO_SENSOR}"))
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
        message = encode(frame)
        if (refused := self._limit.refusal(part, len(message))) is not None:
            return self._unsent(part, since, TOO_LARGE, refused)
        return self._way.post(Entry.of_frame(frame, sensors), message)

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
        checked_image("rgb", rgb, np.uint8, 3)
        checked_image("depth", depth, np.uint16, 2)
        deliveries = []
        if rgb is not None or depth is None:
            deliveries.append(self.publish(part, rgb, captured_at=captured_at, encoder=encoder))
        if depth is not None:
            deliveries.append(self.publish(part, None, depth, captured_at=captured_at, encoder=encoder))
        return deliveries

    def _notice(self, part: PartKey, triggered_at: int, why: str) -> Entry:
        return Entry(
            part=part,
            product=self._product,
            captured_at=triggered_at,
            deadline=triggered_at + self._deadline,
            why=why,
        )

    def _unsent(self, part: PartKey, triggered_at: int, why: str, error: BusError) -> Delivery:
        """The part is told of all the same, so that it is answered MISSING at once."""
        with self._lock:
            self._unseen += 1
        event = events.NO_SENSOR if why == NO_SENSOR else events.FRAME_FAILED
        _log.error(event, part=str(part), error=str(error))
        if self._log is not None:
            self._log.failed(part, self._clock.now(), why)
        self._way.post(self._notice(part, triggered_at, why), None)
        return Undelivered(error)

    def flush(self, timeout_s: float = 10.0) -> None:
        """Wait until the outcome of every frame is known and counted.

        Raises:
            BusError: some were still open after ``timeout_s`` seconds; with a buffer, at once where the
                broker is away and the rest is on disk.
        """
        if left := self._way.flush(timeout_s):
            raise BusError(f"station {self.station}: {left} records were not acknowledged by then")

    def settle(self, timeout_s: float = 10.0) -> int:
        """``flush`` for those who count instead of catching: how many records are still open afterwards."""
        return self._way.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> int:
        """Flush and let go of the broker; how many records are open then. Closing twice is allowed.

        Those have failed; with a buffer they stay on disk, and are sent at the next start.
        """
        if self._beats is not None:
            self._beats.close()
        if self._others is not None:
            self._others.close()
        return self._way.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
