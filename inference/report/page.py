"""The page: one headline, the table, the charts, the pictures, and what others published."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from inference.errors import ReportError
from inference.report import charts
from inference.report.charts import percent, percents
from inference.report.pictures import data_uri, draw
from inference.report.published import PUBLISHED
from inference.report.style import CSS
from inference.report.words import caveats, headline
from inference.results import Combined, Exhibit, Measure, Metrics, Report, combine_reports

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
_RATES = ("false_reject_rate", "miss_rate")


def write_report(path: Path, reports: Sequence[Report], *, categories: bool = False) -> None:
    """Write the page whole or not at all.

    Args:
        reports, categories: as ``render``.

    Raises:
        ReportError: the file cannot be written.
    """
    text = render(reports, categories=categories)
    draft: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".report-", dir=path.parent)
        draft = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        draft.chmod(0o644)
        draft.replace(path)
    except OSError as error:
        if draft is not None:
            draft.unlink(missing_ok=True)
        raise ReportError(f"{path}: the report cannot be written: {error.strerror or error}") from error


def render(reports: Sequence[Report], *, categories: bool = False) -> str:
    """The page as HTML.

    Args:
        reports: one; or several, of the categories of a data set, or of bundles on the same frames.
        categories: whether several reports are of different frames. Their mean then has an interval.

    Raises:
        ValueError: no report.
    """
    if not reports:
        raise ValueError("a report of nothing")
    first = reports[0]
    if len(reports) == 1:
        title = f"{first.bundle} on {first.dataset}"
    elif categories:
        title = f"{len(reports)} categories"
    else:
        title = f"{len(reports)} bundles on {first.dataset}"
    body = [
        f'<header><p class="crumb">Crosscheck evaluation</p><h1>{escape(title)}</h1>',
        f'<p class="headline" id="headline">{escape(headline(reports, independent=categories))}</p>',
    ]
    if len(reports) == 1:
        body.append(_caveats(first))
        body.append("</header>")
        body += _report(first, prefix="")
    else:
        body.append("</header>")
        body += _several(reports, categories=categories)
        for number, report in enumerate(reports):
            body.append(
                f'<details id="report-{number}"><summary>{escape(report.bundle)} on {escape(report.dataset)}'
                f": {escape(headline([report], independent=False))}</summary>"
            )
            body.append(_caveats(report))
            body += _report(report, prefix=f"{number}-")
            body.append("</details>")
    body += [_published(), _glossary()]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        + "".join(body)
        + "</main></body></html>\n"
    )


def _caveats(report: Report) -> str:
    found = caveats(report)
    return f'<ul class="caveats">{"".join(f"<li>{escape(one)}</li>" for one in found)}</ul>' if found else ""


def _section(name: str, title: str, inside: str, note: str = "") -> str:
    said = f'<p class="say">{note}</p>' if note else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{said}{inside}</section>'


def _report(report: Report, *, prefix: str) -> list[str]:
    out = []
    if report.fullest is not None:
        pair = _figure(
            charts.histogram(report, report.fullest),
            f"Scores in {report.fullest.value}. Right of the threshold a part is rejected: what is blue "
            "there is a false reject, what is orange on its left is a miss.",
        ) + _figure(
            charts.roc(report),
            "For every threshold at once: how many defects are found for how many good parts.",
        )
        pair += _figure(
            charts.coverage(report),
            "How much of each defect lights up, against how much of the good surface does.",
        )
        out.append(
            _section(f"{prefix}charts", "Where the decision falls", f'<div class="charts">{pair}</div>')
        )
    out.append(
        _section(
            f"{prefix}table",
            "Modes, rules of fusion, branches",
            _table(report),
            "A mode is what the product is judged by when only these sensors are there. The small figures "
            "are 95 % intervals. False rejects and misses are at the threshold that the bundle ships.",
        )
    )
    if report.kinds:
        rows = [mode.value for mode in report.modes]
        out.append(
            _section(
                f"{prefix}kinds",
                "By kind of defect",
                charts.kinds(report, rows),
                "A bar begins at chance (0.5) and is full at certainty (1.0); below 0.80 it is orange.",
            )
        )
    missed = [one for one in report.worst_defects if not one.rejected]
    out.append(
        _section(
            f"{prefix}misses",
            "Worst misses" if missed else "No defect was missed: those nearest to it",
            _gallery(missed or report.worst_defects[:3]),
            _GALLERY,
        )
    )
    rejected = [one for one in report.worst_good if one.rejected]
    out.append(
        _section(
            f"{prefix}rejects",
            "Worst false rejects" if rejected else "No good part was rejected: those nearest to it",
            _gallery(rejected or report.worst_good[:3]),
            _GALLERY,
        )
    )
    out.append(_section(f"{prefix}identity", "What was judged on what", _identity(report)))
    return out


_GALLERY = (
    "Left the part, right the same with the map over it: dark red begins at half of the threshold, yellow is "
    "well above it. The outline, where there is one, is where people said the defect is."
)


def _figure(chart: str, words: str) -> str:
    return f"<figure>{chart}<figcaption>{escape(words)}</figcaption></figure>" if chart else ""


def _cell(figure: str, measure: Measure) -> str:
    if measure.value is None:
        return '<td class="n">–</td>'
    rate = figure in _RATES
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


def _table(report: Report) -> str:
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


def _several(reports: Sequence[Report], *, categories: bool) -> list[str]:
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
        _section(
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
        _section(
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
        rate = figure in _RATES
        value = percent(found.mean) if rate else f"{found.mean:.3f}"
        spread = f"{100 * found.deviation:.1f}" if rate else f"{found.deviation:.3f}"
        return f'<td class="n">{value}<small>± {spread}</small></td>'
    return _cell(figure, Measure(found.mean, found.interval))


def _gallery(shown: Sequence[Exhibit]) -> str:
    if not shown:
        return '<p class="say">Nothing to show.</p>'
    out = ['<div class="gallery">']
    for one in shown:
        picture = draw(one)
        height, width = picture.shape[:2]
        branches = "".join(
            f'<tr><td>{escape(name)}</td><td class="n">{score:.2f}</td></tr>'
            for name, score in sorted(one.branches.items(), key=lambda entry: -entry[1])
        )
        verdict = "rejected" if one.rejected else "passed"
        out.append(
            f'<article><img src="{data_uri(picture)}" width="{width}" height="{height}" '
            f'alt="{escape(one.name)}, the part and its map"><h3>{escape(one.name)}</h3>'
            f"<p><b>{escape(one.label)}</b>, {verdict}: score {one.score:.2f}, "
            f"threshold {one.threshold:.2f}</p>"
            f'<table class="scores">{branches}</table></article>'
        )
    out.append("</div>")
    return "".join(out)


def _identity(report: Report) -> str:
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


def _published() -> str:
    def cell(value: float | None) -> str:
        return f'<td class="n">{"–" if value is None else f"{value:.1f}"}</td>'

    rows = "".join(
        f"<tr><th>{escape(row.method)}</th>{cell(row.i_auroc)}{cell(row.p_auroc)}{cell(row.aupro_30)}"
        f"{cell(row.aupro_01)}<td>{escape(row.source)}</td></tr>"
        for row in PUBLISHED
    )
    head = (
        '<thead><tr><th>method</th><th class="n">image AUROC</th><th class="n">pixel AUROC</th>'
        '<th class="n">AUPRO @30 %</th><th class="n">@1 %</th><th>source</th></tr></thead>'
    )
    return _section(
        "published",
        "Published, other hardware",
        f'<div class="wide"><table>{head}<tbody>{rows}</tbody></table></div>',
        "MVTec 3D-AD, mean of its ten categories, in percent, as their authors or others report them: not "
        "measured here, and to be set beside a run of this page on the whole of MVTec 3D-AD only.",
    )


def _glossary() -> str:
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
    return _section("words", "Words", f"<dl>{rows}</dl>")
