"""Which parts go on the contact sheet: one of each thing that a person should have seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from inference.datasets.base import GOOD
from inference.datasets.defects import DefectKind
from inference.inspection import HeatmapArray
from schemas.errors import CrosscheckError
from schemas.images import decode_map
from schemas.verdict import Decision
from schemas.wire import decode_heatmap
from workers.demo.run import LineRun
from workers.demo.summary import Outcome, Summary
from workers.sheet import SheetRow, contact_sheet, write_sheet


def _pick(summary: Summary) -> list[tuple[Outcome, str]]:
    """Outcomes worth showing, each with a note, in the order of the line."""
    chosen: dict[int, tuple[Outcome, str]] = {}

    def take(outcomes: Iterable[Outcome], note: Callable[[Outcome], str], count: int = 1) -> None:
        for outcome in [o for o in outcomes if o.trigger not in chosen][:count]:
            chosen[outcome.trigger] = (outcome, note(outcome))

    def planted(outcome: Outcome) -> str:
        assert outcome.defect is not None
        return f"planted: {outcome.defect.size:.0f} px, contrast {outcome.defect.contrast:.1f}"

    good = summary.of(GOOD)
    take((o for o in good if o.opened), lambda o: "both sensors agree")
    for kind in DefectKind:
        found = [o for o in summary.of(kind.value, in_drop=False) if o.decision is Decision.REJECT]
        by_size = sorted(found, key=lambda o: o.defect.size if o.defect else 0)
        # The smallest and the largest that were stopped: what is hard, and how it looks when it is easy.
        take(by_size[:1] + by_size[-1:], planted, 2)
    take((o for o in good if o.in_drop), lambda o: "depth sensor out: colour alone may not pass it")
    take(
        summary.of(DefectKind.SHAPE.value, in_drop=True),
        lambda o: "depth sensor out: the dent is invisible, so no pass",
    )
    take((o for o in summary.outcomes if o.opened and o.kind != GOOD), lambda o: f"missed; {planted(o)}")
    take((o for o in good if o.decision is Decision.REJECT), lambda o: "a false reject")
    take(
        (o for o in good if o.decision is Decision.REVIEW and not o.in_drop),
        lambda o: "between the limits: a person looks",
    )
    take((o for o in reversed(good) if o.opened), lambda o: "depth is back: fused again")
    return [chosen[trigger] for trigger in sorted(chosen)]


def _heatmap(value: bytes | None) -> HeatmapArray | None:
    if value is None:
        return None
    try:
        heatmap = decode_heatmap(value)
        return HeatmapArray(decode_map(heatmap.image), heatmap.low, heatmap.high)
    except CrosscheckError:
        return None  # a picture that cannot be read is no reason to lose the sheet


def draw(run: LineRun, summary: Summary, path: Path) -> Path:
    """Write the contact sheet and return its path."""
    rows = []
    for outcome, note in _pick(summary):
        shot = run.line.shot(outcome.trigger)
        verdict = outcome.verdict
        rows.append(
            SheetRow(
                part=f"part {outcome.trigger}",
                decision=outcome.decision,
                colour=shot.rgb,
                depth=shot.depth,
                heatmap=_heatmap(run.heatmaps.get(outcome.part)),
                mode=None if verdict is None else verdict.mode,
                score=None if verdict is None else verdict.score,
                threshold=None if verdict is None else verdict.threshold,
                pass_limit=None if verdict is None else verdict.pass_limit,
                kind=outcome.kind,
                mask=shot.mask if outcome.defect is not None else None,
                note=note,
            )
        )
    counts = summary.to_json()
    footer = (
        f"{counts['triggers']} parts, {counts['decisions']} decisions, {counts['lost']} lost, "
        f"{counts['unsafe_passes']} unsafe passes"
    )
    return write_sheet(path, contact_sheet(rows, title="Crosscheck demo: what the gate did", footer=footer))
