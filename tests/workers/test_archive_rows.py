"""Rows of the archive: both limits are written and read back, and tables with one limit are still read."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pyarrow
import pytest
from pyarrow import parquet

from schemas.part import PartKey
from schemas.wire import encode
from tests.workers.archive_line import VERDICTS, verdict
from workers.archive.rows import VERDICT, Format, Told, read_rows, row_of, write_rows
from workers.bus.base import Record

FORMATS: tuple[Format, ...] = ("parquet", "jsonl")


def table(chosen: Format) -> tuple[str, bytes]:
    found = replace(verdict(PartKey("s1", 1, 1)), pass_limit=0.75)
    record = Record(
        topic=VERDICTS, partition=0, offset=0, key=b"k", value=encode(found), headers=(), timestamp_ms=0
    )
    return f"verdicts/x.{chosen}", write_rows([row_of(found, record, VERDICT)], chosen)


@pytest.mark.parametrize("chosen", FORMATS)
def test_a_row_has_both_limits_and_says_the_lower_one(chosen: Format) -> None:
    name, data = table(chosen)
    (told,) = read_rows(name, data)
    assert (told.score, told.limit) == (0.5, 0.75)
    assert not told.passed_above_its_limit


@pytest.mark.parametrize("chosen", FORMATS)
def test_a_table_of_before_there_were_two_limits_has_its_threshold_for_both(chosen: Format) -> None:
    name, data = table(chosen)
    (told,) = read_rows(name, _without_pass_limit(chosen, data))
    assert (told.score, told.limit) == (0.5, 1.0)


def test_only_a_pass_is_held_to_the_limit() -> None:
    name, data = table("jsonl")
    row = json.loads(data) | {"decision": "REVIEW", "score": 5.0}
    (told,) = read_rows(name, json.dumps(row).encode())
    assert isinstance(told, Told)
    assert not told.passed_above_its_limit


def _without_pass_limit(chosen: Format, data: bytes) -> bytes:
    if chosen == "jsonl":
        row = json.loads(data)
        del row["pass_limit"]
        return json.dumps(row).encode()
    old = parquet.read_table(pyarrow.BufferReader(data)).drop_columns(["pass_limit"])
    out = io.BytesIO()
    parquet.write_table(old, out)
    return out.getvalue()
