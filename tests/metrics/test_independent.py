"""Every metric against MONAI, SimpleITK, scipy and sets of voxels: anisotropic, in volumes and in slices."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from segexplorer import metrics
from segexplorer.core.events import CaseScore

ANISOTROPIC = (2.5, 1.0, 0.7)


def ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    return sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radii, strict=True)) <= 1


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (prediction, truth) masks: alike, apart, inside one another, noise, with a hole, at the border."""
    rng = np.random.default_rng(4)
    shape = (20, 36, 34)
    organ = ellipsoid(shape, (9, 17, 16), (6, 12, 10))
    hollow = organ & ~ellipsoid(shape, (9, 17, 16), (3, 6, 5))
    return {
        "alike": (ellipsoid(shape, (10, 19, 15), (7, 11, 11)), organ),
        "apart": (ellipsoid(shape, (4, 6, 6), (3, 4, 4)), ellipsoid(shape, (15, 28, 27), (4, 5, 6))),
        "inside": (ellipsoid(shape, (9, 17, 16), (2, 4, 3)), organ),
        "noise": (rng.random((9, 8, 10)) > 0.7, rng.random((9, 8, 10)) > 0.6),
        "hollow": (hollow, organ),
        "at the border": (np.roll(organ, 11, axis=1), organ),
        "one voxel": (ellipsoid(shape, (3, 3, 3), (0.5, 0.5, 0.5)), organ),
    }


def scored(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...] = ANISOTROPIC) -> CaseScore:
    (score,) = metrics.score_case(
        prediction.astype(np.uint8), truth.astype(np.uint8), ("x",), spacing, surfaces=True
    )
    return score


def one_hot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI warns of itself
@pytest.mark.parametrize("name", pairs())
@pytest.mark.parametrize("rank", [2, 3])
def test_monai(name: str, rank: int) -> None:
    from monai.metrics import DiceMetric, HausdorffDistanceMetric, MeanIoU, SurfaceDistanceMetric

    masks, spacing = pairs()[name], ANISOTROPIC
    if rank == 2:
        middle = [int(np.flatnonzero(mask.any(axis=(1, 2)))[0]) for mask in masks]
        masks, spacing = tuple(m[i] for m, i in zip(masks, middle, strict=True)), ANISOTROPIC[1:]
    score = scored(*masks, spacing)
    tensors = [one_hot(mask) for mask in masks]
    theirs = {
        "dice": DiceMetric(include_background=False),
        "jaccard": MeanIoU(include_background=False),
        "hd": HausdorffDistanceMetric(),
        "hd95": HausdorffDistanceMetric(percentile=95),
        "asd": SurfaceDistanceMetric(),
        "assd": SurfaceDistanceMetric(symmetric=True),
    }
    for metric, function in theirs.items():
        options = {} if metrics.spec(metric).unit == "" else {"spacing": list(spacing)}
        function(*tensors, **options)
        expected = float(function.aggregate())
        assert score.metrics[metric] == pytest.approx(expected, rel=1e-5, abs=1e-6), metric
        if metric + "_penalised" in score.metrics:
            assert score.metrics[metric + "_penalised"] == score.metrics[metric]


@pytest.mark.parametrize("name", pairs())
def test_simpleitk(name: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    prediction, truth = pairs()[name]
    score = scored(prediction, truth).metrics
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (prediction, truth)]
    for image in images:
        image.SetSpacing(ANISOTROPIC[::-1])
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    assert score["dice"] == pytest.approx(overlap.GetDiceCoefficient(1))
    assert score["jaccard"] == pytest.approx(overlap.GetJaccardCoefficient(1))
    assert 1 - score["sensitivity"] == pytest.approx(overlap.GetFalseNegativeError(1))
    assert 1 - score["specificity"] == pytest.approx(overlap.GetFalsePositiveError(1))
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*images)
    found = hausdorff.GetHausdorffDistance()
    if name == "hollow":  # it measures from mask to mask: the wall of a hole lies inside the other, at 0 mm
        assert found < score["hd"]
    else:
        assert found == pytest.approx(score["hd"], rel=1e-6)


