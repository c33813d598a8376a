"""What a reader of a page types: in one folder, in a first terminal and in others that go on running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.pages import Typed, plain
from tests.e2e.processes import wait_until

_EXPORT = re.compile(r"^export (\w+)=(\S+)$", re.M)
# Of README and tutorial, these lines are not typed; each for its reason.
NOT_TYPED = {
    "make demo": "installs; test_demo.py runs the demo, and its bundle is taught here instead",
    "make test": "runs this test",
    ". .venv/bin/activate": "the environment of the tests is active",
    "crosscheck capture --buffer spool ...": "goes on with options of the reader's own",
    "crosscheck gate --actuator": "wants a PLC",
}
# The reader's machine is to be spared: fewer parts are taught and judged than the pages say.
SMALLER = {
    "crosscheck synthetic --out parts": "crosscheck synthetic --out parts --good 24 --bad 2",
    "crosscheck synthetic --out tiles --bad 8": "crosscheck synthetic --out tiles --good 24 --bad 20",
}
Ends = dict[str, tuple[int, str]]
"""Commands that end otherwise than well: how, and what they say."""

# A worker works when it has its partitions; others say that they have started.
_STARTED = re.compile(r"worker\.assigned|gate_started|(?:shadow|archive)\.started|board: ")


class Terminals:
    """One folder, one shell a block; those of other terminals go on running until :meth:`stop`.

    Args:
        folder: where all is typed.
        env: added to the environment, as a reader's machine might have it.
    """

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        # Two torches that each take every core would starve the brokers they talk to.
        limits = {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CROSSCHECK_")}
        self.env = {**kept, **limits, "PATH": path, **(env or {})}
        # Of the first terminal alone: a second one does not know them.
        self._exported: dict[str, str] = {}

    def type(self, typed: Typed, code: int = 0) -> str:
        """Type commands; those of the first terminal end with ``code``. Gives what they print."""
        if typed.terminal:
            self._start(typed)
            return ""
        done = subprocess.run(
            ["bash", "-ec", typed.commands],
            cwd=self.folder,
            env={**self.env, **self._exported},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=300,
        )
        self._exported.update(_EXPORT.findall(typed.commands))
        printed = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, f"{typed.commands}ended with {done.returncode}:\n{printed}"
        return printed

    def _start(self, typed: Typed) -> None:
        assert typed.terminal not in self.running, f"{typed.commands}: a second one in the same terminal"
        log = self.folder / f"{typed.terminal}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-ec", f"exec env {typed.commands}"],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self.running[typed.terminal] = process
        wait_until(
            lambda: process.poll() is not None or bool(_STARTED.search(self.printed(typed.terminal))),
            120,
            typed.commands,
        )
        assert process.poll() in (None, 0), f"{typed.commands}{self.printed(typed.terminal)[-3000:]}"

    def printed(self, terminal: str) -> str:
        """What another terminal shows so far."""
        return (self.folder / f"{terminal}.log").read_text(errors="replace")

    def ended(self, terminal: str, timeout: float = 120) -> str:
        """What another terminal shows when its command has ended by itself, well."""
        try:
            code: int | None = self.running[terminal].wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        assert code == 0, f"{terminal} ended with {code}: {self.printed(terminal)[-3000:]}"
        return self.printed(terminal)

    def stop(self) -> None:
        """Ctrl-C in every other terminal; each command ends well."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for name in self.running:
            self.ended(name)

    def close(self) -> None:
        """End what still runs, and the services, whatever happened."""
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait(30)
        subprocess.run(
            ["crosscheck", "services", "down"],
            cwd=self.folder,
            env=self.env,
            check=True,
            stdout=subprocess.DEVNULL,
        )


def lacks(printed: str, lines: list[str]) -> list[str]:
    """Those of the lines that are not printed; each is a regular expression where it begins with ``re:``."""
    whole = "\n".join(plain(printed))
    return [
        line
        for line in lines
        if not (re.search(line[3:], whole, re.M) if line.startswith("re:") else line in whole)
    ]


def type_all(terminals: Terminals, block: Typed, ends: Ends | None = None) -> int:
    """Type what of a block is to be typed, and compare; gives how many lines that were."""
    printed, lines, waiting = "", 0, ""
    for line in (block.commands + "\n").splitlines(keepends=True):
        if any(line.startswith(left_out) for left_out in NOT_TYPED) or not line.strip():
            continue
        lines += 1
        end = next((end for form, end in (ends or {}).items() if re.match(form, line)), None)
        if end is None:
            waiting += SMALLER.get(line.strip(), line.rstrip("\n")) + "\n"
            continue
        printed += terminals.type(Typed(block.terminal, waiting)) if waiting else ""
        said = terminals.type(Typed(block.terminal, line), end[0])
        assert end[1] in " ".join(plain(said)), said
        printed, waiting = printed + said, ""
    printed += terminals.type(Typed(block.terminal, waiting)) if waiting else ""
    if lines and not block.terminal:
        missing = lacks(printed, block.prints)
        assert missing == [], f"{block.commands}printed:\n{printed}"
    return lines
