"""Two sensors, one part: together when both come, alone when one does not, in order always."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from schemas.part import PartKey
from tests.workers.frames import START, frame, record, ticket
from workers.steps.pairing import MAX_STATIONS, REMEMBERED, Pairer
from workers.steps.skew import LEAST_PAIRS, Skews

WAIT = 0.15


def nothing_down(station: str) -> frozenset[str]:
    return frozenset()


def offer(pairer: Pairer, trigger: int, now: float, **parts: bool) -> None:
    of = frame(trigger, rgb=parts.get("rgb", True), with_depth=parts.get("depth", True))
    pairer.offer(of, record(of), ticket(trigger), now=now, read_at=0)


def test_a_complete_record_leaves_at_once() -> None:
    pairer = Pairer(WAIT, nothing_down)
    offer(pairer, 1, now=0.0)
    assert [p.part.trigger for p in pairer.ready(0.0)] == [1]
    assert len(pairer) == 0


def test_two_halves_become_one_part_with_both_images_and_both_tickets() -> None:
    pairer = Pairer(WAIT, nothing_down)
    offer(pairer, 1, now=0.0, depth=False)
    assert list(pairer.ready(0.1)) == []
    offer(pairer, 1, now=0.1, rgb=False)
    (part,) = pairer.ready(0.1)
    assert part.present == {"rgb", "depth"}
    assert len(part.tickets) == 2
    assert part.arrived == 0.0


def test_a_half_that_stays_alone_leaves_when_its_waiting_time_is_up() -> None:
    pairer = Pairer(WAIT, nothing_down)
    offer(pairer, 1, now=0.0, depth=False)
    assert pairer.next_due() == WAIT
    assert list(pairer.ready(WAIT - 0.001)) == []
    (part,) = pairer.ready(WAIT)
    assert part.present == {"rgb"}
    assert not part.hurried


def test_nobody_waits_for_a_sensor_that_is_down() -> None:
    pairer = Pairer(WAIT, lambda station: frozenset({"depth"}))
    offer(pairer, 1, now=0.0, depth=False)
    assert len(list(pairer.ready(0.0))) == 1


def test_a_single_sensor_station_never_waits() -> None:
    pairer = Pairer(WAIT, nothing_down)
    of = frame(1, with_depth=False, expects=("rgb",))
    pairer.offer(of, record(of), ticket(), now=0.0, read_at=0)
    assert len(list(pairer.ready(0.0))) == 1


def test_a_complete_part_waits_behind_an_incomplete_one_of_its_station_but_not_of_another() -> None:
    pairer = Pairer(WAIT, nothing_down)
    offer(pairer, 1, now=0.0, depth=False)
    offer(pairer, 2, now=0.01)
    other = frame(1, station="s2")
    pairer.offer(other, record(other), ticket(), now=0.01, read_at=0)
    assert [p.part.station for p in pairer.ready(0.02)] == ["s2"]
    assert [p.part.trigger for p in pairer.ready(WAIT)] == [1, 2]


def test_a_duplicate_keeps_the_first_image_and_adds_its_ticket() -> None:
    pairer = Pairer(WAIT, nothing_down)
    first = frame(1, with_depth=False)
    again = replace(frame(1, with_depth=False, seed=99))
    pairer.offer(first, record(first), ticket(0), now=0.0, read_at=0)
    pairer.offer(again, record(again), ticket(1), now=0.0, read_at=0)
    (part,) = pairer.ready(WAIT)
    assert part.frame.rgb == first.rgb
    assert [t.offset for t in part.tickets] == [0, 1]


def test_parts_of_a_lost_partition_are_forgotten() -> None:
    pairer = Pairer(WAIT, nothing_down)
    offer(pairer, 1, now=0.0, depth=False)
    pairer.drop(lambda t: False)
    assert len(pairer) == 0
    assert pairer.next_due() is None


def offer_half(pairer: Pairer, trigger: int, sensor: str, now: float, *, offset: int = 0) -> None:
    of = frame(trigger, rgb=sensor == "rgb", with_depth=sensor == "depth")
    pairer.offer(of, record(of, offset=offset), ticket(offset), now=now, read_at=0)


def test_a_station_whose_pairs_come_close_together_waits_less_than_the_setting() -> None:
    pairer = Pairer(WAIT, nothing_down)
    for trigger in range(LEAST_PAIRS):
        offer_half(pairer, trigger, "rgb", 1.0 * trigger)
        offer_half(pairer, trigger, "depth", 1.0 * trigger + 0.002)
        assert len(list(pairer.ready(1.0 * trigger + 0.002))) == 1
    offer_half(pairer, 100, "rgb", 1000.0)
    due = pairer.next_due()
    assert due is not None
    assert 1000.0 < due < 1000.0 + WAIT / 5


def test_halves_read_together_after_a_backlog_do_not_shorten_the_wait() -> None:
    pairer = Pairer(WAIT, nothing_down)
    for trigger in range(2 * LEAST_PAIRS):
        for sensor, sent_ms in (("rgb", 0), ("depth", 60)):
            of = frame(trigger, rgb=sensor == "rgb", with_depth=sensor == "depth")
            sent = replace(record(of), timestamp_ms=1_000_000 + 1_000 * trigger + sent_ms)
            pairer.offer(of, sent, ticket(), now=0.0, read_at=0)
        list(pairer.ready(0.0))
    offer_half(pairer, 100, "rgb", 1.0)
    due = pairer.next_due()
    assert due is not None
    assert due - 1.0 >= 0.06


def test_a_half_does_not_wait_beyond_its_deadline_less_a_model_run() -> None:
    pairer = Pairer(WAIT, nothing_down, near_s=0.04)
    of = frame(1, with_depth=False, deadline_s=0.1)
    pairer.offer(of, record(of), ticket(), now=5.0, read_at=of.captured_at + 10_000_000)
    assert pairer.next_due() == pytest.approx(5.05)
    assert list(pairer.ready(5.049)) == []
    (part,) = pairer.ready(5.0501)
    assert part.hurried


def test_a_part_with_a_near_deadline_takes_those_in_front_of_it_along() -> None:
    pairer = Pairer(WAIT, nothing_down)
    offer_half(pairer, 1, "rgb", 0.0)
    of = frame(2, deadline_s=0.05)
    pairer.offer(of, record(of), ticket(), now=0.0, read_at=of.captured_at)
    assert list(pairer.ready(0.049)) == []
    assert [p.part.trigger for p in pairer.ready(0.0501)] == [1, 2]


def test_a_part_that_comes_out_of_turn_is_put_where_it_belongs() -> None:
    pairer = Pairer(WAIT, nothing_down)
    for trigger in (1, 3, 2):
        offer_half(pairer, trigger, "rgb", 0.0)
    assert [p.part.trigger for p in pairer.ready(WAIT)] == [1, 2, 3]


def test_a_late_half_does_not_wait_and_holds_nobody_up() -> None:
    pairer = Pairer(WAIT, nothing_down)
    offer_half(pairer, 1, "rgb", 0.0)
    assert len(list(pairer.ready(WAIT))) == 1
    offer_half(pairer, 2, "rgb", WAIT)
    offer_half(pairer, 2, "depth", WAIT)
    offer_half(pairer, 1, "depth", WAIT)
    late, whole = pairer.ready(WAIT)
    assert (late.part.trigger, late.late) == (1, frozenset({"depth"}))
    assert (whole.part.trigger, whole.late) == (2, None)
    assert pairer.next_due() is None


def test_a_half_that_no_wait_had_caught_says_nothing_of_its_sensor() -> None:
    pairer = Pairer(WAIT, nothing_down)
    offer_half(pairer, 1, "rgb", 0.0)
    list(pairer.ready(WAIT))
    offer_half(pairer, 1, "depth", 2 * WAIT)
    (late,) = pairer.ready(2 * WAIT)
    assert late.late == frozenset()


def test_a_record_sent_twice_after_its_part_has_left_is_late_and_says_nothing_of_its_sensor() -> None:
    pairer = Pairer(WAIT, nothing_down)
    for offset in (0, 1):
        of = frame(1)
        pairer.offer(of, record(of, offset=offset), ticket(offset), now=0.0, read_at=0)
        (part,) = pairer.ready(0.0)
        assert part.late == (None if offset == 0 else frozenset())


def test_halves_that_always_come_too_late_lengthen_the_wait_until_they_are_caught() -> None:
    skews = Skews(WAIT)
    skews.restore("s1", 0.001)
    pairer = Pairer(WAIT, nothing_down, skews=skews)
    complete = []
    for trigger in range(20):
        start = 1.0 * trigger
        offer_half(pairer, trigger, "rgb", start)
        left = list(pairer.ready(start + 0.05))
        offer_half(pairer, trigger, "depth", start + 0.05)
        left += pairer.ready(start + 0.05)
        complete.append(any(p.present == {"rgb", "depth"} for p in left))
    assert complete == [False] + 19 * [True]


def test_what_left_under_an_assignment_that_is_over_is_read_as_new() -> None:
    pairer = Pairer(WAIT, nothing_down)
    offer(pairer, 1, now=0.0)
    list(pairer.ready(0.0))
    pairer.drop(lambda t: False)
    offer(pairer, 1, now=1.0)
    (again,) = pairer.ready(1.0)
    assert again.late is None


def test_the_memory_of_parts_that_left_is_bounded() -> None:
    pairer = Pairer(WAIT, nothing_down)
    for trigger in range(3 * REMEMBERED):
        offer(pairer, trigger, now=0.0)
    list(pairer.ready(0.0))
    assert pairer.remembered == REMEMBERED
    for n in range(MAX_STATIONS + 10):
        of = PICTURES[0]
        of = replace(of, part=PartKey(f"other{n}", 1, 1))
        pairer.offer(of, record(WHOLE), ticket(), now=0.0, read_at=0)
    list(pairer.ready(0.0))
    assert pairer.remembered == MAX_STATIONS


WHOLE = frame(1)
PICTURES = [WHOLE, replace(WHOLE, depth=None), replace(WHOLE, rgb=None)]


class Records(RuleBasedStateMachine):
    """Two stations, whose records come in any order, twice, late or never."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.down: frozenset[str] = frozenset()
        self.pairer = Pairer(WAIT, lambda station: self.down, near_s=0.02)
        self.offset = 0
        self.offered: dict[PartKey, float] = {}
        self.bound: dict[PartKey, float] = {}
        self.tickets: list[int] = []
        self.own: list[PartKey] = []
        self.looked = 0.0

    @rule(
        station=st.sampled_from(["s1", "s2"]),
        trigger=st.integers(0, 12),
        what=st.integers(0, 2),
        slack=st.sampled_from([0.0, 0.05, 0.1, 10.0]),
    )
    def record_comes(self, station: str, trigger: int, what: int, slack: float) -> None:
        part = PartKey(station, 1, trigger)
        read_at = START + round(self.now * 1e9)
        of = replace(PICTURES[what], part=part, captured_at=START, deadline=read_at + round(slack * 1e9))
        place = replace(record(WHOLE), offset=self.offset)
        self.pairer.offer(of, place, ticket(self.offset), now=self.now, read_at=read_at)
        self.offset += 1
        if part not in self.own:
            self.offered.setdefault(part, self.now)
            bound = min(self.offered[part] + WAIT, max(self.now, self.now + slack - 0.02))
            self.bound[part] = max(self.offered[part], min(self.bound.get(part, bound), bound))

    @rule(seconds=st.floats(0.0, 0.2))
    def time_passes(self, seconds: float) -> None:
        # Never past a moment at which something is due: the loop looks then.
        due = self.pairer.next_due()
        self.now = self.now + seconds if due is None else max(self.now, min(self.now + seconds, due))

    @rule(down=st.sampled_from([frozenset(), frozenset({"depth"}), frozenset({"rgb"})]))
    def sensors_change(self, down: frozenset[str]) -> None:
        self.down = down

    @rule()
    def look(self) -> None:
        last: dict[str, int] = {}
        for pending in self.pairer.ready(self.now):
            self.tickets.extend(t.offset for t in pending.tickets)
            part = pending.part
            if pending.late is not None:
                assert part in self.own, "late, though its part never left"
                continue
            assert part not in self.own, "the same part twice"
            self.own.append(part)
            assert part.trigger > last.get(part.station, -1), "out of turn"
            last[part.station] = part.trigger

    @invariant()
    def none_waits_beyond_its_bound(self) -> None:
        due = self.pairer.next_due()
        waiting = [self.bound[part] for part in self.bound if part in self.pairer]
        if waiting:
            assert due is not None
            assert due <= min(waiting) + 1e-6

    @invariant()
    def every_record_is_here_or_has_left_once(self) -> None:
        assert len(self.tickets) == len(set(self.tickets))
        assert self.pairer.remembered <= 26

    def teardown(self) -> None:
        self.down = frozenset({"rgb", "depth"})
        self.look()
        assert sorted(self.tickets) == list(range(self.offset))
        assert len(self.pairer) == self.pairer.size == 0


TestRecords = Records.TestCase
TestRecords.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from(["rgb", "depth", "both"]), st.floats(0, 0.05)),
        max_size=30,
    )
)
def test_whatever_comes_when_every_ticket_leaves_once_and_no_part_waits_longer_than_it_may(
    arrivals: list[tuple[int, str, float]],
) -> None:
    pairer = Pairer(WAIT, nothing_down)
    now = 0.0
    left: list[int] = []
    for offset, (trigger, what, pause) in enumerate(arrivals):
        now += pause
        of = frame(trigger, rgb=what != "depth", with_depth=what != "rgb")
        pairer.offer(of, record(of, offset=offset), ticket(offset), now=now, read_at=0)
        for part in pairer.ready(now):
            left.extend(t.offset for t in part.tickets)
            assert now - part.arrived < WAIT + 0.05
        due = pairer.next_due()
        assert due is None or due > now
    for part in pairer.ready(now + WAIT):
        left.extend(t.offset for t in part.tickets)
    assert sorted(left) == list(range(len(arrivals)))
    assert len(pairer) == 0
