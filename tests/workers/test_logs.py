"""Logs tell of a failure where it was and never what the variables held."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import structlog

from workers import cli
from workers.logs import configure_logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def fails(token: str) -> None:
    held = {"token": token}
    raise RuntimeError(f"it went wrong with {len(held)} field")


def outer(token: str) -> None:
    copied = token.encode()
    fails(copied.decode())


TOKEN = "seven-green-trays"


@pytest.mark.parametrize("style", ["console", "json"])
@pytest.mark.parametrize("how", ["exception", "exc_info=True", "exc_info=error"])
def test_a_failure_is_logged_with_its_traceback_and_without_any_variable(
    style: Literal["console", "json"], how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(style)
    log = structlog.get_logger("test")
    try:
        outer(TOKEN)
    except RuntimeError as error:
        if how == "exception":
            log.exception("it.failed")
        else:
            log.error("it.failed", exc_info=True if how == "exc_info=True" else error)
    printed = capsys.readouterr().err
    assert TOKEN not in printed
    if style == "json":
        record = json.loads(printed)
        assert record["event"] == "it.failed"
        printed = record["exception"]
    assert "Traceback (most recent call last)" in printed
    assert "in outer" in printed
    assert "in fails" in printed
    assert "RuntimeError: it went wrong with 1 field" in printed
    assert len(printed) < 2_000


def test_a_library_s_own_log_and_a_thread_that_dies_show_no_variable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs("json")
    try:
        outer(TOKEN)
    except RuntimeError:
        logging.getLogger("a.library").exception("it failed")
    # What Python does with a thread's failure, without the one that pytest puts in its place.
    arguments: list[threading.ExceptHookArgs] = []
    try:
        outer(TOKEN)
    except RuntimeError as error:
        arguments.append(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))
    threading.__excepthook__(arguments[0])
    assert TOKEN not in capsys.readouterr().err


def test_no_command_prints_variables_when_it_fails() -> None:
    assert not cli.app.pretty_exceptions_enable
    # Of a sub-command's own application only the outer one's choice counts; none is started by itself.
    texts = [path.read_text(encoding="utf-8") for path in Path(cli.__file__).parent.rglob("*.py")]
    assert not any("typer.run(" in text or "show_locals=True" in text for text in texts)
