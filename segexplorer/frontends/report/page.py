"""One page of HTML that holds everything: no request leaves the machine that shows it.

Texts come from run folders and may be anybody's: jinja2 escapes all of them, and the page's content security policy
lets nothing run but the script that is in it, which is known by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import segexplorer
from segexplorer.frontends.report.drawing import chart_drawing, film_drawing, panel_drawing, script_colours
from segexplorer.training.doctor import Diagnosis, Finding, checks
from segexplorer.viewmodels.report import CaseSection, RunReport
from segexplorer.viewmodels.study_report import StudyReport
from segexplorer.viewmodels.tables import Table

HERE = Path(__file__).parent
FIRST_CHARTS = ("loss", "validation_loss", "dice", "error_volume", "weights", "hd95")
"""Curves that are shown at once; the others are folded away."""


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> str:
    """Return a page from a template, with its style, its script and the policy that allows only these."""
    style, script = ((HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    return (
        _templates()
        .get_template(template)
        .render(
            style=Markup(style),  # noqa: S704  our own files, not texts of a run
            script=Markup(script),  # noqa: S704
            style_hash=_hash(style),
            script_hash=_hash(script),
            colours=script_colours(),
            version=segexplorer.__version__,
            **values,
        )
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def run_page(report: RunReport) -> str:
    """Return the page about a run."""
    charts = [chart_drawing(chart) for chart in report.charts]
    first = [chart.plot.key in FIRST_CHARTS for chart in report.charts]
    return render(
        "run.html.j2",
        report=report,
        diagnosis=None if report.diagnosis is None else findings(report.diagnosis),
        charts=[c for c, at_once in zip(charts, first, strict=True) if at_once],
        more_charts=[c for c, at_once in zip(charts, first, strict=True) if not at_once],
        watched=[_case(c, f"watched{i}") for i, c in enumerate(report.watched)],
        extremes=[_case(c, f"extreme{i}") for i, c in enumerate(report.extremes)],
        pictures=report.images,
    )


def study_page(report: StudyReport) -> str:
    """Return the page about a study."""
    groups = [
        {
            **vars(group),
            "figures": [
                {
                    "title": figure.title,
                    "href": f"data:image/svg+xml;base64,{base64.b64encode(figure.svg).decode('ascii')}",
                }
                for figure in group.figures
            ],
        }
        for group in report.groups
    ]
    charts = [chart_drawing(chart) for chart in report.charts]
    return render("study.html.j2", report=report, groups=groups, charts=charts, pictures=False)


def _case(section: CaseSection, identity: str) -> dict[str, Any]:
    return {
        **vars(section),
        "panels": [panel_drawing(p, f"{identity}-panel{i}") for i, p in enumerate(section.panels)],
        "maps": [panel_drawing(p, f"{identity}-map{i}") for i, p in enumerate(section.maps)],
        "film": None if section.film is None else film_drawing(section.film),
    }


def findings(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return what the doctor said, in the words of the page."""
    rows = tuple((name, f"{value:.4g}") for name, value in diagnosis.references.items())
    references = Table(
        ("Prediction", "Loss"), rows, "The loss of this run beside trivial predictions, later half."
    )
    return {
        "findings": [
            {
                "severity": f.severity,
                "sentence": f.sentence,
                "remedy": f.remedy,
                "where": where(f),
                "evidence": ", ".join(f"{name} {value:.4g}" for name, value in f.evidence.items()),
            }
            for f in diagnosis.findings
        ],
        "healthy": ", ".join(checks.spec(name).title.lower() for name in diagnosis.healthy),
        "not_checked": [f"{one.title.lower()} ({one.reason})" for one in diagnosis.not_checked],
        "references": references if rows else None,
    }


def where(finding: Finding) -> str:
    """Return where to look: step, case, box, curve."""
    place = finding.place
    parts = [
        "" if finding.step is None else f"step {finding.step}",
        place.case and f"case {place.case}",
        ""
        if place.box is None
        else "box " + " × ".join(f"{first}-{behind - 1}" for first, behind in place.box),
        ""
        if finding.curve is None
        else f"curve {finding.curve.name} of {finding.curve.plot.replace('_', ' ')}",
    ]
    said = ", ".join(part for part in parts if part)
    return f"See {said}." if said else ""
