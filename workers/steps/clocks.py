"""How far the agents' clocks are from ours, and whether their deadlines mean anything.

A deadline is written by the agent's clock and read by ours. Two witnesses tell the difference:

* heartbeats: ``sent_at`` by the agent's clock against the moment it was read here. What was read took some
  time, never less than none, so ``sent_at - read`` is the offset or less, and the largest of a minute is the
  best estimate. They never queue behind frames.
* frames: they may have waited anywhere, for any time, so an old one proves nothing. One from the future
  proves that its agent's clock is ahead.

An agent ahead is the dangerous side, its deadlines come too late here: one sample proves it. One behind makes
parts STALE that are not; it is believed after several beats, since beats may be late too.

Moments of reading are kept in monotonic time, and our wall clock enters only where an offset is asked for:
when it is set, every offset moves at once, as it does in truth.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

import structlog

from schemas.heartbeat import Heartbeat
from workers.clock import Clock
from workers.errors import ClockOffset

log = structlog.get_logger(__name__)

WINDOW_S = 60
MIN_BEATS = 3
"""Seconds with a beat before an agent is believed to be behind."""
FORGET_S = 600.0
"""An agent that said nothing for so long is forgotten, and what was held against it."""
MAX_WITNESSES = 4096
_FRAMES = ""
"""The witness that a station's frames are together; no agent has an empty name."""
_READ_S = 0.005


@dataclass(slots=True)
class _Witness:
    """Samples of one agent: its clock less our monotonic one, nanoseconds, the largest of each second."""

    run: int = 0
    sent_at: int = 0
    heard: float = 0.0
    seconds: deque[tuple[int, int]] = field(default_factory=deque)
    best: int | None = None

    def add(self, sample: int, at: float) -> None:
        self.heard = max(self.heard, at)
        second = int(at)
        if self.seconds and self.seconds[-1][0] >= second:
            latest, known = self.seconds[-1]
            self.seconds[-1] = (latest, max(known, sample))
        else:
            self.seconds.append((second, sample))
        self.best = sample if self.best is None else max(self.best, sample)
        self.prune(at)

    def prune(self, now: float) -> None:
        if not self.seconds or self.seconds[0][0] > now - WINDOW_S:
            return
        while self.seconds and self.seconds[0][0] <= now - WINDOW_S:
            self.seconds.popleft()
        self.best = max((sample for _, sample in self.seconds), default=None)

    def clear(self) -> None:
        self.seconds.clear()
        self.best = None


