"""What the two limits promise, and what they keep: many teachings on made-up good parts whose law is known.

    python tests/bench/limits.py                  200 teachings of each law and size
    python tests/bench/limits.py --plot FILE      and a picture: promised against measured

Each teaching draws good parts in lots and sets the limits as ``teach`` does; then parts of 1,000 new lots
are judged. A bad part scores 4 (good ones lie about 1). "One limit" is ``reach`` alone, the plain prediction
limit for one good part in a hundred, for both PASS and REJECT.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from inference.calibration import limits_of

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

BAD = 4.0
NEW_LOTS = 1000
SIZES = ((10, 2), (10, 5), (20, 5), (50, 5), (50, 10), (200, 10), (200, 20))
"""Good parts, and lots that they come in."""

_ALIKE: Draw = lambda rng, lots: np.ones(lots)  # noqa: E731
_DIFFERENT: Draw = lambda rng, lots: 1.0 + rng.normal(0.0, 0.6, lots)  # noqa: E731
_CLUSTERED: Draw = lambda rng, lots: np.where(rng.random(lots) < 0.5, 0.8, 2.2)  # noqa: E731
_NORMAL: Draw = lambda rng, parts: rng.normal(0.0, 0.5, parts)  # noqa: E731
_MAXIMA: Draw = lambda rng, parts: rng.gumbel(0.0, 0.45, parts)  # noqa: E731
_LOGNORMAL: Draw = lambda rng, parts: np.exp(rng.normal(0.0, 0.5, parts)) - 1.0  # noqa: E731

LAWS: dict[str, tuple[Draw, Draw]] = {
    "normal, lots alike": (_ALIKE, _NORMAL),
    "normal, lots differ": (_DIFFERENT, _NORMAL),
    "maxima, lots alike": (_ALIKE, _MAXIMA),
    "maxima, lots differ": (_DIFFERENT, _MAXIMA),
    "lognormal, lots alike": (_ALIKE, _LOGNORMAL),
    "two clusters of lots": (_CLUSTERED, _NORMAL),
}
"""How lots differ, and how parts of a lot do."""


@dataclass(frozen=True, slots=True)
class Row:
    """Means over the teachings of one law and size; shares from 0 to 1.

    Attributes:
        promised: that may not pass of good parts of a new lot.
        held, rejected: that are in REVIEW and REJECT of them.
        covered: teachings whose interval held the true limit.
        bad_passed, bad_rejected: teachings by which a bad part passes, and is rejected.
        one_rejected, one_bad_passed: the same with one limit.
    """

    law: str
    frames: int
    lots: int
    promised: float
    held: float
    rejected: float
    covered: float
    bad_passed: float
    bad_rejected: float
    one_rejected: float
    one_bad_passed: float


def judged(law: str, frames: int, lots: int, times: int, *, false_reject: float, review: float) -> Row:
    """Teach so many times and judge parts of new lots."""
    centres, parts = LAWS[law]
    rng = np.random.default_rng([len(law), frames, lots])
    groups = np.arange(frames) % lots
    names = [str(group) for group in groups]
    sample = centres(rng, 200_000) + parts(rng, 200_000)
    true = float(np.quantile(sample, 1.0 - false_reject))
    found = []
    for _ in range(times):
        taught = limits_of(
            (centres(rng, lots)[groups] + parts(rng, frames)).tolist(),
            names,
            false_reject=false_reject,
            review_share=review,
        )
        new = centres(rng, NEW_LOTS) + parts(rng, NEW_LOTS)
        found.append(
            (
                taught.promise,
                np.mean((new > taught.passes) & (new <= taught.rejects)),
                np.mean(new > taught.rejects),
                taught.low <= true <= taught.high,
                taught.passes >= BAD,
                taught.rejects < BAD,
                np.mean(new > taught.reach),
                taught.reach >= BAD,
            )
        )
    return Row(law, frames, lots, *(float(one) for one in np.mean(np.array(found, float), axis=0)))


def table(rows: list[Row]) -> Table:
    """All rows, in percent."""
    out = Table(title="limits on made-up good parts, percent")
    headings = (
        "law", "parts", "lots", "may not pass: promised", "measured", "REVIEW", "REJECT", "interval covers",
        "bad PASS", "bad REJECT", "one limit: REJECT", "bad PASS",
    )  # fmt: skip
    for heading in headings:
        out.add_column(heading, justify="left" if heading == "law" else "right")
    for row in rows:
        shares = (
            row.promised, row.held + row.rejected, row.held, row.rejected, row.covered, row.bad_passed,
            row.bad_rejected, row.one_rejected, row.one_bad_passed,
        )  # fmt: skip
        ends = row is rows[-1] or rows[rows.index(row) + 1].law != row.law
        cells = (f"{100 * share:.1f}" for share in shares)
        out.add_row(row.law, str(row.frames), str(row.lots), *cells, end_section=ends)
    return out


def main() -> int:
    """Run the bench; 1 when good parts are kept out more often than was promised."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=200, help="teachings of each law and size")
    parser.add_argument("--false-reject", type=float, default=0.01)
    parser.add_argument("--review-share", type=float, default=0.04)
    parser.add_argument("--plot", type=Path, help="a picture (SVG): promised against measured")
    args = parser.parse_args()
    rows = [
        judged(law, frames, lots, args.times, false_reject=args.false_reject, review=args.review_share)
        for law in LAWS
        for frames, lots in SIZES
    ]
    Console(width=170).print(table(rows))
    if args.plot is not None:
        args.plot.write_text(plot(rows), encoding="utf-8")
    kept = [row.held + row.rejected <= row.promised for row in rows]
    print(f"the promise is kept in {sum(kept)} of {len(kept)} rows")
    return 0 if all(kept) else 1


