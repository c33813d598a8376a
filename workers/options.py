"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workers.commands import console

if TYPE_CHECKING:
    from inference.datasets.conventions import Conventions

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
NoReading = Annotated[
    list[str] | None,
    typer.Option(
        "--no-reading",
        metavar="VALUE",
        help="Value of depth files that stands for no reading, as 65535; repeatable; or none.",
    ),
]
DepthUnit = Annotated[
    str | None,
    typer.Option("--depth-unit", metavar="UNIT", help="Of depth stored as floats: m, cm, mm or um."),
]
ColourBits = Annotated[
    int | None,
    typer.Option(
        "--colour-bits", metavar="N", help="Of colour stored in 16 bits: 12 for Mono12; 16 the full range."
    ),
]
Folder = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where data, logs and pids are kept.")]
Kind = Annotated[str | None, typer.Option(help="Layout of the folder, where it is not recognised.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Bootstrap = Annotated[int, typer.Option(min=0, help="Resamples behind each interval.")]
LeaveOutUnmarked = Annotated[
    bool,
    typer.Option(
        "--leave-out-unmarked",
        help="Leave defects whose masks mark nothing out of every figure, instead of refusing them.",
    ),
]
Page = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.html", help="Write one page with charts and pictures."),
]
Fusion = Annotated[
    str, typer.Option(metavar="RULE", help="What decides: calibrated, cmdr, modulated or dual.")
]
Profile = Annotated[str, typer.Option(metavar="NAME", help="compact or reference.")]
Precision = Annotated[str, typer.Option(metavar="TYPE", help="Of the networks: float32 or bfloat16.")]
Grid = Annotated[int, typer.Option(help="Cells a side of the reference profile: 28 or 56.")]
PublishedHeads = Annotated[
    bool, typer.Option("--published-heads", help="The reference profile's heads learn as published.")
]
Epochs = Annotated[int, typer.Option(help="Of the reference profile's heads.")]
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


def conventions(no_reading: list[str] | None, depth_unit: str | None, colour_bits: int | None) -> Conventions:
    """What the options say of a folder's files. Raises DatasetError: a value that cannot be one."""
    from inference.datasets.conventions import Conventions, parse_no_reading, parse_unit

    return Conventions(
        no_reading=parse_no_reading(no_reading, "--no-reading"),
        depth_unit=None if depth_unit is None else parse_unit(depth_unit, "--depth-unit"),
        colour_bits=colour_bits,
    )