@pytest.mark.parametrize("name", pairs())
def test_ratios_from_sets_of_voxels(name: str) -> None:
    """As the papers write them: |P and G| / |G| (004, eq. 10), F-beta as van Rijsbergen's harmonic mean."""
    prediction, truth = ({tuple(v) for v in np.argwhere(mask)} for mask in pairs()[name])
    everything = pairs()[name][0].size
    both = Fraction(len(prediction & truth))
    recall, precision = both / len(truth), both / len(prediction)
    outside = everything - len(prediction | truth)

    def f_beta(beta: int) -> Fraction:
        if not both:
            return Fraction(0)
        return (1 + beta**2) / (1 / precision + beta**2 / recall)

    expected = {
        "dice": 2 * both / (len(prediction) + len(truth)),
        "f1": f_beta(1),
        "f2": f_beta(2),
        "sensitivity": recall,
        "specificity": Fraction(outside, everything - len(truth)),
        "precision": precision,
        "jaccard": both / len(prediction | truth),
        "accuracy": Fraction(everything - len(prediction ^ truth), everything),
    }
    assert set(expected) == {*metrics.default_names()} - set(metrics.SURFACE_METRICS)
    score = scored(*pairs()[name]).metrics
    for metric, value in expected.items():
        assert score[metric] == pytest.approx(float(value), rel=1e-12), metric


@pytest.mark.parametrize("name", pairs())
def test_every_distance_from_scipys_transform(name: str) -> None:
    """The definitions in full, by a transform of the whole image instead of a tree of the borders' points."""
    from scipy.ndimage import distance_transform_edt, generate_binary_structure, minimum_filter

    prediction, truth = pairs()[name]
    cross = generate_binary_structure(3, 1)
    edges = [m & ~minimum_filter(m, footprint=cross, mode="constant", cval=0) for m in (prediction, truth)]
    there, back = (
        distance_transform_edt(~other, sampling=ANISOTROPIC)[own] for own, other in (edges, edges[::-1])
    )
    both = np.concatenate([there, back])
    p95 = {key: float(np.percentile(d, 95)) for key, d in (("there", there), ("back", back), ("both", both))}
    expected = {
        "hd": both.max(),
        "hd95": max(p95["there"], p95["back"]),
        "hd95_penalised": max(p95["there"], p95["back"]),
        "hd95_pooled": p95["both"],
        "hd95_mean": (p95["there"] + p95["back"]) / 2,
        "asd": there.mean(),
        "assd": both.mean(),
        "assd_penalised": both.mean(),
        "assd_mean": (there.mean() + back.mean()) / 2,
    }
    assert set(expected) == set(metrics.SURFACE_METRICS)
    score = scored(prediction, truth).metrics
    for metric, value in expected.items():
        assert score[metric] == pytest.approx(float(value), rel=1e-9, abs=1e-9), metric


def test_hausdorff_distance_from_scipys_early_breaking_search() -> None:
    from scipy.spatial.distance import directed_hausdorff

    prediction, truth = pairs()["alike"]
    points = [np.argwhere(mask) * ANISOTROPIC for mask in (prediction, truth)]
    expected = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
    assert scored(prediction, truth).metrics["hd"] == pytest.approx(expected)


def test_chen_2023s_forms_by_hand() -> None:
    """Equations 12 and 13 on plates of 1 x 4 and 1 x 2 voxels: d(P, T) = 0, 0, 3, 6 mm; d(T, P) = 0, 0."""
    prediction, truth = np.zeros((2, 3, 6, 3), bool)
    prediction[1, 1:5, 1] = truth[1, 1:3, 1] = True
    score = scored(prediction, truth, (1.0, 3.0, 1.0)).metrics
    p95 = 3 + 0.85 * 3  # numpy's linear interpolation at 0.95 * 3 = 2.85
    assert score["assd_mean"] == pytest.approx((9 / 4 + 0) / 2)
    assert score["assd"] == pytest.approx(9 / 6)
    assert score["asd"] == pytest.approx(9 / 4)
    assert score["hd95_mean"] == pytest.approx((p95 + 0) / 2)
    assert score["hd95"] == pytest.approx(p95)
    assert score["hd95_pooled"] == pytest.approx(3 + 0.75 * 3)  # at 0.95 * 5 = 4.75
    assert score["hd"] == 6


def test_one_voxel_against_itself_and_against_nothing() -> None:
    voxel = np.zeros((3, 4, 5), bool)
    voxel[1, 1, 1] = True
    assert all(scored(voxel, voxel).metrics[name] == 0 for name in metrics.SURFACE_METRICS)
    missed = scored(np.zeros_like(voxel), voxel).metrics
    diagonal = math.sqrt((3 * 2.5) ** 2 + 4**2 + (5 * 0.7) ** 2)
    assert missed["hd95_penalised"] == missed["assd_penalised"] == pytest.approx(diagonal)
    assert all(math.isnan(missed[n]) for n, m in metrics.SURFACE_METRICS.items() if not m.penalised)
