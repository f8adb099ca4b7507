"""Formulas of the specs: read without loss, broken where a reader would break them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.losses import registry
from segexplorer.viewmodels.formula import (
    Fraction,
    Row,
    Scripts,
    Symbol,
    break_points,
    pieces,
    read_formula,
    spoken,
    unknown_commands,
)


@pytest.mark.parametrize("kind", registry.names())
def test_every_command_of_every_loss_is_known(kind: str) -> None:
    formula = registry.spec(kind).formula  # type: ignore[attr-defined]
    assert unknown_commands(formula) == []
    assert "\\" not in spoken(formula) and "{" not in spoken(formula)


def test_fractions_scripts_and_words() -> None:
    tree = read_formula(r"L_{ic}^2=\frac12+\frac{a}{\mathrm{size}}")
    assert tree.items[0] == Scripts(
        Symbol("L", "italic"),
        Row((Symbol("i", "italic"), Symbol("c", "italic"))),
        Symbol("2"),
    )
    assert tree.items[2] == Fraction(Symbol("1"), Symbol("2"))
    assert tree.items[4] == Fraction(Row((Symbol("a", "italic"),)), Row((Symbol("size"),)))


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"L=1-\frac{2\sum pg+\epsilon}{\sum p+\sum g+\epsilon}", "L = 1 − (2∑pg + ε)/(∑p + ∑g + ε)"),
        (r"L=-\frac1M\log p", "L = −1/Mlog p"),
        (r"w=\sqrt{x}", "w = √x"),
        (r"\hat x=2x-1", "x̂ = 2x − 1"),
        (r"a\unknown b", "aunknownb"),
    ],
)
def test_as_plain_text(latex: str, text: str) -> None:
    assert spoken(latex).replace("\u2009", " ") == text


def test_statements_stand_in_lines_of_their_own_and_break_before_signs() -> None:
    lines = break_points(read_formula(r"L=aX+bY,\quad a=f(x-y),\ b=-1"))
    assert [spoken_row(line) for line in lines] == ["L = aX + bY,", "a = f(x − y),", "b = −1"]
    assert [spoken_row(piece) for piece in pieces(lines[1])] == ["a", "= f(x − y),"]
    assert [spoken_row(piece) for piece in pieces(lines[1], inside=True)] == ["a", "= f(x", "− y),"]


def spoken_row(nodes: tuple[object, ...]) -> str:
    from segexplorer.viewmodels.formula import _line

    return _line(Row(nodes)).strip()  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.text(r"\{}_^ab1,=-+()[]fracsumbt ", max_size=40))
def test_anything_can_be_read(latex: str) -> None:
    tree = read_formula(latex)
    assert isinstance(tree, Row)
    assert isinstance(spoken(latex), str)
    assert sum(len(piece) for line in break_points(tree) for piece in pieces(line)) <= len(tree.items)
