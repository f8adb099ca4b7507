"""Surfaces: where the anatomy is, of its volume and size, closed, within a budget, and only what is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from segexplorer.core import colours
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels import watched_case
from segexplorer.viewmodels.surfaces import light, mesh, surfaces_of
from segexplorer.viewmodels.watched_case import Wanted

SPACING = (3.0, 1.5, 1.5)


def ball(radius: float = 20.0) -> NDArray[np.uint8]:
    z, y, x = np.mgrid[:20, :36, :36]
    inside = ((z - 10) * 3.0) ** 2 + ((y - 18) * 1.5) ** 2 + ((x - 18) * 1.5) ** 2 < radius**2
    return np.asarray(inside, np.uint8)


def volume(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> float:
    """Signed by the sense of the triangles (divergence theorem)."""
    a, b, c = np.moveaxis(vertices[faces].astype(float), 1, 0)
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("most", [60_000, 2_000, 500])
def test_a_ball_stays_a_ball_of_its_volume_within_the_budget(most: int) -> None:
    label = ball()
    ((vertices, faces),) = mesh(label, SPACING, [1], most=most).values()
    assert len(faces) <= max(1.3 * most, 500)
    distance = np.linalg.norm(vertices - np.array([30, 27, 27]), axis=1)
    assert distance.mean() == pytest.approx(20, abs=0.5) and distance.std() < 0.5, "smooth, where it is"
    assert abs(volume(vertices, faces)) == pytest.approx(label.sum() * 6.75, rel=0.05)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all(), "closed"


def test_structures_at_the_edge_of_the_volume_are_closed_and_small_ones_stay() -> None:
    label = np.zeros((12, 12, 40), np.uint8)
    label[:6, :6, :] = 1
    label[9:11, 9:11, 3:5] = 3
    found = mesh(label, (1.0, 1.0, 1.0), [1, 2, 3], most=300)
    assert found.keys() == {1, 3}
    assert abs(volume(*found[3])) == pytest.approx(8, rel=0.6)
    assert found[1][0].min() < 0.5, "up to the first voxel's face"


def snapshot() -> WatchedSnapshot:
    truth = np.zeros((30, 30, 20), np.uint8)
    truth[5:15, 5:15, 5:15] = 1
    truth[20:26, 20:26, 5:15] = 2
    prediction = truth.copy()
    prediction[15:22, 5:15, 5:15] = 1  # much too far
    prediction[2, 2, 2] = 2  # next to nothing
    affine = np.array([[-1.0, 0, 0, 100], [0, -1, 0, 50], [0, 0, 2, -10], [0, 0, 0, 1]])
    return WatchedSnapshot("c", "validation", 7, 0, ("liver", "spleen"), affine, prediction, truth)


def test_errors_and_classes_have_their_colours_and_lie_where_the_scanner_put_them() -> None:
    shown = snapshot()
    found = surfaces_of(shown, None, ("errors", "truth", "prediction"), "c, step 7")
    extra = found["errors"]
    ink = np.array(colours.rgba(colours.FALSE_POSITIVE))
    share = extra.colours[:, :1] / ink[0]
    assert extra.colours[:, :3] == pytest.approx(share * ink[:3], abs=0.01), "small errors are left out"
    assert share.max() > 0.9 and share.min() > 0.3, "lit, and never black"
    corner, opposite = (shown.affine @ [*v, 1] for v in ((15, 5, 5), (21, 14, 14)))
    middle = ((corner + opposite) / 2)[:3][::-1]
    assert (extra.vertices.min(0) + extra.vertices.max(0)) / 2 == pytest.approx(middle, abs=0.6)
    hues = {tuple(np.round(c / c.max(), 2)) for c in found["prediction"].colours[:, :3].astype(float)}
    inks = (np.array(colours.rgba(colours.CLASSES[i])[:3]) for i in (0, 1))
    assert hues == {tuple(np.round(ink / ink.max(), 2)) for ink in inks}
    assert "step 7" in found["truth"].name
    assert "errors" not in surfaces_of(shown, 2, ("errors",), "")


def test_only_what_is_asked_for_is_made_and_nothing_twice() -> None:
    shown = snapshot()
    flat = watched_case.see(shown, None, Wanted(frozenset({"errors"})))
    assert not flat.surfaces
    solid = watched_case.see(shown, None, Wanted(frozenset({"errors"}), solid=True), known=flat)
    assert set(solid.surfaces) == {"errors", "truth"}
    both = watched_case.see(shown, None, Wanted(frozenset({"errors", "prediction"}), solid=True), known=solid)
    assert both.surfaces["errors"] is solid.surfaces["errors"] and "prediction" in both.surfaces
    other = watched_case.see(shown, None, Wanted(frozenset({"errors"}), 1, solid=True), known=both)
    assert other.surfaces["errors"] is not both.surfaces["errors"]


def test_what_faces_a_light_is_brighter() -> None:
    ((vertices, faces),) = mesh(ball(), SPACING, [1]).values()
    for turned in (faces, faces[:, ::-1]):
        bright = light(vertices, turned)
        front, below = vertices[:, 1] > 44, vertices[:, 0] < 13
        assert bright[front].mean() > bright[below].mean() + 0.1
        assert bright.min() > 0.4 and bright.max() <= 1
