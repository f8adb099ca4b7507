"""Tables of scores: per case and class, spread over cases, best and worst; figures stay whole when narrow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from segexplorer.core.events import CaseScore
from segexplorer.metrics import ALL_METRICS, Distribution
from segexplorer.metrics.wording import interval_text, percent_text, value_text

NARROW = 100
"""Below this many characters names are folded and gaps are small, so that figures stay together."""
FOLDED = 18
"""Characters of a column of names on a narrow terminal."""


@dataclass(frozen=True)
class Column:
    """A column of figures: head and one text per row."""

    head: str
    cells: tuple[str, ...]

    @property
    def width(self) -> int:
        """Characters of its widest line."""
        return max(len(line) for text in (self.head, *self.cells) for line in text.split("\n"))


Group = tuple[Column, ...]
"""Columns that stay in one table."""


def case_tables(scores: Sequence[CaseScore], metrics: Sequence[str], width: int) -> Iterator[Table]:
    """Yield the table of every case and class; a second one takes the figures that do not fit beside the first."""
    groups: list[Group] = [
        (Column(head(name), tuple(value_text(s.metrics.get(name, math.nan), name) for s in scores)),)
        for name in metrics
    ]
    volumes = (
        Column("truth\nml", tuple(_ml(s.truth_ml) for s in scores)),
        Column("extra\nml", tuple(_ml(s.false_positive_ml) for s in scores)),
        Column("missed\nml", tuple(_ml(s.false_negative_ml) for s in scores)),
    )
    groups.append(volumes)
    if any(score.state != "scored" for score in scores):
        states = tuple("" if s.state == "scored" else s.state for s in scores)
        groups.insert(0, (Column("state", states),))
    names = {"case": _blanked([s.case for s in scores]), "class": [s.class_name for s in scores]}
    yield from _packed(names, groups, width)


def spread_tables(rows: Sequence[Distribution], width: int) -> Iterator[Table]:
    """Yield how every metric is spread over cases, class by class."""
    lines = _by_class(rows)

    def column(title: str, text: Callable[[Distribution], str]) -> Group:
        return (Column(title, tuple("" if isinstance(r, str) else text(r) for r in lines)),)

    groups = (
        column("n", lambda r: str(r.n))
        + column("missed", lambda r: str(r.n_missed))
        + column("spur.", lambda r: str(r.n_spurious))
        + column("mean", lambda r: value_text(r.mean, r.metric))
        + column("95 % CI", lambda r: interval_text(r.low, r.high, r.metric)),
        column("CV", lambda r: percent_text(r.cv)),
        column("Q1", lambda r: value_text(r.lower_quartile, r.metric))
        + column("median", lambda r: value_text(r.median, r.metric))
        + column("Q3", lambda r: value_text(r.upper_quartile, r.metric)),
    )
    yield from _packed({"metric": _labels(lines)}, groups, width)


def extreme_table(rows: Sequence[Distribution], width: int) -> Table:
    """Return the best and the worst case of every metric by name, class by class."""
    lines = _by_class(rows)
    table = _table({"metric": _labels(lines)}, width)
    for title in ("best", "case", "worst", "case"):
        figures = title != "case"
        table.add_column(title, justify="right" if figures else "left", no_wrap=figures, overflow="fold")
    for row, label in zip(lines, _labels(lines), strict=True):
        if isinstance(row, str):
            table.add_row(escape(label))
            continue
        cells = (
            value_text(row.best, row.metric),
            row.best_case,
            value_text(row.worst, row.metric),
            row.worst_case,
        )
        table.add_row(*map(escape, (label, *cells)))
    return table


def head(metric: str) -> str:
    """Return a metric's column head in short lines, its unit below; what is near 1 by volume says so."""
    declared = ALL_METRICS[metric]
    text = declared.head.replace(" ", "\n").replace("1\nby\n", "1 by\n").replace("(near\n1", "(near 1")
    return f"{text}\n{declared.unit}" if declared.unit else text


def _by_class(rows: Sequence[Distribution]) -> list[Distribution | str]:
    """Return rows with the name of each class above its own, if there are several."""
    several = len({row.class_name for row in rows}) > 1
    lines: list[Distribution | str] = []
    for before, row in zip([None, *rows], rows, strict=False):
        if several and (before is None or before.class_name != row.class_name):
            lines.append(row.class_name)
        lines.append(row)
    return lines


def _labels(lines: Sequence[Distribution | str]) -> list[str]:
    indent = "  " if any(isinstance(line, str) for line in lines) else ""
    return [line if isinstance(line, str) else indent + _label(line.metric) for line in lines]


def _label(metric: str) -> str:
    declared = ALL_METRICS[metric]
    return f"{declared.head}, {declared.unit}" if declared.unit else declared.head


def _packed(names: Mapping[str, Sequence[str]], groups: Sequence[Group], width: int) -> Iterator[Table]:
    """Yield tables with the names at the left and as many groups as fit, like pandas' wide frames."""
    left = sum(_name_width(title, cells, width) + _gap(width) for title, cells in names.items())
    block: list[Column] = []
    for group in groups:
        if block and left + sum(c.width + _gap(width) for c in (*block, *group)) > width + _gap(width):
            yield _filled(names, block, width)
            block = []
        block.extend(group)
    yield _filled(names, block, width)


def _filled(names: Mapping[str, Sequence[str]], columns: Sequence[Column], width: int) -> Table:
    table = _table(names, width)
    for column in columns:
        table.add_column(escape(column.head), justify="right", no_wrap=True)
    cells = [*names.values(), *(column.cells for column in columns)]
    for row in zip(*cells, strict=True):
        table.add_row(*map(escape, row))
    return table


def _table(names: Mapping[str, Sequence[str]], width: int) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, _gap(width), 0, 0), pad_edge=False)
    for title, cells in names.items():
        table.add_column(title, overflow="fold", width=_name_width(title, cells, width))
    return table


def _name_width(title: str, cells: Sequence[str], width: int) -> int:
    longest = max(map(len, (title, *cells)))
    return longest if width >= NARROW else min(longest, FOLDED)


def _gap(width: int) -> int:
    return 2 if width >= NARROW else 1


def _blanked(cells: Sequence[str]) -> list[str]:
    """Return cells with repetitions of the one above left out."""
    return [cell if i == 0 or cell != cells[i - 1] else "" for i, cell in enumerate(cells)]


def _ml(volume: float) -> str:
    return f"{volume:.2f}" if volume < 1000 else f"{volume:.0f}"
