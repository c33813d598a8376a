"""A gate with everything it needs, on a clock set by hand and a Redis in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import fakeredis

from schemas.part import PartKey
from schemas.verdict import Decision, Mode, Verdict
from schemas.wire import decode_verdict
from workers.capture.log import AgentLog
from workers.clock import ManualClock
from workers.gate import Gate, GateDecision, Journal, LogPartSource, RecordingActuator, SimulatedPartSource
from workers.gate.actuators import Actuator
from workers.gate.journal import MAX_BYTES, Entry, read_lines
from workers.gate.segments import journal_segments
from workers.store.verdicts import VerdictStore

STATION = "s1"
RUN = 1_700_000_000_000_000_000
TRAVEL_S = 1.0
HOLD_S = 0.05


def key(trigger: int, run: int = RUN) -> PartKey:
    return PartKey(STATION, run, trigger)


def verdict(
    part: PartKey,
    decision: Decision = Decision.PASS,
    *,
    score: float = 0.5,
    product: str = "cap",
    captured_at: int = RUN,
) -> Verdict:
    return Verdict(
        part=part,
        product=product,
        decision=decision,
        captured_at=captured_at,
        decided_at=captured_at + 1,
        deadline=captured_at + 10**12,
        worker="w1",
        mode=Mode.FUSED,
        score=score if decision is not Decision.REJECT else 2.0,
        threshold=1.0,
        coverage=1.0,
        bundle=f"{product}/1",
        bundle_hash="ab" * 32,
    )


class GateLine:
    """One line: parts are triggered, verdicts are decided, time passes, the gate is stopped and started."""

    def __init__(self, folder: Path, *, log: Path | None = None) -> None:
        self.clock = ManualClock(RUN)
        self.server = fakeredis.FakeServer()
        self.store = VerdictStore(fakeredis.FakeRedis(server=self.server))
        self.source = SimulatedPartSource(travel_s=TRAVEL_S)
        self.recorder = RecordingActuator()
        self.actuator: Actuator = self.recorder
        # With a log, the gate follows it as another process would: each new gate reads it from its start.
        self.log = None if log is None else AgentLog(log)
        self.path = folder / "gate.journal"
        self.alarms: list[str] = []
        self.triggers = 0
        self.options: dict[str, bool] = {}
        self.on_decision: Callable[[GateDecision, Entry], None] | None = None
        self.max_bytes = MAX_BYTES
        self.pulse_s: float | None = None
        self.journal = Journal(self.path, sync=False)
        self.gate = self._gate()

    def _gate(self) -> Gate:
        return Gate(
            self.store,
            self.source
            if self.log is None
            else LogPartSource(self.log.path, station=STATION, travel_s=TRAVEL_S),
            self.actuator,
            self.journal,
            station=STATION,
            clock=self.clock,
            product="cap",
            hold_s=HOLD_S,
            early=self.options.get("early", False),
            alarm=self._alarm,
            on_decision=self.on_decision,
            product_store=self.store if self.options.get("product") else None,
            product_required=self.options.get("required", False),
            pulse_s=self.pulse_s,
        )

    def _alarm(self, name: str, facts: Mapping[str, object]) -> None:
        assert facts["station"] == STATION
        self.alarms.append(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()
        if self.log is not None:
            self.log.close()

    def restart(self, change: Callable[[], None] | None = None, **options: bool) -> Gate:
        """The gate's process ends without a word, and another one starts on the same journal."""
        self.journal.close()
        if change is not None:
            change()
        self.options.update(options)
        self.journal = Journal(self.path, sync=False, max_bytes=self.max_bytes)
        self.gate = self._gate()
        return self.gate

    def trigger(self) -> PartKey:
        part = key(self.triggers)
        self.triggers += 1
        if self.log is not None:
            self.log.trigger(part, self.clock.now())
        self.source.trigger(part, self.clock.now())
        return part

    def pass_time(self, seconds: float, step_s: float = 0.01) -> None:
        """Let time go by with the gate running."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            self.gate.step()

    def decisions(self) -> dict[PartKey, GateDecision]:
        """What the journal says, each part once."""
        found: dict[PartKey, GateDecision] = {}
        for segment in journal_segments(self.path):
            for item in read_lines(segment.read_bytes()):
                if isinstance(item, Entry):
                    assert item.part not in found, "decided twice"
                    found[item.part] = item.decision
        return found

    def standing(self, part: PartKey) -> Decision | None:
        """The decision that stands in the store."""
        raw = self.store.standing(part)
        return None if raw is None else decode_verdict(raw).decision

    def open_for(self) -> PartKey | None:
        """Which part the gate is open for now."""
        return self.recorder.open_for
