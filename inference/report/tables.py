"""The tables of the page: every row of a report, several reports and their mean, what others published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from inference.report.charts import percent, percents
from inference.report.published import PUBLISHED
from inference.results import RATES, Combined, Measure, Metrics, Report, combine_reports
from schemas.verdict import Mode

_COLUMNS = (
    ("false_reject_rate", "false rejects"),
    ("miss_rate", "misses"),
    ("i_auroc", "image AUROC"),
    ("i_ap", "image AP"),
    ("f1_max", "best F1"),
    ("p_auroc", "pixel AUROC"),
    ("p_ap", "pixel AP"),
    ("aupro_30", "AUPRO @30 %"),
    ("aupro_10", "@10 %"),
    ("aupro_05", "@5 %"),
    ("aupro_01", "@1 %"),
)


def section(name: str, title: str, inside: str, note: str = "") -> str:
    """A part of the page under a heading; ``inside`` and ``note`` are HTML."""
    said = f'<p class="say">{note}</p>' if note else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{said}{inside}</section>'


def _cell(figure: str, measure: Measure) -> str:
    if measure.value is None:
        return '<td class="n">–</td>'
    rate = figure in RATES
    value = percent(measure.value) if rate else f"{measure.value:.3f}"
    ends = measure.interval
    small = ""
    if ends is not None:
        words = percents(ends) if rate else f"{ends[0]:.3f}–{ends[1]:.3f}"
        small = f"<small>{words}</small>"
    return f'<td class="n">{value}{small}</td>'


def _head(first: str, columns: Sequence[tuple[str, str]] = _COLUMNS) -> str:
    cells = "".join(f'<th class="n">{escape(words)}</th>' for _, words in columns)
    return f"<thead><tr><th>{escape(first)}</th>{cells}</tr></thead>"


def rows_table(report: Report) -> str:
    """Every mode, rule of fusion and branch with every figure."""
    parts: list[tuple[str, Mapping[str, Metrics]]] = [
        ("mode", {mode.value: found for mode, found in report.modes.items()}),
        ("other rule of fusion, same evidence", report.fusions),
        ("branch by itself", report.branches),
    ]
    out = [f'<div class="wide"><table>{_head("")}']
    for words, rows in parts:
        if not rows:
            continue
        out.append(f'<tbody><tr class="group"><th colspan="{len(_COLUMNS) + 1}">{words}</th></tr>')
        for name, found in rows.items():
            cells = "".join(_cell(figure, found.of(figure)) for figure, _ in _COLUMNS)
            left = f"<small>{found.left_out} left out</small>" if found.left_out else ""
            mark = ' class="main"' if report.fullest is not None and name == report.fullest.value else ""
            out.append(f"<tr{mark}><th>{escape(name)}{left}</th>{cells}</tr>")
        out.append("</tbody>")
    out.append("</table></div>")
    worst = max((f.binning for f in report.rows().values() if f.binning is not None), default=None)
    if worst is not None:
        out.append(
            f'<p class="say">Pixel figures are counted in bins; none can be off by more than {worst:.1g}.</p>'
        )
    return "".join(out)


def several(reports: Sequence[Report], *, categories: bool) -> list[str]:
    """A row a report, and the mean over all of them."""
    out = []
    rows = []
    for number, report in enumerate(reports):
        if report.fullest is None:
            continue
        found = report.modes[report.fullest]
        name = report.dataset if categories else report.bundle
        cells = "".join(_cell(figure, found.of(figure)) for figure, _ in _COLUMNS)
        rows.append(
            f'<tr><th><a href="#report-{number}">{escape(name)}</a>'
            f"<small>{report.fullest.value}</small></th>{cells}</tr>"
        )
    each = "category" if categories else "bundle"
    out.append(
        section(
            "each",
            f"Each {each}, in its fullest mode",
            f'<div class="wide"><table>{_head(each)}<tbody>{"".join(rows)}</tbody></table></div>',
        )
    )
    combined = combine_reports(reports, independent=categories)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(_mean(figure, table[figure]) for figure, _ in _COLUMNS)}</tr>"
        for name, table in combined.items()
    )
    note = (
        "Plain means over the categories, as papers give them; small figures are 95 % intervals of the mean."
        if categories
        else "Means over the bundles; the small figures are the standard deviation between them."
    )
    out.append(
        section(
            "mean",
            f"Mean of {len(reports)} {'categories' if categories else 'bundles'}",
            f'<div class="wide"><table>{_head("")}<tbody>{body}</tbody></table></div>',
            note,
        )
    )
    return out


def _mean(figure: str, found: Combined | None) -> str:
    if found is None:
        return '<td class="n">–</td>'
    if found.interval is None and found.deviation is not None:
        rate = figure in RATES
        value = percent(found.mean) if rate else f"{found.mean:.3f}"
        spread = f"{100 * found.deviation:.1f}" if rate else f"{found.deviation:.3f}"
        return f'<td class="n">{value}<small>± {spread}</small></td>'
    return _cell(figure, Measure(found.mean, found.interval))


def fates(report: Report) -> str:
    """How many good parts and defects pass, are held and are rejected: a row a mode that has limits."""
    rows = ""
    for mode, found in report.modes.items():
        miss, false = found.miss_rate.value, found.false_reject_rate.value
        if miss is None or false is None:
            numbers: list[int | str] = ["–"] * 6
        else:
            held = [
                round((rate.value or 0.0) * number)
                for rate, number in (
                    (found.defect_review_rate, found.defects),
                    (found.good_review_rate, found.good),
                )
            ]
            missed, turned = round(miss * found.defects), round(false * found.good)
            numbers = [missed, held[0], found.defects - missed - held[0]]
            numbers += [found.good - turned - held[1], held[1], turned]
        cells = "".join(f'<td class="n">{number}</td>' for number in numbers)
        rows += f"<tr><th>{escape(mode.value)}</th>{cells}</tr>"
    heads = '<th class="n">pass</th><th class="n">review</th><th class="n">reject</th>'
    return (
        '<div class="wide"><table class="fates"><thead><tr><th></th><th colspan="3" class="over">defects</th>'
        f'<th colspan="3" class="over">good parts</th></tr><tr><th></th>{heads}{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def identity(report: Report) -> str:
    """Which bundle, which data, which intervals."""
    counts = ", ".join(f"{name} {number}" for name, number in report.counts.items())
    intervals = (
        f"bootstrap over {report.groups} groups, {report.bootstrap} sets, seed {report.seed}; of rates, the "
        "wider of it and Wilson's score interval"
        if report.bootstrap
        else "of rates alone, Wilson's score interval"
    )
    rows = (
        ("bundle", report.bundle),
        ("manifest sha256", report.bundle_hash),
        ("data set", report.dataset),
        ("test frames", counts),
        ("intervals, 95 %", intervals),
    )
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<table class="identity">{cells}</table>'


def published(reports: Sequence[Report], *, categories: bool) -> str:
    """What others published; the means of this run above it, where there are categories."""

    def cell(value: float | None) -> str:
        return f'<td class="n">{"–" if value is None else f"{value:.1f}"}</td>'

    def row(name: str, values: Sequence[float | None], source: str, style: str = "") -> str:
        cells = "".join(cell(value) for value in values)
        return f"<tr{style}><th>{escape(name)}</th>{cells}<td>{escape(source)}</td></tr>"

    rows = ""
    if categories:
        found = combine_reports(reports, independent=True)
        for name in [name for name in found if name in {mode.value for mode in Mode} or ":" in name]:
            means = [found[name][figure] for figure in ("i_auroc", "p_auroc", "aupro_30", "aupro_01")]
            values = [None if mean is None else 100 * mean.mean for mean in means]
            rows += row(f"this run, {name}", values, f"mean of {len(reports)} categories", ' class="main"')
    rows += "".join(
        row(one.method, (one.i_auroc, one.p_auroc, one.aupro_30, one.aupro_01), one.source)
        for one in PUBLISHED
    )
    head = (
        '<thead><tr><th>method</th><th class="n">image AUROC</th><th class="n">pixel AUROC</th>'
        '<th class="n">AUPRO @30 %</th><th class="n">@1 %</th><th>source</th></tr></thead>'
    )
    return section(
        "published",
        "Published, other hardware",
        f'<div class="wide"><table>{head}<tbody>{rows}</tbody></table></div>',
        "MVTec 3D-AD, mean of its ten categories, in percent, as their authors or others report them: not "
        "measured here, and to be set beside a run of this page on the whole of MVTec 3D-AD only.",
    )


def glossary() -> str:
    """What the words mean."""
    entries = (
        ("false reject", "a good part that would be thrown out or looked at again"),
        ("miss", "a defect that would be let through"),
        ("image AUROC", "how often a defect scores above a good part: 0.5 is chance, 1 is always"),
        (
            "AP, best F1",
            "average precision, and the best balance of found and falsely rejected, over thresholds",
        ),
        ("AUPRO", "how much of each defect region lights up while at most so many good pixels do, 1 at best"),
        (
            "95 % interval",
            "where the figure may lie for other parts of the same sort; few parts, wide interval",
        ),
    )
    rows = "".join(f"<dt>{escape(word)}</dt><dd>{escape(said)}</dd>" for word, said in entries)
    return section("words", "Words", f"<dl>{rows}</dl>")
