"""Hypothesis strategies for every message and image of the schema."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.command import MAX_PREVIOUS, Action, Command
from schemas.fields import INT64_MAX
from schemas.frame import Frame
from schemas.heartbeat import Heartbeat
from schemas.heatmap import Heatmap, HeatmapEncoding
from schemas.images import encode_colour, encode_depth, encode_map
from schemas.label import MAX_BY, MAX_NOTE, Label, LabelKind
from schemas.notice import Notice
from schemas.part import PartKey
from schemas.payload import ColourEncoding, DepthEncoding, ImagePayload
from schemas.verdict import FOREGROUNDS, Decision, Mode, Region, SeenBy, Source, Verdict

SIDES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
colour_arrays = SIDES.flatmap(lambda hw: hnp.arrays(np.uint8, (*hw, 3)))
depth_arrays = SIDES.flatmap(lambda hw: hnp.arrays(np.uint16, hw))
map_arrays = SIDES.flatmap(lambda hw: hnp.arrays(np.uint8, hw))

colour_payloads = st.builds(encode_colour, colour_arrays, st.sampled_from(ColourEncoding))
depth_payloads = st.builds(encode_depth, depth_arrays, st.sampled_from(DepthEncoding))
map_payloads = st.builds(encode_map, map_arrays, st.sampled_from(HeatmapEncoding))
payloads: st.SearchStrategy[ImagePayload] = st.one_of(colour_payloads, depth_payloads, map_payloads)

stations = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
times = st.integers(0, INT64_MAX)
parts = st.builds(PartKey, stations, times, times)
texts = st.text(min_size=1, max_size=40)
numbers = st.floats(allow_nan=False, allow_infinity=False)
tables = st.dictionaries(texts, numbers, max_size=8)
maybe_text = st.none() | texts
sides = st.integers(0, 2**20)
regions = st.builds(Region, sides, sides, sides, sides, numbers, st.none() | st.sampled_from(SeenBy))


@st.composite
def frames(draw: Any) -> Frame:
    rgb, depth = draw(st.none() | colour_payloads), draw(st.none() | depth_payloads)
    if rgb is None and depth is None:
        rgb = draw(colour_payloads)
    captured, deadline = sorted((draw(times), draw(times)))
    return Frame(
        part=draw(parts),
        product=draw(texts),
        captured_at=captured,
        deadline=deadline,
        rgb=rgb,
        depth=depth,
        depth_scale=draw(st.none() | st.floats(1e-9, 1.0)),
        encoder=draw(st.none() | st.integers(-INT64_MAX, INT64_MAX)),
        calibration=draw(maybe_text),
        expects=draw(st.sampled_from([("rgb",), ("depth",), ("rgb", "depth"), ("depth", "rgb")])),
    )


@st.composite
def verdicts(draw: Any) -> Verdict:
    decision = draw(st.sampled_from(Decision))
    score, threshold = draw(numbers), draw(numbers)
    if decision is Decision.PASS:
        score, threshold = min(score, threshold), max(score, threshold)
    proven = decision is Decision.PASS or draw(st.booleans())
    return Verdict(
        part=draw(parts),
        product=draw(texts),
        decision=decision,
        captured_at=draw(times),
        decided_at=draw(times),
        deadline=draw(times),
        worker=draw(texts),
        mode=draw(st.sampled_from(Mode)) if proven else None,
        score=score if proven else None,
        threshold=threshold if proven else None,
        degraded=tuple(draw(st.lists(texts, max_size=4))),
        coverage=draw(st.floats(0.0, 1.0)),
        branches=draw(tables),
        regions=tuple(draw(st.lists(regions, max_size=4))),
        bundle=draw(texts) if proven else None,
        bundle_hash=draw(texts) if proven else None,
        sources=tuple(draw(st.lists(st.builds(Source, texts, times, times), max_size=4))),
        attempt=draw(st.integers(1, 100)),
        reason=draw(maybe_text),
        timings=draw(tables),
        heatmap_key=draw(maybe_text),
        foreground=draw(st.none() | st.sampled_from(FOREGROUNDS)),
    )


@st.composite
def heatmaps(draw: Any) -> Heatmap:
    low, high = sorted((draw(numbers), draw(numbers)))
    return Heatmap(
        part=draw(parts), mode=draw(st.sampled_from(Mode)), image=draw(map_payloads), low=low, high=high
    )


@st.composite
def notices(draw: Any) -> Notice:
    captured, deadline = sorted((draw(times), draw(times)))
    return Notice(
        part=draw(parts), product=draw(texts), captured_at=captured, deadline=deadline, why=draw(texts)
    )


heartbeats = st.builds(
    Heartbeat,
    station=stations,
    agent=texts,
    sent_at=times,
    run=times,
    triggers=times,
    buffered=times,
    dropped=times,
)


digests = st.just("0f" * 32)
_TARGETS: dict[Action, st.SearchStrategy[str]] = {Action.PRODUCT: stations, Action.CONFIRM: parts.map(str)}


@st.composite
def _commands(draw: Any) -> Command:
    action = draw(st.sampled_from(Action))
    return Command(
        id=draw(texts),
        action=action,
        issued_at=draw(times),
        target=draw(_TARGETS.get(action, texts)),
        product=draw(texts),
        value=draw(texts),
        since=draw(st.none() | st.just(0)),
        previous=tuple(draw(st.lists(texts, max_size=MAX_PREVIOUS))),
        digest=draw(digests if action is Action.CONFIRM else st.none() | digests),
    )


commands = _commands()

labels = st.builds(
    Label,
    part=parts,
    product=texts,
    decision=st.sampled_from([Decision.REJECT, Decision.REVIEW]),
    label=st.sampled_from(LabelKind),
    at=times,
    by=st.text(min_size=1, max_size=MAX_BY),
    note=st.text(max_size=MAX_NOTE),
    revision=st.integers(1, INT64_MAX),
    mode=st.none() | st.sampled_from(Mode),
    score=st.none() | numbers,
    threshold=st.none() | numbers,
    bundle=maybe_text,
)
