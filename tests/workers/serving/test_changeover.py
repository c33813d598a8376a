"""Product changes of a station: any parts, any changes, in any order they are heard."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from schemas.command import Action, Command
from tests.workers.frames import frame, pending
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


@given(changes, st.randoms(use_true_random=False), st.integers(0, 260))
def test_a_part_is_of_the_last_product_before_it_and_of_none_while_the_line_changes(
    told: list[tuple[int, int, str]], random: Random, captured_at: int
) -> None:
    heard = [command(at, at - gap, product) for at, gap, product in told]
    twice_and_mixed = [*heard, *heard]
    random.shuffle(twice_and_mixed)
    changeovers = Changeovers()
    for one in twice_and_mixed:
        changeovers.heard(one)
    found = placed(changeovers, captured_at)
    begun = [one for one in heard if one.issued_at <= captured_at]
    if any((one.since or 0) <= captured_at < one.issued_at for one in heard):
        assert found is None
    elif begun:
        latest = max(one.issued_at for one in begun)
        assert found in {one.value for one in begun if one.issued_at == latest}
    else:
        assert found == "named"


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
