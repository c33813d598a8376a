"""Two sensors, one part: together when both come, alone when one does not, in order always."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.workers.frames import frame, record, ticket
from workers.steps.pairing import Pairer

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
