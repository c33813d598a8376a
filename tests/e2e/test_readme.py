"""The README: its commands run as they stand, from top to bottom, in one folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.pages import Typed, kinds, read
from tests.e2e.terminals import NOT_TYPED, Ends, Terminals, type_all

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "tutorial.md"
# These end as the text says, not well: no gate runs any more.
ENDS: Ends = {"crosscheck challenge": (1, "no gate of s1 has taken it yet")}


@pytest.mark.parametrize("page", [README, PAGE], ids=lambda p: p.name)
def test_every_block_of_a_page_says_whether_it_is_typed(page: Path) -> None:
    assert set(kinds(page)) <= {"sh", "text", "python"}


def test_what_is_not_typed_stands_on_a_page() -> None:
    lines = "\n".join(README.read_text().splitlines() + PAGE.read_text().splitlines())
    for line in (*NOT_TYPED, *ENDS):
        assert re.search(f"^{re.escape(line)}", lines, re.M), line


@pytest.mark.services
@pytest.mark.timeout(900)
def test_the_readme_typed_from_top_to_bottom_runs(terminals: Terminals) -> None:
    taught = "crosscheck synthetic --out taught --good 24 --bad 1"
    terminals.type(Typed("", f"{taught}\ncrosscheck teach demo-part --data taught --out demo-out/models\n"))
    # Of the reader's own, as the text says: new pictures.
    shutil.copytree(terminals.folder / "taught" / "test" / "good", terminals.folder / "new-parts")
    typed = [type_all(terminals, part, ENDS) for part in read(README)]
    assert sum(typed) > 20
    assert "lost 0, duplicates 0" in terminals.ended("gate")
    terminals.stop()
    assert set(terminals.running) == {"worker", "gate", "board", "shadow", "archive"}
    assert (terminals.folder / "report.html").stat().st_size > 0
    assert len(list((terminals.folder / "inspected" / "heatmaps").iterdir())) > 0
