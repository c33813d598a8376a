"""The command that tries a candidate bundle on the line's own frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.options import Config, Device, Json, Kafka, Log, Redis


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(shadow)


def shadow(
    product: Annotated[str, typer.Argument(help="Whose parts are compared.")],
    version: Annotated[str, typer.Argument(help="The candidate: a version of its bundle.")],
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of bundles: DIR/PRODUCT/VERSION.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="URL", help="s3://BUCKET/PREFIX that bundles are fetched from.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many compared parts; Ctrl-C stops too.")
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long a part waits for its verdict.")
    ] = 10.0,
    device: Device = "cpu",
    kafka: Kafka = None,
    redis: Redis = None,
    config: Config = None,
    log: Log = None,
    json_file: Json = None,
) -> None:
    """Score the line's frames with a candidate bundle too, and compare; it decides nothing."""
    from workers.commands.local import settings_here
    from workers.commands.shadow import run_shadow

    settings = settings_here(
        config, models=models, model_store=store, device=device, kafka=kafka, redis=redis, log=log
    )
    run_shadow(settings, product, version, count=count, wait_s=wait, json_file=json_file)
