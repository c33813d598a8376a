"""The commands for bundles in service: list, activate, roll back, set a threshold, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.options import Config, Json, Kafka, Log, Redis

Models = Annotated[
    Path | None, typer.Option("--models", metavar="DIR", help="Folder of bundles: DIR/PRODUCT/VERSION.")
]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="s3://BUCKET/PREFIX that bundles are fetched from."),
]
Wait = Annotated[
    float,
    typer.Option("--wait", min=0, metavar="SECONDS", help="How long workers are waited for; 0: not at all."),
]
Product = Annotated[str, typer.Argument(help="Whose bundle.")]
Version = Annotated[str, typer.Argument(help="Which version of it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    models = typer.Typer(
        help="Bundles in service: which there are, which one judges, and how another takes over while the"
        " line runs.",
        no_args_is_help=True,
    )
    models.command("list")(list_)
    models.command()(activate)
    models.command()(rollback)
    models.command()(threshold)
    models.command()(push)
    app.add_typer(models, name="models")


def list_(
    models: Models = None,
    store: StoreUrl = None,
    kafka: Kafka = None,
    redis: Redis = None,
    config: Config = None,
    log: Log = None,
    json_file: Json = None,
) -> None:
    """Every bundle: since when, its hash, whether it is active, and which workers judge by it."""
    from workers.commands.local import settings_here
    from workers.commands.models import list_models

    settings = settings_here(config, models=models, model_store=store, kafka=kafka, redis=redis, log=log)
    raise typer.Exit(list_models(settings, json_file=json_file))


def activate(
    product: Product,
    version: Version,
    wait: Wait = 60.0,
    no_check: Annotated[
        bool,
        typer.Option("--no-check", help="Send it though the bundle is not to be had from here."),
    ] = False,
    models: Models = None,
    store: StoreUrl = None,
    kafka: Kafka = None,
    redis: Redis = None,
    config: Config = None,
    log: Log = None,
) -> None:
    """Judge a product by this version of its bundle from now on, on every worker, also after a restart.

    Each worker loads and warms it beside the line and takes it over between two
    batches. One that cannot goes on with the bundle that it has, and says so here.
    """
    from workers.commands.local import settings_here
    from workers.commands.models import activate as run

    settings = settings_here(config, models=models, model_store=store, kafka=kafka, redis=redis, log=log)
    raise typer.Exit(run(settings, product, version, wait_s=wait, check=not no_check))


def rollback(
    product: Product,
    wait: Wait = 60.0,
    models: Models = None,
    store: StoreUrl = None,
    kafka: Kafka = None,
    redis: Redis = None,
    config: Config = None,
    log: Log = None,
) -> None:
    """Judge a product by the bundle that was active before; called again, by the one before that."""
    from workers.commands.local import settings_here
    from workers.commands.models import roll_back

    settings = settings_here(config, models=models, model_store=store, kafka=kafka, redis=redis, log=log)
    raise typer.Exit(roll_back(settings, product, wait_s=wait))


def threshold(
    product: Product,
    mode: Annotated[str, typer.Argument(metavar="FUSED|RGB|DEPTH", help="Whose limits.")],
    number: Annotated[
        str,
        typer.Argument(
            metavar="NUMBER|taught", help="Parts above it are rejected; or back to the taught limits."
        ),
    ],
    passes: Annotated[
        float | None,
        typer.Option("--pass", metavar="NUMBER", help="Parts above it, up to the threshold, go to REVIEW."),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Of the bundle; the active one where not given.")
    ] = None,
    models: Models = None,
    store: StoreUrl = None,
    kafka: Kafka = None,
    redis: Redis = None,
    config: Config = None,
    log: Log = None,
) -> None:
    """Set limits while the line runs. They hold for one version of the bundle, and verdicts show them.

    Without --pass one number is both: parts up to it pass, parts above it are
    rejected. A sensor that was granted to pass parts alone may not under a
    higher pass limit than the one its misses were measured at.
    """
    from workers.commands.local import settings_here
    from workers.commands.models import set_threshold

    settings = settings_here(config, models=models, model_store=store, kafka=kafka, redis=redis, log=log)
    raise typer.Exit(set_threshold(settings, product, mode, number, version, passes))


def push(
    product: Product,
    version: Version,
    models: Models = None,
    store: StoreUrl = None,
    config: Config = None,
    log: Log = None,
) -> None:
    """Put a bundle of the models folder into the store, where every worker can fetch it."""
    from workers.commands.local import settings_here
    from workers.commands.models import push as run

    raise typer.Exit(run(settings_here(config, models=models, model_store=store, log=log), product, version))
