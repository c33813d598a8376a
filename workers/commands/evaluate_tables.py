"""The tables of ``crosscheck evaluate``, each within 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from inference.report.words import counted, headline
from inference.results import RATES, Combined, Measure, Metrics, Report, combine_reports
from workers.commands import console

# Broken by hand, so that a table fits a terminal of 80 columns.
_IMAGE = (
    ("i_auroc", "image\nAUROC"),
    ("i_ap", "AP"),
    ("f1_max", "best\nF1"),
    ("false_reject_rate", "false\nrejects"),
    ("miss_rate", "misses"),
)
_PIXEL = (
    ("p_auroc", "pixel\nAUROC"),
    ("p_ap", "AP"),
    ("aupro_30", "AUPRO\n@30"),
    ("aupro_10", "@10"),
    ("aupro_05", "@5"),
    ("aupro_01", "@1 %"),
)
_WITH_INTERVAL = ("i_auroc", "false_reject_rate", "miss_rate", "aupro_30")
"""The others have theirs in the page and in the JSON file."""


_FOUR = ("misses", "defects\nheld", "false\nrejects", "good\nheld", "image\nAUROC", "AUPRO\n@30")


def four_numbers(reports: Sequence[Report], *, categories: bool) -> Table:
    """What is missed, held and falsely rejected, and how well scores tell: a row a mode, or a report."""
    if len(reports) == 1:
        title = f"{reports[0].bundle} on {reports[0].dataset}: {_counts(reports[0])}"
        rows = {mode.value: found for mode, found in reports[0].modes.items() if found.inspected}
    else:
        title = "fullest mode of each"
        rows = {
            report.dataset if categories else report.bundle: report.modes[report.fullest]
            for report in reports
            if report.fullest is not None
        }
    table = _empty(escape(title), [("", name) for name in _FOUR])
    for name, found in rows.items():
        table.add_row(
            escape(name),
            _of(found.miss_rate, found.defects),
            _of(found.defect_review_rate, found.defects),
            _of(found.false_reject_rate, found.good),
            _of(found.good_review_rate, found.good),
            console.number(found.i_auroc.value),
            console.number(found.aupro_30.value),
        )
    return table


def _of(rate: Measure, number: int) -> str:
    """A rate as a count: "1 of 14"."""
    return "-" if rate.value is None else f"{round(rate.value * number)} of {number}"


def tables(report: Report) -> list[Table]:
    """Image figures with the rates, and pixel figures, of every mode, rule of fusion and branch."""
    title = f"{report.bundle} on {report.dataset}: {_counts(report)}"
    sections: list[dict[str, Metrics]] = [
        {mode.value: found for mode, found in report.modes.items()},
        dict(report.fusions),
        dict(report.branches),
    ]
    out = [_table(escape(title), sections, _IMAGE)]
    if any(found.p_auroc.value is not None for rows in sections for found in rows.values()):
        out.append(_table("pixels", sections, _PIXEL))
    return out


def combined_tables(reports: Sequence[Report], *, categories: bool) -> list[Table]:
    """The fullest mode of each report, and the mean over all of them."""
    each = {
        report.dataset if categories else report.bundle: report.modes[report.fullest]
        for report in reports
        if report.fullest is not None
    }
    words = "category" if categories else "bundle"
    out = [_table(f"each {words}, fullest mode", [each], columns) for columns in (_IMAGE, _PIXEL)]
    combined = combine_reports(reports, independent=categories)
    spread = "95 % interval" if categories else "± standard deviation"
    for columns in (_IMAGE, _PIXEL):
        table = _empty(f"mean of {len(reports)}, {spread}", columns)
        for name, figures in combined.items():
            table.add_row(escape(name), *(_mean(figure, figures[figure]) for figure, _ in columns))
        out.append(table)
    return out


def headline_of(reports: Sequence[Report], *, categories: bool) -> str:
    """What it comes to, in a sentence."""
    rates = headline(reports, independent=categories)
    alone = reports[0] if len(reports) == 1 else None
    numbers = None if alone is None or alone.fullest is None else counted(alone.modes[alone.fullest])
    return escape(rates if numbers is None else f"{numbers}\n{rates}")


def _counts(report: Report) -> str:
    return ", ".join(f"{number} {name}" for name, number in report.counts.items())


def _empty(title: str, columns: Sequence[tuple[str, str]]) -> Table:
    table = Table(
        title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left"
    )
    table.add_column("", no_wrap=True)
    for _, heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _table(title: str, sections: Sequence[dict[str, Metrics]], columns: Sequence[tuple[str, str]]) -> Table:
    table = _empty(title, columns)
    shown: list[dict[str, Metrics]] = [rows for rows in sections if rows]
    for rows in shown:
        for name, found in rows.items():
            last = rows is not shown[-1] and name == list(rows)[-1]
            table.add_row(
                escape(name), *(_cell(figure, found.of(figure)) for figure, _ in columns), end_section=last
            )
    return table


def _cell(figure: str, measure: Measure) -> str:
    number = _number(figure)
    if measure.interval is None or figure not in _WITH_INTERVAL or measure.value is None:
        return number(measure.value)
    low, high = measure.interval
    ends = f"{100 * low:.0f}-{100 * high:.0f}" if figure in RATES else f"{_bare(low)}-{_bare(high)}"
    return f"{number(measure.value)} [dim]{ends}[/dim]"


def _mean(figure: str, found: Combined | None) -> str:
    if found is None:
        return _number(figure)(None)
    if found.interval is None and found.deviation is not None and figure in _WITH_INTERVAL:
        spread = f"{100 * found.deviation:.1f}" if figure in RATES else f"{found.deviation:.3f}"
        return f"{_number(figure)(found.mean)} [dim]±{spread}[/dim]"
    return _cell(figure, Measure(found.mean, found.interval))


def _bare(value: float) -> str:
    return "1.0" if value > 0.995 else f"{value:.2f}".removeprefix("0")


def _number(figure: str) -> Callable[[float | None], str]:
    def write(value: float | None) -> str:
        return console.number(value, percent=figure in RATES)

    return write
