"""The commands around evidence: archive it, audit it, look into the dead letters and replay them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workers.options import Config, Json, Kafka, Log, Redis

_deadletter = typer.Typer(
    help="Records nobody could read: look at them, and send them again.", no_args_is_help=True
)

Shifts = Annotated[
    str, typer.Option(metavar="HH:MM,...", help="When shifts begin, in UTC.", envvar="CROSSCHECK_SHIFTS")
]
Endpoint = Annotated[
    str | None,
    typer.Option("--s3-endpoint", metavar="URL", help="An S3-compatible store that is not Amazon's."),
]
Reason = Annotated[str | None, typer.Option(help="Only letters of this reason.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(archive)
    app.command()(audit)
    _deadletter.command("list")(deadletter_list)
    _deadletter.command("show")(deadletter_show)
    _deadletter.command("replay")(deadletter_replay)
    app.add_typer(_deadletter, name="deadletter")


def archive(
    to: Annotated[str, typer.Option(metavar="DIR|s3://BUCKET/PREFIX", help="Where the archive is kept.")],
    shifts: Shifts = "06:00,14:00,22:00",
    table: Annotated[
        str, typer.Option("--format", metavar="parquet|jsonl", help="Of the tables.")
    ] = "parquet",
    sample: Annotated[
        float, typer.Option(min=0, max=1, help="Share of passed parts whose images are kept as well.")
    ] = 0.01,
    every: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds after which what was read is filed.")
    ] = 300.0,
    grace: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds after its end before a shift is sealed.")
    ] = 300.0,
    group: Annotated[str | None, typer.Option(help="Consumer group; PREFIX-archive where not given.")] = None,
    endpoint: Endpoint = None,
    kafka: Kafka = None,
    config: Config = None,
    log: Log = None,
) -> None:
    """File verdicts, images and heatmaps by shift, until told to stop (Ctrl-C or SIGTERM)."""
    from workers.archive.options import ArchiveOptions
    from workers.archive.shifts import Shifts as Plan
    from workers.commands.archive import run_archive, table_format
    from workers.commands.local import settings_here

    options = ArchiveOptions(
        shifts=Plan.parse(shifts),
        format=table_format(table),
        sample=sample,
        max_age_s=every,
        grace_s=grace,
    )
    settings = settings_here(config, kafka=kafka, log=log)
    run_archive(settings, options, to=to, endpoint=endpoint, group=group)


def audit(
    triggers: Annotated[
        list[Path], typer.Option(metavar="LOG", help="An agent's log of triggers; repeat it for several.")
    ],
    journal: Annotated[
        list[Path], typer.Option(metavar="FILE", help="A gate's journal; repeat it for several.")
    ],
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME|shift", help="ISO time, UTC; all where not given.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME|shift", help="ISO time, UTC; ten seconds ago where not given."),
    ] = None,
    archived: Annotated[
        str | None,
        typer.Option(
            "--archive", metavar="DIR|s3://BUCKET/PREFIX", help="Verdicts from here, files checked."
        ),
    ] = None,
    endpoint: Endpoint = None,
    kafka: Kafka = None,
    redis: Redis = None,
    shifts: Shifts = "06:00,14:00,22:00",
    everything: Annotated[
        bool, typer.Option("--all", help="List every exception, not only the first.")
    ] = False,
    config: Config = None,
    json_file: Json = None,
) -> None:
    """Prove that triggers = decisions = verdicts; exit code 1, and what is wrong, where it is not so.

    Verdicts come from the archive, the result topic (--kafka) or Redis (--redis), or all that are named;
    where none is, from the result topic.
    """
    from workers.archive.shifts import Shifts as Plan
    from workers.commands.audit import Asked, run_audit
    from workers.commands.local import settings_here

    asked = Asked(
        triggers=tuple(triggers),
        journals=tuple(journal),
        since=since,
        until=until,
        archive=archived,
        endpoint=endpoint,
        kafka=kafka is not None or (archived is None and redis is None),
        redis=redis is not None,
        shifts=Plan.parse(shifts),
        everything=everything,
    )
    settings = settings_here(config, kafka=kafka, redis=redis)
    raise typer.Exit(run_audit(settings, asked, json_file=json_file))


def deadletter_list(
    reason: Reason = None,
    station: Annotated[str | None, typer.Option(help="Only letters of this station's parts.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    kafka: Kafka = None,
    config: Config = None,
    json_file: Json = None,
) -> None:
    """What lies there: totals by reason, and the newest one by one."""
    from workers.commands.deadletter import run_list
    from workers.commands.local import settings_here

    settings = settings_here(config, kafka=kafka)
    run_list(settings, reason=reason, station=station, limit=limit, json_file=json_file)


def deadletter_show(
    offset: Annotated[int, typer.Argument(min=0, help="Its offset, as `list` shows it.")],
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the original bytes to a file.")
    ] = None,
    kafka: Kafka = None,
    config: Config = None,
) -> None:
    """One letter: its headers, what can be read of it, and its first bytes."""
    from workers.commands.deadletter import run_show
    from workers.commands.local import settings_here

    run_show(settings_here(config, kafka=kafka), offset, save=save)


def deadletter_replay(
    offset: Annotated[int | None, typer.Argument(min=0, help="Its offset, as `list` shows it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All letters of --reason.")] = False,
    reason: Reason = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    kafka: Kafka = None,
    redis: Redis = None,
    config: Config = None,
    json_file: Json = None,
) -> None:
    """Send the original bytes to their topic and partition again. No decision changes, and none is a PASS."""
    from workers.commands.deadletter import run_replay
    from workers.commands.local import settings_here

    settings = settings_here(config, kafka=kafka, redis=redis)
    code = run_replay(
        settings, offset, everything=everything, reason=reason, dry_run=dry_run, json_file=json_file
    )
    raise typer.Exit(code)
