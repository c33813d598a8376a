"""``crosscheck gate``: the reject gate of one station, with its own eyes on the line."""

from __future__ import annotations

import threading
from pathlib import Path

from rich.table import Table

from workers.commands import console
from workers.commands.local import open_store
from workers.gate import Gate, GateReport, Journal, LogPartSource, RecordingActuator, audit
from workers.logs import configure_logs
from workers.settings import Settings


def run_gate(
    settings: Settings,
    *,
    station: str,
    product: str,
    parts: Path,
    travel_s: float,
    journal_file: Path,
    early: bool,
    until: int | None,
    json_file: Path | None,
) -> int:
    """Decide about parts until a signal, or until so many are decided; then check the journal."""
    configure_logs(settings.log)
    store = open_store(settings)
    with Journal(journal_file) as journal, console.stop_on_signal() as stop:
        gate = Gate(
            store,
            LogPartSource(parts, station=station, travel_s=travel_s),
            RecordingActuator(),
            journal,
            station=station,
            product=product,
            early=early,
        )
        if until is not None:
            threading.Thread(target=_stop_after, args=(gate, until, stop), daemon=True).start()
        gate.run(stop)
        report = gate.report()
    checked = audit(parts, journal_file, station=station)
    _show(report, len(checked.lost), len(checked.duplicates))
    value = report.to_json() | {"lost": len(checked.lost), "duplicates": len(checked.duplicates)}
    console.write_json(json_file, value)
    return console.OK if not (checked.lost or checked.duplicates) else console.BROKEN_PROMISE


def _stop_after(gate: Gate, until: int, stop: threading.Event) -> None:
    while not stop.wait(0.05):
        if gate.report().decisions >= until and not gate.unwritten:
            stop.set()


def _show(report: GateReport, lost: int, duplicates: int) -> None:
    table = Table(title=f"gate of {report.station}")
    table.add_column("decision")
    table.add_column("parts", justify="right")
    for decision, count in sorted(report.by_decision.items()):
        table.add_row(decision, str(count))
    console.out.print(table)
    latency = report.latency_ms
    p50, p99 = (console.number(latency[name], 0) for name in ("p50", "p99"))
    console.out.print(
        f"{report.decisions} decisions, {report.opened} opened, lost {lost}, duplicates {duplicates}"
    )
    console.out.print(f"trigger to verdict: p50 {p50} ms, p99 {p99} ms")
