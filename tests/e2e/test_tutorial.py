"""The tutorial, word by word: its commands are typed as they stand, and print what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import wait_until
from tests.e2e.tutorial import Typed, plain, read
from tests.e2e.typed import commands_in, understand

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
TILES = os.environ.get("CROSSCHECK_SURFACE")


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"], ids=lambda p: p.name)
def test_every_command_on_a_page_is_one_that_the_command_line_understands(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # an option may try whether its file can be written
    for line in commands_in(page.read_text(encoding="utf-8")):
        assert understand(line).startswith("crosscheck "), line


def test_a_command_that_does_not_exist_or_an_option_that_it_lacks_is_noticed() -> None:
    for line in ("crosscheck tach road --data x", "crosscheck teach road --data x --folder y"):
        with pytest.raises(Exception, match=r"(?i)no such (command|option)"):
            understand(line)


@pytest.fixture
def terminals(tmp_path: Path) -> Terminals:
    return Terminals(tmp_path)


class Terminals:
    """One folder, one shell a block; those of other terminals go on running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        limits = {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "DATA": "tiles"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CROSSCHECK_")}
        self.env = {**kept, **limits, "PATH": path}

    def type(self, block: Typed) -> None:
        """Type a block and see that it prints what the page says."""
        if block.terminal:
            self._start(block)
            return
        done = subprocess.run(
            ["bash", "-ec", block.commands], cwd=self.folder, env=self.env, capture_output=True, timeout=300
        )
        printed = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == 0, f"{block.commands}{printed}"
        self._compare(block, printed)

    def _start(self, block: Typed) -> None:
        log = self.folder / f"{block.terminal}.log"
        with log.open("wb") as out:
            self.running[block.terminal] = subprocess.Popen(
                ["bash", "-ec", f"exec env {block.commands}"],
                cwd=self.folder,
                env=self.env,
                stdout=out,
                stderr=out,
            )
        wait_until(
            lambda: any(word in log.read_text() for word in ("_started", ".started", "board: ")),
            60,
            block.commands,
        )

    def printed(self, terminal: str) -> str:
        """What another terminal shows so far."""
        return (self.folder / f"{terminal}.log").read_text(errors="replace")

    def finish(self, block: Typed) -> None:
        """Another terminal's command has printed what the page says, or does so soon."""
        wait_until(
            lambda: all(line in "\n".join(plain(self.printed(block.terminal))) for line in block.prints),
            60,
            f"{block.commands}: one of {block.prints} in {self.printed(block.terminal)[-2000:]}",
        )

    @staticmethod
    def _compare(block: Typed, printed: str) -> None:
        lines = "\n".join(plain(printed))
        missing = [line for line in block.prints if line not in lines]
        assert missing == [], f"{block.commands}printed:\n{printed}"

    def stop(self) -> None:
        """Ctrl-C in every other terminal."""
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
                process.wait(30)

    def close(self) -> None:
        """Stop what still runs, and the services."""
        self.stop()
        subprocess.run(["crosscheck", "services", "down"], cwd=self.folder, env=self.env, check=True)


@pytest.mark.skipif(TILES is None, reason="set CROSSCHECK_SURFACE to the folder of the road tiles")
@pytest.mark.timeout(900)
def test_the_tutorial_on_the_real_tiles_prints_what_it_says(terminals: Terminals) -> None:
    shutil.copytree(TILES or "", terminals.folder / "tiles")
    blocks = read(PAGE)
    assert len(blocks) > 8
    try:
        for block in blocks[:-1]:
            terminals.type(block)
        for block in blocks:
            if block.terminal:
                terminals.finish(block)
        terminals.stop()
        terminals.type(blocks[-1])
    finally:
        terminals.close()
