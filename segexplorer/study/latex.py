"""Comparisons as LaTeX tables, to be put into a paper with \\input; they need the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from segexplorer.metrics import ALL_METRICS
from segexplorer.study.comparison import Comparison
from segexplorer.study.tables import differences_cells, means_cells, missed
from segexplorer.study.wording import differences_caption, means_caption, title

ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$"}
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "–": "--",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


def escaped(text: str) -> str:
    """Return text as LaTeX prints it, character by character, so that no escape is escaped again."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def latex_tables(comparison: Comparison, class_name: str = "") -> str:
    """Return a table of means and one of differences, with captions; notes as comments above."""
    name = class_name or comparison.class_names[-1]
    heads = ["", *(escaped(title(m)) + ARROWS[ALL_METRICS[m].better] for m in comparison.metrics)]
    heads.append("Missed")
    rows = [
        [escaped(condition.label), *(_cell(*cell) for cell in cells), missed(condition, name)]
        for condition, cells in zip(comparison.conditions, means_cells(comparison, name), strict=True)
    ]
    differences = [
        [escaped(condition), escaped(metric), n, _signed(difference), escaped(between), escaped(p)]
        for condition, metric, n, difference, between, p in differences_cells(comparison, name)
    ]
    notes = [f"% {note}" for note in ("\\usepackage{booktabs}", *comparison.notes)]
    return "\n".join(
        [
            *notes,
            _table(heads, "l" + "c" * len(comparison.metrics) + "r", rows, means_caption(comparison, name)),
            _table(
                ["", "Metric", "$n$", "Difference", r"95\,\% CI", "$p$ (Holm)"],
                "llrrcr",
                differences,
                differences_caption(comparison, name),
            ),
        ]
    )


def _cell(text: str, best: bool, star: bool) -> str:
    shown = escaped(text)
    return (rf"\textbf{{{shown}}}" if best else shown) + (r"$^{*}$" if star else "")


def _signed(difference: str) -> str:
    """Return a number with a minus that is one, not a hyphen."""
    return f"${difference}$" if difference[-1].isdigit() else escaped(difference)


def _table(heads: Sequence[str], columns: str, rows: Sequence[Sequence[str]], caption: str) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *(" & ".join(_unbracketed(row)) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _unbracketed(row: Sequence[str]) -> list[str]:
    r"""Protect a cell that begins with "[", or \\ before it would read it as its own option."""
    return [f"{{}}{cell}" if cell.startswith(("[", "*")) else cell for cell in row]
