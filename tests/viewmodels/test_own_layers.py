"""A prediction in layers: what is taken for probabilities and labels, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data.volume import Volume
from segexplorer.viewmodels.own_layers import results_of_layers

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
TRUTH = np.zeros((6, 5, 4), np.uint8)
TRUTH[1:4, 1:4, 1:3] = 1
TRUTH[4, 4, 3] = 255


def volume(array: np.ndarray, affine: np.ndarray = AFFINE) -> Volume:
    return Volume.from_array(array, affine=affine)


def foreground(high: float = 0.9) -> np.ndarray:
    """The structure shifted by a voxel."""
    return np.where(np.roll(TRUTH == 1, 1, axis=0), high, 1 - high).astype(np.float32)


def test_one_volume_is_that_of_a_single_class() -> None:
    image = volume(np.ones(TRUTH.shape, np.float32))
    found = results_of_layers("mine", volume(TRUTH), [volume(foreground())], image, {1: "tumour"})
    assert found.class_names == ("tumour",) and found.cases == ("mine",)
    shown = found.load("mine")
    assert (shown.prediction == np.roll(TRUTH == 1, 1, axis=0)).all() and (shown.truth == TRUTH).all()
    ref = found.find("mine")
    assert ref is not None and ref.open().images[0].array is not None
    explained = found.explain("mine")
    # the cross entropy pulls by truth less probability
    values = explained.asked(1, "cross_entropy").values
    wrong = (TRUTH == 1) & ~np.roll(TRUTH == 1, 1, axis=0)
    right = (TRUTH == 1) & np.roll(TRUTH == 1, 1, axis=0)
    assert np.allclose(values[wrong].mean() / values[right].mean(), 0.9 / 0.1, rtol=1e-3)
    assert not values[TRUTH == 255].any()


def test_whole_numbers_up_to_255_and_classes_with_other_values() -> None:
    truth = np.where(TRUTH == 1, 7, 0).astype(np.int16)
    truth[0, 0, 0] = 9
    background = np.full(TRUTH.shape, 200, np.uint8)
    first, second = np.zeros_like(background), np.zeros_like(background)
    first[truth == 7], background[truth == 7] = 255, 0
    given = [volume(v) for v in (background, first, second)]
    found = results_of_layers("mine", volume(truth), given)
    assert found.class_names == ("class 7", "class 9")
    shown = found.load("mine")
    assert set(np.unique(shown.truth)) == {0, 1, 2} and (shown.prediction == (truth == 7)).all()
    assert found.explain("mine").approximate, "8 bits are marked"


@pytest.mark.parametrize(
    ("label", "given", "words"),
    [
        (TRUTH, [], "no probabilities"),
        (TRUTH, [foreground() * 3], "from 0.3 to 2.7, so they are no probabilities"),
        (TRUTH, [foreground() - 1], "no probabilities"),
        (np.where(TRUTH == 1, 7, 0) + 2 * (TRUTH == 0), [foreground()], "values 2, 7"),
        (TRUTH, [foreground()[:-1]], "not on one grid"),
    ],
    ids=["none", "above 1", "negative", "other classes", "other grid"],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    label: np.ndarray, given: list[np.ndarray], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        results_of_layers("mine", volume(label.astype(np.uint8)), [volume(g) for g in given])
