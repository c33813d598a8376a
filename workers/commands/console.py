"""What every command shares: the console, progress bars, JSON files, exit codes."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from schemas.regular import check_folder, check_writable
from workers.errors import SettingsError

OK = 0
BROKEN_PROMISE = 1
"""The run ended, and its result is bad: a part lost, an unsafe pass."""
BAD_INPUT = 2
NO_SERVICE = 3
INTERRUPTED = 130

out = Console()
err = Console(stderr=True)

Report = Callable[[str, int, int], None]


def tell(notes: Iterable[str]) -> None:
    """What a reader of frames assumed or could not place, a line each."""
    for note in notes:
        out.print(f"note: {note}", style="yellow", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Report]:
    """A progress bar a stage, on standard error; the callback takes (stage, done, total)."""
    bars = Progress(
        TextColumn("{task.description:<26}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
    )
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    with bars:
        yield report


def check_json(path: Path | None) -> Path | None:
    """See that ``--json FILE`` can be written, before the work whose result it is to hold.

    Raises:
        SettingsError: it cannot.
    """
    check_output("--json", path)
    return path


def check_output(option: str, path: Path | None) -> None:
    """See that the file of an option can be written, before the work whose result it is to hold.

    Raises:
        SettingsError: it cannot.
    """
    if path is not None:
        try:
            check_writable(path)
        except OSError as error:
            raise SettingsError(f"{option} {path}: {error.strerror}; name a writable file") from None


def check_out(option: str, folder: Path) -> None:
    """The same of a folder, which is made. Raises SettingsError."""
    try:
        check_folder(folder)
    except OSError as error:
        raise SettingsError(
            f"{option} {folder}: cannot write there ({error.strerror}); name another folder"
        ) from None


def write_json(path: Path | None, value: Any) -> None:
    """Write ``--json FILE``; nothing without one.

    Raises:
        SettingsError: the file cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--json {path}: {error.strerror}; name a writable file") from None


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            sys.exit(128 + number)
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def number(value: float | None, digits: int = 3, *, percent: bool = False) -> str:
    """A figure for a table; a dash where there is none."""
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if percent else f"{value:.{digits}f}"
