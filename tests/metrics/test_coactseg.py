"""CoactSeg's scorer against values of its public code, against a dense count by its rules, and where it stops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import label

from segexplorer import metrics

NAMES = ("dice", "jaccard", "hd95", "asd", "precision", "sensitivity", "specificity", "f1")


def scored(prediction: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    (score,) = metrics.score_case(
        prediction.astype(np.uint8),
        truth.astype(np.uint8),
        ("lesion",),
        (0.5, 0.75, 0.9),
        metrics=["coactseg"],
    )
    return {name: score.metrics[f"coactseg_{name}"] for name in NAMES}


def blobs(seed: int, share: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a prediction and a truth of many lesions, some of them found in part."""
    rng = np.random.default_rng(seed)
    truth, other = (gaussian_filter(rng.standard_normal((28, 30, 26)), 1.3) for _ in range(2))
    found = truth + noise * other
    return found > np.quantile(found, share), truth > np.quantile(truth, share)


@pytest.mark.parametrize(
    ("made", "published"),
    [
        (
            (1, 0.95, 0.5),
            (
                0.6291208791208791,
                0.4589178356713427,
                2.8284271247461903,
                0.6743146534236046,
                0.6291208791208791,
                0.6291208791208791,
                0.9804800462695199,
                0.7302904564315353,
            ),
        ),
        (
            (2, 0.97, 0.8),
            (
                0.4954268292682927,
                0.3292806484295846,
                5.0990195135927845,
                1.403484626831358,
                0.4954268292682927,
                0.4954268292682927,
                0.984375,
                0.5701357466063348,
            ),
        ),
        (
            (3, 0.93, 1.2),
            (
                0.3996075866579464,
                0.2496935022476502,
                4.358898943540674,
                1.1592342779957565,
                0.3996075866579464,
                0.3996075866579464,
                0.9548028162079661,
                0.4833836858006042,
            ),
        ),
    ],
)
def test_values_of_the_public_code(made: tuple[int, float, float], published: tuple[float, ...]) -> None:
    """Computed by `calculate_metric_percase` of the code of Wu et al. 2023, with medpy 0.5.2."""
    assert list(scored(*blobs(*made)).values()) == pytest.approx(published, rel=1e-9)


def dense_f1(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Lesions of 11 voxels and more, in a full table of overlaps whose first row and column are the background."""
    numbered = []
    for mask in (truth, prediction):
        regions = label(mask)
        large = [i for i in range(1, regions.max() + 1) if (regions == i).sum() >= 11]
        numbered.append(
            sum((k * (regions == i) for k, i in enumerate(large, start=1)), np.zeros(mask.shape, int))
        )
    n, m = (int(r.max()) + 1 for r in numbered)
    table = np.array([[np.sum((numbered[0] == i) & (numbered[1] == j)) for j in range(m)] for i in range(n)])

    def share_accepted(t: np.ndarray) -> float:
        accepted = 0
        for row in t[1:]:
            inside = row[1:].sum()
            if inside / row.sum() <= 0.1:
                continue
            reached = 0.0
            for j in np.argsort(-row[1:], kind="stable") + 1:
                if t[0, j] / t[:, j].sum() > 0.7:
                    break
                reached += row[j] / inside
                if reached >= 0.65:
                    accepted += 1
                    break
        return accepted / (len(t) - 1)

    sensitivity, ppv = share_accepted(table), share_accepted(table.T)
    return 2 * sensitivity * ppv / (sensitivity + ppv) if sensitivity and ppv else 0.0


@pytest.mark.parametrize("seed", range(4, 9))
def test_the_rule_of_lesions_from_a_full_table(seed: int) -> None:
    found, truth = blobs(seed, 0.96, 0.9)
    assert scored(found, truth)["f1"] == pytest.approx(dense_f1(found, truth))


def test_an_empty_prediction_scores_zero_even_in_distances() -> None:
    found, truth = np.zeros((2, 12, 12, 12), bool)
    truth[2:6, 2:6, 2:6] = True
    assert scored(found, truth) == dict.fromkeys(NAMES, 0.0)
    assert scored(found, found) == dict.fromkeys(NAMES, 0.0)
    assert all(math.isnan(value) for value in scored(truth, found).values())


def test_small_lesions_are_dropped_and_small_overlaps_do_not_count() -> None:
    found, truth = np.zeros((2, 40, 12, 12), bool)
    truth[2:6, 2:6, 2:6] = found[2:6, 2:6, 2:6] = True
    truth[20, 2:7, 2:4] = True  # 10 voxels: no lesion, though it was missed
    assert scored(found, truth)["f1"] == 1
    truth[20, 2, 4] = True  # 11 voxels
    assert scored(found, truth)["f1"] == pytest.approx(2 / 3)
    found[20:32, 2:4, 2:4] = True  # finds 4 of its 11 voxels, but 44 of its own 48 are outside
    assert scored(found, truth)["f1"] == pytest.approx(0.5)
    small = np.zeros_like(truth)
    small[20, 2:7, 2:4] = True
    assert math.isnan(scored(small, truth)["f1"])  # that code divides by a count of zero here
