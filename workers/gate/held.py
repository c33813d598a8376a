"""Files that one process holds, and their names: a name may come to stand for another file."""

from __future__ import annotations

import fcntl
import io
import os
from contextlib import suppress
from pathlib import Path

from workers.gate.chain import pack_mark, unpack_mark
from workers.gate.lines import Tip
from workers.gate.segments import identity

_COPY_BYTES = 1 << 20


def hold(file: io.FileIO | io.BufferedReader) -> None:
    """Lock the open file, whatever becomes of its name. Raises BlockingIOError where another process has."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def at(path: Path) -> tuple[int, int] | None:
    """Which file a name stands for; None: there is none."""
    try:
        return identity(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def opened(path: Path) -> io.FileIO:
    """The file at the name, made where there is none, and held. Raises BlockingIOError as ``hold`` does."""
    while True:
        file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        try:
            hold(file)
            if at(path) == identity(os.fstat(file.fileno())):
                return file
        except OSError:
            file.close()
            raise
        file.close()  # it was renamed between the opening and the lock


def befallen(path: Path, file: io.FileIO, end: int, *, longer: bool) -> str | None:
    """What is the matter with a file that we left ``end`` bytes long, in words; None: nothing.

    Args:
        longer: whether there may be more in it: a write of our own that failed.
    """
    status, there = os.fstat(file.fileno()), at(path)
    if there is None:
        return "removed or moved away"
    if there != identity(status):
        return "replaced by another file"
    if status.st_size < end:
        return "cut short"
    return "written by another program" if status.st_size > end and not longer else None


def set_aside(path: Path) -> None:
    """Move a stranger away from this name. Raises BlockingIOError where a process holds it."""
    with path.open("rb") as stranger:
        hold(stranger)
        number = 1
        while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
            number += 1
        path.rename(aside)


def copied(file: io.FileIO, end: int, to: Path) -> tuple[io.FileIO, int]:
    """The first ``end`` bytes of an open file in a new one, held; and how many they were."""
    copy = to.open("w+b", buffering=0)
    try:
        hold(copy)
        done = 0
        while done < end and (data := os.pread(file.fileno(), min(_COPY_BYTES, end - done), done)):
            write_all(copy, data)
            done += len(data)
    except BaseException:
        copy.close()
        raise
    return copy, done


def write_all(file: io.FileIO, data: bytes) -> None:
    """Write every byte. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


class LockFile:
    """A file beside a journal: it keeps two starts apart that find none, and knows the last line on disk.

    Raises:
        BlockingIOError: another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._remembered: Tip | None = None
        self._fd = self._taken()
        self.mark = unpack_mark(os.pread(self._fd, 1024, 0))
        """What it knew when it was opened."""

    def _taken(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def look(self) -> None:
        """Make it anew where it is gone."""
        # Held by another process for a moment it does no harm: the journal itself is held too.
        with suppress(OSError):
            if at(self._path) != identity(os.fstat(self._fd)):
                old, self._fd = self._fd, self._taken()
                os.close(old)
                self._remembered = None

    def remember(self, tip: Tip) -> None:
        """This line is the last one on disk: a tail that is cut off is missed by it."""
        if self._remembered == tip:
            return
        with suppress(OSError):  # it proves more than the journal alone; the journal does not need it
            os.pwrite(self._fd, pack_mark(tip), 0)
            self._remembered = tip

    def close(self) -> None:
        """Let go of it. Closing twice is allowed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
