"""The worker speaks: what it cannot judge once and then counted, and that it falls behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from schemas.part import PartKey
from tests.workers.frames import START, frame
from tests.workers.line import Line
from workers.clock import ManualClock
from workers.load import LoadWatch
from workers.models import UnknownProduct
from workers.steps.telling import EVERY_S, OVER_S, ErrorTeller


class NoModels:
    """Nothing judges any product."""

    def of(self, product: str) -> Any:
        raise UnknownProduct(f"no bundle judges product {product!r}: teach one")


def said(logs: list[Any], name: str) -> list[Any]:
    return [line for line in logs if line["event"] == name]


def test_a_product_without_a_bundle_is_said_once_and_then_counted() -> None:
    line = Line()
    teller = ErrorTeller(line.clock)
    worker = line.worker(NoModels(), observers=[teller])
    with capture_logs() as logs:
        for trigger in range(12):
            line.send(frame(trigger))
        line.turn(worker, lambda: worker.answered == 12)
        line.clock.advance(EVERY_S)
        line.send(replace(frame(12, captured_at=line.clock.now()), part=PartKey("s1", 1, 12)))
        line.turn(worker, lambda: worker.answered == 13)
    (first,) = said(logs, "worker.part_error")
    assert first["product"] == "widget"
    assert first["why"].startswith("product: no bundle judges product 'widget'")
    (sum_up,) = said(logs, "worker.parts_error")
    assert (sum_up["station"], sum_up["parts"]) == ("s1", 12)
    worker.close()


@pytest.mark.parametrize("other", [{"station": "s2"}, {"product": "gadget"}])
def test_each_cause_is_told_by_itself(other: dict[str, str]) -> None:
    line = Line()
    worker = line.worker(NoModels(), observers=[ErrorTeller(line.clock)])
    with capture_logs() as logs:
        line.send(frame(1))
        line.send(frame(2, **other))  # type: ignore[arg-type]
        line.turn(worker, lambda: worker.answered == 2)
    assert len(said(logs, "worker.part_error")) == 2
    worker.close()


def test_a_cause_that_was_quiet_is_told_anew_and_a_good_part_is_not_told() -> None:
    line = Line()
    teller = ErrorTeller(line.clock)
    worker = line.worker(observers=[teller])
    future = [replace(frame(t), part=PartKey("s1", START + 10**18, t)) for t in (0, 1)]
    with capture_logs() as logs:
        line.send(frame(1))
        line.send(future[0])
        line.turn(worker, lambda: worker.answered == 2)
        line.clock.advance(OVER_S + 1)
        line.send(future[1])
        line.turn(worker, lambda: worker.answered == 3)
    assert [entry["why"].split(":")[0] for entry in said(logs, "worker.part_error")] == ["future_run"] * 2
    worker.close()


def test_falling_behind_is_said_with_both_rates_and_what_to_do_and_so_is_catching_up() -> None:
    load = LoadWatch()
    with capture_logs() as logs:
        for look in range(6):
            # Ten a second are served, fifteen come.
            load.looked({0: 20 * look, 1: 0}, 40 * look, 4.0 * look)
    (told,) = said(logs, "worker.falling_behind")
    assert (told["served_a_second"], told["arriving_a_second"]) == (10.0, 15.0)
    assert told["fix"].startswith("add workers")
    with capture_logs() as logs:
        load.looked({0: 3, 1: 0}, 400, 28.0)
        load.looked({0: 0, 1: 0}, 440, 32.0)
    assert [entry["event"] for entry in logs] == ["worker.caught_up"]


def test_partitions_that_come_with_a_backlog_are_no_load() -> None:
    load = LoadWatch()
    with capture_logs() as logs:
        for look in range(6):
            load.looked(dict.fromkeys(range(look + 1), 500), 40 * look, 4.0 * look)
    assert logs == []


def test_a_short_burst_is_not_told() -> None:
    load, clock = LoadWatch(), ManualClock()
    with capture_logs() as logs:
        for lag in (0, 30, 60, 20, 50, 5):
            load.looked({0: lag}, 0, clock.monotonic())
            clock.advance(4.0)
    assert logs == []
