"""Who may act: only who knows the token, from the board's own page; nobody learns it by trying."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.workers.board.setting import TOKEN, BoardLine
from workers.board.auth import FIRST_WAIT_S, LONGEST_WAIT_S, SESSION_S
from workers.board.guard import Hosts
from workers.errors import SettingsError


def test_without_a_token_actions_are_refused_and_say_how_to_set_one(tmp_path: Path) -> None:
    with BoardLine(tmp_path, token=None) as line:
        (part,) = line.rejected(1)
        answer = line.say(part, "true-reject")
        assert answer.status_code == 403
        assert "CROSSCHECK_BOARD_TOKEN" in answer.json()["error"]
        assert line.browser.post("/api/login", json={"token": "x" * 20}).status_code == 403
        assert line.state()["can_sign_in"] is False


def test_an_empty_token_is_none(tmp_path: Path) -> None:
    with BoardLine(tmp_path, token="") as line:
        assert line.state()["can_sign_in"] is False
        assert line.browser.post("/api/login", json={"token": ""}).status_code == 403


def test_a_session_acts_until_it_signs_out_or_a_shift_and_a_half_have_gone(line: BoardLine) -> None:
    first, second, third = line.rejected(1, 2, 3)
    assert line.say(first, "true-reject").status_code == 401
    line.sign_in()
    assert line.state()["signed_in"] is True
    assert line.say(first, "true-reject").status_code == 200
    line.browser.post("/api/logout", json={})
    assert line.say(second, "true-reject").status_code == 401
    line.sign_in()
    line.clock.advance(SESSION_S)
    assert line.say(third, "true-reject").status_code == 401
    assert line.state()["signed_in"] is False


def test_the_cookie_is_kept_from_scripts_and_from_other_pages(line: BoardLine) -> None:
    answer = line.browser.post("/api/login", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    proxied = line.browser.post(
        "/api/login", json={"token": TOKEN}, headers={"x-forwarded-proto": "https"}
    ).headers["set-cookie"]
    assert "Secure" in proxied


def test_the_token_itself_works_with_each_request(line: BoardLine) -> None:
    (part,) = line.rejected(1)
    for scheme in ("Bearer", "bearer"):
        answer = line.say(part, "true-reject", note="by a script")
        assert answer.status_code == 401
        answer = line.browser.post(
            f"/api/review/{part}",
            json={"label": "true-reject"},
            headers={"authorization": f"{scheme} {TOKEN}"},
        )
        assert answer.status_code == 200
    wrong = {"authorization": f"Bearer {TOKEN}x"}
    assert line.browser.post(f"/api/review/{part}", json={}, headers=wrong).status_code == 401


@pytest.mark.parametrize("door", ["login", "bearer"])
def test_wrong_tokens_of_others_never_keep_the_right_one_out(line: BoardLine, door: str) -> None:
    (part,) = line.rejected(1)
    held_back: list[float] = []

    async def sleep(seconds: float) -> None:
        held_back.append(seconds)

    line.board.board.auth._sleep = sleep

    def knock(token: str) -> int:
        if door == "login":
            return line.browser.post("/api/login", json={"token": token}).status_code
        headers = {"authorization": f"Bearer {token}"}
        body = {"label": "true-reject"}
        return line.browser.post(f"/api/review/{part}", json=body, headers=headers).status_code

    for round_ in range(4):
        assert [knock(f"wrong-{round_}-{n}") for n in range(30)] == [401] * 30
        before = len(held_back)
        assert knock(TOKEN) == 200
        assert len(held_back) == before, "nothing waits with the right one"
    # Each wrong one waits longer than the one before, up to a limit.
    assert held_back == sorted(held_back)
    assert held_back[0] == FIRST_WAIT_S
    assert held_back[-1] == LONGEST_WAIT_S
    held_back.clear()
    line.clock.advance(61)
    assert knock("a-slip-of-the-finger") == 401
    assert held_back == []


def test_many_wrong_tokens_are_told_in_the_log_once_a_minute(
    line: BoardLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(_: float) -> None:
        """At once."""

    monkeypatch.setattr(line.board.board.auth, "_sleep", sleep)
    with capture_logs() as logs:
        for n in range(20):
            line.browser.post("/api/login", json={"token": f"wrong-{n}"})
    told = [record for record in logs if record["event"] == "board.wrong_tokens"]
    assert [(record["address"], record["log_level"]) for record in told] == [("testclient", "warning")]
    assert not any(f"wrong-{n}" in str(logs) for n in range(20))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
    ],
)
def test_a_page_of_somebody_else_cannot_act_with_our_cookie(line: BoardLine, headers: dict[str, str]) -> None:
    (part,) = line.rejected(1)
    line.sign_in()
    body = b'{"label": "true-reject"}'
    sent = {"content-type": "application/json"} | headers
    assert line.browser.post(f"/api/review/{part}", content=body, headers=sent).status_code in (403, 415)
    assert line.browser.post("/api/login", content=body, headers=sent).status_code in (403, 415)
    assert line.station()["false_rejects"]["labelled"] == 0
    own = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
    answer = line.browser.post(f"/api/review/{part}", json={"label": "true-reject"}, headers=own)
    assert answer.status_code == 200


def test_a_token_that_can_be_guessed_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="fewer than 12"):
        BoardLine(tmp_path, token="let-me-in")


@pytest.mark.parametrize("token", [None, 5, ["x"], {"a": 1}, "x" * 2000, "\ud800", "a\0b"])
def test_a_token_that_is_no_text_is_refused(line: BoardLine, token: object) -> None:
    answer = line.browser.post(
        "/api/login", content=json.dumps({"token": token}), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400


def test_the_token_is_in_no_log_and_no_answer(line: BoardLine, capsys: pytest.CaptureFixture[str]) -> None:
    line.sign_in(name="Ada")
    (part,) = line.rejected(1)
    texts = [line.say(part, "true-reject").text, line.browser.get("/api/state").text]
    texts += [line.browser.post("/api/login", json={"token": TOKEN + "x"}).text, repr(line.settings)]
    printed = capsys.readouterr()
    assert TOKEN not in "".join([*texts, printed.out, printed.err])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8600",
        "[::1]:8600",
        "localhost",
        "192.168.1.20",
        "board",
        "line-pc.local",
        "board.line.svc",
        "wall.lan",
        "b.plant.org",
    ],
)
def test_names_that_nobody_outside_owns_are_answered(host: str) -> None:
    assert Hosts(["b.plant.org"]).allows(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.lan.example", "127.0.0.1.evil.example", "a.b:80", "[evil", "x.y:z:1", "a b"],
)
def test_a_foreign_name_that_points_here_is_not_answered(host: str, line: BoardLine) -> None:
    assert not Hosts(["b.plant.org"]).allows(host)
    answer = line.browser.get("/api/state", headers={"host": host or "evil.example"})
    assert answer.status_code == 421
    assert "stations" not in answer.text


def test_every_answer_says_what_a_browser_may_do_with_it(line: BoardLine) -> None:
    for path in ("/", "/api/state", "/nowhere", "/api/part/x", "/metrics"):
        headers = line.browser.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
