"""The figures as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from tests.bench.figures import LATE_MS, Latency, Memory, Run, StageRow


def rates(title: str, runs: Sequence[tuple[str, Run]]) -> Table:
    """Offered and answered frames a second."""
    table = Table(title=title, title_justify="left")
    for heading in ("run", "frames", "offered/s", "answered/s", "backlog growth", "cores used", "verdict"):
        table.add_column(heading, justify="left" if heading in ("run", "verdict") else "right")
    for name, run in runs:
        table.add_row(
            name,
            str(len(run.answers)),
            f"{run.rate:.1f}",
            f"{run.throughput:.2f}",
            f"{run.growth:+.0f}",
            f"{run.cpu_seconds / run.seconds:.2f}",
            ", ".join(run.faults) or ("holds" if run.holds else "falls behind"),
        )
    return table


def latencies(title: str, rows: Sequence[tuple[str, Latency]]) -> Table:
    """Capture-to-verdict times."""
    table = Table(title=title, title_justify="left")
    for heading in ("capture to", "p50 ms", "p95 ms", "p99 ms", "max ms", f"over {LATE_MS:.0f} ms"):
        table.add_column(heading, justify="left" if heading == "capture to" else "right")
    for name, row in rows:
        values = (f"{value:.0f}" for value in (row.p50, row.p95, row.p99, row.max))
        table.add_row(name, *values, f"{row.late} of {row.count}")
    return table


def legs(split: dict[str, tuple[float, float]]) -> Table:
    """Where a frame's latency goes."""
    table = Table(title="where a frame waits at that rate", title_justify="left")
    table.add_column("leg")
    table.add_column("p50 ms", justify="right")
    table.add_column("p95 ms", justify="right")
    for name, (half, most) in split.items():
        table.add_row(name, f"{half:.1f}", f"{most:.1f}")
    return table


def stages(title: str, rows: Sequence[StageRow], frame_ms: float) -> Table:
    """Where each millisecond of a saturated worker goes."""
    table = Table(title=title, title_justify="left")
    for heading in ("stage", "ms a frame", "share", "computed by the loop's thread"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for row in rows:
        indent, style = ("  ", "dim") if "." in row.name else ("", "")
        cpu = "" if row.cpu_ms is None else f"{row.cpu_ms:.2f}"
        share = f"{100 * row.wall_ms / frame_ms:.1f} %"
        table.add_row(indent + row.name, f"{row.wall_ms:.2f}", share, cpu, style=style)
    table.add_section()
    table.add_row("all", f"{frame_ms:.2f}", "100 %", "")
    return table


def memory(found: Memory) -> Table:
    """Resident memory over frames."""
    table = Table(title="worker memory", title_justify="left")
    for heading in (f"frame {found.first}", f"frame {found.last}", "change", "peak"):
        table.add_column(heading, justify="right")
    table.add_row(
        f"{found.first_mb:.1f} MB",
        f"{found.last_mb:.1f} MB",
        f"{100 * found.drift:+.1f} %",
        f"{found.peak_mb:.1f} MB",
    )
    return table


def floors(rows: Sequence[tuple[str, str, str, bool]]) -> Table:
    """What had to be reached."""
    table = Table(title="floors", title_justify="left")
    for heading in ("floor", "wanted", "found", ""):
        table.add_column(heading)
    for name, wanted, found, good in rows:
        table.add_row(name, wanted, found, "[green]PASS[/green]" if good else "[bold red]FAIL[/bold red]")
    return table
