"""The arrows between the packages go one way, and each stays away from what is not its business."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "inference", "compose", "workers", "crosscheck")

# What a package may import of ours, besides itself.
ALLOWED: dict[str, tuple[str, ...]] = {
    "schemas": (),
    "inference": ("schemas",),
    "compose": ("schemas.errors",),
    "workers": ("schemas", "inference", "compose"),
    # The API is thin: it names what is elsewhere, and nothing of ours imports it.
    "crosscheck": ("schemas", "workers"),
}
SERVICES = ("kafka", "redis", "fakeredis")
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "schemas": ("torch", "timm", *SERVICES),
    "inference": SERVICES,
    "compose": ("torch", "timm"),
    "workers": (),
    "crosscheck": ("torch", "timm", *SERVICES),
}
# The world outside: a result must follow from the arguments alone. A stopwatch (perf_counter) is no clock.
OUTSIDE = (
    "os.environ",
    "os.getenv",
    "time.time",
    "time.time_ns",
    "time.sleep",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
)
PURE = ("schemas", "inference")
LONGEST = 450


def imported(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything imported, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def used(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def faults(source: str, module: str) -> list[str]:
    """What is wrong with one file of a package: a line for each fault."""
    package = module.partition(".")[0]
    tree = ast.parse(source)
    found = []
    for line, name in imported(tree, module):
        owner = name.partition(".")[0]
        ours = owner in (*PACKAGES, "tests") and owner != package
        if ours and not any(within(name, allowed) for allowed in ALLOWED[package]):
            found.append(f"{module}:{line} imports {name}")
        if owner in FORBIDDEN[package]:
            found.append(f"{module}:{line} imports {name}")
        if package in PURE and any(within(name, banned) for banned in OUTSIDE):
            found.append(f"{module}:{line} imports {name}")
    if package in PURE:
        for line, name in used(tree):
            if any(name == banned or name.endswith("." + banned) for banned in OUTSIDE):
                found.append(f"{module}:{line} uses {name}")
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    assert files(package), f"{package} has no files: is the test looking in the right place?"
    assert [fault for path in files(package) for fault in faults(path.read_text(), module_of(path))] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_files_stay_short_enough_to_read(package: str) -> None:
    lengths = {module_of(path): len(path.read_text().splitlines()) for path in files(package)}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("schemas.a", "import torch"),
        ("schemas.a", "from redis.client import Redis"),
        ("schemas.a", "from inference import sample"),
        ("schemas.a", "def f():\n    import workers.cli"),
        ("schemas.a", "from ..workers import cli"),
        ("inference.a", "from workers.clock import Clock"),
        ("inference.a.b", "import kafka"),
        ("inference.a", "import os\nos.environ['A']"),
        ("inference.a", "from os import environ"),
        ("inference.a", "import time\ntime.time()"),
        ("inference.a", "import datetime\ndatetime.datetime.now()"),
        ("inference.a", "import tests.schemas.strategies"),
        ("compose.a", "from schemas.part import PartKey"),
        ("compose.a", "import workers"),
        ("workers.a", "from crosscheck import Publisher"),
        ("crosscheck.a", "import kafka"),
        ("workers.a", "from tests.workers.frames import frame"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    assert faults(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("schemas.a", "import numpy, zstandard\nfrom schemas.part import PartKey\nfrom .b import c"),
        (
            "inference.a",
            "import torch, time\nfrom schemas.errors import CrosscheckError\ntime.perf_counter()",
        ),
        ("compose.a", "import os\nfrom schemas.errors import CrosscheckError\nos.environ"),
        ("workers.a", "import redis, time, compose.local\nfrom inference.sample import Sample\ntime.time()"),
    ],
)
def test_an_allowed_import_is_let_through(module: str, source: str) -> None:
    assert faults(source, module) == []
