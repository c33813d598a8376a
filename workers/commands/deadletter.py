"""``crosscheck deadletter``: what nobody could read, and sending it again."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from schemas.errors import SchemaError
from schemas.frame import Frame
from schemas.wire import decode_capture
from workers.bus.base import Record, TopicPartition
from workers.clock import SystemClock
from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.deadletters import DeadLetter, Fate, Replayed, Replayer, find, letters, original
from workers.errors import SettingsError, SourceError
from workers.scan import record_at
from workers.settings import Settings

_DUMP_BYTES = 256


def run_list(
    settings: Settings, *, reason: str | None, station: str | None, limit: int, json_file: Path | None
) -> None:
    """Totals by reason, then the newest letters one by one."""
    bus = open_bus(settings, "deadletter")
    try:
        found = letters(bus, settings.topic("deadletter"))
    finally:
        bus.close()
    chosen = _chosen(found, reason, station)
    _show_totals(chosen)
    _show_letters(chosen[-limit:])
    if len(chosen) > limit:
        console.out.print(f"the newest {limit} of {len(chosen)}; --limit shows more", highlight=False)
    console.write_json(json_file, {"total": len(chosen), "letters": [_to_json(one) for one in chosen]})


def _chosen(found: Iterable[DeadLetter], reason: str | None, station: str | None) -> list[DeadLetter]:
    return [
        letter
        for letter in found
        if (reason is None or letter.reason == reason)
        and (station is None or (letter.part is not None and letter.part.station == station))
    ]


def _show_totals(found: list[DeadLetter]) -> None:
    if not found:
        console.out.print("no dead letters")
        return
    groups: defaultdict[str, list[DeadLetter]] = defaultdict(list)
    for letter in found:
        groups[letter.reason].append(letter)
    table = Table(title="dead letters by reason")
    for name in ("reason", "letters", "bytes", "sent again", "oldest", "newest"):
        table.add_column(name, justify="left" if name == "reason" else "right")
    now = time.time_ns()
    for reason, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        ages = [_age(now - letter.at) for letter in (group[0], group[-1])]
        size = _size(sum(letter.size for letter in group))
        again = sum(letter.sent_to is not None for letter in group)
        table.add_row(_plain(reason), str(len(group)), size, str(again), *ages)
    console.out.print(table)


def _show_letters(found: list[DeadLetter]) -> None:
    if not found:
        return
    table = Table()
    for name in ("offset", "age", "reason", "part", "origin", "bytes", "error"):
        right = name in ("offset", "age", "bytes")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    now = time.time_ns()
    for letter in found:
        error = letter.error[:100]
        if letter.sent_to is not None:
            error = f"sent again to {letter.sent_to}; {error}"
        elif letter.replay_of is not None:
            error = f"letter {letter.replay_of} sent again; {error}"
        table.add_row(
            str(letter.offset),
            _age(now - letter.at),
            _plain(letter.reason),
            _plain(str(letter.part or "-")),
            _plain(_origin(letter)),
            _size(letter.size) + (" left out" if letter.left_out else ""),
            _plain(error),
        )
    console.out.print(table)


def _origin(letter: DeadLetter) -> str:
    if letter.origin is None:
        return "-"
    place, offset = letter.origin
    until = "" if letter.until in (None, offset) else f" to {letter.until}"
    return f"{place.topic}/{place.partition}/{offset}{until}"


def run_show(settings: Settings, offset: int, *, save: Path | None) -> None:
    """One letter: headers, what can be read of it, its first bytes.

    Raises:
        SourceError: there is no such letter, or its bytes are gone and were to be saved.
        SettingsError: the file cannot be written.
    """
    topic = settings.topic("deadletter")
    bus = open_bus(settings, "deadletter")
    try:
        letter = find(bus, topic, offset)
        kept = record_at(bus, TopicPartition(topic, 0), offset)
        if kept is None:
            raise SourceError(f"{topic}: offset {offset} is no longer kept")
        whole = original(bus, topic, letter)
    finally:
        bus.close()
    _show_headers(kept, letter)
    if isinstance(whole, str):
        console.out.print(_plain(whole))
        if save is not None:
            raise SourceError(f"dead letter {offset}: {whole}")
        return
    for line in _readable(whole):
        console.out.print(_plain(line))
    console.out.print(Text(hexdump(whole.value[:_DUMP_BYTES])))
    if len(whole.value) > _DUMP_BYTES:
        console.out.print(f"... {len(whole.value) - _DUMP_BYTES} more bytes", highlight=False)
    if save is not None:
        try:
            save.write_bytes(whole.value)
        except OSError as error:
            raise SettingsError(f"--save {save}: {error.strerror}; name a writable file") from None
        console.out.print(f"{len(whole.value)} bytes in {save}", highlight=False)


def _show_headers(record: Record, letter: DeadLetter) -> None:
    table = Table(title=f"dead letter {record.offset}", show_header=False)
    table.add_row("record key", _plain(repr(record.key)))
    table.add_row("part", _plain(str(letter.part or "cannot be read")))
    for name, value in record.headers:
        table.add_row(_plain(name), _plain(value.decode("utf-8", "replace")))
    if letter.sent_to is not None:
        table.add_row("sent again to", _plain(letter.sent_to))
    console.out.print(table)


def _readable(record: Record) -> list[str]:
    try:
        found = decode_capture(record.value)
    except SchemaError as error:
        return [f"{len(record.value)} bytes; not readable: {error.reason}: {error}"]
    lines = [
        f"readable as a {found.KIND}: part {found.part}, product {found.product!r}, "
        f"captured_at {found.captured_at}, deadline {found.deadline}"
    ]
    if isinstance(found, Frame):
        for name, payload in (("rgb", found.rgb), ("depth", found.depth)):
            if payload is None:
                lines.append(f"  {name}: none")
                continue
            try:
                payload.verify()
                whole = "digest holds"
            except SchemaError as error:
                whole = f"{error.reason}: {error}"
            size = f"{payload.width} x {payload.height}"
            lines.append(f"  {name}: {payload.encoding} {size}, {len(payload.data)} bytes, {whole}")
    return lines


def hexdump(data: bytes) -> str:
    """Sixteen bytes a line: offset, hexadecimal, and what of it is text."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(b) if 32 <= b < 127 else "." for b in row)
        lines.append(f"{at:08x}  {row.hex(' '):<47}  {text}")
    return "\n".join(lines)


