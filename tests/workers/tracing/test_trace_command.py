"""From a part, as it stands in a log, to the id that a tracing backend knows it by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.inprocess import Call, assert_one_line, command_line
from workers.tracing.context import trace_id


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Call]:
    with command_line(monkeypatch, capsys, tmp_path) as run:
        yield run


def test_the_id_of_a_part_is_printed_as_backends_write_it(call: Call) -> None:
    done = call("trace", "s1/1700000000000000000/7")
    assert done.code == 0
    assert done.out.strip() == f"{trace_id(b's1/1700000000000000000/7'):032x}"


@pytest.mark.parametrize("text", ["s1", "s1/7", "s1/-1/7", "s1/1/2/3"])
def test_what_is_no_part_is_one_line(call: Call, text: str) -> None:
    done = call("trace", text)
    assert_one_line(done, 2, "part key")
