"""README, CHANGELOG and version agree, and what they name is there."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def anchor(heading: str) -> str:
    """As code hosts make them: small letters, punctuation dropped, a dash for each space."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", ""))
    return kept.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, part = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        if not place.exists() or (part and place.suffix == ".md" and part not in anchors(place)):
            broken.append(target)
    assert broken == []


def test_the_changelog_begins_with_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0].split()[0] == version
    assert all(re.match(r"\d+\.\d+\.\d+( - (Unreleased|\d{4}-\d\d-\d\d))?$", heading) for heading in headings)


def test_the_first_page_says_what_it_takes_before_anyone_installs_it() -> None:
    text = (ROOT / "README.md").read_text()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[:3] == ["For whom, and for whom not", "Two commands", "Run it with Kafka"]
    assert {"What it takes", "Licences"} <= set(headings)
    for word in (
        "Linux",
        "GPU",
        "memory",
        "disk",
        "cameras",
        "Apache-2.0",
        "EfficientNet-Lite0",
        "Point-MAE",
    ):
        assert word in text, word


def test_the_drawing_says_what_it_shows_to_who_cannot_see_it() -> None:
    # Our own file: there is nothing in it to expand.
    drawing = ElementTree.parse(ROOT / "docs" / "line.svg").getroot()
    names = {child.tag.rpartition("}")[2] for child in drawing}
    assert {"title", "desc"} <= names
    assert "href" not in (ROOT / "docs" / "line.svg").read_text()
