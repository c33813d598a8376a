"""Ids follow from part keys; what travels is a W3C traceparent; a ratio keeps the same parts everywhere."""

from __future__ import annotations

import re
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import SpanContext

from schemas.part import PartKey
from workers.tracing.context import Context, Sampler, context, span_id, trace_id

PARTS = st.builds(
    PartKey,
    st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True),
    st.integers(0, 2**63 - 1),
    st.integers(0, 10**9),
)


def test_anybody_can_work_out_the_trace_of_a_part() -> None:
    # What the operating guide says; a site's own tools rely on it.
    expected = blake2b(b"s1/1700000000000000000/7", digest_size=16).hexdigest()
    assert f"{trace_id(b's1/1700000000000000000/7'):032x}" == expected
    assert context(PartKey("s1", 1700000000000000000, 7), "capture").trace == int(expected, 16)


@given(PARTS, st.booleans())
def test_the_header_is_read_as_it_was_written(part: PartKey, sampled: bool) -> None:
    written = Context(trace_id(str(part).encode()), span_id(str(part).encode(), "capture"), sampled)
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", written.header())
    assert Context.parse(written.header()) == written


@given(PARTS)
def test_opentelemetry_reads_our_header_as_we_mean_it(part: PartKey) -> None:
    ours = context(part, "capture")
    carrier = {"traceparent": ours.header().decode()}
    found = TraceContextTextMapPropagator().extract(carrier)
    [span] = found.values()
    theirs: SpanContext = span.get_span_context()  # type: ignore[attr-defined]
    assert (theirs.trace_id, theirs.span_id, theirs.trace_flags.sampled) == (ours.trace, ours.span, True)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        b"\xff" * 55,
        b"ff-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"1" * 32 + b"-" + b"0" * 16 + b"-01",
        b"00-" + b"A" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01-more",
    ],
)
def test_a_header_that_is_none_is_left_alone(header: bytes) -> None:
    assert Context.parse(header) is None


@given(st.binary(max_size=120))
def test_no_bytes_of_a_header_do_harm(header: bytes) -> None:
    Context.parse(header)


def test_a_header_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    found = Context.parse(b"01-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01-what-comes-later")
    assert found == Context(int("1" * 32, 16), int("2" * 16, 16), True)


@given(st.sets(PARTS, min_size=1, max_size=50))
def test_no_two_parts_and_no_two_spans_share_an_id(parts: set[PartKey]) -> None:
    keys = [str(part).encode() for part in parts]
    assert len({trace_id(key) for key in keys}) == len(keys)
    assert len({span_id(key, name) for key in keys for name in ("capture", "gate", "part w1")}) == 3 * len(
        keys
    )


@given(PARTS, st.sampled_from([0.0, 0.01, 0.5, 1.0]))
def test_a_ratio_keeps_what_opentelemetrys_own_sampler_keeps(part: PartKey, ratio: float) -> None:
    trace = trace_id(str(part).encode())
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace, "capture").decision
    assert Sampler(ratio)(trace) is (theirs is Decision.RECORD_AND_SAMPLE)


def test_a_ratio_keeps_about_its_share() -> None:
    sampler = Sampler(0.1)
    kept = sum(sampler(trace_id(str(PartKey("s1", 1, number)).encode())) for number in range(10_000))
    assert 900 < kept < 1100
    assert all(Sampler()(trace_id(str(PartKey("s1", 1, number)).encode())) for number in range(1000))