def plot(rows: list[Row]) -> str:
    """Measured over promised, a dot a row: below the line the promise is kept."""
    side, edge, most = 420, 56, 0.4
    colours = ("#1b6ca8", "#3fa34d", "#c8553d", "#8e5ea2", "#d9a404", "#444")

    def at(share: float) -> float:
        return min(share, most) / most * side

    marks = [
        f'<circle cx="{edge + at(row.promised):.1f}" cy="{edge + side - at(row.held + row.rejected):.1f}" '
        f'r="{3 + row.lots / 5:.1f}" fill="{colours[list(LAWS).index(row.law)]}" fill-opacity="0.75"/>'
        for row in rows
    ]
    ticks = [
        f'<text x="{edge + at(t):.0f}" y="{edge + side + 18}" text-anchor="middle">{100 * t:.0f} %</text>'
        f'<text x="{edge - 8}" y="{edge + side - at(t) + 4:.0f}" text-anchor="end">{100 * t:.0f} %</text>'
        for t in (0.0, 0.1, 0.2, 0.3, 0.4)
    ]
    names = [
        f'<circle cx="{edge + side + 30}" cy="{edge + 8 + 22 * i}" r="5" fill="{colours[i]}"/>'
        f'<text x="{edge + side + 44}" y="{edge + 12 + 22 * i}">{law}</text>'
        for i, law in enumerate(LAWS)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side + 2 * edge + 170} {side + 2 * edge}" '
        'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{edge}" y="28" font-size="15">Good parts of a new lot that do not pass</text>'
        f'<path d="M{edge} {edge}V{edge + side}H{edge + side}" fill="none" stroke="#888"/>'
        f'<path d="M{edge} {edge + side}L{edge + side} {edge}" stroke="#888" stroke-dasharray="5 4"/>'
        f'<text x="{edge + side / 2}" y="{edge + side + 42}" text-anchor="middle">promised at most</text>'
        f'<text transform="translate(14 {edge + side / 2}) rotate(-90)" text-anchor="middle">measured</text>'
        f"{''.join(ticks)}{''.join(marks)}{''.join(names)}"
        f'<text x="{edge + side + 24}" y="{edge + 40 + 22 * len(LAWS)}">larger dots: more lots</text></svg>\n'
    )


if __name__ == "__main__":
    sys.exit(main())
