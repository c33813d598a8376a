"""The command that shows the line in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.options import Config, Kafka, Log, Redis


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(board)


def board(
    host: Annotated[
        str | None, typer.Option(help="Address to listen at; 127.0.0.1 is reached from this machine only.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen at.")] = None,
    stations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Station map written by `crosscheck topics`.")
    ] = None,
    review: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where labelled parts are kept, for the next teach.")
    ] = None,
    kafka: Kafka = None,
    redis: Redis = None,
    config: Config = None,
    log: Log = None,
) -> None:
    """Show the line in a browser until told to stop (Ctrl-C or SIGTERM); review rejects there.

    It is read-only unless CROSSCHECK_BOARD_TOKEN is set.
    """
    from workers.board.server import address_of
    from workers.commands.board import run_board
    from workers.commands.local import settings_here

    settings = settings_here(config, stations=stations, review=review, kafka=kafka, redis=redis, log=log)
    if host is not None or port is not None:
        before = address_of(settings.board)
        name, number = host or before[0], before[1] if port is None else port
        settings = settings.model_copy(update={"board": f"{f'[{name}]' if ':' in name else name}:{number}"})
    run_board(settings)
