"""The command that leads from a part to its trace."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(trace)


def trace(
    part: Annotated[
        str, typer.Argument(metavar="STATION/RUN/TRIGGER", help="The part key, as logs have it.")
    ],
) -> None:
    """Print the id of a part's trace, to look for in a tracing backend.

    It follows from the part key alone: the part need not have been traced.
    """
    from workers.commands.trace import run_trace

    run_trace(part)
