"""The public names: each is there, is described, and costs no more to import than it needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import crosscheck

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", crosscheck.__all__)
def test_every_public_name_can_be_imported_and_is_in_the_docs(name: str) -> None:
    assert getattr(crosscheck, name).__doc__
    assert f"`{name}" in (ROOT / "docs" / "api.md").read_text()


def test_the_docs_name_nothing_that_is_not_there() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| `([A-Za-z_]+)", text, re.MULTILINE)
    assert sorted(set(rows)) == sorted(crosscheck.__all__)


def test_a_name_that_is_not_there_is_refused_with_where_to_look() -> None:
    with pytest.raises(AttributeError, match=r"docs/api\.md"):
        _ = crosscheck.Publishr


def test_everything_public_together_imports_no_torch() -> None:
    code = "import sys; from crosscheck import *; print([m for m in ('torch', 'timm') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "[]\n"


def test_the_command_is_the_one_that_looks_for_clashes_first() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"crosscheck": "crosscheck.__main__:main"}


def test_examples_and_readme_import_the_public_module_only() -> None:
    ours = re.compile(r"^\s*(?:from|import) (schemas|inference|workers|compose)\b", re.MULTILINE)
    files = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs" / "examples").glob("*.py"), ROOT / "README.md"]
    assert [str(path.relative_to(ROOT)) for path in files if ours.search(path.read_text())] == []
