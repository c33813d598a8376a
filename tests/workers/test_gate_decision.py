"""The decision: only a standing PASS of that very part opens, whatever else the bytes may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import SchemaError
from schemas.verdict import Decision
from schemas.wire import decode_verdict, encode
from tests.workers.gate_line import RUN, key, verdict
from workers.gate import GateDecision, Reason, decide

DUE = RUN + 10**9
PART = key(7)


def test_the_pass_of_that_part_opens_up_to_the_deadline() -> None:
    raw = encode(verdict(PART))
    for now in (RUN, DUE):
        assert decide(PART, raw, now, DUE) == GateDecision(PART, True, Decision.PASS, Reason.PASS)


def test_a_pass_seen_after_the_deadline_never_opens() -> None:
    found = decide(PART, encode(verdict(PART)), DUE + 1, DUE, hold=10**9)
    assert found == GateDecision(PART, False, Decision.MISSING, Reason.LATE)


def test_a_pass_seen_in_time_opens_only_while_the_part_is_there() -> None:
    raw = encode(verdict(PART))
    assert decide(PART, raw, DUE + 5, DUE, seen_at=DUE, hold=5).opened
    behind = decide(PART, raw, DUE + 6, DUE, seen_at=DUE, hold=5)
    assert behind == GateDecision(PART, False, Decision.STALE, Reason.BEHIND)


def test_no_verdict_is_missing() -> None:
    assert decide(PART, None, RUN, DUE) == GateDecision(PART, False, Decision.MISSING, Reason.MISSING)


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        (Decision.REJECT, Reason.REJECT),
        (Decision.REVIEW, Reason.REVIEW),
        (Decision.STALE, Reason.STALE),
        (Decision.ERROR, Reason.ERROR),
        (Decision.MISSING, Reason.MISSING),
    ],
)
def test_every_other_verdict_keeps_it_closed_and_says_why(decision: Decision, reason: Reason) -> None:
    found = decide(PART, encode(verdict(PART, decision)), RUN, DUE)
    assert found == GateDecision(PART, False, decision, reason)


@pytest.mark.parametrize("other", [key(6), key(8), key(7, RUN + 1), key(7, RUN - 1)])
def test_the_pass_of_a_neighbour_never_opens(other: object) -> None:
    raw = encode(verdict(other))  # type: ignore[arg-type]
    assert decide(PART, raw, RUN, DUE) == GateDecision(PART, False, Decision.ERROR, Reason.OTHER_PART)


def test_a_pass_without_its_proof_never_opens() -> None:
    raw = encode(verdict(PART, Decision.REVIEW, score=3.0)).replace(b"REVIEW", b"PASS")
    forged = raw.replace(b"\xa6PASS", b"\xa4PASS")
    assert decide(PART, forged, RUN, DUE).reason is Reason.UNREADABLE


@given(st.binary(max_size=300))
def test_any_bytes_keep_it_closed(raw: bytes) -> None:
    assert decide(PART, raw, RUN, DUE).reason is Reason.UNREADABLE


@given(
    st.sampled_from([d for d in Decision if d is not Decision.PASS]),
    st.sets(st.integers(min_value=0, max_value=8 * 500), min_size=1, max_size=3),
)
def test_flipped_bits_never_turn_another_verdict_into_a_pass(decision: Decision, bits: set[int]) -> None:
    raw = bytearray(encode(verdict(PART, decision)))
    for bit in bits:
        raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    assert not decide(PART, bytes(raw), RUN, DUE).opened


def test_no_single_flipped_bit_makes_a_pass_open_for_what_it_does_not_prove() -> None:
    original = encode(verdict(PART))
    for bit in range(8 * len(original)):
        raw = bytearray(original)
        raw[bit // 8] ^= 1 << bit % 8
        found = decide(PART, bytes(raw), RUN, DUE)
        try:
            reread = decode_verdict(bytes(raw))
        except SchemaError:
            assert not found.opened
            continue
        proven = reread.part == PART and reread.decision is Decision.PASS
        assert found.opened is proven
        if proven:
            assert reread.score is not None
            assert reread.threshold is not None
            assert reread.score <= reread.threshold


@given(st.integers(min_value=0, max_value=499))
def test_a_truncated_pass_never_opens(length: int) -> None:
    raw = encode(verdict(PART))
    assert not decide(PART, raw[: length % len(raw)], RUN, DUE).opened


def test_an_open_gate_without_a_pass_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="opened=True"):
        GateDecision(PART, True, Decision.REVIEW, Reason.PASS)
    with pytest.raises(ValueError, match="opened=False"):
        GateDecision(PART, False, Decision.PASS, Reason.PASS)
