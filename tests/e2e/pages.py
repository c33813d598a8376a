"""Reads a page: what is typed, in which terminal, and what it is said to print."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_FENCE = re.compile(r"^```(?P<kind>\w*)(?: (?P<terminal>\w+))?\n(?P<body>.*?)^```$", re.M | re.S)
_FRAME = re.compile(r"[\s│┃┏┓┗┛┡┩┬┴┼╇━─┌┐└┘├┤]+")
_OWN_TERMINAL = re.compile(r"crosscheck (?P<name>\w+)\b.*#.*in a terminal of its own")


@dataclass(slots=True)
class Typed:
    """Commands that are typed one after the other in one terminal.

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


def kinds(page: Path) -> list[str]:
    """What each fenced block says that it is: ``sh``, ``text``, ``python``, or nothing."""
    return [fence["kind"] for fence in _FENCE.finditer(page.read_text(encoding="utf-8"))]


def read(page: Path) -> list[Typed]:
    """The commands of a page in order. A ``text`` block belongs to the last commands of its terminal.

    A line whose comment says "in a terminal of its own" is typed there; others of its block are not.
    """
    typed: list[Typed] = []
    for fence in _FENCE.finditer(page.read_text(encoding="utf-8")):
        terminal = fence["terminal"] or ""
        if fence["kind"] == "sh":
            typed.extend(_split(fence["body"], terminal))
        elif fence["kind"] == "text" and typed:
            # After a command of another terminal, its own output; else that of the terminal that is named.
            owner = typed[-1] if not terminal else next(b for b in reversed(typed) if b.terminal == terminal)
            owner.prints.extend(plain(fence["body"]))
    return typed


def _split(body: str, terminal: str) -> list[Typed]:
    parts: list[Typed] = []
    for line in body.splitlines(keepends=True):
        own = _OWN_TERMINAL.search(line)
        where = own["name"] if own else terminal
        if parts and not own and parts[-1].terminal == where:
            parts[-1].commands += line
        else:
            parts.append(Typed(where, line))
    return parts
