"""Small tables and texts as HTML; whatever comes from a file is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from segexplorer.core.colours import ClassColours
from segexplorer.core.events import CaseScore

if TYPE_CHECKING:
    from segexplorer.viewmodels.tables import Table

_CELL = "padding:2px 8px;border-bottom:1px solid rgba(128,128,128,.25);vertical-align:top;"
_WORD, _NUMBER = f"{_CELL}text-align:left", f"{_CELL}text-align:right;white-space:nowrap"
_HEADS = (f"{_WORD};vertical-align:bottom", f"{_CELL}text-align:right;vertical-align:bottom")
SCORE_COLUMNS = ("dice", "precision", "sensitivity", "hd95")
_TITLES = {"dice": "Dice", "precision": "Precision", "sensitivity": "Sensitivity", "hd95": "HD95 (mm)"}


def text(value: Any) -> str:
    """Return a text with its special characters escaped and its lines kept."""
    return escape(str(value)).replace("\n", "<br>")


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many decimals; a dash where it has no meaning."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def swatch(colour: str, form: str = "fill") -> str:
    """Return a square in a colour; of an outline, on grey, so that white and black are seen on any page."""
    ink = escape(colour)
    drawn = (
        ink if form in {"fill", "solid"} else f"linear-gradient(#808080 36%,{ink} 36%,{ink} 64%,#808080 64%)"
    )
    return (
        f'<span style="display:inline-block;width:10px;height:10px;border-radius:2px;background:{drawn};'
        'margin-right:5px;vertical-align:-1px"></span>'
    )


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1, caption: str = ""
) -> str:
    """Return a table of cells that are HTML already; columns from `numbers_from` on are aligned to the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        word, figure = _HEADS if tag == "th" else (_WORD, _NUMBER)
        styles = (word if place < numbers_from else figure for place in range(len(row)))
        return "".join(
            f'<{tag} style="{style}">{cell}</{tag}>' for style, cell in zip(styles, row, strict=True)
        )

    head = f"<tr>{cells('th', [text(h) for h in headings])}</tr>" if headings else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    above = (
        f'<div style="margin:6px 0 2px;font-size:12px;opacity:.85">{text(caption)}</div>' if caption else ""
    )
    return (
        f'{above}<div style="overflow-x:auto"><table style="border-collapse:collapse;font-size:12px;margin:0;'
        f'line-height:1.4;font-variant-numeric:tabular-nums">{head}{body}</table></div>'
    )


def data_table(shown: Table) -> str:
    """Return a table of a view model; its cells are texts."""

    def cell(row: int, column: int, said: str) -> str:
        made = f"<b>{text(said)}</b>" if (row, column) in shown.bold else text(said)
        ink = shown.colours[row] if column == 0 and shown.colours else ""
        return f'<span style="white-space:nowrap">{swatch(ink)}{made}</span>' if ink else made

    rows = [
        [cell(place, column, said) for column, said in enumerate(row)] for place, row in enumerate(shown.rows)
    ]
    return table(shown.heads, rows, numbers_from=shown.words, caption=shown.caption)


def sentences(said: Iterable[str], *, small: bool = False) -> str:
    """Return sentences as a list; `small` for what belongs beside figures."""
    items = "".join(f"<li>{text(sentence)}</li>" for sentence in said)
    size = "11px;opacity:.85" if small else "12px"
    return f'<ul style="margin:4px 0;padding-left:18px;font-size:{size}">{items}</ul>' if items else ""


def scores(found: Sequence[CaseScore], of: str, class_names: Sequence[str] = ()) -> str:
    """Return the scores of a screen as a table: one row per class, means over the cases."""
    if not found:
        return f'<div style="opacity:.85">{text(of)}</div>' if of else ""
    names = list(dict.fromkeys(score.class_name for score in found))
    palette = ClassColours(tuple(class_names) or tuple(names))
    cases = len({score.case for score in found})
    there = [m for m in SCORE_COLUMNS if any(m in score.metrics for score in found)]
    rows = []
    for name in names:
        own = [score for score in found if score.class_name == name]
        row = [f'<span style="white-space:nowrap">{swatch(palette.colour(name))}{text(name)}</span>']
        row += [
            number(_mean([s.metrics.get(m, math.nan) for s in own]), 1 if m == "hd95" else 3) for m in there
        ]
        row += [number(sum(getattr(s, part) for s in own) / len(own), 2) for part in _VOLUMES]
        rows.append(row)
    badges = sorted({score.badge for score in found if score.badge})
    said = f"{of}; mean of {cases} cases" if cases > 1 else of
    said = "; ".join([said, *badges])
    return table(["Class", *(_TITLES[m] for m in there), "Extra (ml)", "Missed (ml)"], rows, caption=said)


_VOLUMES = ("false_positive_ml", "false_negative_ml")


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
