"""Files that people name, opened without ever waiting: what is no regular file is refused in words.

To open a named pipe waits for a writer, a device may have no end, and a folder has no bytes. A path that a
person typed may be any of these, so every file that is named in a setting, an option or a folder of ours is
opened here. The refusal is an OSError whose ``strerror`` says what it is, as other failures to open have one.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "it is a folder, not a file", errno.EISDIR),
    (stat.S_ISFIFO, "it is a named pipe, not a file", errno.EINVAL),
    (stat.S_ISSOCK, "it is a socket, not a file", errno.EINVAL),
    (stat.S_ISCHR, "it is a device, not a file", errno.EINVAL),
    (stat.S_ISBLK, "it is a device, not a file", errno.EINVAL),
)


def open_regular(path: Path) -> io.BufferedReader:
    """The file, open for reading. Raises OSError: not there, not allowed, or no regular file."""
    # Asked before opening, since some devices act when they are opened; asked again of what was opened.
    _check(path.stat().st_mode, path)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: Path) -> bytes:
    """All of the file. Raises OSError as ``open_regular`` does."""
    with open_regular(path) as file:
        return file.read()


def check_writable(path: Path) -> None:
    """See that results can be written to a file later, and make its folder; what is in it stays.

    Raises:
        OSError: they cannot. A named pipe is refused, since to open one waits for its reader; a terminal or
            ``/dev/null`` is not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not stat.S_ISCHR(path.stat().st_mode):
        _check(path.stat().st_mode, path)
    path.open("ab").close()


def check_folder(path: Path) -> None:
    """Make a folder that files can be written to. Raises OSError: they cannot."""
    path.mkdir(parents=True, exist_ok=True)
    # Asked by writing: rights, a disk that is mounted read-only, and quotas are all answered so.
    with tempfile.TemporaryFile(dir=path):
        pass


def _check(mode: int, path: Path) -> None:
    for is_kind, words, number in _KINDS:
        if is_kind(mode):
            raise OSError(number, words, str(path))
