"""What is said of a station's product, to whom, in which order, and what is left unsaid."""

from __future__ import annotations

import pytest

from schemas.command import Action
from tests.workers.changeover.site import PRODUCTS, START, STATION, Site
from workers.changeover import ChangeoverSettings, Due, Span, events
from workers.errors import SettingsError

MS = 1_000_000
MARGIN = 100 * MS


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_part_is_of_a_product_once_the_plc_was_read_on_both_sides_of_it(site: Site) -> None:
    site.run(0.3)
    part = site.clock.now()
    assert not site.due().covers("cap", part, part)
    site.run(0.14)
    assert site.due().covers("cap", part, part)
    assert not site.due().covers("lid", part, part)


def test_parts_around_a_change_are_of_neither_product(site: Site) -> None:
    site.run(1.0)
    site.plc.change(2)
    changed = site.clock.now()
    site.run(1.0)
    due = site.due()
    assert due.product == "lid"
    near = [changed + offset * MS for offset in range(-300, 301, 5)]
    of = [due.at(moment) for moment in near]
    assert of[0] == "cap"
    assert of[-1] == "lid"
    assert of.count(None) * 5 in range(200, 240), "twice the margin, and the time between two readings"
    assert due.since < changed < due.issued_at


def test_the_workers_are_told_since_when_and_from_when_under_the_stations_key(site: Site) -> None:
    site.run(1.0)
    site.plc.change(2)
    site.run(0.5)
    (_, first), (key, second) = site.commands()
    assert (first.action, first.value) == (Action.PRODUCT, "cap")
    assert (second.target, second.value, key) == (STATION, "lid", b"product/s1")
    assert (second.since, second.issued_at) == (site.due().since, site.due().issued_at)


def test_redis_knows_before_the_workers_are_told(site: Site) -> None:
    site.run(1.0)
    site.store.away = True
    site.plc.change(2)
    site.run(0.5)
    assert [command.value for _, command in site.commands()] == ["cap"]
    assert site.due().product == "cap"
    assert site.alarms == [events.ALARM_STORE]
    part = site.clock.now()
    site.store.away = False
    site.run(0.5)
    assert [command.value for _, command in site.commands()] == ["cap", "lid"]
    assert site.due().at(part) == "lid"


def test_the_plc_is_answered_once_every_worker_has_the_product(site: Site) -> None:
    site.run(0.3)
    assert site.plc.acks == [0]
    site.worker_takes("w1")
    site.store.beat("w2", {"due": ""})
    site.run(0.3)
    assert site.plc.acks == [0]
    site.worker_takes("w2")
    site.run(0.3)
    assert site.plc.acks == [0, 1]
    assert [site.watch.ready] == [True]
    site.plc.change(2)
    site.run(0.3)
    assert site.plc.acks == [0, 1, 0]
    assert [site.watch.ready] == [False]
    site.worker_takes("w1")
    site.worker_takes("w2")
    site.run(0.3)
    assert site.plc.acks == [0, 1, 0, 2]


def test_workers_of_another_line_in_the_same_redis_are_not_waited_for(site: Site) -> None:
    site.run(0.3)
    site.store.beat("elsewhere", {"due": "", "bundles": "cup/1@ab", "line": "other"})
    site.worker_takes("w1")
    site.run(0.3)
    assert site.plc.acks == [0, 1]


def test_the_plc_is_not_told_of_a_product_that_a_worker_has_no_bundle_for(site: Site) -> None:
    site.run(0.3)
    site.worker_takes("w1", bundles="cap/1@ab")
    site.worker_takes("w2", bundles="cape/1@ab,lid/2@cd")
    site.run(11.0)
    assert site.plc.acks == [0]
    assert site.alarms == [events.ALARM_NOT_TAKEN]
    site.worker_takes("w1")
    site.worker_takes("w2")
    site.run(0.3)
    assert site.plc.acks == [0, 1]


def test_without_a_worker_the_plc_gets_no_answer_and_somebody_is_told(site: Site) -> None:
    site.run(11.0)
    assert site.plc.acks == [0]
    assert site.alarms == [events.ALARM_NOT_TAKEN]