def run_replay(
    settings: Settings,
    offset: int | None,
    *,
    everything: bool,
    reason: str | None,
    dry_run: bool,
    json_file: Path | None,
) -> int:
    """Send letters again; exit code 1 where one that was asked for was not sent, now or before.

    Raises:
        SettingsError: neither one letter nor all of a reason, or both.
        SourceError: there is no such letter.
    """
    if everything == (offset is not None):
        raise SettingsError(
            "name one offset, or --all with --reason; `crosscheck deadletter list` shows them"
        )
    if everything and reason is None:
        raise SettingsError("--all needs --reason: letters of other reasons want other mending")
    topic = settings.topic("deadletter")
    store = open_store(settings)
    bus = open_bus(settings, "deadletter", "verdicts")
    try:
        if offset is not None:
            chosen = [find(bus, topic, offset)]
        else:
            chosen = [one for one in _chosen(letters(bus, topic), reason, None) if one.replay_of is None]
        replayer = Replayer(
            bus,
            store,
            dead=topic,
            verdicts=settings.topic("verdicts"),
            clock=SystemClock(),
            dry_run=dry_run,
        )
        outcomes: list[Replayed] = []
        try:
            for outcome in replayer.replay(chosen):
                word = "would be sent" if dry_run and outcome.fate is Fate.SENT else outcome.fate.value
                console.out.print(_plain(f"{outcome.letter.offset}: {word}: {outcome.says}"))
                outcomes.append(outcome)
        finally:
            replayer.close()
    finally:
        bus.close()
    counts = Counter(outcome.fate.value for outcome in outcomes)
    if not outcomes:
        console.out.print("no such dead letters")
    console.write_json(
        json_file,
        {
            "dry_run": dry_run,
            "counts": dict(counts),
            "letters": [{"offset": o.letter.offset, "fate": o.fate.value, "says": o.says} for o in outcomes],
        },
    )
    return console.BROKEN_PROMISE if counts[Fate.REFUSED.value] else console.OK


def _to_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "offset": letter.offset,
        "reason": letter.reason,
        "error": letter.error,
        "origin": None if letter.origin is None else _origin(letter),
        "part": None if letter.part is None else str(letter.part),
        "worker": letter.worker,
        "at": letter.at,
        "bytes": letter.size,
        "left_out": letter.left_out,
        "replay_of": letter.replay_of,
        "sent_to": letter.sent_to,
    }


def _plain(text: str) -> Text:
    """Somebody's bytes as text: no markup, and nothing that a terminal would obey."""
    return Text("".join(c if c.isprintable() else "\ufffd" for c in text))


def _age(nanoseconds: int) -> str:
    seconds = max(0, nanoseconds) / 1e9
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _size(count: int) -> str:
    return (
        f"{count} B"
        if count < 10_000
        else f"{count / 1000:.0f} kB"
        if count < 10**7
        else f"{count / 1e6:.0f} MB"
    )
