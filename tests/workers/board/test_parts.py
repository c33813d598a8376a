"""A part's images: as they were sent, from the records its verdict names; what is gone is said to be gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from inference.inspection import HeatmapArray
from schemas.frame import Frame
from schemas.images import encode_colour, encode_depth
from schemas.part import PartKey
from schemas.payload import ColourEncoding, DepthEncoding, ImagePayload
from schemas.verdict import Decision, Source, Verdict
from tests.workers.board.setting import BoardLine, bad
from tests.workers.frames import frame
from tests.workers.line import FRAMES
from tests.workers.standin import StandInModel, inspection
from workers.board import app as app_module
from workers.board import pictures as pictures_module
from workers.board.pictures import Cache, Images, Reach, Reaches, grey
from workers.bus.base import TopicPartition

COLOUR = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
DEPTH = np.array([[0, 1000], [2000, 3000]], np.uint16)


def shown(line: BoardLine, part: PartKey, name: str) -> Any:
    answer = line.browser.get(f"/api/part/{part}/{name}")
    assert answer.status_code == 200, answer.text
    assert "immutable" in answer.headers["cache-control"]
    image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def sent(line: BoardLine, trigger: int = 1, **images: Any) -> PartKey:
    made = frame(trigger, captured_at=line.clock.now())
    (part,) = line.inspected(replace(made, **images))
    line.read_all()
    return part


@pytest.mark.parametrize("encoding", list(ColourEncoding))
def test_colour_comes_as_it_was_sent(line: BoardLine, encoding: ColourEncoding) -> None:
    payload = encode_colour(COLOUR, encoding)
    part = sent(line, rgb=payload)
    answer = line.browser.get(f"/api/part/{part}/rgb")
    assert answer.status_code == 200
    kind = "image/jpeg" if encoding is ColourEncoding.JPEG else "image/png"
    assert answer.headers["content-type"] == kind
    if encoding is not ColourEncoding.RAW:
        assert answer.content == payload.data
    else:
        found = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert found is not None
        assert np.array_equal(found[..., ::-1], COLOUR)


@pytest.mark.parametrize("encoding", list(DepthEncoding))
def test_depth_comes_as_grey_near_light_and_what_was_not_read_black(
    line: BoardLine, encoding: DepthEncoding
) -> None:
    image = shown(line, sent(line, depth=encode_depth(DEPTH, encoding)), "depth.png")
    assert image.dtype == np.uint8
    assert image[0, 0] == 0
    assert image[0, 1] > image[1, 0] > image[1, 1] > 0


def test_depth_without_any_reading_is_black() -> None:
    assert not grey(np.zeros((3, 3), np.uint16)).any()


def test_sensors_that_came_in_records_of_their_own_are_put_together(line: BoardLine) -> None:
    both = frame(1, captured_at=line.clock.now())
    inspector = line.worker(bad())
    line.send(replace(both, depth=None))
    line.send(replace(both, rgb=None))
    line.turn(inspector, lambda: len(line.verdicts()) == 1)
    inspector.close()
    line.read_all()
    body = line.browser.get(f"/api/part/{both.part}").json()
    reach = body["images"].pop("depth_reach")
    assert body["images"] == {"rgb": True, "depth": True, "heatmap": None}
    assert reach["near"] < 1000 < 3000 < reach["far"]
    shown(line, both.part, "rgb")
    shown(line, both.part, "depth.png")


def test_a_heatmap_comes_with_the_scale_of_its_values(line: BoardLine) -> None:
    values = np.arange(16, dtype=np.uint8).reshape(4, 4)
    model = StandInModel(
        lambda sample: replace(inspection(5.0), heatmap=HeatmapArray(values=values, low=-1.0, high=9.0))
    )
    (part,) = line.inspected(frame(1, captured_at=line.clock.now()), model=model)
    line.read_all()
    facts = line.browser.get(f"/api/part/{part}").json()["images"]["heatmap"]
    assert facts == {"low": -1.0, "high": 9.0, "mode": "FUSED", "width": 4, "height": 4}
    assert np.array_equal(shown(line, part, "heatmap.png"), values)


def test_what_retention_took_is_said_and_the_verdict_still_shown(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.bus.delete_before(TopicPartition(FRAMES, 0), 1)
    body = line.browser.get(f"/api/part/{part}").json()
    assert body["row"]["decision"] == "REJECT"
    assert body["images"] == {"rgb": False, "depth": False, "heatmap": None, "depth_reach": None}
    for name in ("rgb", "depth.png"):
        answer = line.browser.get(f"/api/part/{part}/{name}")
        assert answer.status_code == 404
        assert "retention" in answer.json()["error"]
        assert answer.headers["cache-control"] == "no-store"
    assert "ten minutes" in line.browser.get(f"/api/part/{part}/heatmap.png").json()["error"]


def test_an_image_that_was_looked_at_is_still_shown_when_kafka_has_lost_it(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    shown(line, part, "rgb")
    line.bus.delete_before(TopicPartition(FRAMES, 0), 1)
    shown(line, part, "rgb")


def test_a_part_from_before_the_board_began_is_found_in_redis(line: BoardLine) -> None:
    (part,) = line.inspected(frame(1, captured_at=line.clock.now()))
    assert line.browser.get(f"/api/part/{part}").json()["row"]["part"] == str(part)
    shown(line, part, "rgb")


def test_a_record_of_another_part_is_never_shown(line: BoardLine) -> None:
    first, _ = line.rejected(1, 2)
    source = Source(FRAMES, 0, 0)
    lie = Verdict(
        part=PartKey("s1", 9, 9),
        product="widget",
        decision=Decision.REJECT,
        captured_at=1,
        decided_at=2,
        deadline=3,
        worker="w1",
        sources=(source,),
    )
    line.store.decide(lie)
    assert line.browser.get("/api/part/s1/9/9/rgb").status_code == 404
    assert shown(line, first, "rgb") is not None


def test_a_sensor_that_gave_nothing_is_told_from_one_that_is_gone(line: BoardLine) -> None:
    inspector = line.worker(bad(), pair_wait_ms=10)
    line.send(frame(1, with_depth=False, captured_at=line.clock.now()))
    line.turn(inspector, lambda: len(line.verdicts()) == 1)
    inspector.close()
    line.read_all()
    assert line.browser.get("/api/part/s1/1/1").json()["images"]["rgb"] is True
    answer = line.browser.get("/api/part/s1/1/1/depth.png")
    assert answer.status_code == 404
    assert "gave no image" in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "s1/1/x",
        "s1/1/-1",
        "s1/1/99999999999999999999",
        "../1/1",
        "s1%2F..%2F/1/1",
        "<img src=x>/1/1",
        "s1/1/1/../../etc",
        "s1/1/1/passwd",
        "s1/1/1/rgb%00",
        "{s1}/1/1",
        "%F0%9F%98%80/1/1",
    ],
)
def test_what_is_no_part_is_not_found(line: BoardLine, path: str) -> None:
    line.rejected(1)
    answer = line.browser.get(f"/api/part/{path}")
    assert answer.status_code == 404
    assert "<img" not in answer.text


def test_an_image_whose_bytes_are_another_image_is_not_shown(line: BoardLine) -> None:
    part = PartKey("s1", 1, 1)
    png = encode_colour(COLOUR, ColourEncoding.PNG)
    lie = ImagePayload.of("jpeg", 4, 4, b"<script>alert(1)</script>")
    huge = ImagePayload.of("png", 16_000, 16_000, png.data)
    for number, payload in enumerate((lie, huge)):
        now = line.clock.now()
        made: Frame = replace(frame(1, captured_at=now), part=replace(part, trigger=number), rgb=payload)
        line.send(made)
        line.store.decide(
            Verdict(
                part=made.part,
                product="widget",
                decision=Decision.ERROR,
                captured_at=now,
                decided_at=now,
                deadline=now,
                worker="w1",
                sources=(Source(FRAMES, 0, number),),
            )
        )
        answer = line.browser.get(f"/api/part/{made.part}/rgb")
        assert answer.status_code == 404
        assert "cannot be shown" in answer.json()["error"]
        assert b"<script>" not in answer.content


def test_an_image_too_large_to_show_is_refused_unseen(
    line: BoardLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures_module, "MAX_PIXELS", 10)
    part = sent(line, rgb=encode_colour(COLOUR, ColourEncoding.JPEG), depth=encode_depth(DEPTH))
    assert "more than 10 pixels" in line.browser.get(f"/api/part/{part}/rgb").json()["error"]
    assert line.browser.get(f"/api/part/{part}/depth.png").status_code == 200


def test_the_cache_holds_what_was_looked_at_last_within_its_bytes() -> None:
    cache = Cache(1000)

    def images(size: int) -> Images:
        return Images(rgb=ImagePayload.of("raw", 1, 1, bytes(size)))

    for trigger in range(5):
        cache.put(PartKey("s1", 1, trigger), images(100))
        cache.get(PartKey("s1", 1, 0))
    assert cache.size <= 1000
    assert cache.get(PartKey("s1", 1, 0)) is not None
    assert cache.get(PartKey("s1", 1, 1)) is None
    cache.put(PartKey("s1", 1, 9), images(5000))
    assert cache.get(PartKey("s1", 1, 9)) is None
    assert cache.get(PartKey("s1", 1, 4)) is not None


def test_more_lookers_than_are_allowed_are_told_to_come_again(
    line: BoardLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (part,) = line.rejected(1)
    monkeypatch.setattr(app_module, "MOST_LOOKING", 0)
    answer = line.browser.get(f"/api/part/{part}/rgb")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


def test_kafka_that_is_away_is_said(line: BoardLine, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = line.rejected(1)
    monkeypatch.setattr(pictures_module, "FETCH_S", 0.1)
    line.bus.interrupt()
    answer = line.browser.get(f"/api/part/{part}/rgb")
    assert answer.status_code == 503
    line.bus.restore()
    shown(line, part, "rgb")


def test_a_heatmap_that_cannot_be_read_leaves_the_part_shown(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.store.put_heatmap(part, b"\xc1 no message")
    assert line.browser.get(f"/api/part/{part}").json()["images"]["heatmap"] is None
    assert line.browser.get(f"/api/part/{part}/heatmap.png").status_code == 404


def test_markup_in_a_product_stays_text(line: BoardLine) -> None:
    name = '</script><img src=x onerror="alert(1)">'
    line.inspected(frame(1, captured_at=line.clock.now(), product=name))
    line.read_all()
    answer = line.browser.get("/api/state")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["stations"][0]["product"] == name


def test_depth_of_a_product_is_drawn_on_one_scale_that_one_bad_reading_does_not_move(line: BoardLine) -> None:
    parts = line.rejected(1, 2, 3)
    reaches = [line.browser.get(f"/api/part/{part}").json()["images"]["depth_reach"] for part in parts]
    assert all(reach["near"] < reach["far"] for reach in reaches)
    assert all(reach["unit"] in ("mm", "counts") for reach in reaches)
    asked = {"near": reaches[-1]["near"], "far": reaches[-1]["far"]}
    pictures = [line.browser.get(f"/api/part/{part}/depth.png", params=asked) for part in parts]
    assert [each.status_code for each in pictures] == [200] * 3


@pytest.mark.parametrize(
    "asked", [{"near": "5"}, {"near": "9", "far": "3"}, {"near": "x", "far": "9"}, {"near": "-1", "far": "9"}]
)
def test_a_scale_of_depth_that_is_none_is_refused(line: BoardLine, asked: dict[str, str]) -> None:
    (part,) = line.rejected(1)
    answer = line.browser.get(f"/api/part/{part}/depth.png", params=asked)
    assert answer.status_code == 400
    assert "near under far" in answer.json()["error"]


def test_one_part_read_as_nonsense_does_not_change_the_scale_of_the_others() -> None:
    reaches = Reaches()
    rng = np.random.default_rng(1)

    def seen(trigger: int, low: int, high: int) -> Reach:
        image = rng.integers(low, high, (40, 40), dtype=np.uint16)
        verdict = Verdict(
            part=PartKey("s1", 1, trigger),
            product="p",
            decision=Decision.REJECT,
            captured_at=1,
            decided_at=1,
            deadline=1,
            worker="w",
        )
        return reaches.of(verdict, encode_depth(image))

    usual = [seen(n, 4000, 4400) for n in range(8)]
    after = [seen(99, 1, 60_000), *(seen(n, 4000, 4400) for n in range(10, 14))]
    assert len({*usual, *after}) == 1, "its ends are round: no part moves them"
    assert usual[0].near < 4000 < 4400 < usual[0].far
    assert usual[0].to_map(1e-4)["shown"] == pytest.approx([usual[0].near / 10, usual[0].far / 10])
    assert usual[0].to_map(None)["unit"] == "counts"
