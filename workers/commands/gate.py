"""``crosscheck gate``: the reject gate of one station, with its own eyes on the line."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog
from rich.table import Table

from workers.commands import console
from workers.commands.local import open_store
from workers.errors import SettingsError
from workers.gate import Audit, ChallengeSettings, Gate, GateReport, Journal, LogPartSource, audit
from workers.gate.address import open_actuator
from workers.gate.belonging import check_journal, check_triggers
from workers.gate.decision import GateDecision
from workers.gate.journal import Entry
from workers.logs import configure_logs
from workers.settings import Settings
from workers.store.keys import checked
from workers.telemetry.assembly import Assembly
from workers.telemetry.gate import GateWaits, watch_gate
from workers.tracing.assembly import tracing
from workers.tracing.gate import GateTrace

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """What the command line says about one gate.

    Attributes:
        station, product, early: see ``Gate``.
        parts: the agent's trigger log.
        travel_s, hold_s: seconds from trigger to gate, and that a part stays in front of it.
        journal: the record of every decision.
        actuator: see ``workers.gate.address``.
        challenge: what the station owes of challenge parts.
        plc_product: nothing passes without the PLC's word about the product.
        until: stop after so many decisions; None: on a signal.
        json_file: where the report goes too.
    """

    station: str
    product: str
    parts: Path
    travel_s: float
    hold_s: float
    journal: Path
    actuator: str
    early: bool
    challenge: ChallengeSettings
    plc_product: bool
    until: int | None
    json_file: Path | None


def run_gate(settings: Settings, options: GateOptions) -> int:
    """Decide about parts until a signal, or until so many are decided; then check the journal."""
    configure_logs(settings.log)
    checked("station", options.station)
    if options.parts.is_dir():
        raise SettingsError(f"--parts {options.parts}: a folder; name the agent's log of triggers in it")
    check_triggers(options.parts, options.station)
    with ExitStack() as stack:
        watch = Assembly("gate", settings.metrics)
        stack.enter_context(watch.served())
        output = open_actuator(options.actuator)
        stack.callback(output.close)
        store = open_store(settings)
        journal = stack.enter_context(Journal(options.journal))
        check_journal(journal, options.journal, options.station)
        stop = stack.enter_context(console.stop_on_signal())
        waits = GateWaits()
        traced = stack.enter_context(tracing(settings, "gate", options.station))
        spans = None if traced is None else GateTrace(traced)

        def decided(decision: GateDecision, entry: Entry) -> None:
            waits.decided(decision, entry)
            if spans is not None:
                spans(decision, entry)

        gate = Gate(
            store,
            LogPartSource(options.parts, station=options.station, travel_s=options.travel_s),
            output.actuator,
            journal,
            station=options.station,
            product=options.product,
            hold_s=options.hold_s,
            early=options.early,
            challenge=options.challenge,
            challenge_store=store,
            counted=output.counted,
            pulse_s=output.pulse_s,
            product_store=store,
            product_required=options.plc_product,
            on_decision=decided,
        )
        watch_gate(watch, gate, waits, station=options.station, redis=store.contact, stop=stop)
        if options.until is not None:
            threading.Thread(target=_stop_after, args=(gate, options.until, stop), daemon=True).start()
        if not options.parts.exists():
            # It may well be first: but a name with a typing error would look just the same.
            log.warning("gate_no_parts_yet", file=str(options.parts), waiting_for="the agent that writes it")
        gate.run(stop)
        report = gate.report()
    found = audit(options.parts, options.journal, station=options.station)
    _show(report, found, moves=output.moves, early=options.early)
    value = report.to_json() | {"lost": len(found.lost), "duplicates": len(found.duplicates)}
    console.write_json(options.json_file, value)
    return console.OK if not (found.lost or found.duplicates) else console.BROKEN_PROMISE


def _stop_after(gate: Gate, until: int, stop: threading.Event) -> None:
    while not stop.wait(0.05):
        if gate.report().decisions >= until and not gate.unwritten:
            stop.set()


def _show(report: GateReport, checked: Audit, *, moves: bool, early: bool) -> None:
    say = console.out.print
    table = Table(title=f"gate of {report.station}")
    table.add_column("decision")
    table.add_column("parts", justify="right")
    for decision, count in sorted(report.by_decision.items()):
        table.add_row(decision, str(count))
    say(table)
    say(
        f"{report.decisions} decisions, {report.opened} opened, lost {len(checked.lost)},"
        f" duplicates {len(checked.duplicates)}"
    )
    say(f"trigger to verdict: {_times(report.latency_ms, 0)}")
    if report.opened:
        moment = "verdict" if early else "part due"
        say(f"{moment} to actuator: {_times(report.actuator_ms, 1)}", end="")
        say(f"; its own round trip: {_times(report.round_trip_ms, 1)}" if moves else " (recorded only)")
    if report.challenges_passed or report.challenges_failed:
        say(f"challenge parts: {report.challenges_passed} rejected, {report.challenges_failed} not")
    if report.unseen:
        say(f"[red]{report.unseen} parts were counted by the PLC and not seen here[/red]")
    if report.untold:
        say(f"[red]{report.untold} parts of the agent are not in its trigger log[/red]")
    if report.alarms:
        alarms = ", ".join(f"{name} {count}" for name, count in sorted(report.alarms.items()))
        say(f"[red]alarms[/red]: {alarms}", highlight=False)
    if report.locked is not None:
        say(f"[red]locked ({report.locked}): nothing passes until a challenge part is rejected[/red]")


def _times(values: dict[str, float | None], digits: int) -> str:
    p50, p99 = (console.number(values[name], digits) for name in ("p50", "p99"))
    return f"p50 {p50} ms, p99 {p99} ms"
