"""The commands of the gate: run it, and challenge it with a part known to be bad."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.options import Config, Json, Log, Redis


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(gate)
    app.command()(challenge)


def gate(
    parts: Annotated[
        Path, typer.Option(metavar="FILE", help="The agent's trigger log: the gate's photo-eye.")
    ],
    station: Annotated[str, typer.Option(help="Whose gate this is.")] = "s1",
    product: Annotated[str, typer.Option(help="Named in the MISSING verdicts it writes.")] = "demo-part",
    travel: Annotated[float, typer.Option(min=0.01, help="Seconds from trigger to gate.")] = 2.0,
    hold: Annotated[
        float, typer.Option(min=0.0, help="Seconds that a part stays in front of the gate, and it open.")
    ] = 0.05,
    journal: Annotated[
        Path, typer.Option(metavar="FILE", help="The record of every decision; rotated to FILE.1, FILE.2 ...")
    ] = Path("gate.jsonl"),
    actuator: Annotated[
        str,
        typer.Option(
            metavar="record|URL",
            help="What it moves; see above.",
        ),
    ] = "record",
    early: Annotated[
        bool, typer.Option("--early", help="Decide when the verdict is there, not when the part is.")
    ] = False,
    challenge_every: Annotated[
        float | None,
        typer.Option(
            min=1, help="Seconds within which a bad part must be shown and rejected; 28800 is a shift."
        ),
    ] = None,
    challenge_grace: Annotated[
        float, typer.Option(min=0, help="Seconds from the alarm that one is due to the locked gate.")
    ] = 900.0,
    plc_product: Annotated[
        bool,
        typer.Option("--plc-product", help="Nothing passes unless `crosscheck changeover` says the product."),
    ] = False,
    until: Annotated[int | None, typer.Option(min=1, help="Stop after so many decisions.")] = None,
    redis: Redis = None,
    config: Config = None,
    log: Log = None,
    json_file: Json = None,
) -> None:
    """Open for a PASS of the very part in front of it, and for nothing else.

    What it moves is named by --actuator. A failure, or no answer within
    timeout_ms, counts as closed and is closed again.

    record: nothing, the parts are counted only.

    http://HOST:PORT/PATH: POSTs to PATH/energise, PATH/release and
    PATH/heartbeat; only 2xx confirms.

    modbus://HOST:PORT/UNIT?coil=0&heartbeat=0: a PLC. The coil opens, the
    register counts up while the gate lives. With &counter=1 its own count of
    parts is compared (&counter_from=input where that is an input register).

    Addresses count from 0, or are as in manuals: coil=00001, heartbeat=40001.

    Both take timeout_ms=200, and pulse=0.2: on for so many seconds for each
    part, for a PLC that opens on the edge.

    A gate that is stopped shuts. One that is killed leaves the output as it
    was: the PLC must close when the heartbeat stops (docs/on-site.md).
    """
    from workers.commands.gate import GateOptions, run_gate
    from workers.commands.local import settings_here
    from workers.gate import ChallengeSettings

    options = GateOptions(
        station=station,
        product=product,
        parts=parts,
        travel_s=travel,
        hold_s=hold,
        journal=journal,
        actuator=actuator,
        early=early,
        challenge=ChallengeSettings(every_s=challenge_every, grace_s=challenge_grace),
        plc_product=plc_product,
        until=until,
        json_file=json_file,
    )
    raise typer.Exit(run_gate(settings_here(config, redis=redis, log=log), options))


def challenge(
    station: Annotated[str, typer.Option(help="Whose gate is challenged.")] = "s1",
    parts: Annotated[int, typer.Option(min=1, max=100, help="How many bad parts follow.")] = 1,
    within: Annotated[int, typer.Option(min=1, help="Seconds in which they come.")] = 600,
    redis: Redis = None,
    config: Config = None,
    log: Log = None,
) -> None:
    """Say that the next part is known to be bad: it must be rejected, or the gate locks."""
    from workers.commands.challenge import run_challenge
    from workers.commands.local import settings_here

    settings = settings_here(config, redis=redis, log=log)
    raise typer.Exit(run_challenge(settings, station=station, parts=parts, within_s=within))
