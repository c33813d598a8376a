"""The page: one headline, the table, the charts, the pictures, and what others published."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from inference.errors import ReportError
from inference.report import charts
from inference.report.pictures import data_uri, draw
from inference.report.style import CSS
from inference.report.tables import fates, glossary, identity, published, rows_table, section, several
from inference.report.words import caveats, counted, headline
from inference.results import Exhibit, Report


def write_report(
    path: Path, reports: Sequence[Report], *, categories: bool = False, made: str = "", full: bool = False
) -> None:
    """Write the page whole or not at all.

    Args:
        reports, categories, made, full: as ``render``.

    Raises:
        ReportError: the file cannot be written.
    """
    text = render(reports, categories=categories, made=made, full=full)
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


def render(reports: Sequence[Report], *, categories: bool = False, made: str = "", full: bool = False) -> str:
    """The page as HTML.

    Args:
        reports: one; or several, of the categories of a data set, or of bundles on the same frames.
        categories: whether several reports are of different frames. Their mean then has an interval.
        made: when, and by which version, to be shown at the top.
        full: whether curves, pixel figures and every branch and rule of fusion are shown too.

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
    crumb = "Crosscheck evaluation" + (f", {made}" if made else "")
    body = [
        f'<header><p class="crumb">{escape(crumb)}</p><h1>{escape(title)}</h1>',
        *_verdict(reports, categories),
    ]
    if len(reports) == 1:
        body.append(_caveats(first))
        body.append("</header>")
        body += _report(first, prefix="", full=full)
    else:
        body.append("</header>")
        body += several(reports, categories=categories)
        for number, report in enumerate(reports):
            body.append(
                f'<details id="report-{number}"><summary>{escape(report.bundle)} on {escape(report.dataset)}'
                f": {escape(headline([report], independent=False))}</summary>"
            )
            body.append(_caveats(report))
            body += _report(report, prefix=f"{number}-", full=full)
            body.append("</details>")
    if full or categories:
        body += [published(reports, categories=categories), glossary()]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        + "".join(body)
        + "</main></body></html>\n"
    )


def _verdict(reports: Sequence[Report], categories: bool) -> list[str]:
    rates = headline(reports, independent=categories)
    alone = reports[0] if len(reports) == 1 else None
    numbers = None if alone is None or alone.fullest is None else counted(alone.modes[alone.fullest])
    if numbers is None:
        return [f'<p class="headline" id="headline">{escape(rates)}</p>']
    return [
        f'<p class="headline" id="headline">{escape(numbers)}</p>',
        f'<p id="rates">{escape(rates)}</p>',
    ]


def _caveats(report: Report) -> str:
    found = caveats(report)
    return f'<ul class="caveats">{"".join(f"<li>{escape(one)}</li>" for one in found)}</ul>' if found else ""


def _report(report: Report, *, prefix: str, full: bool) -> list[str]:
    # What became of the parts comes first: it is what a line asks for.
    out = [section(f"{prefix}fates", "What became of the parts", fates(report), _FATES)]
    missed = [one for one in report.worst_defects if one.passed]
    out.append(
        section(
            f"{prefix}misses",
            "Worst misses" if missed else "No defect passed: those nearest to it",
            _gallery(missed or report.worst_defects[:2], full),
            _GALLERY,
        )
    )
    rejected = [one for one in report.worst_good if one.rejected]
    out.append(
        section(
            f"{prefix}rejects",
            "Worst false rejects" if rejected else "No good part was rejected: those nearest to it",
            _gallery(rejected or report.worst_good[:2], full),
        )
    )
    if report.hits:
        out.append(
            section(
                f"{prefix}hits", "Hits: defects found, the clearest of each kind", _gallery(report.hits, full)
            )
        )
    if report.fullest is not None:
        pair = _figure(
            charts.histogram(report, report.fullest),
            f"Scores in {report.fullest.value}. Right of the last mark a part is rejected: what is blue "
            "there is a false reject. Left of the first it passes: what is orange there is a miss. "
            "Between two marks a person looks.",
        )
        if full:
            pair += _figure(
                charts.roc(report),
                "For every threshold at once: how many defects are found for how many good parts.",
            ) + _figure(
                charts.coverage(report),
                "How much of each defect lights up, against how much of the good surface does.",
            )
        out.append(
            section(f"{prefix}charts", "Where the decision falls", f'<div class="charts">{pair}</div>')
        )
    if full:
        out.append(
            section(
                f"{prefix}table",
                "Modes, rules of fusion, branches",
                rows_table(report),
                "A mode is what the product is judged by when only these sensors are there. The small "
                "figures are 95 % intervals. False rejects and misses are at the limits that the bundle "
                "ships.",
            )
        )
    if report.kinds:
        rows = [mode.value for mode in report.modes]
        out.append(
            section(
                f"{prefix}kinds",
                "By kind of defect",
                charts.kinds(report, rows),
                "A bar begins at chance (0.5) and is full at certainty (1.0); below 0.80 it is orange.",
            )
        )
    out.append(section(f"{prefix}identity", "What was judged on what", identity(report)))
    if not full:
        out.append(
            '<p class="say">Curves, pixel figures, every branch and rule of fusion: '
            "<code>crosscheck evaluate --full</code></p>"
        )
    return out


_FATES = (
    "By the sensors that were there, at the limits that the bundle ships. A defect that passes is a miss, a "
    "good part that is rejected a false reject; what is held for review a person looks at."
)
_GALLERY = (
    "In the heat map dark red begins at half of the reject limit and yellow is well above it. In depth, dark "
    "is a small value and black no reading. The outline, where there is one, is where people said that the "
    "defect is."
)


def _figure(chart: str, words: str) -> str:
    return f"<figure>{chart}<figcaption>{escape(words)}</figcaption></figure>" if chart else ""


def _branches(one: Exhibit) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="n">{score:.2f}</td></tr>'
        for name, score in sorted(one.branches.items(), key=lambda entry: -entry[1])
    )
    return f'<table class="scores">{rows}</table>'


def _gallery(shown: Sequence[Exhibit], full: bool) -> str:
    if not shown:
        return '<p class="say">Nothing to show.</p>'
    out = ['<div class="gallery">']
    for one in shown:
        panes = "".join(
            f'<figure><img src="{data_uri(picture)}" width="{picture.shape[1]}" height="{picture.shape[0]}" '
            f'alt="{escape(one.name)}: {kind}"><figcaption>{kind}</figcaption></figure>'
            for kind, picture in draw(one).items()
        )
        verdict = "passed" if one.passed else "rejected" if one.rejected else "held for review"
        limits = f"rejected above {one.threshold:.2f}"
        if one.pass_limit < one.threshold:
            limits = f"passes to {one.pass_limit:.2f}, {limits}"
        out.append(
            f'<article><div class="panes">{panes}</div><h3>{escape(one.name)}</h3>'
            f"<p><b>{escape(one.label)}</b>, {verdict}: score {one.score:.2f} ({limits})</p>"
            f"{_branches(one) if full else ''}</article>"
        )
    out.append("</div>")
    return "".join(out)
