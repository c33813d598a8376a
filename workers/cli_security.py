"""The commands around security."""

from __future__ import annotations

from typing import Annotated

import typer

from workers.options import Config


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(rights)


def rights(
    process: Annotated[
        str | None, typer.Argument(help="agent, worker, gate, archive, board, operator, replay; else all.")
    ] = None,
    stations: Annotated[
        str, typer.Option(help="Stations whose keys the users may touch, comma-separated.")
    ] = "s1",
    show: Annotated[
        str, typer.Option("--show", metavar="table|kafka|redis", help="What is printed.")
    ] = "table",
    config: Config = None,
) -> None:
    """Print the least rights of each process, as a table or as commands for Kafka and Redis."""
    from workers.commands.local import settings_here
    from workers.commands.rights import run_rights

    names = [name.strip() for name in stations.split(",") if name.strip()]
    raise typer.Exit(run_rights(settings_here(config), process=process, stations=names, show=show))
