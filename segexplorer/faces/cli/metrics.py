"""`list metrics` and `describe metrics NAME`: what the metrics declare, printed."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from segexplorer.faces.cli.output import print_json, results
from segexplorer.metrics import ALL_METRICS, spec
from segexplorer.metrics import names as names
from segexplorer.metrics.metric import Metric

FAMILY = "metrics"
"""Stands beside the registries' families; metrics are functions without parameters, so they have no registry."""


def print_metrics(*, as_json: bool) -> None:
    """Print every metric with its definition."""
    if as_json:
        print_json([facts(metric) for metric in ALL_METRICS.values()])
        return
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("metric", "name", "definition"):
        table.add_column(column, overflow="fold")
    for metric in ALL_METRICS.values():
        table.add_row(metric.name, escape(metric.title), escape(metric.definition))
    out = results()
    out.print(table)
    out.print(
        "TP, FP, FN, TN: voxels; P, T: surfaces of prediction and truth, d in mm, P95 the 95th percentile."
    )
    out.print("More about one: segexplorer describe metrics NAME")


def print_metric(name: str, *, as_json: bool) -> None:
    """Print everything declared about a metric.

    Raises
    ------
    UnknownKindError
        With the nearest names.
    """
    metric = spec(name)
    if as_json:
        print_json(facts(metric))
        return
    out = results()
    out.print(f"[bold]{escape(metric.title)}[/bold]")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(overflow="fold")
    for title, value in facts(metric).items():
        if title not in ("name", "title") and value != "" and value != []:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            table.add_row(f"[bold]{title}[/bold]", escape(text))
    out.print(table)


def facts(metric: Metric) -> dict[str, Any]:
    """Return what a metric declares as plain data."""
    return {
        "name": metric.name,
        "title": metric.title,
        "definition": metric.definition,
        "formula": metric.formula,
        "unit": metric.unit,
        "better": metric.better,
        "best": metric.best,
        "note": metric.note,
        "reference": metric.reference,
        "papers": list(metric.papers),
    }
