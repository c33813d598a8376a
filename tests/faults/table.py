"""The fault table, as it is printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from tests.faults.ledger import Row
from workers.commands.console import number

_RIGHT = (
    "times", "parts", "lost", "repeated", "conflicting", "unsafe", "out of order", "offsets back",
)  # fmt: skip

_CAPTION = (
    "recovery, for each station that a fault hit: where a worker was gone, to the first verdict of another; "
    "else to the first verdict of a part triggered after the fault, from the end of an outage"
)


def fault_table(rows: Sequence[Row]) -> Table:
    """One row a class of faults, and their sum."""
    table = Table(title="Faults", caption=_CAPTION)
    table.add_column("fault")
    for name in (*_RIGHT, "recovery p50 s", "max s", "memory MB", "descriptors"):
        table.add_column(name, justify="right")
    table.add_column("kept")
    for row in rows:
        table.add_row(
            row.fault + (" *" if row.real else ""),
            *map(str, _counts(row)),
            number(row.p50, 1),
            number(row.worst, 1),
            _change(*(None if taken is None else taken.rss_mb for taken in (row.before, row.after))),
            _change(*(None if taken is None else taken.fds for taken in (row.before, row.after))),
            "yes" if row.kept else "NO",
        )
    sums = [sum(column) for column in zip(*map(_counts, rows), strict=True)]
    real = sum(row.parts for row in rows if row.real)
    kept = "yes" if all(row.kept for row in rows) else "NO"
    table.add_section()
    table.add_row(f"all (* real model: {real} parts)", *map(str, sums), "", "", "", "", kept)
    return table


def _counts(row: Row) -> tuple[int, ...]:
    return (
        row.times,
        row.parts,
        row.lost,
        row.repeated,
        row.conflicting,
        row.unsafe,
        row.unordered,
        row.offsets_back,
    )


def _change(before: float | None, after: float | None) -> str:
    return "-" if before is None or after is None else f"{before:.0f} > {after:.0f}"
