"""The commands around a model: teach it, judge it, inspect a folder with it, calibrate its station.

Each imports its file in ``workers/commands`` when it is called, so that ``--help`` does not wait for torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemas.verdict import Mode
from workers.options import (
    Bootstrap,
    ColourBits,
    DepthUnit,
    Device,
    Dino,
    Epochs,
    Fusion,
    Grid,
    Json,
    Kind,
    LeaveOutUnmarked,
    NoReading,
    Page,
    PointMae,
    Precision,
    Profile,
    PublishedHeads,
    SameField,
    Seed,
    conventions,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(teach)
    app.command()(evaluate)
    app.command()(benchmark)
    app.command()(calibrate)
    app.command("inspect")(inspect_folder)


def teach(
    name: Annotated[str, typer.Argument(help="Name of the product.")],
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Good parts: train/good, validation/good if you have it; or any known layout."
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Models folder; the bundle is DIR/NAME/VERSION.")
    ] = Path("models"),
    kind: Kind = None,
    category: Annotated[str | None, typer.Option(help="Which product of a data set of several.")] = None,
    station: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Calibration of the station, by `calibrate`.")
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(
            "--from-review",
            metavar="DIR",
            help="Also teach the parts that were labelled as false rejects on the board: its review folder.",
        ),
    ] = None,
    seed: Seed = 0,
    roi: Annotated[bool, typer.Option(help="Look for the region of interest in the normals.")] = True,
    foreground: Annotated[bool, typer.Option(help="Tell the part from the belt around it.")] = True,
    fusion: Fusion = "calibrated",
    false_reject: Annotated[float, typer.Option(help="Share of good parts that may be rejected.")] = 0.01,
    review_share: Annotated[
        float, typer.Option(help="Further share of good parts that may be held for a person to look at.")
    ] = 0.04,
    profile: Profile = "compact",
    precision: Precision = "float32",
    dino: Dino = None,
    point_mae: PointMae = None,
    grid: Grid = 28,
    published_heads: PublishedHeads = False,
    epochs: Epochs = 50,
    folds: Annotated[
        int | None,
        typer.Option(help="Of teaching frames that help set thresholds: compact 5, reference 0."),
    ] = None,
    device: Device = "cpu",
    same_field: SameField = False,
    no_reading: NoReading = None,
    depth_unit: DepthUnit = None,
    colour_bits: ColourBits = None,
    json_file: Json = None,
) -> None:
    """Teach a product from good parts only."""
    from inference.profiles.reference import ReferenceSettings
    from inference.profiles.runtime import Runtime
    from inference.teach_settings import TeachSettings
    from workers.commands.teach import Source, run_teach

    settings = TeachSettings(
        seed=seed,
        roi=roi,
        foreground=foreground,
        fusion=fusion,
        false_reject=false_reject,
        review_share=review_share,
        profile=profile,
        precision=precision,
        reference=ReferenceSettings(grid=grid, precision=precision, published_heads=published_heads),
        epochs=epochs,
        folds=folds,
        device=device,
    )
    source = Source(
        data=data,
        kind=kind,
        category=category,
        same_field=same_field or None,
        conventions=conventions(no_reading, depth_unit, colour_bits),
        station=station,
        review=review,
    )
    run_teach(
        name,
        source,
        out,
        settings=settings,
        runtime=Runtime(dino=dino, point_mae=point_mae),
        json_file=json_file,
    )


def evaluate(
    bundle: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A bundle, MODELS/NAME/VERSION; repeat it to compare several."),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Instead: each category by the latest bundle of its name in DIR."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Labelled frames, or a data set of categories.")
    ] = None,
    kind: Kind = None,
    category: Annotated[str | None, typer.Option(help="Only this product of a data set of several.")] = None,
    dino: Dino = None,
    point_mae: PointMae = None,
    device: Device = "cpu",
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    same_field: SameField = False,
    no_reading: NoReading = None,
    depth_unit: DepthUnit = None,
    colour_bits: ColourBits = None,
    leave_out_unmarked: LeaveOutUnmarked = False,
    full: Annotated[
        bool,
        typer.Option("--full", help="Figures of every branch and rule of fusion too, on the page as well."),
    ] = False,
    report: Page = None,
    grant: Annotated[
        list[Mode] | None,
        typer.Option(help="Let this mode pass parts alone, if --max-miss holds.", case_sensitive=False),
    ] = None,
    max_miss: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Accepted miss rate, such as 0.05, of the interval's upper end."),
    ] = None,
    revoke: Annotated[
        list[Mode] | None, typer.Option(help="Take this mode's grant back.", case_sensitive=False)
    ] = None,
    json_file: Json = None,
) -> None:
    """Judge bundles on labelled frames; grant or revoke what one sensor may pass alone."""
    from inference.profiles.runtime import Runtime
    from workers.commands.evaluate import Asked, run_evaluate

    asked = Asked(
        bundles=bundle or (),
        models=models,
        data=data,
        kind=kind,
        category=category,
        same_field=same_field or None,
        conventions=conventions(no_reading, depth_unit, colour_bits),
        device=device,
        runtime=Runtime(dino=dino, point_mae=point_mae),
        bootstrap=bootstrap,
        seed=seed,
        leave_out_unmarked=leave_out_unmarked,
        grant=grant or (),
        max_miss=max_miss,
        revoke=revoke or (),
    )
    run_evaluate(asked, page=report, json_file=json_file, full=full)


def benchmark(
    data: Annotated[Path, typer.Option(metavar="DIR", help="A data set of categories, such as MVTec 3D-AD.")],
    models: Annotated[
        Path, typer.Option(metavar="DIR", help="Where bundles go; a run that was stopped goes on there.")
    ] = Path("benchmark"),
    kind: Kind = None,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    profile: Profile = "compact",
    fusion: Fusion = "calibrated",
    precision: Precision = "float32",
    dino: Dino = None,
    point_mae: PointMae = None,
    grid: Grid = 28,
    published_heads: PublishedHeads = False,
    epochs: Epochs = 50,
    device: Device = "cpu",
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
    leave_out_unmarked: LeaveOutUnmarked = False,
    report: Page = None,
    json_file: Json = None,
) -> None:
    """Teach and judge every category of a data set; print the mean beside published figures."""
    from inference.profiles.reference import ReferenceSettings
    from inference.profiles.runtime import Runtime
    from inference.teach_settings import TeachSettings
    from workers.commands.benchmark import Benchmark, run_benchmark

    settings = TeachSettings(
        seed=seed,
        fusion=fusion,
        profile=profile,
        precision=precision,
        reference=ReferenceSettings(grid=grid, precision=precision, published_heads=published_heads),
        epochs=epochs,
        device=device,
    )
    asked = Benchmark(
        data=data,
        models=models,
        settings=settings,
        runtime=Runtime(dino=dino, point_mae=point_mae),
        kind=kind,
        category=category,
        bootstrap=bootstrap,
        leave_out_unmarked=leave_out_unmarked,
    )
    run_benchmark(asked, page=report, json_file=json_file)


def calibrate(
    station: Annotated[str, typer.Option(help="Name of the station.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The station's file; a picture goes beside it.")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of frames in any layout that is known.")
    ] = None,
    frames: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Depth images, or a folder of them; may be repeated."),
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Which product, where DIR is a whole data set.")
    ] = None,
    intrinsics: Annotated[
        str | None, typer.Option(metavar="FX,FY,CX,CY", help="Of the depth camera, in its pixels.")
    ] = None,
    rays: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npy", help="Direction of each depth pixel, floats (H, W, 3)."),
    ] = None,
    pitch: Annotated[
        float | None, typer.Option(help="Metres from pixel to pixel, of an orthographic sensor.")
    ] = None,
    depth_scale: Annotated[float | None, typer.Option(metavar="M", help="Metres in a depth count.")] = None,
    same_field: SameField = False,
    no_reading: NoReading = None,
    depth_unit: DepthUnit = None,
    colour_bits: ColourBits = None,
    json_file: Json = None,
) -> None:
    """Find belt plane, region and tolerances of a station from reference frames."""
    from workers.commands.calibrate import run_calibrate

    run_calibrate(
        station,
        data=data,
        frames=frames or (),
        category=category,
        intrinsics=intrinsics,
        rays=rays,
        pitch=pitch,
        depth_scale=depth_scale,
        same_field=same_field or None,
        conventions=conventions(no_reading, depth_unit, colour_bits),
        out=out,
        json_file=json_file,
    )


def inspect_folder(
    bundle: Annotated[Path, typer.Option(metavar="DIR", help="A bundle: MODELS/NAME/VERSION.")],
    data: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Frames: a data set, rgb/ and depth/, NAME_rgb.png beside NAME_depth.png, or colour images.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where verdicts.csv, verdicts.jsonl and heatmaps/ go; `inspected`."),
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Verdicts as CSV, one row a frame.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Verdicts as JSON, one object a line.")
    ] = None,
    heatmaps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures of where the model looked, and its maps.")
    ] = None,
    no_heatmaps: Annotated[bool, typer.Option("--no-heatmaps", help="Write no pictures.")] = False,
    mode: Annotated[
        Mode | None, typer.Option(help="Inspect as if only these sensors were there.", case_sensitive=False)
    ] = None,
    split: Annotated[str, typer.Option(help="Of a data set: train, validation or test.")] = "test",
    jobs: Annotated[int, typer.Option(min=0, help="Frames scored at once; 0: one a core.")] = 0,
    min_coverage: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Less of the part inspected is REVIEW; as the worker's, 0.8."),
    ] = None,
    kind: Kind = None,
    category: Annotated[str | None, typer.Option(help="Product of a data set of several.")] = None,
    dino: Dino = None,
    point_mae: PointMae = None,
    device: Device = "cpu",
    no_reading: NoReading = None,
    depth_unit: DepthUnit = None,
    colour_bits: ColourBits = None,
) -> None:
    """Inspect a folder: verdicts as CSV and JSON lines, heatmaps as PNG.

    Each frame is decided on as the worker decides. Exit code 1 where a frame could not be scored; its row
    says why, and the others are scored.
    """
    from inference.profiles.runtime import Runtime
    from workers.commands.inspect import Outputs, run_inspect

    outputs = Outputs.chosen(out, csv_file, json_file, heatmaps)
    if no_heatmaps:
        outputs = Outputs(csv=outputs.csv, json=outputs.json, heatmaps=None)
    code = run_inspect(
        bundle,
        data,
        outputs,
        mode=mode,
        split=split,
        jobs=jobs,
        min_coverage=min_coverage,
        kind=kind,
        category=category,
        conventions=conventions(no_reading, depth_unit, colour_bits),
        device=device,
        runtime=Runtime(dino=dino, point_mae=point_mae),
    )
    raise typer.Exit(code)
