"""Docstrings as plain words: what stands in the documents must mean something without Python."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from enum import StrEnum
from typing import Any

_ROLE = re.compile(r":[a-z]+:`~?([^`]*)`")
_CODE = re.compile(r"``([^`]*)``")
_NONE = re.compile(r"\bNone\b")


def plain(text: str) -> str:
    """One line of plain words: no roles, single backticks, ``null`` for ``None``."""
    line = " ".join(text.split())
    return _NONE.sub("null", _CODE.sub(r"`\1`", _ROLE.sub(r"`\1`", line)))


def summary(kind: type[Any]) -> str:
    """The first paragraph of a docstring."""
    return plain((kind.__doc__ or "").split("\n\n")[0])


def members(kind: type[StrEnum]) -> dict[str, str]:
    """What the docstring under each member of an enumeration says; empty where there is none."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    (made,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    told = {member.value: "" for member in kind}
    name = ""
    for node in made.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and name:
            told[kind[name].value] = plain(str(node.value.value))
    return told


def listed(codes: dict[str, str]) -> str:
    """Codes and what they mean, in one paragraph."""
    return " ".join(f"`{code}`: {says}" if says else f"`{code}`." for code, says in codes.items())
