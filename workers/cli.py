"""``crosscheck``: the command line.

Each command is a file in ``workers/commands``, imported when it is called, so that ``--help`` does not wait
for torch.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from compose.process import LocalServicesError
from schemas.errors import CrosscheckError
from workers import (
    cli_board,
    cli_changeover,
    cli_evidence,
    cli_gate,
    cli_models,
    cli_plan,
    cli_security,
    cli_serving,
    cli_shadow,
    cli_tracing,
)
from workers.commands import console
from workers.errors import ServiceError, SettingsError
from workers.logs import configure_logs
from workers.options import (
    ColourBits,
    Config,
    DepthUnit,
    Folder,
    Json,
    Kafka,
    Log,
    NoReading,
    Redis,
    SameField,
    Seed,
    conventions,
)

app = typer.Typer(
    name="crosscheck",
    help="RGB + depth inspection for conveyor lines: every part ends in exactly one decision, "
    "and only a PASS opens the gate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 good, 1 the run broke a promise, 2 wrong input, 3 Kafka or Redis is away,"
    " 70 a worker stood still and ended itself.",
)
services_app = typer.Typer(
    help="A real Kafka and Redis on this machine, by Docker or without.", no_args_is_help=True
)
app.add_typer(services_app, name="services")

# Typer brings its own click or uses the installed one, by its version: this is the class of either.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"crosscheck {version('crosscheck')}")
        raise typer.Exit


@app.callback()
def _root(
    show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Over real Kafka and Redis, started locally.")
    ] = False,
    parts: Annotated[int, typer.Option(help="Parts on the line, at least 200.")] = 240,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Parts a second; measured on this machine where not given.")
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where bundle, logs and contact sheet go.")] = Path(
        "demo-out"
    ),
    json_file: Json = None,
) -> None:
    """Teach a synthetic product, run a line with defects and a sensor that drops out, and count."""
    from workers.commands.demo import run_demo

    code = run_demo(kafka=kafka, parts=parts, seed=seed, rate=rate, out=out, json_file=json_file)
    raise typer.Exit(code)


cli_models.register(app)
cli_evidence.register(app)
cli_serving.register(app)
cli_shadow.register(app)


@app.command()
def capture(
    station: Annotated[str, typer.Option(help="Whose parts these are.")] = "s1",
    product: Annotated[str, typer.Option(help="Which product's bundle judges them.")] = "demo-part",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Replay this folder; without it, the synthetic line.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    rate: Annotated[float, typer.Option(min=0.01, help="Triggers a second.")] = 5.0,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many parts.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin the folder again at its end.")] = False,
    deadline: Annotated[float, typer.Option(min=0.01, help="Seconds from trigger to gate.")] = 2.0,
    log_file: Annotated[
        Path, typer.Option("--triggers", metavar="FILE", help="The log of every trigger.")
    ] = Path("triggers.jsonl"),
    stations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Station map written by `crosscheck topics`.")
    ] = None,
    colour: Annotated[
        str | None,
        typer.Option(
            metavar="jpeg|png|raw",
            help="How colour is sent: png for a folder, so that it is judged as it was taught; else jpeg.",
        ),
    ] = None,
    separate: Annotated[
        bool, typer.Option("--separate", help="Send colour and depth as two records, as two agents would.")
    ] = False,
    buffer: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where frames wait on disk while the broker is away."),
    ] = None,
    buffer_mb: Annotated[float, typer.Option(min=1, help="Megabytes of frames kept in it.")] = 1024.0,
    keep: Annotated[
        str,
        typer.Option(
            metavar="oldest|newest", help="Which frames stay when it is full; the others end in MISSING."
        ),
    ] = "newest",
    send_expired: Annotated[
        bool,
        typer.Option("--send-expired", help="Send buffered frames past their deadline too, for an archive."),
    ] = False,
    triggers_mb: Annotated[
        float | None,
        typer.Option(min=0.01, help="Begin a new log of triggers at this size; earlier ones are FILE.1, ..."),
    ] = None,
    debounce: Annotated[
        float,
        typer.Option(min=0, max=60, metavar="SECONDS", help="A trigger so soon after a part is its bounce."),
    ] = 0.0,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=64, help="Pixels of the synthetic line's pictures.")] = 256,
    same_field: SameField = False,
    no_reading: NoReading = None,
    depth_unit: DepthUnit = None,
    colour_bits: ColourBits = None,
    kafka: Kafka = None,
    config: Config = None,
    log: Log = None,
    json_file: Json = None,
) -> None:
    """Publish a folder or the synthetic line, one trigger after the other, at a rate."""
    from workers.commands.capture import run_capture
    from workers.commands.local import settings_here
    from workers.topics import StationMap

    settings = settings_here(config, kafka=kafka, stations=stations, log=log)
    partitioned = (
        StationMap({station: 0}) if settings.stations is None else StationMap.load(settings.stations)
    )
    code = run_capture(
        settings,
        station=station,
        product=product,
        data=data,
        split=split,
        rate=rate,
        count=count,
        loop=loop,
        deadline_s=deadline,
        log_file=log_file,
        partitioned=partitioned,
        colour=colour,
        separate=separate,
        buffer=buffer,
        buffer_mb=buffer_mb,
        keep=keep,
        send_expired=send_expired,
        triggers_mb=triggers_mb,
        debounce_s=debounce,
        same_field=same_field or None,
        conventions=conventions(no_reading, depth_unit, colour_bits),
        seed=seed,
        size=size,
        json_file=json_file,
    )
    raise typer.Exit(code)


@app.command()
def worker(
    models: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of bundles.")] = None,
    name: Annotated[
        str | None, typer.Option(help="This worker's name; host and pid where not given.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group.")] = None,
    max_batch: Annotated[int | None, typer.Option(min=1, help="Frames in one model run.")] = None,
    max_delay_ms: Annotated[
        float | None, typer.Option(min=0, help="Longest wait of the oldest frame.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="Frames scored at once; 0: one a core.")] = None,
    stages: Annotated[
        Path | None, typer.Option(metavar="FILE", help="At the end, write where the time went.")
    ] = None,
    kafka: Kafka = None,
    redis: Redis = None,
    config: Config = None,
    log: Log = None,
) -> None:
    """Inspect frames until told to stop (Ctrl-C or SIGTERM)."""
    from workers.commands.local import settings_here
    from workers.commands.worker import run_worker

    settings = settings_here(
        config,
        models=models,
        worker=name,
        group=group,
        max_batch=max_batch,
        max_delay_ms=max_delay_ms,
        device=device,
        threads=threads,
        kafka=kafka,
        redis=redis,
        log=log,
    )
    run_worker(settings, stages=stages)


cli_gate.register(app)
cli_board.register(app)
cli_changeover.register(app)
cli_security.register(app)
cli_plan.register(app)
cli_tracing.register(app)


@app.command()
def topics(
    stations: Annotated[str, typer.Option(help="Station names, separated by commas.")] = "s1",
    frames_per_second: Annotated[float, typer.Option(min=0.01, help="Of one station.")] = 10.0,
    frame_kb: Annotated[float, typer.Option(min=1, help="Kilobytes of one frame record.")] = 300.0,
    retention_hours: Annotated[float, typer.Option(min=0.1, help="How long frames are kept.")] = 4.0,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of the frames topic; one a station where not given.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the station map is written.")] = Path(
        "stations.json"
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, change nothing.")] = False,
    kafka: Kafka = None,
    config: Config = None,
) -> None:
    """Plan and make the topics, and write the station map that every agent uses."""
    from workers.commands.local import settings_here
    from workers.commands.services import make_topics

    settings = settings_here(config, kafka=kafka)
    names = [name.strip() for name in stations.split(",") if name.strip()]
    make_topics(
        settings,
        names,
        frames_per_second=frames_per_second,
        frame_bytes=round(frame_kb * 1000),
        retention_hours=retention_hours,
        partitions=partitions,
        out=out,
        dry_run=dry_run,
    )


@services_app.command("up")
def services_up(folder: Folder = Path(".crosscheck/services")) -> None:
    """Start Kafka and Redis, and wait until both answer."""
    from workers.commands.services import up

    up(folder)


@services_app.command("status")
def services_status(folder: Folder = Path(".crosscheck/services")) -> None:
    """Say what runs; exit code 3 when something does not."""
    from workers.commands.services import status

    raise typer.Exit(status(folder))


@services_app.command("down")
def services_down(folder: Folder = Path(".crosscheck/services")) -> None:
    """Stop them; their data stays."""
    from workers.commands.services import down

    down(folder)


_LARGEST = 1e12
"""No rate, size or time on a command line is larger."""


def main() -> None:
    """Run the command line; a mistake is one line on standard error and an exit code, never a traceback."""
    # Before anything can go wrong: what structlog does unasked prints the variables of a failure.
    configure_logs()
    try:
        code = _checked(typer.main.get_command(app))(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else console.OK)
    except _UsageError as error:
        _fail_usage(error)
    except typer.Abort:
        sys.exit(console.INTERRUPTED)
    except (ServiceError, LocalServicesError) as error:
        _fail(error, console.NO_SERVICE)
    except CrosscheckError as error:
        _fail(error, console.BAD_INPUT)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"crosscheck: file: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(console.BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(console.INTERRUPTED)


def _checked(command: Any) -> Any:
    """The command, with every number on its command line held to what a machine can count."""
    for one in getattr(command, "commands", {}).values():
        _checked(one)
    for option in command.params:
        option.callback = partial(_countable, option.callback)
    return command


def _countable(own: Any, context: Any, option: Any, value: Any) -> Any:
    if isinstance(value, float) and not abs(value) <= _LARGEST:
        raise typer.BadParameter(f"{value:g} is no number that is meant here", ctx=context, param=option)
    return value if own is None else own(context, option, value)


def _fail_usage(error: Any) -> None:
    words = " ".join(error.format_message().split())
    command = "crosscheck" if error.ctx is None else error.ctx.command_path
    if type(error).__name__ == "NoArgsIsHelpError":
        # The help has been shown: it is what a bare command asks for.
        sys.exit(console.BAD_INPUT)
    print(f"crosscheck: usage: {words} (see `{command} --help`)", file=sys.stderr)
    sys.exit(console.BAD_INPUT)


def _fail(error: CrosscheckError, code: int) -> None:
    kind = "settings" if isinstance(error, SettingsError) else error.reason
    print(f"crosscheck: {kind}: {error}", file=sys.stderr)
    sys.exit(code)
