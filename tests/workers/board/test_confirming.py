"""A part between the limits that a person confirms: the workers hear of it, and of what is taken back."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files

import pytest

from inference.calibration import limits_of
from inference.inspection import Inspection
from schemas.codes import ReasonCode
from schemas.command import Action, Confirmation
from schemas.part import PartKey
from schemas.verdict import Decision, Mode
from schemas.wire import decode_command
from tests.workers.board.setting import BoardLine, bad
from tests.workers.frames import frame
from tests.workers.standin import StandInModel, inspection
from workers.bus.base import TopicSpec
from workers.serving.thresholds import Thresholds
from workers.steps.deciding import decide

CONTROL = "inspection.control"
TAUGHT = replace(
    limits_of([0.1, 0.2, 0.3, 0.4], list("abcd"), false_reject=0.01, review_share=0.04), rejects=1.0
)


def seen(score: float) -> Inspection:
    return replace(inspection(score), pass_limit=TAUGHT.passes, threshold=TAUGHT.rejects)


class Taught(StandInModel):
    """Passes up to 0.4 and rejects above 1.0; every part scores 0.7."""

    def __init__(self) -> None:
        super().__init__(lambda sample: seen(0.7))
        self.limits = {Mode.FUSED: TAUGHT}


@pytest.fixture
def line(line: BoardLine) -> BoardLine:
    line.bus.ensure_topics({CONTROL: TopicSpec(partitions=1, compacted=True)})
    line.sign_in()
    return line


def held(line: BoardLine, trigger: int = 1) -> PartKey:
    (part,) = line.inspected(frame(trigger, captured_at=line.clock.now()), model=Taught())
    line.read_all()
    assert line.standing(part).decision is Decision.REVIEW
    assert line.standing(part).reason == "between"
    return part


def limit(line: BoardLine) -> float | None:
    """The pass limit of a worker that has read the control topic."""
    made = Thresholds()
    for record in line.read(CONTROL):
        made.confirm(decode_command(record.value))
    return made.applied(seen(0.7), Taught()).pass_limit


def test_a_held_part_that_is_confirmed_lets_its_like_pass_at_every_worker(line: BoardLine) -> None:
    part = held(line)
    assert line.say(part, "false-reject").status_code == 200
    (record,) = line.read(CONTROL)
    command = decode_command(record.value)
    assert (command.action, command.target, command.product) == (Action.CONFIRM, str(part), "widget")
    assert command.digest == Taught.bundle_hash
    assert Confirmation.parse(command.value or "") == Confirmation(mode=Mode.FUSED, score=0.7, version="1")
    assert record.key == f"confirm/{part}".encode()
    assert limit(line) == 0.7
    made = Thresholds()
    made.confirm(command)
    assert decide(made.applied(seen(0.7), Taught()), 0.8) == (Decision.PASS, None)


@pytest.mark.parametrize("then", ["withdrawn", "true-reject"])
def test_a_confirmation_that_is_taken_back_or_was_wrong_moves_nothing(line: BoardLine, then: str) -> None:
    part = held(line)
    assert line.say(part, "false-reject").status_code == 200
    assert line.say(part, then, replace=True).status_code == 200
    assert limit(line) == TAUGHT.passes


def test_a_held_part_that_is_bad_is_no_news_to_the_workers(line: BoardLine) -> None:
    assert line.say(held(line), "true-reject").status_code == 200
    assert line.read(CONTROL) == []


def test_a_part_that_the_model_rejected_moves_no_limit(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    assert line.say(part, "false-reject").status_code == 200
    assert line.read(CONTROL) == []


def test_a_confirmation_that_the_workers_cannot_be_told_of_is_said_and_can_be_said_again(
    line: BoardLine,
) -> None:
    part = held(line)
    line.bus.delete_topic(CONTROL)
    assert line.say(part, "false-reject").status_code == 503
    line.bus.ensure_topics({CONTROL: TopicSpec(partitions=1, compacted=True)})
    assert line.say(part, "false-reject").status_code == 200
    assert limit(line) == 0.7


def test_a_held_part_that_is_good_is_no_false_reject_and_its_row_has_both_limits(line: BoardLine) -> None:
    part = held(line)
    row = line.browser.get(f"/api/part/{part}").json()["row"]
    assert (row["pass_limit"], row["threshold"]) == (TAUGHT.passes, TAUGHT.rejects)
    assert line.say(part, "false-reject").status_code == 200
    assert line.station()["false_rejects"] == {"labelled": 0, "false": 0}
    (rejected,) = line.inspected(frame(2, captured_at=line.clock.now()), model=bad())
    line.read_all()
    assert line.say(rejected, "false-reject").status_code == 200
    assert line.station()["false_rejects"] == {"labelled": 1, "false": 1}


@pytest.mark.parametrize("code", list(ReasonCode))
def test_each_reason_has_words_on_the_page(code: ReasonCode) -> None:
    words = (files("workers.board") / "static" / "words.js").read_text(encoding="utf-8")
    assert re.search(rf'^  "?{code.value}(: [a-z-]+)?"?: "', words, re.MULTILINE)
