"""Pictures of the board for the README, taken from a running line.

    python -m tests.board.screenshots --out docs

A product is taught, a dozen stations send good and bad parts through a real worker, one station's depth
sensor is away, and one has stopped. Kafka and Redis are started for it and are gone again at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from compose.services import Services
from inference.datasets.synthetic import SyntheticDataset
from schemas.verdict import Decision, Mode, Verdict
from tests.bench.rig import BenchError
from tests.board.browsing import MISSING, PHONE, WALL, browsing, chromium, watched
from tests.board.rig import BoardLine, taught
from tests.board.test_review import sign_in
from workers.commands import console

STATIONS = [f"{place}-{number}" for place in ("press", "weld", "paint", "pack") for number in (1, 2, 3)]
DEAF, STOPPED = "weld-2", "pack-3"
DESK = (1366, 840)
MOST_BYTES = 500_000


def parts() -> SyntheticDataset:
    """Parts at the size of the demo, with defects that a person sees at a glance."""
    return SyntheticDataset(
        train=36, validation=12, test_good=0, defects_per_kind=8, lot_size=4, contrast=(0.8, 1.5),
        defect_size=(22.0, 44.0),
    )  # fmt: skip


def run_parts(line: BoardLine, rounds: int, *, stopped: bool = False) -> list[Verdict]:
    """Let every station inspect; every so often a bad part comes."""
    found = []
    rng = np.random.default_rng(5)
    kinds = ("colour", "shape", "both")
    for turn in range(rounds):
        sent = []
        for at, station in enumerate(STATIONS):
            if station == STOPPED and stopped:
                continue
            bad = turn > 1 and rng.random() < 0.06
            label = kinds[int(rng.integers(3))] if bad else "good"
            number = int(rng.integers(8)) if bad else turn + 5 * at
            sent.append(line.send(station, label, number, depth=station != DEAF))
        found += [line.verdict(part) for part in sent]
    return found


def take(page: Page, path: Path) -> None:
    """Save what is on the screen; with fewer colours where it is too large else."""
    raw = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert raw is not None
    image = Image.fromarray(cv2.cvtColor(raw, cv2.COLOR_BGR2RGB))
    image.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        raise BenchError(f"{path}: {path.stat().st_size} bytes, at most {MOST_BYTES}")
    console.out.print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


def photograph(browser: Browser, line: BoardLine, out: Path, best: Verdict) -> None:
    """All four pictures; parts go on while the wall is looked at, so that it is live."""
    url = line.board.url
    with watched(browser, url, size=WALL) as found:
        page = found.page
        page.goto(url)
        expect(page.locator(".tile")).to_have_count(len(STATIONS))
        silent = page.locator(".tile[data-quiet]").filter(has_text=STOPPED)
        until = time.monotonic() + 60
        while not silent.count() and time.monotonic() < until:
            run_parts(line, 3, stopped=True)
        run_parts(line, 3, stopped=True)
        line.inspect("paint-1", "both", 1)
        expect(page.locator('.tile[data-decision="REJECT"]').first).to_be_visible()
        time.sleep(1.5)
        take(page, out / "board-wall.png")
    with watched(browser, url, size=DESK) as found:
        page = found.page
        page.goto(f"{url}#/part/{quote(str(best.part))}")
        expect(page.locator(".verdict-word")).to_have_text("REJECT")
        expect(page.locator(".base[aria-pressed=true]")).to_have_count(1)
        box = page.locator(".picture").bounding_box()
        assert box is not None
        region = best.regions[0]
        size = line.shelf.parts.part.size
        page.mouse.move(
            box["x"] + (region.x + region.width * 0.9) / size[1] * box["width"],
            box["y"] + (region.y + region.height * 0.8) / size[0] * box["height"],
        )
        expect(page.locator(".readout")).to_contain_text("threshold")
        take(page, out / "board-part.png")
        page.goto(f"{url}#/review")
        sign_in(page)
        page.locator(".queue-part[data-decision=REJECT]").nth(1).click()
        expect(page.locator(".base[aria-pressed=true]")).to_have_count(1)
        time.sleep(0.5)
        take(page, out / "board-review.png")
        page.goto(f"{url}#/figures")
        expect(page.locator(".what-if-says")).to_contain_text("in service")
        page.get_by_label("Threshold to try").fill("2.5")
        page.keyboard.press("Enter")
        time.sleep(0.5)
        take(page, out / "board-figures.png")
    with watched(browser, url, size=PHONE, touch=True, scale=2.0) as found:
        found.page.goto(url)
        line.inspect("paint-1", "shape", 2)
        run_parts(line, 2, stopped=True)
        found.page.get_by_label("Trouble first").check()
        time.sleep(2.5)
        take(found.page, out / "board-phone.png")


def main() -> int:
    """Take them; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--models", type=Path, help="keep the taught bundle here between runs")
    args = parser.parse_args()
    path = chromium()
    if path is None:
        raise BenchError(MISSING)
    torch.set_num_threads(1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crosscheck-pictures-")))
        models: Path = args.models or folder / "models"
        if not models.is_dir():
            taught(parts(), models, bank=2000)
        services = Services(folder / "services")
        stack.callback(services.down)
        ends = services.up()
        line = stack.enter_context(
            BoardLine(
                kafka=ends.kafka,
                redis_url=ends.redis_url,
                folder=folder,
                models=models,
                parts=parts(),
                stations=STATIONS,
                worker="cell-4",
            )
        )
        browser = stack.enter_context(browsing(path))
        seen = run_parts(line, 14)
        rejected = [v for v in seen if v.decision is Decision.REJECT and v.mode is Mode.FUSED and v.regions]
        both = [v for v in rejected if v.regions[0].seen_by == "both"] or rejected
        best = min(both, key=lambda v: v.score or 0.0)
        photograph(browser, line, args.out, best)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        console.err.print(f"screenshots: {error}")
        sys.exit(1)
