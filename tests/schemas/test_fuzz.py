"""Hostile messages, a short run: only schema errors come of them, and memory stays bounded."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.images import BYTES_PER_PIXEL
from schemas.wire import MAX_OVERHEAD_BYTES
from tests.schemas.mutations import MAX_PIXELS, READERS, attack, corpus, mutate, right_checksums

SEEDS = corpus()


def test_every_reader_reads_a_message_of_the_corpus_and_refuses_the_others() -> None:
    # Were this not so, the attacks below would end at the door.
    endings = [attack(data) for data in SEEDS]
    for name in READERS:
        assert {"read"} < {ending[name] for ending in endings}, name
    decoded = {label for ending in endings for label, end in ending.items() if end == "decoded"}
    assert {label.split("/")[1] for label in decoded} == {
        "jpeg", "png", "raw", "png16", "raw16", "delta16", "png8", "raw8",
    }  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.randoms(use_true_random=False))
def test_changed_messages_are_read_or_refused(random: Random) -> None:
    attack(mutate(random, SEEDS))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.binary(max_size=64), st.integers(0, 2**16))
def test_messages_with_bytes_in_the_middle_are_read_or_refused(
    seed: bytes, middle: bytes, place: int
) -> None:
    at = place % len(seed)
    attack(seed[:at] + middle + seed[at + len(middle) :])


def test_changed_messages_take_no_more_memory_than_a_message_may(capfd: pytest.CaptureFixture[str]) -> None:
    random, most, endings = Random(3), 0, Counter[str]()
    attack(SEEDS[0])
    tracemalloc.start()
    try:
        for _ in range(600):
            data = mutate(random, SEEDS)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            endings.update(attack(data).values())
            most = max(most, tracemalloc.get_traced_memory()[1] - before - 4 * len(data))
    finally:
        tracemalloc.stop()
    assert most < MAX_OVERHEAD_BYTES + MAX_PIXELS * BYTES_PER_PIXEL
    # The run went deep: every kind of refusal was met, and images were decoded all the same.
    expected = {"read", "decoded", "BadImage", "DigestMismatch", "InvalidField", "MalformedMessage"}
    assert expected | {"MessageTooLarge", "UnsupportedVersion"} <= set(endings)
    capfd.readouterr()  # the image libraries complain of what they refuse


def test_a_png_keeps_its_bytes_when_its_checksums_are_right() -> None:
    png = next(seed for seed in SEEDS if seed.startswith(b"\x89PNG"))
    assert right_checksums(png) == png
    assert right_checksums(png[:-1] + bytes([png[-1] ^ 1])) == png