@pytest.mark.parametrize("number", [0, 7])
def test_a_number_without_a_product_is_told_and_no_part_is_of_any(site: Site, number: int) -> None:
    site.run(1.0)
    site.worker_takes()
    site.run(0.2)
    site.plc.change(number)
    site.run(1.0)
    due = site.due()
    assert due.product is None
    assert str(number) in due.why
    assert due.at(site.clock.now() - 500 * MS) is None
    assert site.alarms == [events.ALARM_NUMBER]
    assert site.plc.acks == [0, 1, 0]
    site.plc.change(1)
    site.run(1.0)
    command = site.commands()[-1][1]
    assert command.value == "cap"
    assert command.since == due.since, "from when the product was last known, not from when the number came"
    assert site.due().at(site.clock.now() - 500 * MS) == "cap"


def test_a_plc_that_is_away_for_a_moment_has_not_changed_and_one_away_for_longer_may_have(site: Site) -> None:
    site.run(1.0)
    site.plc.away = True
    hidden = site.clock.now()
    site.run(0.5)
    site.plc.away = False
    site.run(0.5)
    assert site.due().at(hidden) == "cap"
    assert len(site.commands()) == 1
    assert site.alarms == []
    site.plc.away = True
    hidden = site.clock.now()
    site.run(1.5)
    assert site.due().product is None
    assert site.due().why == "the PLC does not answer"
    site.plc.away = False
    site.run(0.5)
    assert site.due().product == "cap"
    assert site.due().at(hidden + 500 * MS) is None
    assert site.alarms == [events.ALARM_PLC]
    assert len(site.commands()) == 2


def test_a_process_that_was_away_lets_the_parts_before_it_pass_and_those_within_not(site: Site) -> None:
    site.run(1.0)
    before, within = site.clock.now() - 500 * MS, site.clock.now() + 200 * MS
    site.clock.advance(0.4)
    site.begin()
    site.run(0.5)
    assert site.due().at(before) == "cap"
    assert site.due().at(within) is None
    assert site.due().at(site.clock.now() - 150 * MS) == "cap"


def test_a_clock_that_is_set_ends_what_is_known(site: Site) -> None:
    site.run(1.0)
    before = site.clock.now() - 500 * MS
    site.set_clock(3_600.0)
    site.run(0.5)
    assert site.due().at(before) is None
    assert site.alarms == [events.ALARM_CLOCK]
    assert site.due().at(site.clock.now() - 150 * MS) == "cap"


def test_what_another_program_wrote_into_redis_is_not_believed(site: Site) -> None:
    site.store.set_product(STATION, {"product": "cap", "spans": "[[1]]"})
    site.run(0.5)
    assert site.alarms == [events.ALARM_UNREADABLE]
    assert site.due().at(site.clock.now() - 150 * MS) == "cap"
    assert site.due().at(START - MS) is None


def test_many_changes_keep_the_newest(site: Site) -> None:
    for _ in range(20):
        for number in PRODUCTS:
            site.plc.change(number)
            site.run(1.0)
    due = site.due()
    assert len(due.spans) == 32
    assert due.at(site.clock.now() - 150 * MS) == "lid"
    assert due.at(START + 500 * MS) is None


def test_due_comes_back_from_its_map_and_nothing_else_does() -> None:
    due = Due(
        product="cap", number=1, since=3, issued_at=5, seen_at=9, spans=(Span("lid", 1, 3), Span("cap", 5, 9))
    )
    raw = {name: str(value) for name, value in due.to_map().items()}
    assert Due.from_map(raw) == due
    for name in raw:
        with pytest.raises(Exception, match="product of a station"):
            Due.from_map({other: value for other, value in raw.items() if other != name})
    with pytest.raises(Exception, match="not readable"):
        Due.from_map(raw | {"spans": '[["cap", 1.5, 3]]'})


@pytest.mark.parametrize(
    "wrong",
    [
        {"products": {}},
        {"products": {0: "cap"}},
        {"margin_s": -1.0},
        {"lost_s": 0.0},
        {"ready_s": float("nan")},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="changeover"):
        ChangeoverSettings(**({"station": STATION, "products": PRODUCTS} | wrong))  # type: ignore[arg-type]
