"""Commands: the key that a compacted topic keeps them by, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.command import Action, Command, ThresholdSetting
from schemas.errors import InvalidField
from schemas.verdict import Mode


def command(action: Action, **fields: Any) -> Command:
    return Command(id="c", action=action, issued_at=10, **fields)


@pytest.mark.parametrize(
    ("made", "key"),
    [
        (command(Action.ACTIVATE, product="cap", value="2"), b"activate/cap"),
        (command(Action.THRESHOLD, product="cap", value="RGB=1.5@2"), b"threshold/cap/RGB"),
        (command(Action.PRODUCT, target="s1", value="lid"), b"product/s1"),
        (command(Action.DRAIN, target="w1"), b"drain/w1"),
        (command(Action.DRAIN), b"drain/*"),
    ],
)
def test_the_key_says_what_a_command_sets(made: Command, key: bytes) -> None:
    assert made.key == key


@given(st.sampled_from(Mode), st.none() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_threshold_comes_back_from_its_text(mode: Mode, number: float | None) -> None:
    setting = ThresholdSetting(mode=mode, number=number, version="12-b@x")
    assert ThresholdSetting.parse(str(setting)) == setting


@pytest.mark.parametrize(
    "text",
    ["", "1.5", "FUSED=@1", "FUSED=1", "FUSED=1@", "fused=1@1", "RGB=nan@1", "RGB=inf@1", "RGB=-inf@1"],
)
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(InvalidField):
        ThresholdSetting.parse(text)


@pytest.mark.parametrize("since", [-1, 11])
def test_a_product_change_that_begins_behind_itself_is_refused(since: int) -> None:
    assert command(Action.PRODUCT, target="s1", value="lid", since=10).since == 10
    with pytest.raises(InvalidField, match="since"):
        command(Action.PRODUCT, target="s1", value="lid", since=since)


@pytest.mark.parametrize(
    "fields",
    [
        {"action": Action.PRODUCT, "value": "lid"},
        {"action": Action.PRODUCT, "value": "lid", "target": "s1,s2"},
        {"action": Action.PRODUCT, "value": "l" * 129, "target": "s1"},
        {"action": Action.ACTIVATE, "value": "1", "product": "l" * 129},
    ],
)
def test_what_no_part_could_be_placed_by_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidField, match=r"station|at most 128"):
        command(**fields)


def test_a_long_history_is_refused() -> None:
    with pytest.raises(InvalidField, match="previous"):
        command(Action.ACTIVATE, product="cap", value="2", previous=tuple(map(str, range(17))))
