"""Formulas of the specs: read without loss, broken where a reader would break them, typeset as SVG."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segexplorer.training.experiment  # noqa: F401  importing it registers every kind
from segexplorer import metrics
from segexplorer.core.registry import families
from segexplorer.viewmodels.formula import (
    INK,
    SIZE,
    UnreadableFormulaError,
    lines_of,
    parts,
    read_formula,
    spoken,
    statements,
)

FORMULAS = {
    f"{family}/{kind}": formula
    for family, registry in families().items()
    for kind, model in registry.specs().items()
    if (formula := getattr(model, "formula", ""))
} | {f"metrics/{name}": formula for name in metrics.names() if (formula := metrics.spec(name).formula)}
DOCK = 330 * SIZE / 14.4
"""Room in the narrowest dock at the type size of napari's themes."""

NESTED = r"\frac{1}{1+" * 30 + "x" + "}" * 30


def test_losses_weightings_and_metrics_have_formulas() -> None:
    assert {name.partition("/")[0] for name in FORMULAS} >= {"losses", "weightings", "metrics"}


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS.keys())
def test_every_formula_is_read_and_typeset(formula: str) -> None:
    assert "\\" not in spoken(formula) and "{" not in spoken(formula)
    lines = lines_of(formula, DOCK)
    assert lines
    for line in lines:
        assert line.width <= 1.1 * DOCK, "it would be drawn much smaller than the text around it"
        for piece in line.pieces:
            svg = ET.fromstring(piece.svg)
            drawn = [e for e in svg.iter() if e.tag.endswith(("path", "rect"))]
            assert drawn and {e.get("fill") for e in drawn} == {INK}
            assert piece.width > 0 and piece.ascent + piece.descent > 0


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"L=1-\frac{2\sum pg+\epsilon}{\sum p+\sum g+\epsilon}", "L = 1 − (2∑pg + ε)/(∑p + ∑g + ε)"),
        (r"L=-\frac1M\log p", "L = −1/M log p"),
        (r"w=\sqrt{x}", "w = √x"),
        (r"w=\sqrt{x+1}", "w = √(x + 1)"),
        (r"\hat x=2x-1", "x̂ = 2x − 1"),
        (r"x_{ic}^{(t)}=\ln\cosh(1-\cos_c)", "x_ic^(t) = ln cosh(1 − cos_c)"),
        (r"\tfrac12s_i+\tfrac1{2d}", "1/2 s_i + 1/(2d)"),
        (r"\text{Dice loss: }\mathrm{TP}\in\mathcal P", "Dice loss: TP ∈ P"),
        (r"\bar L\big/\textstyle\sum_j\bar L_j", "L̄/∑_j L̄_j"),
        (r"a\unknown b", "a\\unknownb"),
        (r"\frac{a", r"\frac{a"),
        ("", ""),
    ],
)
def test_as_plain_text(latex: str, text: str) -> None:
    assert spoken(latex) == text


def test_statements_begin_lines_and_break_before_signs_of_two_sides() -> None:
    lines = statements(read_formula(r"L=aX+bY,\quad a=f(x-y),\ b=-1"))
    assert [_plain(line) for line in lines] == ["L=aX+bY,", "a=f(x−y),", "b=−1"]
    assert [_plain(part) for part in parts(lines[1])] == ["a", "=f(x−y),"]
    assert [_plain(part) for part in parts(lines[1], depth=1)] == ["a", "=f(x", "−y),"]
    assert [_plain(part) for part in parts(lines[2])] == ["b", "=−1"]


def _plain(elements: list[ET.Element]) -> str:
    return "".join(text for element in elements for text in element.itertext()).strip("\xa0")


def test_narrow_lines_are_more_and_hang() -> None:
    formula = r"L=aaaaaaaaaa+bbbbbbbbbb+\left(cccccccccc-dddddddddd\right)"
    (whole,) = lines_of(formula, 1000)
    narrow = lines_of(formula, 150)
    assert whole.indent == 0 and len(narrow) == 4
    assert narrow[0].indent == 0 and all(line.indent > 0 for line in narrow[1:])
    assert all(line.width <= 150 for line in narrow)


def test_sums_have_limits_below_on_the_line_and_beside_in_fractions() -> None:
    row = read_formula(r"\sum_i a+\frac{\sum_i a}{2}")
    assert row[0].tag == "munder"
    assert [e.tag for e in row[3].iter() if e.tag.startswith("mu") or e.tag == "msub"] == ["msub"]


@pytest.mark.parametrize("latex", [r"\frac{a", r"a_b_c", r"\left( a", r"\begin{nonsense} a", NESTED])
def test_what_is_no_latex_is_refused(latex: str) -> None:
    with pytest.raises(UnreadableFormulaError, match="cannot be read"):
        lines_of(latex, 300)


@settings(max_examples=100, deadline=None)
@given(st.text(r"\{}_^ab1,=-+()[]&fracsumbt ", max_size=40))
def test_anything_is_typeset_or_refused(latex: str) -> None:
    assert isinstance(spoken(latex), str)
    try:
        lines = lines_of(latex, 100)
    except UnreadableFormulaError:
        return
    assert all(line.width >= 0 for line in lines)


def test_typesetting_is_loaded_at_the_first_formula_alone() -> None:
    program = (
        "import sys, segexplorer.viewmodels.catalogue, segexplorer.viewmodels.formula as formula\n"
        "packages = {'ziamath', 'ziafont', 'latex2mathml'}\n"
        "assert not packages & set(sys.modules)\n"
        "formula.lines_of('a', 100)\n"
        "assert packages <= set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
