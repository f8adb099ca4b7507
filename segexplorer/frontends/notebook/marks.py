"""Changes that were made during a run, numbered in the plots and listed below them.

Their texts beside the lines would cover one another, since two settings are often changed at once.
"""

from __future__ import annotations

from segexplorer.frontends.notebook import html
from segexplorer.viewmodels.curves import Curves, Mark

CHANGE, BEST = "#B35900", "#808080"
"""Colours of the lines of changes and of the best checkpoint."""
_CLOSE = 0.045
"""Numbers whose steps are closer than this share of the axis are written as one."""


def colour_of(mark: Mark) -> str:
    """Return the colour of the line of a mark."""
    return CHANGE if mark.kind == "change" else BEST


def changes_of(curves: Curves) -> list[tuple[int, str]]:
    """Return the changes of a run as (step, text), those of one step together."""
    found: dict[int, list[str]] = {}
    for mark in curves.marks():
        if mark.kind == "change":
            found.setdefault(mark.step, []).append(mark.text)
    return [(step, "; ".join(texts)) for step, texts in found.items()]


def badges_of(curves: Curves, last: float) -> list[tuple[float, str, str]]:
    """Return what is written above the lines of changes and of the best checkpoint: (step, text, colour).

    Parameters
    ----------
    last
        End of the axis; what would overlap on it is written as one, such as "1–3".
    """
    lines = [(float(step), number) for number, (step, _) in enumerate(changes_of(curves), 1)]
    groups: list[list[tuple[float, int]]] = []
    for line in lines:
        if groups and line[0] - groups[-1][-1][0] < _CLOSE * last:
            groups[-1].append(line)
        else:
            groups.append([line])
    found = []
    for group in groups:
        (first, low), (end, high) = group[0], group[-1]
        found.append(((first + end) / 2, str(low) if low == high else f"{low}–{high}", CHANGE))
    for mark in curves.marks():
        # its word is wider than a number
        if mark.kind == "best" and all(abs(mark.step - step) > 2 * _CLOSE * last for step, _, _ in found):
            found.append((float(mark.step), "best", BEST))
    return found


def changes_html(curves: Curves) -> str:
    """Return the list that the numbers in the plots refer to; "" without a change."""
    rows = [
        f'<div><b style="color:{CHANGE}">{number}</b> step {step}: {html.text(text)}</div>'
        for number, (step, text) in enumerate(changes_of(curves), 1)
    ]
    return f'<div style="line-height:1.4">{"".join(rows)}</div>' if rows else ""
