"""What the figures mean, in sentences for the people at the line."""

from __future__ import annotations

from collections.abc import Sequence

from inference.results import Measure, Metrics, Report, combine, some


def hundred(share: float) -> str:
    """A share as parts of a hundred, with no more digits than matter."""
    parts = 100 * share
    text = f"{parts:.0f}" if parts >= 10 or parts == 0 else f"{parts:.1f}"
    return text.removesuffix(".0")


def _rate(measure: Measure, of: str, done: str) -> str:
    assert measure.value is not None
    value = hundred(measure.value)
    if measure.interval is None:
        return f"Of 100 {of} {value} would be {done}"
    low, high = (hundred(end) for end in measure.interval)
    return f"Of 100 {of} {value} would be {done} (likely {low} to {high})"


def sentence(found: Metrics) -> str:
    """Both rates of one row as one sentence; what is missing where there is no threshold."""
    if found.false_reject_rate.value is None or found.miss_rate.value is None:
        return "There is no threshold to judge, or one of good parts and defects is missing."
    rejected = _rate(found.false_reject_rate, "good parts", "rejected")
    passed = _rate(found.miss_rate, "defects", "passed")
    return f"{rejected}; {passed[0].lower()}{passed[1:]}."


def counted(found: Metrics) -> str | None:
    """What became of every part, in numbers; None where there are no limits."""
    miss, held_bad = found.miss_rate.value, found.defect_review_rate.value
    false, held_good = found.false_reject_rate.value, found.good_review_rate.value
    if miss is None or false is None:
        return None

    def fate(number: int, of: str, passes: int, held: int, rejected: int) -> str:
        def verb(count: int, one: str, many: str) -> str:
            return f"{count} {one if count == 1 else many}"

        return (
            f"of {verb(number, of.removesuffix('s'), of)} {verb(passes, 'passes', 'pass')}, "
            f"{verb(held, 'is', 'are')} held for review, {verb(rejected, 'is', 'are')} rejected"
        )

    missed, held = round(miss * found.defects), round((held_bad or 0.0) * found.defects)
    turned, kept = round(false * found.good), round((held_good or 0.0) * found.good)
    bad = fate(found.defects, "defects", missed, held, found.defects - missed - held)
    good = fate(found.good, "good parts", found.good - turned - kept, kept, turned)
    return f"{bad[0].upper()}{bad[1:]}; {good}."


def of_masks(report: Report) -> list[str]:
    """What is to be told of masks that are no outline of a defect."""
    out = []
    if report.unmarked:
        number = len(report.unmarked)
        out.append(
            f"{number} frame{'' if number == 1 else 's'} left out: "
            f"{'its mask marks' if number == 1 else 'their masks mark'} nothing: {some(report.unmarked)}"
        )
    if report.mostly_marked:
        one = len(report.mostly_marked) == 1
        out.append(
            f"{some(report.mostly_marked)}: {'its mask marks' if one else 'their masks mark'} more than 90 % "
            f"of the frame; {'is it' if one else 'are they'} inverted? The background of a mask must be 0"
        )
    return out


def headline(reports: Sequence[Report], *, independent: bool) -> str:
    """The sentence of the page: the fullest mode, over all reports."""
    rows = [report.modes[report.fullest] for report in reports if report.fullest is not None]
    if not rows:
        return "Nothing could be inspected in any mode of the product."
    if len(reports) == 1:
        return sentence(rows[0])
    rejected = combine([row.false_reject_rate for row in rows], independent=independent)
    passed = combine([row.miss_rate for row in rows], independent=independent)
    if rejected is None or passed is None:
        return "There is no threshold to judge."
    both = Metrics(
        false_reject_rate=Measure(rejected.mean, rejected.interval or (rejected.low, rejected.high)),
        miss_rate=Measure(passed.mean, passed.interval or (passed.low, passed.high)),
    )
    return sentence(both)


def caveats(report: Report) -> list[str]:
    """What a reader must know before relying on the figures."""
    out = of_masks(report)
    if report.fullest is None:
        return out
    found = report.modes[report.fullest]
    if found.good and found.good < 100:
        out.append(
            f"Only {found.good} good parts were shown: a rate of 1 % cannot be told from 0 % with so few."
        )
    if found.defects and found.defects < 60:
        out.append(
            f"Only {found.defects} defects were shown: the interval of misses is wide for that reason."
        )
    if found.left_out:
        out.append(
            f"{found.left_out} frames could not be inspected in {report.fullest.value} and are left out."
        )
    if report.groups < 20:
        out.append(
            f"The frames come from {report.groups} independent lots or recordings; frames of one lot "
            "resemble each other, so that the figures may move by more than a count of frames suggests."
        )
    for mode, row in report.modes.items():
        if mode is not report.fullest and row.miss_rate.value is not None and row.miss_rate.value > 0.5:
            out.append(f"{mode.value} alone misses more than half of these defects.")
    weak = [
        kind
        for kind, rows in report.kinds.items()
        if (area := rows[report.fullest].i_auroc.value) is not None and area < 0.8
    ]
    if weak:
        out.append(f"Weakest kinds of defect (image AUROC under 0.80): {', '.join(weak)}.")
    return out
