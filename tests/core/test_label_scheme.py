"""What label indices mean: combinations of classes, probabilities, decisions, errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from segexplorer.core.label_scheme import EXCLUSIVE, IGNORED, LabelScheme

NESTED = LabelScheme.of(3, [(1,), (1, 2), (1, 2, 3)])
CROSSED = LabelScheme.of(2, [(1,), (2,), (1, 2)])


def test_masks_are_the_unions_of_the_combinations() -> None:
    labels = np.array([0, 1, 2, 3, IGNORED], np.uint8)
    assert NESTED.mask(labels, 1).tolist() == [False, True, True, True, False]
    assert NESTED.mask(labels, 3).tolist() == [False, False, False, True, False]
    assert NESTED.mask(labels, 0).tolist() == [True, False, False, False, False]
    assert NESTED.alone(labels, 2).tolist() == [0, 0, 1, 1, IGNORED]
    assert NESTED.topmost(labels).tolist() == [0, 1, 2, 3, IGNORED]
    assert CROSSED.topmost(labels[:4]).tolist() == [0, 1, 2, 2]
    assert EXCLUSIVE.mask(labels, 2).tolist() == [False, False, True, False, False]
    assert NESTED.name(2, ("whole", "core", "enhancing")) == "whole + core"


def test_counts_of_classes_count_a_voxel_in_each_of_its_classes() -> None:
    counts = np.zeros(256, np.int64)
    counts[:4] = [50, 10, 5, 2]
    assert NESTED.class_counts(counts, 3).tolist() == [50, 17, 7, 2]
    assert EXCLUSIVE.class_counts(counts, 3).tolist() == [50, 10, 5, 2]


def test_each_combination_that_exists_is_decided_as_it_is() -> None:
    for scheme in (NESTED, CROSSED):
        for index, own in enumerate(scheme.members, start=1):
            probabilities = np.full((scheme.classes + 1, 1), 0.2, np.float32)
            probabilities[list(own)] = 0.9
            assert scheme.decide(probabilities).tolist() == [index]


def test_where_no_label_fits_the_last_region_decides_as_in_nnunet() -> None:
    """nnU-Net writes region after region: segmentation[p[i] > .5] = regions_class_order[i]."""
    order = {1: 1, 2: 2, 3: 3}  # labels that only whole, core and enhancing tumour hold
    for there in itertools.product((False, True), repeat=3):
        expected = 0
        for region, present in enumerate(there, start=1):
            if present:
                expected = order[region]
        probabilities = np.array([[0.0], *([0.8 if p else 0.3] for p in there)], np.float32)
        assert NESTED.decide(probabilities).tolist() == [expected]


def test_probabilities_are_sigmoids_and_torch_agrees_with_numpy() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (4, 5, 6, 7)).astype(np.float32)
    logits[0] = 0
    found = NESTED.probabilities(logits)
    np.testing.assert_allclose(found[1:], 1 / (1 + np.exp(-logits[1:].astype(float))), rtol=1e-5)
    np.testing.assert_allclose(found[0], 1 - found[1:].max(0), rtol=1e-5)
    np.testing.assert_allclose(NESTED.probabilities(torch.from_numpy(logits)).numpy(), found, atol=1e-6)
    np.testing.assert_array_equal(NESTED.decide(found), NESTED.decide_logits(logits))
    clipped = np.clip(found, 1e-4, 1 - 1e-4)
    again = NESTED.probabilities(NESTED.logits(clipped))
    np.testing.assert_allclose(again[1:], clipped[1:], atol=1e-5)
    softmax = EXCLUSIVE.probabilities(logits)
    np.testing.assert_allclose(softmax, torch.from_numpy(logits).softmax(0).numpy(), atol=1e-6)
    assert np.isfinite(NESTED.probabilities(np.float32([[0, 0], [-200, 200], [0, 0], [0, 0]]))).all()


def test_errors_of_all_classes_are_what_is_extra_and_missed() -> None:
    extra, missed, both = NESTED.comparison()
    # truth whole + core, prediction whole: core is missed; the other way round it is extra
    assert missed[2, 1] and not extra[2, 1] and both[2, 1]
    assert extra[1, 2] and not missed[1, 2]
    crossed_extra, crossed_missed, _ = CROSSED.comparison()
    assert crossed_extra[1, 2] and crossed_missed[1, 2]  # one class instead of another
    assert not any(table[IGNORED, 0] for table in NESTED.comparison())
    of_core = NESTED.comparison(2)
    assert of_core[0][1, 3] and of_core[1][3, 1] and of_core[2][2, 3] and not of_core[2][1, 1]


def test_exclusive_comparison_is_that_of_equal_values() -> None:
    extra, missed, both = EXCLUSIVE.comparison()
    assert extra[0, 3] and missed[3, 0] and both[4, 4]
    assert extra[3, 4] and missed[3, 4] and not both[3, 4] and not both[0, 0]


def test_most_wrong_counts_missed_and_extra_voxels() -> None:
    truth = np.array([0, 1, 1, 2, 3, IGNORED], np.uint8)
    prediction = np.array([0, 2, 2, 2, 3, 3], np.uint8)
    assert NESTED.most_wrong(prediction, truth, 3) == 2
    assert EXCLUSIVE.most_wrong(prediction, truth, 3) == 1


@pytest.mark.parametrize(
    ("classes", "members"),
    [(2, [(1,), (1,)]), (2, [(3,)]), (2, [()]), (0, [(1,)]), (17, [(1,)]), (2, [(0, 1)])],
)
def test_damaged_schemes_are_refused(classes: int, members: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="stand"):
        LabelScheme.of(classes, members)
