"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.commands import console

Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", callback=console.check_json, help="Write the result as JSON."),
]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Settings as TOML; CROSSCHECK_CONFIG does the same.")
]
Kafka = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Kafka bootstrap servers.")]
Redis = Annotated[str | None, typer.Option(metavar="URL", help="Redis URL.")]
Log = Annotated[str | None, typer.Option(metavar="console|json", help="Log format.")]
Seed = Annotated[int, typer.Option(min=0, help="Everything random follows from it.")]
SameField = Annotated[
    bool,
    typer.Option(
        "--same-field", help="The depth image covers the same field as the colour image at another size."
    ),
]
Folder = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where data, logs and pids are kept.")]
Dino = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", envvar="CROSSCHECK_DINO", help="Weights of DINO ViT-B/8, for the reference profile."
    ),
]
PointMae = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", envvar="CROSSCHECK_POINT_MAE", help="Weights of Point-MAE, for the reference profile."
    ),
]
