"""A bundle takes over between two batches, or not at all; what was activated outlives a worker."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from schemas.command import Action
from schemas.verdict import Decision, Verdict
from tests.workers.frames import frame
from tests.workers.serving.commanded import AtOnce, ByHand, CommandedLine, put_bundle, score_of
from workers.bus.memory_consumer import MemoryConsumer
from workers.errors import SettingsError
from workers.inspection import InspectionWorker
from workers.serving.activation import LOOK_S, RETRY_S
from workers.steps.listening import POLL_S
from workers.vitals import BEAT_S


@pytest.fixture
def line(tmp_path: Path) -> CommandedLine:
    """A line with three versions of one product."""
    for version in "123":
        put_bundle(tmp_path, f"widget/{version}")
    return CommandedLine(tmp_path)


def serves(worker: InspectionWorker) -> tuple[str, ...]:
    """The bundles of a worker, by its own report."""
    activations = worker._control.activations
    assert activations is not None
    return activations.models.bundles


def judge(line: CommandedLine, worker: InspectionWorker, trigger: int, product: str = "widget") -> Verdict:
    """Send one part through."""
    sent = frame(trigger, product=product, captured_at=line.clock.now())
    line.send(sent)
    line.turn(worker, lambda: line.store.standing(sent.part) is not None)
    return line.standing(sent.part)


def kill(worker: InspectionWorker) -> None:
    """As SIGKILL does: its heartbeats to the group end, and it says no word."""
    consumer = worker._consumer
    assert isinstance(consumer, MemoryConsumer)
    consumer.kill()


def told(line: CommandedLine, worker: InspectionWorker) -> None:
    """Let the worker hear what lies on the control topic, and say how it is."""
    for pause in (POLL_S, 0.0, BEAT_S):
        line.clock.advance(pause)
        worker.step()


def test_where_nobody_has_activated_anything_the_highest_version_judges(line: CommandedLine) -> None:
    assert judge(line, line.commanded(), 1).bundle == "widget/3"


def test_a_worker_that_starts_judges_by_what_was_activated_and_not_by_the_highest(
    line: CommandedLine,
) -> None:
    line.activate("widget/3")
    line.activate("widget/1", previous=("3",))
    verdict = judge(line, line.commanded(), 1)
    assert (verdict.bundle, verdict.score) == ("widget/1", score_of("widget/1"))


def test_what_was_activated_is_known_after_the_retention_of_the_topic(line: CommandedLine) -> None:
    line.activate("widget/1")
    line.clock.advance(30 * 86_400)
    line.tell(Action.DRAIN, target="nobody")
    assert serves(line.commanded()) == ("widget/1",)


def test_a_running_worker_takes_over_what_is_activated_and_rolls_back(line: CommandedLine) -> None:
    worker = line.commanded()
    assert judge(line, worker, 1).bundle == "widget/3"
    line.activate("widget/2", previous=("3",))
    told(line, worker)
    assert judge(line, worker, 2).bundle == "widget/2"
    line.activate("widget/3")
    told(line, worker)
    assert judge(line, worker, 3).bundle == "widget/3"
    assert line.beat()["swaps"] == "widget:done:2"
    assert line.beat()["bundles"].startswith("widget/3@")


def test_a_batch_that_runs_is_scored_to_its_end_by_the_model_that_began_it(line: CommandedLine) -> None:
    """The next model is ready while the first part of a batch is scored; the others do not see it."""
    executor = ByHand()
    loaded_within: list[int] = []

    def during() -> None:
        if executor.waiting:
            executor.run()
            loaded_within.append(1)

    worker = line.commanded(executor=executor, during=during, max_batch=4)
    told(line, worker)
    line.activate("widget/1")
    sent = [frame(trigger, captured_at=line.clock.now()) for trigger in range(4)]
    for one in sent:
        line.send(one)
    line.clock.advance(POLL_S)
    worker.step()
    assert (loaded_within, worker.answered) == ([1], 4)
    found = [line.standing(one.part) for one in sent]
    assert [(v.bundle, v.score) for v in found] == [("widget/3", score_of("widget/3"))] * 4
    assert judge(line, worker, 9).bundle == "widget/1"


def test_hundreds_of_parts_under_swaps_are_each_judged_once_by_the_bundle_they_name(
    line: CommandedLine,
) -> None:
    worker = line.commanded(max_batch=8)
    sent = []
    for trigger in range(400):
        if trigger % 40 == 20:
            line.activate(f"widget/{1 + (trigger // 40) % 3}")
            line.clock.advance(POLL_S)
        one = frame(trigger, station=f"s{trigger % 4}", captured_at=line.clock.now(), seed=trigger % 7)
        sent.append(one)
        line.send(one, partition=trigger % 2)
        if trigger % 3 == 0:
            worker.step()
    line.turn(worker, lambda: worker.answered == 400, turns=400)
    verdicts = line.verdicts()
    assert sorted(v.part for v in verdicts) == sorted(one.part for one in sent)
    assert {v.bundle for v in verdicts} == {"widget/1", "widget/2", "widget/3"}
    for verdict in verdicts:
        assert verdict.decision is Decision.PASS
        assert verdict.score == score_of(verdict.bundle or "")


@pytest.mark.parametrize("broken", ["missing", "damaged", "other-digest"])
def test_a_bundle_that_cannot_be_had_leaves_the_old_one_where_it_is_and_says_so(
    line: CommandedLine, broken: str
) -> None:
    worker = line.commanded()
    digest = None
    if broken == "damaged":
        put_bundle(line.models, "widget/9", broken=True)
    if broken == "other-digest":
        put_bundle(line.models, "widget/9")
        digest = "0" * 64
    line.activate("widget/9", digest=digest)
    told(line, worker)
    assert judge(line, worker, 1).bundle == "widget/3"
    told(line, worker)
    beat = line.beat()
    assert beat["swaps"] == "widget:failed:1"
    assert beat["refused"].startswith("widget/9: ")
    line.activate("widget/2")
    told(line, worker)
    assert judge(line, worker, 2).bundle == "widget/2"
    assert line.beat()["refused"] == ""


def test_a_bundle_that_comes_later_takes_over_when_it_is_tried_again(line: CommandedLine) -> None:
    worker = line.commanded()
    line.activate("widget/9")
    told(line, worker)
    put_bundle(line.models, "widget/9")
    line.clock.advance(RETRY_S)
    told(line, worker)
    assert serves(worker) == ("widget/9",)
    assert line.beat()["swaps"] == "widget:failed:1,widget:done:1"


def test_a_worker_that_starts_without_the_activated_bundle_falls_back_to_the_one_before(
    line: CommandedLine,
) -> None:
    line.activate("widget/9", previous=("8", "1"))
    worker = line.commanded()
    assert judge(line, worker, 1).bundle == "widget/1"
    told(line, worker)
    assert line.beat()["refused"].startswith("widget/9: ")
    put_bundle(line.models, "widget/9")
    line.clock.advance(RETRY_S)
    told(line, worker)
    assert judge(line, worker, 2).bundle == "widget/9"


def test_a_product_whose_activated_bundle_is_nowhere_is_an_error_and_other_products_are_judged(
    line: CommandedLine,
) -> None:
    put_bundle(line.models, "lid/1")
    line.activate("widget/9")
    worker = line.commanded()
    lost = judge(line, worker, 1)
    assert lost.decision is Decision.ERROR
    assert "crosscheck models activate widget" in (lost.reason or "")
    assert judge(line, worker, 2, product="lid").bundle == "lid/1"


def test_a_new_product_is_judged_without_a_restart(line: CommandedLine) -> None:
    worker = line.commanded()
    assert judge(line, worker, 1, product="lid").decision is Decision.ERROR
    put_bundle(line.models, "lid/4")
    line.activate("lid/4")
    told(line, worker)
    assert judge(line, worker, 2, product="lid").bundle == "lid/4"
    assert judge(line, worker, 3).bundle == "widget/3"


def test_of_two_activations_only_the_later_one_takes_over(line: CommandedLine) -> None:
    executor = ByHand()
    worker = line.commanded(executor=executor)
    line.activate("widget/1")
    told(line, worker)
    line.activate("widget/2")
    told(line, worker)
    assert len(executor.waiting) == 1
    executor.run()
    worker.step()
    assert serves(worker) == ("widget/3",)
    executor.run()
    worker.step()
    assert serves(worker) == ("widget/2",)


def test_what_judges_already_is_not_loaded_again(line: CommandedLine) -> None:
    executor = ByHand()
    worker = line.commanded(executor=executor)
    line.activate("widget/3")
    told(line, worker)
    assert executor.waiting == []
    assert serves(worker) == ("widget/3",)


def test_a_worker_that_dies_while_a_bundle_warms_leaves_no_trace_and_its_successor_has_it(
    line: CommandedLine,
) -> None:
    first = line.commanded(executor=ByHand())
    assert judge(line, first, 1).bundle == "widget/3"
    line.activate("widget/1")
    told(line, first)
    assert judge(line, first, 2).bundle == "widget/3"
    kill(first)
    line.clock.advance(7)
    second = line.commanded(name="w2")
    assert judge(line, second, 3).bundle == "widget/1"


def test_without_any_bundle_a_worker_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="models folder"):
        CommandedLine(tmp_path).commanded()


def test_a_product_whose_folder_went_is_served_until_somebody_activates(line: CommandedLine) -> None:
    worker = line.commanded(executor=AtOnce())
    shutil.rmtree(line.models / "widget")
    assert judge(line, worker, 1).bundle == "widget/3"
    line.activate("widget/2", previous=("3",))
    told(line, worker)
    assert judge(line, worker, 2).bundle == "widget/3"


def test_a_newer_bundle_in_the_folder_is_said_once_with_how_to_activate_it(
    line: CommandedLine, tmp_path: Path
) -> None:
    worker = line.commanded()
    line.clock.advance(LOOK_S)
    worker.step()
    with capture_logs() as logs:
        put_bundle(tmp_path, "widget/4")
        put_bundle(tmp_path, "gadget/1")
        put_bundle(tmp_path, "widget/2b")
        for _ in range(4):
            line.clock.advance(LOOK_S)
            worker.step()
    found = [entry for entry in logs if entry["event"] == "worker.bundle_not_loaded"]
    assert [(entry["bundle"], (entry["serves"] or "").partition("@")[0]) for entry in found] == [
        ("gadget/1", ""),
        ("widget/4", "widget/3"),
    ]
    assert found[1]["fix"].endswith("`crosscheck models activate widget 4`")
    line.activate("widget/4")
    told(line, worker)
    assert serves(worker) == ("widget/4",)


def test_an_older_version_that_was_activated_is_no_reason_to_speak_of_those_that_were_there(
    line: CommandedLine,
) -> None:
    line.activate("widget/1")
    worker = line.commanded()
    with capture_logs() as logs:
        for _ in range(3):
            line.clock.advance(LOOK_S)
            worker.step()
    assert [entry for entry in logs if entry["event"] == "worker.bundle_not_loaded"] == []
