"""Labels: in Redis, on the topic and on disk before anybody is told so; first wins unless it is replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from schemas.images import decode_colour, decode_depth
from schemas.label import Label, LabelKind
from schemas.part import PartKey
from schemas.wire import decode_label
from tests.workers.board.setting import LABELS, TOKEN, BoardLine
from tests.workers.frames import colour, depth, frame
from tests.workers.line import FRAMES
from tests.workers.standin import StandInModel
from workers.board.folder import RECORDS
from workers.board.normals import read_normals
from workers.board.review import TTL_S
from workers.bus.base import TopicPartition
from workers.store import keys

ANY_SIZE: dict[str, Any] = {"rgb_size": None, "depth_size": None, "depth_scale": None}


def labels(line: BoardLine) -> list[Label]:
    return [decode_label(record.value) for record in line.read(LABELS)]


def records(line: BoardLine, product: str = "widget") -> list[dict[str, Any]]:
    path = line.settings.review / product / RECORDS
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_a_false_reject_is_in_redis_on_the_topic_and_on_disk_before_it_is_answered(line: BoardLine) -> None:
    (part,) = line.rejected(7)
    line.sign_in(name="Ada")
    answer = line.say(part, "false-reject", note="a new batch of plastic")
    assert answer.status_code == 200
    row = answer.json()["row"]
    assert (row["label"], row["labelled_by"], row["note"]) == (
        "false-reject",
        "Ada",
        "a new batch of plastic",
    )
    assert answer.json()["saved"] == {"rgb": True, "depth": True, "why": None}
    redis: Any = line.redis
    held = redis.hgetall(keys.review(part))
    assert (held[b"label"], held[b"by"]) == (b"false-reject", b"Ada")
    assert 0 < redis.ttl(keys.review(part)) <= TTL_S
    (label,) = labels(line)
    assert (label.part, label.label, label.by, label.note) == (
        part,
        LabelKind.FALSE_REJECT,
        "Ada",
        "a new batch of plastic",
    )
    assert (label.score, label.threshold, label.bundle) == (5.0, 1.0, "widget/1")
    folder = line.settings.review / "widget"
    rgb = cv2.imread(str(folder / "s1-1-7-rgb.png"), cv2.IMREAD_UNCHANGED)
    counts = cv2.imread(str(folder / "s1-1-7-depth.png"), cv2.IMREAD_UNCHANGED)
    assert rgb is not None
    assert counts is not None
    assert np.array_equal(rgb[..., ::-1], decode_colour(colour(7)))
    assert np.array_equal(counts, decode_depth(depth(7)))
    assert counts.dtype == np.uint16


def test_the_queue_shrinks_and_the_rates_count_what_was_said(line: BoardLine) -> None:
    first, second, third = line.rejected(1, 2, 3)
    body = line.browser.get("/api/review").json()
    assert body["waiting"] == 3
    assert [row["part"] for row in body["rows"]] == [str(third), str(second), str(first)]
    line.sign_in()
    line.say(first, "false-reject")
    line.say(second, "true-reject")
    body = line.browser.get("/api/review", params={"limit": 1}).json()
    assert (body["waiting"], len(body["rows"])) == (1, 1)
    station = line.station()
    assert station["false_rejects"] == {"labelled": 2, "false": 1}
    assert station["rates"]["false"] == 0.5
    assert line.state()["review"] == {"waiting": 1}
    scores = line.browser.get("/api/scores", params={"product": "widget", "mode": "FUSED"}).json()
    assert scores["false_rejects"] == {"labelled": 2, "false": 1}
    assert line.browser.get("/api/series").json()["rates"]["false"] == 0.5
    assert line.browser.get(f"/api/part/{first}").json()["row"]["label"] == "false-reject"


def test_the_first_label_stands_unless_it_is_replaced_on_purpose(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in(name="Ada")
    assert line.say(part, "false-reject").status_code == 200
    line.sign_in(name="Bob")
    answer = line.say(part, "true-reject")
    assert answer.status_code == 409
    assert (answer.json()["by"], answer.json()["label"]) == ("Ada", "false-reject")
    assert "Ada" in answer.json()["error"]
    assert line.say(part, "true-reject", replace=True).status_code == 200
    assert [(each.label.value, each.by, each.revision) for each in labels(line)] == [
        ("false-reject", "Ada", 1),
        ("true-reject", "Bob", 2),
    ]
    assert [each["label"] for each in records(line)] == ["false-reject", "true-reject"]
    assert line.station()["false_rejects"] == {"labelled": 1, "false": 0}


def test_the_same_label_again_changes_nothing(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in(name="Ada")
    line.say(part, "false-reject", note="first")
    line.sign_in(name="Bob")
    assert line.say(part, "false-reject", note="second").status_code == 200
    assert {(each.by, each.note, each.revision) for each in labels(line)} == {("Ada", "first", 1)}
    assert line.station()["false_rejects"] == {"labelled": 1, "false": 1}


def test_a_label_that_redis_forgot_still_stands_by_the_topic(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in(name="Ada")
    line.say(part, "false-reject")
    line.redis.delete(keys.review(part))
    answer = line.say(part, "true-reject")
    assert answer.status_code == 409
    assert answer.json()["by"] == "Ada"
    assert line.say(part, "true-reject", replace=True).status_code == 200
    assert labels(line)[-1].revision == 2


def files(line: BoardLine) -> list[str]:
    """What lies in the product's folder itself: there `teach` finds pictures."""
    return sorted(path.name for path in (line.settings.review / "widget").glob("*.png"))


