"""The container files as the tests read them: services, their commands, their environment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
import yaml

from workers.cli import app
from workers.settings import ELSEWHERE, PREFIX, Settings

FOLDER = Path(__file__).resolve().parents[2] / "compose"
COMPOSE_FILE = FOLDER / "compose.yaml"
GPU_FILE = FOLDER / "gpu.yaml"
OWN_IMAGE = "crosscheck:"


@dataclass(frozen=True, slots=True)
class Service:
    """One service of a compose file, as it is written."""

    name: str
    raw: dict[str, Any] = field(repr=False)

    @property
    def ours(self) -> bool:
        """Whether it runs our image."""
        return str(self.raw.get("image", "")).startswith(OWN_IMAGE)

    @property
    def optional(self) -> bool:
        """Whether it is started only where its profile is asked for."""
        return "profiles" in self.raw

    @property
    def environment(self) -> dict[str, str | None]:
        """Its variables; None where the value comes from the shell."""
        found = self.raw.get("environment", {})
        return {name: None if value is None else str(value) for name, value in found.items()}

    @property
    def commands(self) -> list[list[str]]:
        """Each ``crosscheck`` command that it runs, without the word itself; those of a shell line too."""
        words = [str(word) for word in self.raw.get("command", [])]
        if self.raw.get("entrypoint") is None:
            return [words]
        return shell_commands(words[-1])

    @property
    def mounts(self) -> list[tuple[str, str, bool]]:
        """(volume or folder, where it is mounted, whether it is read-only)."""
        found = []
        for text in self.raw.get("volumes", []):
            source, target, *rest = text.split(":")
            found.append((source, target, rest == ["ro"]))
        return found

    @property
    def needs(self) -> dict[str, str]:
        """What it waits for: service to condition."""
        return {name: each["condition"] for name, each in self.raw.get("depends_on", {}).items()}


def shell_commands(line: str) -> list[list[str]]:
    """The ``crosscheck`` commands of a shell line, in their order."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = []
    inside = False
    for word in lexer:
        if word == "crosscheck":
            found.append([])
            inside = True
        elif set(word) & set(";&|{}()"):
            inside = False
        elif inside:
            found[-1].append(word)
    return found


def services(path: Path = COMPOSE_FILE) -> dict[str, Service]:
    """The services of a compose file by name."""
    content = yaml.safe_load(path.read_text())
    return {name: Service(name, raw) for name, raw in content["services"].items()}


@cache
def command_line() -> Any:
    """The command line as click sees it; building it takes a tenth of a second."""
    return typer.main.get_command(app)


def parse_command(words: Sequence[str]) -> str:
    """Parse a command as the real command line does, and do not run it; returns its name.

    Raises:
        Exception: click's usage error: no such command or option, or a wrong value.
    """
    group = command_line()
    context = group.make_context("crosscheck", list(words))
    args = [*context._protected_args, *context.args]
    name = ""
    while True:
        step, command, args = group.resolve_command(context, args)
        name = f"{name} {step}".strip()
        context = command.make_context(step, list(args), parent=context)
        if not hasattr(command, "resolve_command"):
            return name
        group, args = command, [*context._protected_args, *context.args]


def unknown_variables(environment: Mapping[str, Any]) -> list[str]:
    """Variables with our prefix that are no setting."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + name for name in ELSEWHERE}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def seconds(text: str) -> float:
    """A duration as compose writes it, 40s or 2m."""
    return float(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def bytes_of(text: str) -> int:
    """A size as compose and Kubernetes write it: 768M, 2G, 384mb, 1Gi."""
    number = text.rstrip("kKmMgGiIbB")
    unit = text[len(number) :].lower().rstrip("b").rstrip("i")
    return int(number) * {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[unit]
