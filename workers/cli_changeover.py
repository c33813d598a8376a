"""The command of the product change."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.options import Config, Kafka, Log, Redis


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(changeover)


def changeover(
    station: Annotated[str, typer.Option(help="Whose product it is.")] = "s1",
    plc: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the PLC holds the product's number; see above.")
    ] = None,
    products: Annotated[
        str | None, typer.Option("--map", metavar="1=NAME,...", help="Which number is which product.")
    ] = None,
    every_ms: Annotated[float, typer.Option(min=1, max=10_000, help="Between two readings.")] = 20.0,
    margin_ms: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=60_000,
            help="By how much the clocks of this machine, agents and workers may differ;"
            " CROSSCHECK_MAX_CLOCK_OFFSET_MS where not given.",
        ),
    ] = None,
    lost_ms: Annotated[
        float,
        typer.Option(min=2, max=60_000, help="A PLC silent for longer may have changed the product twice."),
    ] = 1000.0,
    forget: Annotated[
        bool, typer.Option("--forget", help="The product does not come from a PLC any more.")
    ] = False,
    kafka: Kafka = None,
    redis: Redis = None,
    config: Config = None,
    log: Log = None,
) -> None:
    """Follow the product that the PLC says, and tell gate and workers.

    modbus://HOST:PORT/UNIT?register=N: the register holds a number, 0 for no
    product (&from=input where it is an input register). With &ack=M the number
    is written back to register M once gate and workers have the product; until
    then M is 0, and the PLC holds the line.

    While this runs not, or the PLC does not answer, parts are not passed.
    """
    from workers.commands.changeover import ChangeoverOptions, run_changeover
    from workers.commands.local import settings_here

    options = ChangeoverOptions(
        station=station,
        plc=plc,
        products=products,
        every_s=every_ms / 1e3,
        margin_s=None if margin_ms is None else margin_ms / 1e3,
        lost_s=lost_ms / 1e3,
        forget=forget,
    )
    raise typer.Exit(run_changeover(settings_here(config, kafka=kafka, redis=redis, log=log), options))
