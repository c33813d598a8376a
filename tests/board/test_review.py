"""Review by somebody who is signed in, and nobody else."""

from __future__ import annotations

from typing import cast

from playwright.sync_api import Page, expect

from schemas.label import Label, LabelKind
from schemas.part import PartKey
from schemas.wire import decode_label
from tests.board.browsing import Watched
from tests.board.rig import PRODUCT, TOKEN, BoardLine
from tests.e2e.processes import wait_until
from tests.e2e.topics import records_of
from workers.board.folder import stem_of
from workers.board.normals import read_normals
from workers.store import keys


def sign_in(page: Page, name: str = "Ada") -> None:
    """As an operator does."""
    page.get_by_role("button", name="Sign in").first.click()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator("#sign")).to_have_text("Sign out")


def labels(line: BoardLine, part: PartKey) -> list[Label]:
    """What the labels topic says of a part."""
    found = [decode_label(record.value) for record in records_of(line.bus, line.settings.topic("labels"))]
    return [label for label in found if label.part == part]


def open_review(page: Page, line: BoardLine, part: PartKey) -> None:
    """The queue with this part open."""
    page.goto(f"{line.board.url}#/review")
    page.locator(".queue-part").filter(has_text=f"{part.station} #{part.trigger}").first.click()
    expect(page.locator(".base[aria-pressed=true]")).to_have_count(1)


def test_without_signing_in_everything_is_seen_and_nothing_can_be_labelled(
    page: Page, watch: Watched, line: BoardLine
) -> None:
    verdict = line.inspect("weld-1", "shape", 0)
    open_review(page, line, verdict.part)
    expect(page.locator(".locked")).to_contain_text("Read only")
    expect(page.locator(".act.true")).to_be_disabled()
    page.keyboard.press("t")
    expect(page.locator("#login")).to_be_visible()
    page.keyboard.press("Escape")
    watch.allowed.append("401")
    status = page.evaluate(
        """async (part) => (await fetch(`api/review/${part}`, {method: "POST",
          headers: {"content-type": "application/json"}, body: '{"label": "true-reject"}'})).status""",
        str(verdict.part),
    )
    assert status == 401
    assert labels(line, verdict.part) == []


def test_a_wrong_token_is_refused_in_words(page: Page, watch: Watched, line: BoardLine) -> None:
    watch.allowed.append("401")
    page.keyboard.press("l")
    page.get_by_label("Token").fill("guessed wrongly")
    page.keyboard.press("Enter")
    expect(page.locator("#login-wrong")).to_have_text("That is not the token.")
    expect(page.locator("#login")).to_be_visible()


def test_a_key_labels_a_part_in_redis_and_on_the_topic_and_the_label_stays(
    page: Page, line: BoardLine
) -> None:
    verdict = line.inspect("weld-1", "colour", 1)
    part = verdict.part
    sign_in(page)
    open_review(page, line, part)
    page.keyboard.press("n")
    page.keyboard.type("a scratch, seen at station 3")
    page.keyboard.press("Enter")
    page.keyboard.press("t")
    expect(page.locator(".told")).to_have_text(f"weld-1 #{part.trigger}: true reject.")
    wait_until(lambda: len(labels(line, part)) == 1, 10.0, "the label on its topic")
    (label,) = labels(line, part)
    assert (label.label, label.by) == (LabelKind.TRUE_REJECT, "Ada")
    assert label.note == "a scratch, seen at station 3"
    stored = cast("dict[bytes, bytes]", line.store.client.hgetall(keys.review(part)))
    assert stored[b"label"] == b"true-reject"
    page.reload()
    expect(page.locator("#sign")).to_have_text("Sign out")
    expect(page.locator(".queue-part").filter(has_text=f"weld-1 #{part.trigger}")).to_have_count(0)
    page.goto(f"{line.board.url}#/part/{part}")
    expect(page.locator(".facts-list")).to_contain_text("true reject")


