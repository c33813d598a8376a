"""Whether a command line would be understood, without running it."""

from __future__ import annotations

import re
import shlex
from typing import Any

import typer

from workers.cli import app


def understand(line: str) -> str:
    """The path of the command that ``crosscheck ...`` calls; raises click's usage error for a wrong one."""
    words = shlex.split(line, comments=True)
    assert words[0] == "crosscheck", line
    group: Any = typer.main.get_command(app)
    context: Any = group.make_context("crosscheck", words[1:], resilient_parsing=True)
    rest = words[1:]
    while hasattr(group, "resolve_command"):
        context.resilient_parsing = False  # else an unknown command is None, not an error
        name, group, rest = group.resolve_command(context, rest)
        nested = hasattr(group, "resolve_command")
        # Parsed for real only where a command takes the words; a group would print its help.
        context = group.make_context(name, list(rest), parent=context, resilient_parsing=nested)
    return str(context.command_path)


def commands_in(text: str) -> list[str]:
    """Every ``crosscheck`` line of the fenced blocks of a page, continuation lines joined."""
    inside, found = False, []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside and line.startswith("crosscheck ") and "..." not in line:
            found.append(re.split(r" && | > | \| ", line)[0].removesuffix(" &"))
    return found