def test_a_label_that_is_taken_back_is_gone_from_redis_topic_folder_and_rates(line: BoardLine) -> None:
    first, second = line.rejected(1, 2)
    line.sign_in(name="Ada")
    line.say(first, "false-reject", note="fine")
    line.say(second, "true-reject")
    assert files(line) == [f"s1-1-{n}-{kind}.png" for n in (1, 2) for kind in ("depth", "rgb")]
    answer = line.say(first, "withdrawn")
    assert answer.status_code == 200
    row = answer.json()["row"]
    assert (row["label"], row["labelled_by"], row["note"]) == (None, None, None)
    assert answer.json()["saved"] == {"rgb": False, "depth": False, "why": "its label was taken back"}
    redis: Any = line.redis
    assert redis.hget(keys.review(first), "label") == b"withdrawn"
    assert [(each.label.value, each.revision) for each in labels(line) if each.part == first] == [
        ("false-reject", 1),
        ("withdrawn", 2),
    ]
    assert files(line) == ["s1-1-2-depth.png", "s1-1-2-rgb.png"]
    assert read_normals(line.settings.review, "widget", **ANY_SIZE).items == ()
    # It waits for a person again, and no rate counts it.
    waiting = line.browser.get("/api/review").json()
    assert (waiting["waiting"], waiting["rows"][0]["part"]) == (1, str(first))
    assert line.station()["false_rejects"] == {"labelled": 1, "false": 0}
    scores = line.browser.get("/api/scores", params={"product": "widget", "mode": "FUSED"}).json()
    assert scores["false_rejects"] == {"labelled": 1, "false": 0}
    assert line.browser.get(f"/api/part/{first}").json()["row"]["label"] is None


def test_a_part_may_be_labelled_again_after_its_label_was_taken_back_even_without_its_frame(
    line: BoardLine,
) -> None:
    (part,) = line.rejected(1)
    line.sign_in(name="Ada")
    line.say(part, "true-reject")
    line.say(part, "withdrawn")
    line.say(part, "withdrawn")
    line.bus.delete_before(TopicPartition(FRAMES, 0), 1)
    line.board.pictures._cache = type(line.board.pictures._cache)()
    line.sign_in(name="Bob")
    answer = line.say(part, "false-reject")
    assert answer.status_code == 200
    assert answer.json()["saved"] == {"rgb": True, "depth": True, "why": None}
    assert labels(line)[-1].revision == 3
    (item,) = read_normals(line.settings.review, "widget", **ANY_SIZE).items
    assert item.name == "s1-1-1"
    assert line.board.feed.waiting(0)[0] == 0


