"""Product changes of a station: any parts, any changes, each heard any number of times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.command import Action, Command
from tests.workers.changeover.site import Site
from tests.workers.frames import frame, pending
from workers.changeover import events
from workers.steps.changeover import HISTORY, Changeovers

changes = st.lists(st.tuples(st.integers(1, 200), st.integers(0, 40), st.sampled_from("abc")), max_size=12)


def command(at: int, since: int, product: str, station: str = "s1") -> Command:
    return Command(
        id="c", action=Action.PRODUCT, issued_at=at, target=station, value=product, since=max(0, since)
    )


def placed(changeovers: Changeovers, at: int, station: str = "s1") -> str | None:
    """The product a part captured then ends with; None where it is not scored."""
    part = pending(frame(1, captured_at=at, station=station, product="named"))
    return None if changeovers.place(part) is not None else part.frame.product


@given(changes, st.lists(st.integers(0, 11), max_size=12), st.integers(0, 260))
def test_a_part_is_of_the_last_product_before_it_and_of_none_while_the_line_changes(
    told: list[tuple[int, int, str]], again: list[int], captured_at: int
) -> None:
    told = sorted({at: (at, gap, product) for at, gap, product in told}.values())
    heard = [command(at, at - gap, product) for at, gap, product in told]
    changeovers = Changeovers()
    for one in (*heard, *(heard[n] for n in again if n < len(heard))):
        changeovers.heard(one)
    found = placed(changeovers, captured_at)
    begun = [one for one in heard if one.issued_at <= captured_at]
    if any((one.since or 0) <= captured_at < one.issued_at for one in heard):
        assert found is None
    elif begun:
        assert found == max(begun, key=lambda one: one.issued_at).value
    else:
        assert found == "named"


def test_the_word_of_a_line_whose_clock_was_set_back_counts_from_then_on() -> None:
    changeovers = Changeovers()
    for at, product in ((100, "a"), (3000, "b"), (200, "c"), (300, "b")):
        changeovers.heard(command(at, at - 10, product))
    assert changeovers.due == {"s1": 300}
    found = [placed(changeovers, at) for at in (50, 100, 195, 200, 295, 300, 2995, 3000, 5000)]
    # Of what was said by the clock before nothing is known but what lies before it.
    assert found == [None, "a", None, "c", None, "b", "b", "b", "b"]


def test_a_plc_is_answered_after_the_clock_of_its_changeover_was_set_back() -> None:
    site, changeovers, heard = Site(), Changeovers(), 0

    def run(seconds: float) -> None:
        nonlocal heard
        for _ in range(round(seconds * 10)):
            site.run(0.1)
            commands = [command for _, command in site.commands()]
            for one in commands[heard:]:
                changeovers.heard(one)
            heard = len(commands)
            due = ",".join(f"{k}:{at}" for k, at in changeovers.due.items())
            site.store.beat("w1", {"due": due, "bundles": "cap/1@ab,lid/1@cd"})

    site.set_clock(3600)
    run(1.0)
    site.set_clock(-3600)
    run(1.0)
    assert (site.alarms, site.watch.ready) == ([events.ALARM_CLOCK], True)
    site.plc.change(2)
    run(1.0)
    assert (site.plc.acks[-1], placed(changeovers, site.clock.now())) == (2, "lid")
    site.clock.advance(3600)
    assert placed(changeovers, site.clock.now()) == "lid"


def test_what_is_older_than_all_that_is_remembered_is_not_scored() -> None:
    changeovers = Changeovers()
    for number in range(HISTORY):
        changeovers.heard(command(1000 + number * 10, 1000 + number * 10, "ab"[number % 2]))
    assert placed(changeovers, 999) == "named"
    changeovers.heard(command(5000, 5000, "c"))
    assert placed(changeovers, 999) is None
    assert placed(changeovers, 1011) == "b"
    assert placed(changeovers, 5000) == "c"


def test_another_station_is_left_alone() -> None:
    changeovers = Changeovers()
    changeovers.heard(command(10, 5, "a"))
    assert placed(changeovers, 7, station="s2") == "named"
    assert changeovers.due == {"s1": 10}
