"""The tutorial, word by word: its commands are typed as they stand, and print what it says."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.pages import Typed, read
from tests.e2e.processes import wait_until
from tests.e2e.terminals import Ends, Terminals, lacks, type_all
from tests.e2e.typed import commands_in, understand

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
TILES = os.environ.get("CROSSCHECK_SURFACE")

# The tutorial shows the real tiles. On the synthetic ones these lines are other ones, of the same form.
FIGURE = r"[\d.]+"
ON_SYNTHETIC = {
    rf"(FUSED|RGB|DEPTH) {FIGURE} {FIGURE} (yes|no)": r"re:^\1 FIGURE FIGURE \2$",
    r"Of 14 defects.*": r"re:^Of 60 defects FIGURE pass",
    r"58 pass.*": r"re:of 12 good parts",
    r"defects false good.*": r"re:^defects false good image AUPRO$",
    r"Of 100 good parts.*": r"re:^Of 100 good parts FIGURE would be rejected",
    r"would be passed.*": r"re:be passed \(likely",
    r"road/1 on tiles:.*": r"road/1 on synthetic: 20 both, 20 colour, 12 good, 20",
    rf"(FUSED|RGB|DEPTH) {FIGURE} of 14 .*": r"re:^\1( FIGURE of (60|12))+ FIGURE FIGURE$",
    r"(PASS|REJECT|REVIEW) \d+ \d+": r"re:^(PASS|REJECT|REVIEW) FIGURE FIGURE$",
    r"a1._11 REJECT .*": r"re:^test_shape_\d+ REJECT( FIGURE)+ (shape-only|both)$",
    r"(PASS|REJECT|REVIEW) \d+": r"re:^(PASS|REJECT|REVIEW) FIGURE$",
    r"72 decisions, .*": r"re:^72 decisions, \d+ opened, lost 0, duplicates 0$",
    # A busy machine may let a verdict come late; the part is told all the same.
    r"(decisions|verdicts) 72 .*": r"re:^\1 72( FIGURE)+$",
}


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


@pytest.mark.services
@pytest.mark.timeout(900)
def test_the_tutorial_on_tiles_that_everyone_can_make_prints_what_it_says(terminals: Terminals) -> None:
    named = re.search(r"`(crosscheck synthetic --out tiles[^`]*)`", PAGE.read_text())
    assert named
    type_all(terminals, Typed("", f"{named[1]}\n"))
    blocks = read(PAGE)
    for block in blocks:
        block.commands = block.commands.replace("/test/defect", "/test/shape")
        block.prints = [on_synthetic(line) for line in block.prints]
        if "--grant DEPTH" in block.commands:
            block.prints = []  # as the text says, it is refused
    follow(
        terminals, blocks, {"crosscheck evaluate .*--grant DEPTH": (2, "grant: DEPTH on synthetic: missed")}
    )


@pytest.mark.skipif(TILES is None, reason="set CROSSCHECK_SURFACE to the folder of the road tiles")
@pytest.mark.services
@pytest.mark.timeout(900)
def test_the_tutorial_on_the_real_tiles_prints_what_it_says(terminals: Terminals) -> None:
    shutil.copytree(TILES or "", terminals.folder / "tiles")
    follow(terminals, read(PAGE), {})


def follow(terminals: Terminals, blocks: list[Typed], ends: Ends) -> None:
    """Type a page whose last command stops the services, and see that it prints what it says."""
    assert len(blocks) > 8
    for block in blocks[:-1]:
        type_all(terminals, block, ends)
    for block in blocks:
        if block.terminal:
            shows(terminals, block)
    terminals.stop()
    type_all(terminals, blocks[-1])


def shows(terminals: Terminals, block: Typed) -> None:
    """Another terminal has printed what the page says, or does so soon."""
    board = terminals.env["CROSSCHECK_BOARD"]
    prints = [line.replace("127.0.0.1:8600", board) for line in block.prints]
    wait_until(
        lambda: lacks(terminals.printed(block.terminal), prints) == [],
        60,
        f"{block.commands}: one of {prints} in {terminals.printed(block.terminal)[-2000:]}",
    )


def on_synthetic(line: str) -> str:
    """The line as it is printed of the synthetic tiles."""
    for real, other in ON_SYNTHETIC.items():
        if found := re.fullmatch(real, line):
            form = other.replace("FIGURE", FIGURE)
            return form.replace(r"\1", "".join(found.groups()[:1])).replace(
                r"\2", "".join(found.groups()[1:])
            )
    return line
