"""What a test leaves behind: threads, children and sockets of this process, each by identity."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing.resource_tracker as tracker
import socket
import sys
import threading
import time
import traceback
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

# A client that was told to close may need a poll of its own to notice; a busy machine needs longer.
PATIENCE_S = 10.0

_PR_SET_CHILD_SUBREAPER = 36
_SELF = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class Held:
    """Threads, pids of running children, and sockets (as the system numbers them) of this process."""

    threads: frozenset[threading.Thread] = frozenset()
    children: frozenset[int] = frozenset()
    sockets: frozenset[str] = frozenset()

    def __sub__(self, other: Held) -> Held:
        return Held(
            self.threads - other.threads, self.children - other.children, self.sockets - other.sockets
        )

    def __or__(self, other: Held) -> Held:
        return Held(
            self.threads | other.threads, self.children | other.children, self.sockets | other.sockets
        )

    def __bool__(self) -> bool:
        return bool(self.threads or self.children or self.sockets)


def held() -> Held:
    """What this process holds now."""
    return Held(frozenset(threading.enumerate()), frozenset(_children()), frozenset(_sockets()))


def adopt_orphans() -> None:
    """A grandchild whose parent ends becomes a child of this process, where Linux is: it cannot hide."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


_started_by: weakref.WeakKeyDictionary[threading.Thread, threading.Thread] = weakref.WeakKeyDictionary()


def remember_starters() -> None:
    """From now on it is known of each thread which one started it."""
    start = threading.Thread.start

    def remembered(thread: threading.Thread) -> None:
        _started_by[thread] = threading.current_thread()
        start(thread)

    threading.Thread.start = remembered  # type: ignore[method-assign, assignment]


def _descends(thread: threading.Thread, from_any: frozenset[threading.Thread]) -> bool:
    starter = _started_by.get(thread)
    return starter is not None and (starter in from_any or _descends(starter, from_any))


@dataclass(slots=True)
class Leftovers:
    """Compares what is held before and after; what fixtures of a wider scope made is theirs to end.

    Attributes:
        lasting: what fixtures made that are not yet torn down, by their scope.
    """

    lasting: dict[str, Held] = field(default_factory=dict)

    def made(self, scope: str, new: Held) -> None:
        """A fixture of this scope has made this: it may outlive the tests that use it.

        Scope ``run``: it is shared with other workers, and ended when all of them are.
        """
        self.lasting[scope] = self.lasting.get(scope, Held()) | new

    def after(self, before: Held, scope: str = "function", patience: float = PATIENCE_S) -> list[str]:
        """What is left of a test, or of the fixtures of a wider scope, in words; waits for what is ending."""
        wider = _wider(scope)
        ours = Held()
        for each in wider[:-1]:
            ours = ours | self.lasting.get(each, Held())
        known = before | ours | self.lasting.get("run", Held())
        self.lasting = {each: kept for each, kept in self.lasting.items() if each in wider}
        deadline = time.monotonic() + patience
        collected = False
        while left := _of_nobody(held() - known, ours):
            # A pool in a cycle of garbage ends when that is collected; a socket closes, and warns of itself.
            if not collected:
                gc.collect()
                collected = True
            elif time.monotonic() > deadline:
                # Told once: not again of the module, nor of the session.
                self.made("run", left)
                return in_words(left)
            elif left.threads:
                next(iter(left.threads)).join(0.05)
            else:
                time.sleep(0.02)
        return []


def in_words(left: Held) -> list[str]:
    """Each thing with what tells where it comes from."""
    frames = sys._current_frames()
    said = []
    for thread in left.threads:
        where = frames.get(thread.ident or 0)
        stack = traceback.extract_stack(where) if where is not None else []
        at = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(stack[-4:]))
        said.append(f"thread {thread.name!r} at {at or 'its end'}")
    for pid in left.children:
        with suppress(psutil.Error):
            said.append(f"process {pid}: {' '.join(psutil.Process(pid).cmdline())[:200]}")
    if left.sockets:
        said.extend(f"socket {each}" for each in _named(left.sockets))
    return said


def _wider(scope: str) -> list[str]:
    scopes = ["function", "class", "module", "package", "session", "run"]
    return scopes[scopes.index(scope) + 1 :]


def _children() -> set[int]:
    """Direct children that run; a zombie has ended. `multiprocessing` keeps a helper as long as we live."""
    try:
        found = {int(pid) for file in (_SELF / "task").glob("*/children") for pid in file.read_text().split()}
    except OSError:
        # A thread ended while it was read, or this is not Linux.
        found = {child.pid for child in psutil.Process().children()}
    own = getattr(tracker._resource_tracker, "_pid", None)
    return {pid for pid in found if pid != own and _runs(pid)}


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _sockets() -> set[str]:
    folder = _SELF / "fd"
    if not folder.is_dir():
        return {str(each) for each in psutil.Process().net_connections(kind="inet")}
    found = set()
    for name in folder.iterdir():
        with suppress(OSError):
            target = str(name.readlink())
            if target.startswith("socket:"):
                found.add(target)
    return found


def _named(sockets: frozenset[str]) -> list[str]:
    """With both ends, where the system tells them."""
    numbers = {}
    for name in (_SELF / "fd").iterdir():
        with suppress(OSError):
            numbers[str(name.readlink())] = int(name.name)
    ends = {each.fd: each for each in psutil.Process().net_connections(kind="all")}
    said = []
    for each in sorted(sockets):
        found = ends.get(numbers.get(each, -1))
        if found is None:
            said.append(each)
            continue
        kind = socket.AddressFamily(found.family).name
        near, far = (":".join(map(str, end)) if end else "-" for end in (found.laddr, found.raddr))
        said.append(f"{kind} {near} to {far} {found.status}")
    return said


def _of_nobody(left: Held, lasting: Held) -> Held:
    """Without what a wider fixture's own threads have begun meanwhile: it is looked for at that one's end.

    A socket does not tell which thread opened it: beside such threads, sockets wait for that end too.
    """
    if not any(thread.is_alive() for thread in lasting.threads):
        return left
    own = frozenset(thread for thread in left.threads if not _descends(thread, lasting.threads))
    return Held(own, left.children)