class AgentClocks:
    """The offset of every agent heard of. One thread owns it.

    A station is trusted until an offset beyond the bound is proven, and again once it is under half of it. A
    station nobody has heard of is trusted: agents need not send heartbeats.

    Args:
        bound_s: seconds; deadlines of a station further off than this are refused.
    """

    def __init__(self, bound_s: float, clock: Clock) -> None:
        self._bound = bound_s
        self._clock = clock
        self._stations: OrderedDict[str, dict[str, _Witness]] = OrderedDict()
        self._untrusted: dict[str, float] = {}

    # What is heard.

    def heard(self, beat: Heartbeat, at: float) -> None:
        """Take in a heartbeat.

        Args:
            at: monotonic seconds when it was read.
        """
        witness = self._witness(beat.station, beat.agent)
        if witness.seconds and (beat.run != witness.run or beat.sent_at < witness.sent_at):
            # A new process, or its clock was set back: what it said before was said by another clock. A run
            # begins with the agent's clock too, so a smaller one is no older.
            witness.clear()
            self._stations[beat.station].pop(_FRAMES, None)
        witness.run, witness.sent_at = beat.run, beat.sent_at
        witness.add(beat.sent_at - round(at * 1e9), at)
        self._judge(beat.station)

    def saw(self, station: str, captured_at: int, at: float) -> None:
        """Take in when a frame was taken by its agent's clock (nanoseconds since the epoch) and read by ours.

        Args:
            at: monotonic seconds when it was read.
        """
        sample = captured_at - round(at * 1e9)
        if sample - self._wall() <= self._bound * 1e9:
            return  # however old it is, it may have waited
        self._witness(station, _FRAMES).add(sample, at)
        self._judge(station)

    # What is asked.

    def offset(self, station: str) -> float | None:
        """Seconds by which the clock of the station's worst agent is ahead of ours.

        Negative is behind; None is not known.
        """
        witnesses = self._stations.get(station)
        if not witnesses:
            return None
        wall, now = self._wall(), self._clock.monotonic()
        offsets = (self._offset(name, w, wall, now) for name, w in witnesses.items())
        return max((o for o in offsets if o is not None), key=abs, default=None)

    def _offset(self, name: str, witness: _Witness, wall: int, now: float) -> float | None:
        witness.prune(now)
        if witness.best is None:
            return None
        offset = (witness.best - wall) / 1e9
        if name == _FRAMES:
            # A frame may have waited as long as it is old.
            return offset if offset > 0 else None
        if offset < -self._bound and len(witness.seconds) < MIN_BEATS:
            return None
        return offset

    def trusted(self, station: str) -> bool:
        """Whether the station's deadlines mean anything here."""
        if station in self._stations:
            self._judge(station)
        return station not in self._untrusted

    def refusal(self, station: str) -> ClockOffset | None:
        """Why the station's parts are an ERROR; None while it is trusted."""
        if self.trusted(station):
            return None
        return ClockOffset(station, self._untrusted[station], self._bound)

    def stations(self) -> dict[str, float]:
        """The offset of every station of which one is known, seconds."""
        known = ((station, self.offset(station)) for station in sorted(self._stations))
        return {station: offset for station, offset in known if offset is not None}

    def untrusted(self) -> list[str]:
        """The stations whose deadlines are refused."""
        for station in list(self._stations):
            self._judge(station)
        return sorted(self._untrusted)

    # Inside.

    def _judge(self, station: str) -> None:
        offset = self.offset(station)
        if offset is None:
            self._unproven(station)
        elif abs(offset) > self._bound:
            if station not in self._untrusted:
                log.error(
                    "worker.clock_offset", station=station, offset_s=round(offset, 3), bound_s=self._bound
                )
            self._untrusted[station] = offset
        elif station in self._untrusted:
            self._untrusted[station] = offset
            if abs(offset) < self._bound / 2:
                del self._untrusted[station]
                log.info("worker.clock_good", station=station, offset_s=round(offset, 3))

    def _unproven(self, station: str) -> None:
        """No sample is left. Frames that stopped coming from the future are good news; silence is none."""
        witnesses = self._stations[station]
        now = self._clock.monotonic()
        agents = [w for name, w in witnesses.items() if name != _FRAMES]
        if station in self._untrusted and all(now - w.heard > FORGET_S for w in agents):
            del self._untrusted[station]
            log.info("worker.clock_good", station=station, offset_s=None)

    def _witness(self, station: str, name: str) -> _Witness:
        if name not in self._stations.get(station, ()):
            self._make_room()
            self._stations.setdefault(station, {})[name] = _Witness()
        self._stations.move_to_end(station)
        return self._stations[station][name]

    def _make_room(self) -> None:
        """Names come from the bus: whoever sends new ones for ever must not fill our memory."""
        while sum(len(witnesses) for witnesses in self._stations.values()) >= MAX_WITNESSES:
            station, _ = self._stations.popitem(last=False)
            self._untrusted.pop(station, None)

    def _wall(self) -> int:
        """Our wall clock less our monotonic one, nanoseconds."""
        for _ in range(3):
            before = self._clock.monotonic()
            wall = self._clock.now()
            after = self._clock.monotonic()
            if after - before < _READ_S:
                break
        return wall - round(before * 1e9)