def test_a_label_can_be_taken_back_and_another_one_put_in_its_place(page: Page, line: BoardLine) -> None:
    part = line.inspect("weld-1", "both", 2).part
    sign_in(page)
    open_review(page, line, part)
    page.keyboard.press("f")
    expect(page.locator(".told")).to_contain_text("false reject")
    folder = line.settings.review / PRODUCT
    pictures = [folder / f"{stem_of(part)}-{kind}.png" for kind in ("rgb", "depth")]
    assert all(path.exists() for path in pictures)
    page.keyboard.press("u")
    expect(page.locator(".told")).to_have_text(
        f"weld-1 #{part.trigger}: the label false reject is taken back; the part waits again."
    )
    # Nothing is left of it: not in Redis, not on the topic, not where `teach` reads.
    assert [label.label for label in labels(line, part)] == [LabelKind.FALSE_REJECT, LabelKind.WITHDRAWN]
    stored = cast("dict[bytes, bytes]", line.store.client.hgetall(keys.review(part)))
    assert stored[b"label"] == b"withdrawn"
    assert not any(path.exists() for path in pictures)
    taught = read_normals(line.settings.review, PRODUCT, rgb_size=None, depth_size=None, depth_scale=None)
    assert stem_of(part) not in [item.name for item in taught.items]
    expect(page.locator('.queue-part[aria-current="true"]')).to_contain_text(f"weld-1 #{part.trigger}")
    page.keyboard.press("t")
    expect(page.locator(".told")).to_have_text(f"weld-1 #{part.trigger}: true reject.")
    wait_until(lambda: len(labels(line, part)) == 3, 10.0, "the second label on its topic")
    assert labels(line, part)[-1].label is LabelKind.TRUE_REJECT


def test_a_label_is_taken_back_from_the_parts_own_page_long_after(page: Page, line: BoardLine) -> None:
    part = line.inspect("weld-1", "shape", 1).part
    sign_in(page)
    open_review(page, line, part)
    page.keyboard.press("f")
    expect(page.locator(".told")).to_contain_text("false reject")
    page.goto(f"{line.board.url}#/part/{part}")
    page.get_by_role("button", name="Take back the label false reject").click()
    expect(page.locator(".facts-list")).not_to_contain_text("false reject")
    expect(page.get_by_role("button", name="Take back")).to_have_count(0)
    assert labels(line, part)[-1].label is LabelKind.WITHDRAWN


def test_a_key_pressed_before_signing_in_is_asked_for_again_after_it(page: Page, line: BoardLine) -> None:
    part = line.inspect("weld-1", "both", 1).part
    open_review(page, line, part)
    page.keyboard.press("f")
    expect(page.locator("#login")).to_be_visible()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Your name").fill("Ada")
    page.keyboard.press("Enter")
    conflict = page.locator(".conflict")
    expect(conflict).to_contain_text(f"You chose “false reject” for weld-1 #{part.trigger} before")
    assert labels(line, part) == [], "nothing is labelled in silence"
    conflict.get_by_role("button", name="No").click()
    expect(conflict).to_be_hidden()
    assert labels(line, part) == []
    page.locator("#sign").click()
    expect(page.locator("#sign")).to_have_text("Sign in")
    page.keyboard.press("t")
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(conflict).to_contain_text("You chose “true reject”")
    page.keyboard.press("Enter")
    expect(page.locator(".told")).to_have_text(f"weld-1 #{part.trigger}: true reject.")
    assert [label.label for label in labels(line, part)] == [LabelKind.TRUE_REJECT]


def test_a_label_that_somebody_else_gave_meanwhile_is_shown_with_the_name(
    page: Page, watch: Watched, line: BoardLine
) -> None:
    part = line.inspect("weld-1", "shape", 2).part
    watch.allowed.append("409")
    sign_in(page, "Grace")
    open_review(page, line, part)
    said = page.evaluate(
        """async (part) => (await fetch(`api/review/${part}`, {method: "POST",
          headers: {"content-type": "application/json"}, body: '{"label": "false-reject"}'})).status""",
        str(part),
    )
    assert said == 200
    page.keyboard.press("t")
    expect(page.locator(".conflict")).to_contain_text("labelled false reject by Grace")
    page.get_by_role("button", name="Replace by true reject").click()
    expect(page.locator(".told")).to_have_text(f"weld-1 #{part.trigger}: true reject.")
    wait_until(lambda: len(labels(line, part)) == 2, 10.0, "the second label on its topic")
    assert labels(line, part)[-1].label is LabelKind.TRUE_REJECT


def test_skip_leaves_the_part_to_others(page: Page, line: BoardLine) -> None:
    part = line.inspect("weld-1", "colour", 2).part
    open_review(page, line, part)
    page.keyboard.press("s")
    expect(page.locator(".told")).to_contain_text("skipped")
    expect(page.locator(".queue-part").filter(has_text=f"weld-1 #{part.trigger}")).to_have_count(0)
    assert labels(line, part) == []


def test_keys_typed_into_the_note_are_text(page: Page, line: BoardLine) -> None:
    part = line.inspect("weld-1", "both", 0).part
    sign_in(page)
    open_review(page, line, part)
    page.locator("#note").focus()
    page.keyboard.type("tfsu?")
    expect(page.locator("#note")).to_have_value("tfsu?")
    assert labels(line, part) == []