def test_what_somebody_else_said_is_taken_back_only_on_purpose(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in(name="Ada")
    line.say(part, "false-reject")
    line.sign_in(name="Bob")
    answer = line.say(part, "withdrawn")
    assert (answer.status_code, answer.json()["by"]) == (409, "Ada")
    assert files(line)
    assert line.say(part, "withdrawn", replace=True).status_code == 200
    assert files(line) == []


def test_a_label_that_was_never_given_cannot_be_taken_back(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    answer = line.say(part, "withdrawn")
    assert answer.status_code == 409
    assert "no label" in answer.json()["error"]
    assert labels(line) == []


@pytest.mark.parametrize("away", ["redis", "kafka"])
def test_taking_back_without_a_sink_is_refused_and_may_be_said_again(line: BoardLine, away: str) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    line.say(part, "false-reject")
    if away == "redis":
        line.server.connected = False
    else:
        line.bus.interrupt()
    assert line.say(part, "withdrawn").status_code == 503
    line.server.connected = True
    line.bus.restore()
    assert line.say(part, "withdrawn").status_code == 200
    assert [each.label.value for each in labels(line)] == ["false-reject", "withdrawn"]
    assert read_normals(line.settings.review, "widget", **ANY_SIZE).items == ()


def test_a_folder_that_still_says_good_is_told_and_not_taken_for_done(
    line: BoardLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    line.say(part, "false-reject")
    with monkeypatch.context() as broken:

        def full(path: Path, record: object) -> None:
            raise OSError(28, "No space left on device")

        broken.setattr("workers.board.folder._append", full)
        answer = line.say(part, "withdrawn")
        assert answer.status_code == 503
        assert "still stands in the review folder (No space left" in answer.json()["error"]
    assert line.say(part, "withdrawn").status_code == 200
    assert files(line) == []


def test_another_board_learns_that_a_label_was_taken_back(line: BoardLine, tmp_path: Path) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    line.say(part, "false-reject")
    line.say(part, "withdrawn")
    with BoardLine(tmp_path / "other") as other:
        for record in line.read(LABELS):
            other.board.feed.take_label(record, False)
        for record in line.read("inspection.verdicts"):
            other.board.feed.take_verdict(record, False)
        assert other.board.feed.waiting(0)[0] == 1
        assert other.board.feed.newest(1)[0]["label"] is None


def test_another_board_learns_of_labels_from_the_topic(line: BoardLine, tmp_path: Path) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    line.say(part, "false-reject")
    with BoardLine(tmp_path / "other") as other:
        for record in line.read("inspection.verdicts"):
            other.board.feed.take_verdict(record, False)
        assert other.board.feed.waiting(0)[0] == 1
        for record in line.read(LABELS):
            other.board.feed.take_label(record, False)
        assert other.board.feed.waiting(0)[0] == 0
        assert other.board.feed.newest(1)[0]["label"] == "false-reject"


def test_a_label_whose_topic_is_away_is_not_taken_for_said_and_can_be_said_again(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    line.bus.interrupt()
    answer = line.say(part, "false-reject")
    assert answer.status_code == 503
    assert line.board.feed.waiting(0)[0] == 1
    line.bus.restore()
    assert line.say(part, "false-reject").status_code == 200
    assert len(labels(line)) == 1


def test_a_label_without_redis_is_refused_and_not_sent(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    line.server.connected = False
    assert line.say(part, "false-reject").status_code == 503
    line.server.connected = True
    assert labels(line) == []


def test_a_frame_that_kafka_deleted_is_said_and_the_label_still_kept(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    line.bus.delete_before(TopicPartition(FRAMES, 0), 1)
    saved = line.say(part, "false-reject").json()["saved"]
    assert (saved["rgb"], saved["depth"]) == (False, False)
    assert "retention" in saved["why"]
    (record,) = records(line)
    assert (record["label"], record["rgb"], record["depth"]) == ("false-reject", None, None)


def test_pictures_that_were_saved_serve_the_label_that_replaces(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    line.say(part, "true-reject")
    line.bus.delete_before(TopicPartition(FRAMES, 0), 1)
    line.board.pictures._cache = type(line.board.pictures._cache)()
    saved = line.say(part, "false-reject", replace=True).json()["saved"]
    assert (saved["rgb"], saved["depth"]) == (True, True)
    assert records(line)[1]["rgb"] == records(line)[0]["rgb"]


def test_a_folder_that_cannot_be_written_is_said_and_the_label_holds(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    line.settings.review.write_text("a file stands here")
    answer = line.say(part, "false-reject")
    assert answer.status_code == 200
    assert "cannot be written" in answer.json()["saved"]["why"]
    assert len(labels(line)) == 1


@pytest.mark.parametrize("product", ["../../escape", "/etc", "..", "a/b", ".hidden", "con\n", "x" * 100])
def test_a_product_whose_name_is_a_path_is_never_one(line: BoardLine, product: str, tmp_path: Path) -> None:
    (part,) = line.rejected(1, product=product)
    line.sign_in()
    answer = line.say(part, "false-reject")
    assert answer.status_code == 200
    assert "no bundle" in answer.json()["saved"]["why"]
    assert list(tmp_path.rglob("*.png")) == []


def test_what_was_passed_or_is_not_known_is_not_labelled(line: BoardLine) -> None:
    line.inspected(frame(1, captured_at=line.clock.now()), model=StandInModel())
    line.read_all()
    line.sign_in()
    assert line.say(PartKey("s1", 1, 1), "false-reject").status_code == 409
    assert line.say(PartKey("s1", 1, 2), "false-reject").status_code == 404
    assert labels(line) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"label": "good"},
        {"label": None},
        {"label": ["true-reject"]},
        {"label": "true-reject", "note": "x" * 501},
        {"label": "true-reject", "note": 7},
        {"label": "true-reject", "note": "a\x00b"},
        {"label": "true-reject", "note": "\ud800"},
        {"label": "true-reject", "replace": "yes"},
        [],
        "true-reject",
        None,
    ],
)
def test_what_cannot_be_meant_is_refused(line: BoardLine, body: object) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    kind = {"content-type": "application/json"}
    answer = line.browser.post(f"/api/review/{part}", content=json.dumps(body), headers=kind)
    assert answer.status_code == 400
    assert labels(line) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"label":' + b"[" * 5000, b"\xff\xfe", b"x" * 20_000])
def test_a_body_that_is_no_json_or_too_long_is_refused(line: BoardLine, content: bytes) -> None:
    (part,) = line.rejected(1)
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
    answer = line.browser.post(f"/api/review/{part}", content=content, headers=headers)
    assert answer.status_code in (400, 413)


@pytest.mark.parametrize("limit", ["0", "-1", "501", "x", "1e9", "٣", ""])
def test_a_limit_that_is_no_count_is_refused(line: BoardLine, limit: str) -> None:
    assert line.browser.get("/api/review", params={"limit": limit}).status_code == 400


def test_markup_in_a_note_stays_text(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    line.sign_in(name="<b>Ada</b>")
    assert line.say(part, "true-reject", note="<script>x</script>\nsecond line").status_code == 200
    assert labels(line)[0].note == "<script>x</script>\nsecond line"
