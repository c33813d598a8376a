"""Reads a tutorial: what is typed, where, and what it is said to print."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^```(?P<kind>sh|text)(?: (?P<terminal>\w+))?\n(?P<body>.*?)^```$", re.M | re.S)
_FRAME = re.compile(r"[\s│┃┏┓┗┛┡┩┬┴┼╇━─┌┐└┘├┤]+")


@dataclass(slots=True)
class Typed:
    """One block of commands.

    Attributes:
        terminal: "" for the first one; in any other the command goes on running.
        commands: as typed.
        prints: lines of its output, without what frames a table.
    """

    terminal: str
    commands: str
    prints: list[str] = field(default_factory=list)


def plain(text: str) -> list[str]:
    """Lines without the frames of tables and without repeated spaces; empty ones left out."""
    lines = (_FRAME.sub(" ", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def read(page: Path) -> list[Typed]:
    """The blocks of a page in order. A ``text`` block belongs to the last commands of its terminal."""
    blocks: list[Typed] = []
    for fence in _FENCE.finditer(page.read_text(encoding="utf-8")):
        terminal = fence["terminal"] or ""
        if fence["kind"] == "sh":
            blocks.append(Typed(terminal, fence["body"]))
            continue
        # After a command of another terminal, its own output; else that of the terminal that is named.
        owner = blocks[-1] if not terminal else next(b for b in reversed(blocks) if b.terminal == terminal)
        owner.prints.extend(plain(fence["body"]))
    return blocks
