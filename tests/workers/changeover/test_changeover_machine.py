"""No part is ever opened by a verdict of another product than the PLC said when it was captured.

Hypothesis plans the changes of the register and chooses everything else: when the PLC, Redis or the process
is away, how long each reading takes, how the agent's clock is off, what the workers judge parts as (they may
have missed any command), and when the gate or the changeover is started again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schemas.part import PartKey
from tests.workers.changeover.site import PRODUCTS, Site
from tests.workers.gate_line import GateLine, verdict
from workers.changeover import ChangeoverSettings

MARGIN_S = 0.05
LOST_S = 0.3


class ProductChange(RuleBasedStateMachine):
    """A PLC, its changeover, workers that know nothing for certain, and the gate; one clock for all."""

    @initialize(
        early=st.booleans(),
        agent_s=st.floats(-MARGIN_S, MARGIN_S),
        # The gate's turn waits for it here, and must still find its part in front of it.
        latency_s=st.sampled_from([0.0, 0.004, 0.02]),
    )
    def begin(self, early: bool, agent_s: float, latency_s: float) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.line = GateLine(Path(self.folder.name))
        self.line.restart(product=True, required=True, early=early)
        self.site = Site(self.line.clock, self.line.server)
        self.site.settings = ChangeoverSettings(
            station="s1", products=PRODUCTS, margin_s=MARGIN_S, lost_s=LOST_S
        )
        self.site.begin()
        self.site.plc.latency_s = latency_s
        self.agent = round(agent_s * 1e9)
        self.stopped = False
        self.captured: dict[PartKey, tuple[int, str]] = {}
        self.may_change_at = 0
        self.looked_at = 0

    @precondition(lambda self: self.line.clock.now() >= self.may_change_at)
    @rule(number=st.sampled_from([0, 1, 2, 2, 1, 7]), delay_s=st.floats(0.0, 0.2))
    def change(self, number: int, delay_s: float) -> None:
        """The PLC holds each number for longer than it may go unread."""
        self.site.plc.change(number, delay_s)
        self.may_change_at = self.line.clock.now() + round((delay_s + LOST_S + 0.01) * 1e9)

    def part(self, judged_as: str) -> None:
        """A part is captured; a worker passes it as whatever product it took it for."""
        now = self.line.clock.now()
        part = PartKey("s1", 1_700_000_000_000_000_000, self.line.triggers)
        self.line.triggers += 1
        self.line.source.trigger(part, now + self.agent)
        self.captured[part] = (now, judged_as)
        self.line.store.decide(verdict(part, product=judged_as, captured_at=now + self.agent))

    @rule(seconds=st.floats(0.01, 0.8))
    def time(self, seconds: float) -> None:
        """Two parts in every 10 ms, one judged as each product: at most one of them may pass."""
        until = self.line.clock.now() + round(seconds * 1e9)
        while self.line.clock.now() < until:
            for judged_as in PRODUCTS.values():
                self.part(judged_as)
            if not self.stopped:
                self.site.watch.step()
            self.line.gate.step()
            self.line.clock.advance(0.01)

    @rule()
    def process_stands_still_or_goes_on(self) -> None:
        self.stopped = not self.stopped

    @rule()
    def changeover_starts_again(self) -> None:
        self.stopped = False
        self.site.begin()

    @rule()
    def gate_starts_again(self) -> None:
        self.line.restart()

    @rule()
    def plc_goes_or_comes(self) -> None:
        self.site.plc.away = not self.site.plc.away

    @rule()
    def redis_goes_or_comes_for_the_changeover(self) -> None:
        self.site.store.away = not self.site.store.away

    @rule()
    def redis_loses_what_is_due(self) -> None:
        self.line.store.forget_product("s1")

    @invariant()
    def opened_only_for_the_product_that_was_on_the_line(self) -> None:
        for part in self.line.recorder.passed[self.looked_at :]:
            moment, judged_as = self.captured[part]
            assert PRODUCTS.get(self.site.plc.at(moment)) == judged_as
        self.looked_at = len(self.line.recorder.passed)

    def teardown(self) -> None:
        try:
            self.end_well()
        finally:
            self.line.journal.close()
            self.folder.cleanup()

    def end_well(self) -> None:
        # Whatever happened: once all is well again, a part of the right product passes, and none is lost.
        self.stopped = self.site.plc.away = self.site.store.away = False
        self.time(0.6)
        self.site.plc.change(1)
        self.time(0.6)
        self.time(0.1)
        seen = list(self.captured)
        right, wrong = seen[-2:]
        self.time(1.5)
        decisions = self.line.decisions()
        assert decisions[right].opened
        assert not decisions[wrong].opened
        assert set(seen) <= set(decisions)
        self.opened_only_for_the_product_that_was_on_the_line()


TestProductChange = ProductChange.TestCase
TestProductChange.settings = settings(
    max_examples=8,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
