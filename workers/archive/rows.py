"""A verdict as a row of a table, in Parquet or JSON lines, and back as far as an audit needs it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.errors import SchemaError
from schemas.part import PartKey
from schemas.verdict import Decision, Verdict
from workers.bus.base import Record
from workers.errors import SettingsError

Format = Literal["parquet", "jsonl"]
Row = dict[str, Any]

VERDICT = "verdict"
"""The first of its part: exactly one row of this kind a part."""
REPEAT = "repeat"
"""Another message about a part that has its row, and not the same bytes: evidence of a conflict."""
DAMAGED = "damaged"
"""A record that could not be read; its bytes are in a file of their own."""

_TEXT = "row station product decision reason mode foreground bundle bundle_hash worker digest images_note"
_TIMES = ("captured_at", "decided_at", "deadline")
_LISTS = ("degraded", "images")
_JSON = ("branches", "regions", "sources", "timings")
_INTEGERS = ("run", "trigger", "attempt", "partition", "offset")
_NUMBERS = ("score", "threshold", "pass_limit", "coverage")
COLUMNS = (*_TEXT.split(), *_INTEGERS, *_NUMBERS, *_TIMES, *_LISTS, *_JSON)


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def row_of(verdict: Verdict, record: Record, kind: str) -> Row:
    """The row of a verdict; ``digest`` is that of its bytes as they were on the topic."""
    row: Row = dict.fromkeys(COLUMNS)
    body = verdict.to_map()
    row |= {name: body[name] for name in (*_TIMES, *_NUMBERS, "attempt", "coverage")}
    row |= {name: body.get(name) for name in _TEXT.split() if name in body}
    row |= {name: json.dumps(body[name], separators=(",", ":")) for name in _JSON}
    row |= {
        "row": kind,
        "station": verdict.part.station,
        "run": verdict.part.run,
        "trigger": verdict.part.trigger,
        "degraded": list(verdict.degraded),
        "images": [],
        "partition": record.partition,
        "offset": record.offset,
        "digest": digest_of(record.value),
    }
    return row


def damaged_row(record: Record, why: str, name: str) -> Row:
    """The row of a record that cannot be read."""
    row: Row = dict.fromkeys(COLUMNS)
    return row | {
        "row": DAMAGED,
        "reason": why[:1000],
        "degraded": [],
        "images": [name],
        "partition": record.partition,
        "offset": record.offset,
        "digest": digest_of(record.value),
    }


def require(chosen: Format) -> None:
    """See that a format can be written, before there is something to write. Raises SettingsError."""
    if chosen == "parquet":
        _arrow()


def write_rows(rows: Sequence[Row], chosen: Format) -> bytes:
    """The file of some rows. Raises SettingsError where pyarrow is missing."""
    if chosen == "jsonl":
        lines = (json.dumps(row, separators=(",", ":"), ensure_ascii=True) for row in rows)
        return "".join(f"{line}\n" for line in lines).encode("ascii")
    arrow, parquet = _arrow()
    kinds = {
        **dict.fromkeys(_INTEGERS, arrow.int64()),
        **dict.fromkeys(_NUMBERS, arrow.float64()),
        **dict.fromkeys(_TIMES, arrow.timestamp("ns", tz="UTC")),
        **dict.fromkeys(_LISTS, arrow.list_(arrow.string())),
    }
    schema = arrow.schema([(name, kinds.get(name, arrow.string())) for name in COLUMNS])
    out = arrow.BufferOutputStream()
    parquet.write_table(arrow.Table.from_pylist(list(rows), schema=schema), out, compression="zstd")
    return bytes(out.getvalue().to_pybytes())


@dataclass(frozen=True, slots=True)
class Told:
    """What one row says of a part, as far as an audit asks.

    Attributes:
        limit: up to which the part's score may pass: the lower of the two limits; None where there is none.
    """

    kind: str
    part: PartKey | None
    decision: Decision | None
    captured_at: int
    digest: str
    score: float | None = None
    limit: float | None = None

    @property
    def passed_above_its_limit(self) -> bool:
        """Whether it says PASS of a part whose score is not known to be at or below its limit."""
        if self.decision is not Decision.PASS:
            return False
        return self.score is None or self.limit is None or not self.score <= self.limit


def read_rows(name: str, data: bytes) -> list[Told]:
    """The rows of a file that ``write_rows`` wrote.

    Raises:
        ValueError: it is not one.
        SettingsError: it is Parquet and pyarrow is missing.
    """
    wanted = ["row", "station", "run", "trigger", "decision", "captured_at", "digest", "score", "threshold"]
    if name.endswith(".jsonl"):
        raw = [json.loads(line) for line in data.splitlines()]
    else:
        arrow, parquet = _arrow()
        try:
            # Absent in tables of before there were two limits.
            if "pass_limit" in parquet.read_schema(arrow.BufferReader(data)).names:
                wanted.append("pass_limit")
            table = parquet.read_table(arrow.BufferReader(data), columns=wanted)
            # As integers: a nanosecond does not fit into Python's own times.
            at = table.schema.get_field_index("captured_at")
            table = table.set_column(at, "captured_at", table.column(at).cast(arrow.int64()))
            raw = table.to_pylist()
        except (arrow.ArrowException, OSError, KeyError) as error:
            raise ValueError(f"{name}: not an archive's table ({str(error)[:120]})") from None
    return [_told(name, row) for row in raw]


def _told(name: str, row: Row) -> Told:
    try:
        part = None
        if row["station"] is not None:
            part = PartKey(row["station"], row["run"], row["trigger"])
        decision = None if row["decision"] is None else Decision(row["decision"])
        limits = [float(row[name]) for name in ("threshold", "pass_limit") if row.get(name) is not None]
        return Told(
            kind=str(row["row"]),
            part=part,
            decision=decision,
            captured_at=int(row["captured_at"] or 0),
            digest=str(row["digest"]),
            score=None if row["score"] is None else float(row["score"]),
            limit=min(limits, default=None),
        )
    except (KeyError, TypeError, ValueError, SchemaError) as error:
        raise ValueError(f"{name}: not an archive's row ({str(error)[:120]})") from None


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise SettingsError(
            "Parquet needs pyarrow: pip install 'crosscheck[archive]', or choose --format jsonl"
        ) from None
    return pyarrow, parquet
