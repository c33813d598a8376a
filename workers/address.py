"""Addresses that people give: taken apart, refused and shown without what may be a password.

Of the PLC and of actuators also the options behind the ``?``, each checked by name and range.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from workers.errors import SettingsError

_QUOTING = "/ as %2F, ? as %3F, # as %23, @ as %40, % as %25, [ as %5B, ] as %5D"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# A host, a port in digits, a path without what could have been meant as a user and a password.
_PLAIN = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:/@\[\]\s]*)(:\d{0,5})?(/[^@:]*)?\Z")


def shown(text: str) -> str:
    """An address for messages and logs: all that could be a secret as ``***``, without options.

    It need not be a correct one: of one that is wrong nobody can say where the password ends. So everything
    up to the last ``@`` is hidden, and the rest too where it is no host with a port and a path.
    """
    found = _SCHEME.match(text)
    scheme, rest = (found.group(), text[found.end() :]) if found else ("", text)
    before, at, after = rest.rpartition("@")
    after = re.split(r"[?#]", after, maxsplit=1)[0]
    if not _PLAIN.match(after):
        host = re.match(r"[\w.-]+:", after)
        return f"{scheme}{host.group() if host and not at else ''}***"
    # The user is named where it is certain which part that is.
    user = re.match(r"([^:/?#@%\s]+):[^/?#@\[\]]*\Z", before)
    return f"{scheme}{f'{user[1]}:' if user else ''}{'***@' if at else ''}{after}"


def parsed(what: str, text: str, forms: str) -> SplitResult:
    """A URL taken apart, its port among it. What it says of a wrong one repeats no part of a password.

    Args:
        what: the setting or option that it came by, for messages.
        forms: how to write it, for messages.

    Raises:
        SettingsError: it cannot be taken apart, or not in one way only.
    """
    try:
        parts = urlsplit(text)
        _ = parts.port, parts.hostname
        fault = None
    except ValueError:  # its own words repeat what it takes for the port
        fault = "it cannot be taken apart into host, port and path"
        parts = SplitResult("", "", "", "", "")
    if "@" in parts.path + parts.query + parts.fragment:
        fault = "there is an @ behind the host"
    if fault is not None:
        quoting = f". In a user or a password write {_QUOTING}" if "@" in text else ""
        raise SettingsError(f"{what} {shown(text)}: {fault}; {forms}{quoting}")
    return parts


def bucket_of(what: str, text: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://BUCKET/PREFIX``; the prefix may be empty. Raises SettingsError."""
    forms = "write it as s3://BUCKET/PREFIX, its keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    parts = parsed(what, text, forms)
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError(f"{what} {shown(text)}: not the address of a bucket; {forms}")
    return parts.netloc, parts.path.strip("/")


def check_endpoint(given: str | None) -> None:
    """See that the URL of an S3-compatible store, the one given or the environment's, is one.

    The client repeats it in its errors, with a password that should not be there. Raises SettingsError.
    """
    forms = "write it as https://HOST:PORT, its keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    named = {"--s3-endpoint": given} if given else os.environ
    for what in ("--s3-endpoint", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if text := named.get(what):
            parts = parsed(what, text, forms)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise SettingsError(f"{what} {shown(text)}: not the address of a store; {forms}")


def split(what: str, text: str, forms: str) -> tuple[SplitResult, int | None]:
    """The address taken apart, and its port.

    Args:
        what: the option that it came by, for messages.
        forms: which addresses there are, for messages.

    Raises:
        SettingsError: it is none, or holds a user and a password.
    """
    parts = parsed(what, text, forms)
    port = parts.port
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


Table = Literal["coil", "holding", "input"]
_TABLES: dict[str, str] = {"0": "coil", "1": "contact", "3": "input", "4": "holding"}
_LEADING = {name: digit for digit, name in _TABLES.items()}
_NAMES = {"coil": "a coil", "contact": "an input contact", "input": "an input register"}
_NAMES["holding"] = "a holding register"


def modbus(
    what: str, text: str, given: Mapping[str, str], name: str, table: Table, default: int | None = None
) -> int:
    """The address of a coil or a register as it goes over the wire, 0 to 65535.

    Two ways to write one: counted from 0 (``0``), or as manuals do, five or six digits, of which the first
    is the table's and the rest counts from 1 (``00001``, ``40001``, ``400001``). A number counted from 0 that
    looks like a manual's is written ``offset:40001``.

    Raises:
        SettingsError: it is neither, is of another table, or out of range.
    """
    value = given.get(name, "" if default is None else str(default))
    first = f"{_LEADING[table]}0001"
    ways = f"use 0 to 65535, counted from 0, or {first} and up as manuals number {_NAMES[table]}"

    def wrong(why: str) -> SettingsError:
        return SettingsError(f"{what} {text}: {name}={value}: {why}; {ways}")

    plain = value.removeprefix("offset:")
    if not re.fullmatch(r"[0-9]+", plain):
        raise wrong("not a Modbus address (names of a PLC's own, as %MW10 or D100, have one in its manual)")
    if plain is value and len(value) in (5, 6) and value[0] in _TABLES:
        return _as_in_manuals(value, table, wrong)
    if len(plain) > 1 and plain[0] == "0":
        raise wrong("zeros in front, and not the five or six digits of a manual")
    if int(plain) > 65_535:
        raise wrong("out of range")
    return int(plain)


def _as_in_manuals(value: str, table: Table, wrong: Callable[[str], SettingsError]) -> int:
    kind, number = _TABLES[value[0]], int(value[1:])
    if kind != table:
        offset = f", and the number counted from 0 is written offset:{value}" if value[0] != "0" else ""
        raise wrong(f"as manuals number them this is {_NAMES[kind]}{offset}")
    if not 1 <= number <= 65_536:
        raise wrong("as manuals number them the first is 1")
    return number - 1


def register_kind(what: str, text: str, given: Mapping[str, str], name: str) -> bool:
    """Whether a register is an input register. Raises SettingsError: neither that nor a holding register."""
    kind = given.get(name, "holding")
    if kind not in ("holding", "input"):
        raise SettingsError(f"{what} {text}: {name}={kind}: use holding or input")
    return kind == "input"
