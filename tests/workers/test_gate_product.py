"""The gate opens for a part only where the PLC is known to have said its verdict's product at its capture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.part import PartKey
from schemas.verdict import Decision
from schemas.wire import decode_verdict
from tests.workers.gate_line import STATION, GateLine, verdict
from workers.changeover import Due, Span
from workers.errors import StoreError
from workers.gate import Reason, decide, events
from workers.gate.product import DueProduct
from workers.store import keys

MS = 1_000_000


@pytest.fixture
def line(tmp_path: Path) -> Iterator[GateLine]:
    with GateLine(tmp_path) as line:
        line.restart(product=True)
        yield line


def say(line: GateLine, *spans: Span, product: str | None = "cap") -> None:
    """What the changeover writes; what is known ends with the last span."""
    end = max((span.last for span in spans), default=0)
    due = Due(product=product, number=1, since=0, issued_at=0, seen_at=end, spans=spans)
    line.store.set_product(STATION, due.to_map())


def span(line: GateLine, product: str, first_s: float, last_s: float) -> Span:
    """From and to, as seconds from now."""
    now = line.clock.now()
    return Span(product, now + round(first_s * 1e9), now + round(last_s * 1e9))


def judged(line: GateLine, product: str = "cap", *, after_ms: int = 0) -> PartKey:
    """A part is triggered and passed by a worker at once."""
    part = line.trigger()
    captured_at = line.clock.now() + after_ms * MS
    line.store.decide(verdict(part, product=product, captured_at=captured_at))
    return part


def reason(line: GateLine, part: PartKey) -> Reason:
    return line.decisions()[part].reason


def test_without_a_plc_nothing_is_checked(line: GateLine) -> None:
    part = judged(line, "anything")
    line.pass_time(1.2)
    assert reason(line, part) is Reason.PASS


def test_a_part_of_the_product_that_is_due_passes(line: GateLine) -> None:
    say(line, span(line, "cap", -1, 5))
    part = judged(line)
    line.pass_time(1.2)
    assert reason(line, part) is Reason.PASS
    assert line.alarms == []


@pytest.mark.parametrize(
    ("product", "first", "last"),
    [("lid", -1.0, 5.0), ("cap", 0.01, 5.0), ("cap", -1.0, -0.01), ("cap", 5.0, -5.0)],
    ids=["another product", "known only later", "known only before", "read once"],
)
def test_a_part_that_is_not_known_to_be_of_its_verdicts_product_stays_out_and_is_counted(
    line: GateLine, product: str, first: float, last: float
) -> None:
    say(line, span(line, product, first, last))
    part = judged(line)
    line.pass_time(1.2)
    decision = line.decisions()[part]
    assert (decision.decision, decision.reason) == (Decision.ERROR, Reason.PRODUCT)
    report = line.gate.report()
    assert (report.opened, report.by_reason, report.lost) == (0, {"product": 1}, 0)
    assert line.alarms == [events.ALARM_PRODUCT]
    assert line.recorder.passed == []


def test_parts_of_both_products_pass_side_by_side_and_the_one_between_them_does_not(line: GateLine) -> None:
    say(line, span(line, "cap", -1, 0.1), span(line, "lid", 0.2, 5))
    parts = []
    for product in ("cap", "cap", "lid"):
        parts.append(judged(line, product))
        line.pass_time(0.15)
    line.pass_time(1.2)
    assert [reason(line, part) for part in parts] == [Reason.PASS, Reason.PRODUCT, Reason.PASS]


def test_the_moment_of_the_picture_counts_beside_the_moment_of_the_trigger(line: GateLine) -> None:
    say(line, span(line, "cap", -1, 0.1))
    within, outside = judged(line, after_ms=80), judged(line, after_ms=120)
    line.pass_time(1.2)
    assert [reason(line, part) for part in (within, outside)] == [Reason.PASS, Reason.PRODUCT]


def test_an_early_gate_waits_for_the_plcs_word_and_not_for_the_part(line: GateLine) -> None:
    line.restart(product=True, early=True)
    say(line, span(line, "cap", -1, 0))
    part = judged(line, after_ms=50)
    line.pass_time(0.2)
    assert line.decisions() == {}
    say(line, span(line, "cap", -1, 0))
    line.pass_time(0.1)
    assert reason(line, part) is Reason.PASS


def test_an_early_gate_that_hears_no_word_closes_when_the_part_is_due(line: GateLine) -> None:
    line.restart(product=True, early=True)
    say(line, span(line, "cap", -1, -0.5))
    part = judged(line)
    line.pass_time(0.9)
    assert line.decisions() == {}
    line.pass_time(0.2)
    assert reason(line, part) is Reason.PRODUCT


def test_a_verdict_that_does_not_pass_keeps_its_own_reason(line: GateLine) -> None:
    say(line, span(line, "lid", -1, 5))
    part = line.trigger()
    line.store.decide(verdict(part, Decision.REJECT, captured_at=line.clock.now()))
    line.pass_time(1.2)
    assert reason(line, part) is Reason.REJECT


def test_a_missing_part_is_recorded_under_the_product_that_was_due(line: GateLine) -> None:
    say(line, span(line, "lid", -1, 5), product="lid")
    part = line.trigger()
    line.pass_time(1.2)
    raw = line.store.standing(part)
    assert raw is not None
    assert decode_verdict(raw).product == "lid"


def test_a_redis_that_lost_what_it_knew_does_not_end_the_check(line: GateLine) -> None:
    say(line, span(line, "cap", -1, 5))
    line.pass_time(0.1)
    line.store.forget_product(STATION)
    line.pass_time(0.1)
    part = judged(line)
    line.pass_time(1.2)
    assert reason(line, part) is Reason.PRODUCT


def test_where_a_plc_must_say_the_product_nothing_passes_without_its_word(line: GateLine) -> None:
    line.restart(product=True, required=True)
    part = judged(line)
    line.pass_time(1.2)
    assert reason(line, part) is Reason.PRODUCT


@pytest.mark.parametrize("wrong", [{"spans": "[[1]]"}, {"product": "cap"}])
def test_what_cannot_be_read_lets_nothing_pass(line: GateLine, wrong: dict[str, str]) -> None:
    line.store.set_product(STATION, wrong)
    part = judged(line)
    line.pass_time(1.2)
    assert reason(line, part) is Reason.PRODUCT
    assert line.alarms.count(events.ALARM_PRODUCT_DEAF) == 1


def test_a_store_that_refuses_this_alone_keeps_parts_out_and_says_so_once(line: GateLine) -> None:
    heard: list[str] = []
    due = DueProduct(
        station=STATION, clock=line.clock, required=False, alarm=lambda name, facts: heard.append(name)
    )

    class Refusing:
        def product(self, station: str) -> dict[str, str]:
            raise StoreError(f"no right to {keys.product(station)}")

    part = judged(line)
    raw = line.store.standing(part)
    arrival = line.source.poll()[0]
    found = decide(part, raw, line.clock.now(), arrival.due)
    assert found.opened
    for _ in range(3):
        due.ask(Refusing())
        line.clock.advance(1.0)
    assert due.judge(found, arrival, raw).reason is Reason.PRODUCT
    assert heard == [events.ALARM_PRODUCT_DEAF]
    due.ask(line.store)
    assert due.judge(found, arrival, raw).opened
