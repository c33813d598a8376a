"""A path that is no file is refused at once and in words, and so is a number that nothing can reckon with."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas import strict_json
from schemas.regular import check_folder, check_writable, open_regular, read_regular


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def device(path: Path) -> Path:
    return Path("/dev/zero")


def link_to_device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


def sock(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
    return path


KINDS = {
    "pipe": (fifo, "a named pipe"),
    "folder": (folder, "a folder"),
    "device": (device, "a device"),
    "link to a device": (link_to_device, "a device"),
    "socket": (sock, "a socket"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_at_once_by_its_kind(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may be only about a hundred characters
    make, words = KINDS[kind]
    path = make(Path("p"))
    for read in (open_regular, read_regular):
        with pytest.raises(OSError, match=words):
            read(path)


def test_a_file_is_read_and_a_missing_one_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular(tmp_path / "a") == b"abc"
    with open_regular(tmp_path / "a") as file:
        assert file.read(2) == b"ab"
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "b")


@pytest.mark.parametrize("make", [fifo, folder, sock])
def test_results_are_not_promised_to_what_is_no_file(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="not a file"):
        check_writable(make(Path("p")))


def test_results_may_go_to_a_file_a_new_folder_and_the_null_device(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("kept")
    for path in (tmp_path / "old", tmp_path / "new/deep/file", Path("/dev/null")):
        check_writable(path)
    assert (tmp_path / "old").read_text() == "kept"
    check_folder(tmp_path / "more/folders")
    assert not list((tmp_path / "more/folders").iterdir())
    with pytest.raises(OSError, match=r".+"):
        check_folder(tmp_path / "old")


HUGE = "1" + "0" * 400


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e308", "-1e31", "1e999", HUGE, "[" * 100_000, "{", ""]
)
def test_a_number_that_nothing_can_reckon_with_is_no_json(text: str) -> None:
    for raw in (text, text.encode()):
        with pytest.raises(ValueError, match=r".+"):
            strict_json.loads(raw)


def test_other_json_is_read_as_it_is() -> None:
    assert strict_json.loads(b'\xef\xbb\xbf{"a": [1, -2.5, 1e30, true, null, "x"]}') == {
        "a": [1, -2.5, 1e30, True, None, "x"]
    }
