"""Addresses of the PLC and of actuators: the options behind the ``?``, each checked by name and range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, parse_qsl, urlsplit

from workers.errors import SettingsError


def split(what: str, text: str, forms: str) -> tuple[SplitResult, int | None]:
    """The address taken apart, and its port.

    Args:
        what: the option that it came by, for messages.
        forms: which addresses there are, for messages.

    Raises:
        SettingsError: it is none, or holds a user and a password.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{what} {text}: {error}; {forms}") from None
    if parts.username is not None or parts.password is not None:
        raise SettingsError(f"{what}: user and password in it are not supported; {forms}")
    return parts, port


def unit(what: str, text: str, path: str, forms: str) -> int:
    """The Modbus unit in the path; 1 where it names none. Raises SettingsError."""
    found = path.strip("/") or "1"
    if not found.isdecimal():
        raise SettingsError(f"{what} {text}: unit {found!r} is not a number; {forms}")
    return int(found)


def options(what: str, text: str, query: str, known: Sequence[str]) -> dict[str, str]:
    """The options by name. Raises SettingsError: one is unknown, or given twice."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise SettingsError(f"{what} {text}: unknown option {name!r}; known are {', '.join(known)}")
        if name in found:
            raise SettingsError(f"{what} {text}: option {name} is given twice")
        found[name] = value
    return found


def number(
    what: str,
    text: str,
    given: Mapping[str, str],
    name: str,
    default: int,
    least: int = 0,
    most: int = 65_535,
) -> int:
    """An option that is a whole number. Raises SettingsError: it is none, or out of range."""
    value = given.get(name, str(default))
    if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
        raise SettingsError(f"{what} {text}: {name}={value}: use a whole number, {least} to {most}")
    return int(value)


def register_kind(what: str, text: str, given: Mapping[str, str], name: str) -> bool:
    """Whether a register is an input register. Raises SettingsError: neither that nor a holding register."""
    kind = given.get(name, "holding")
    if kind not in ("holding", "input"):
        raise SettingsError(f"{what} {text}: {name}={kind}: use holding or input")
    return kind == "input"
