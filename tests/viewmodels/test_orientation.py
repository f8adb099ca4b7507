"""Letters at the edges: by hand, and by the geometry of a point that moves."""

from __future__ import annotations

import itertools

import pytest

from segexplorer.viewmodels.layer_images import EdgeLetters, edge_letters, plane_name

RADIOLOGICAL, NEUROLOGICAL = ("away", "up", "left"), ("towards", "up", "right")


@pytest.mark.parametrize(
    ("order", "orientation", "expected"),
    [
        ((0, 1, 2), RADIOLOGICAL, EdgeLetters("R", "L", "A", "P")),
        ((0, 1, 2), NEUROLOGICAL, EdgeLetters("L", "R", "A", "P")),
        ((1, 0, 2), RADIOLOGICAL, EdgeLetters("R", "L", "S", "I")),
        ((2, 0, 1), RADIOLOGICAL, EdgeLetters("A", "P", "S", "I")),
        ((2, 0, 1), NEUROLOGICAL, EdgeLetters("P", "A", "S", "I")),
        ((0, 2, 1), ("away", "down", "right"), EdgeLetters("P", "A", "L", "R")),
    ],
)
def test_letters(order: tuple[int, ...], orientation: tuple[str, ...], expected: EdgeLetters) -> None:
    assert edge_letters(order, orientation) == expected


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_opposite_edges_are_opposite_sides(order: tuple[int, ...]) -> None:
    letters = edge_letters(order, RADIOLOGICAL)
    assert {letters.left, letters.right} in ({"R", "L"}, {"A", "P"}, {"S", "I"})
    assert {letters.top, letters.bottom} in ({"R", "L"}, {"A", "P"}, {"S", "I"})
    assert letters.left not in {letters.top, letters.bottom}


def test_planes_and_nonsense() -> None:
    assert [plane_name(order) for order in ((0, 1, 2), (1, 0, 2), (2, 0, 1))] == [
        "axial",
        "coronal",
        "sagittal",
    ]
    with pytest.raises(ValueError, match="permutation"):
        edge_letters((0, 1, 1), RADIOLOGICAL)
