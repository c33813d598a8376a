"""Counts are exact, bounded, and safe to read while they are written."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.telemetry.scraping import samples
from workers.telemetry import names
from workers.telemetry.families import family, histogram
from workers.telemetry.names import OTHER
from workers.telemetry.registry import Registry
from workers.telemetry.tallies import MOST_VALUES, Histogram, Known, Tally


def test_the_first_thousand_values_of_a_label_keep_their_names_and_the_rest_are_other() -> None:
    known = Known()
    told = [known(f"s{number}") for number in range(MOST_VALUES + 500)]
    assert told[:MOST_VALUES] == [f"s{number}" for number in range(MOST_VALUES)]
    assert set(told[MOST_VALUES:]) == {OTHER}
    assert known("s7") == "s7"


def test_a_tally_has_no_more_series_than_its_bound_and_loses_no_count() -> None:
    tally = Tally(limit=10, open=(0, 1))
    for number in range(100):
        tally.add(f"s{number}", f"p{number}", "PASS" if number % 2 else "REJECT")
    tally.add("s3", "p3", "PASS")
    values = tally.values()
    assert len(values) == 12
    assert values["s3", "p3", "PASS"] == 2
    assert values[OTHER, OTHER, "PASS"] == values[OTHER, OTHER, "REJECT"] == 45
    assert sum(values.values()) == 101


@given(st.lists(st.floats(-1, 20)))
def test_a_histogram_counts_each_value_in_every_bucket_that_holds_it(values: list[float]) -> None:
    bounds = names.VERDICT_LATENCY.buckets
    found = Histogram(bounds)
    for value in values:
        found.add(value)
    buckets, total = found.buckets()
    assert [count for _, count in buckets] == [sum(v <= b for v in values) for b in (*bounds, float("inf"))]
    assert total == pytest.approx(sum(values))


def test_reading_while_another_thread_writes_sees_whole_tables() -> None:
    tally, stop = Tally(limit=500), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            tally.add(f"s{number % 700}")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    before = 0.0
    try:
        for _ in range(300):
            now = sum(tally.values().values())
            assert now >= before
            before = now
    finally:
        stop.set()
        writer.join()
    assert len(tally.values()) == 501


def test_values_that_do_not_fit_the_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="crosscheck_frames_total"):
        family(names.FRAMES, 1.0)
    with pytest.raises(ValueError, match="histogram"):
        family(names.BATCH_SIZE, 1.0)


def test_a_label_with_quotes_and_newlines_arrives_as_it_was() -> None:
    nasty = 'a"b\\c\nd{}'

    class One:
        def collect(self) -> list[object]:
            return [family(names.FRAMES, {(nasty,): 3.0}), histogram(names.BATCH_SIZE, Histogram((1.0,)))]

    found = samples(Registry(One()).render(None)[0].decode())  # type: ignore[arg-type]
    assert found["crosscheck_frames_total", (("station", nasty),)] == 3
    assert found["crosscheck_batch_size_count", ()] == 0
