"""The geometry verdict: angles, handedness, what was assumed, and how far a label lies from its image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segexplorer.data.geometry import Grid
from segexplorer.data.grid import compare_grids, describe, overlap_fraction
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Volume

SHAPE = (10, 12, 14)


def turned(degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def volume(affine: NDArray[np.float64]) -> Volume:
    return Volume.from_array(np.zeros(SHAPE, np.uint8), affine=affine)


def test_a_plain_volume() -> None:
    verdict = describe(volume(np.diag([2.0, 2.0, 3.0, 1.0])))
    assert verdict.text == "RAS, 2 × 2 × 3 mm" and verdict.assumed == ()
    assert not verdict.sheared and not verdict.left_handed and verdict.oblique_degrees == 0
    assert verdict.extent_mm == (20, 24, 42) and verdict.centre == (9, 11, 19.5)
    assert verdict.facts()["Tilt"] == "along the axes of the patient"


def test_oblique_sheared_left_handed_and_implausible() -> None:
    verdict = describe(volume(turned(19) @ np.diag([-1.0, 1, 1, 1])))
    assert verdict.left_handed and verdict.oblique_degrees == pytest.approx(19)
    assert "oblique by 19 degrees" in verdict.text and "left-handed" in verdict.facts()["Orientation"]
    leaning = np.eye(4)
    leaning[1, 2] = np.tan(np.radians(18.5))
    verdict = describe(volume(leaning))
    assert verdict.sheared and "sheared by 18.5 degrees" in verdict.text
    assert "positions exact" in verdict.facts()["Tilt"] and verdict.assumed == ()
    assert "implausible" in describe(volume(np.diag([1000.0, 1000, 1000, 1]))).assumed[0]


@pytest.mark.parametrize(
    ("name", "said", "text"),
    [
        ("headers_derived/10_sform2_qform1_disagree.nii.gz", "sform and qform disagree", "mm"),
        ("headers_derived/12_no_forms.nii.gz", "does not say where it is in space", "LAS"),
        ("headers_derived/19_sheared_sform.nii.gz", "", "sheared"),
        ("headers_derived/20_units_micron.nii.gz", "micrometres", "3 × 3 × 3"),
        ("mr_flair_scribbles_niivue/FLAIR.nrrd", "", "oblique by 19 degrees (shown along"),
    ],
)
def test_real_files_say_what_was_assumed(shared_data: Path, name: str, said: str, text: str) -> None:
    opened = open_volume(shared_data / name)
    verdict = describe(opened)
    assert any(said in note for note in verdict.assumed) or not said
    assert text in verdict.text
    told_again = ("right angles", "oblique", "sheared")  # a tilt is told once, by the verdict itself
    assert not any(word in note for note in verdict.assumed for word in told_again)
    assert len(set(verdict.assumed)) == len(verdict.assumed)
    assert not opened.loaded


def test_a_label_beside_its_image() -> None:
    image = Grid(SHAPE, np.eye(4))
    assert compare_grids(image, Grid(SHAPE, np.eye(4)))[1] == ""
    half = np.eye(4)
    half[0, 3] = 5.5
    verdict, remedy = compare_grids(image, Grid(SHAPE, half))
    assert verdict.distance_mm == 5.5 and "covers 50 % of the image" in remedy and "nearest" in remedy
    far = np.eye(4)
    far[2, 3] = 1000
    assert "do not touch" in compare_grids(image, Grid(SHAPE, far))[1]


def test_resampling_brings_a_label_to_the_same_places() -> None:
    marks = np.zeros((20, 24, 28), np.uint8)
    marks[4:12, 6:18, 8:20] = 3
    fine = np.diag([0.5, 0.5, 0.5, 1.0])
    fine[:3, 3] = -0.25
    label = Volume.from_array(marks, affine=fine)
    image = volume(np.eye(4))
    assert not compare_grids(image, label)[0].same and overlap_fraction(image, label) == 1
    moved = label.resampled(image, order=0)
    assert compare_grids(image, moved)[0].same
    assert moved.array[2:6, 3:9, 4:10].all() and moved.array.sum() == 3 * 4 * 6 * 6
