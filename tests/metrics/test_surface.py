"""Surface distances against a table of other packages' numbers, brute force, MONAI, and hand-made cases."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from segexplorer import metrics
from segexplorer.metrics import overlap, surface
from segexplorer.metrics.surface import border

SPACING = (2.0, 1.0, 0.5)
masks = npst.arrays(np.bool_, (5, 6, 4))


def ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    return sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radii, strict=True)) <= 1


def brute_force(one: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Distances from the border voxels of one mask to those of the other, by all pairs and six neighbours."""

    def edge(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        inside = np.ones_like(mask)
        for axis in range(mask.ndim):
            for shift in (-1, 1):
                inside &= np.roll(padded, shift, axis)[tuple([slice(1, -1)] * mask.ndim)]
        return np.argwhere(mask & ~inside) * spacing

    a, b = edge(one), edge(other)
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).min(1)


@settings(max_examples=25, deadline=None)
@given(masks, masks)
def test_distances_agree_with_brute_force(one: np.ndarray, other: np.ndarray) -> None:
    one[0, 0, 0] = other[-1, -1, -1] = True
    found = metrics.surface_distances(one, other, SPACING)
    assert np.sort(found.to_truth) == pytest.approx(np.sort(brute_force(one, other, SPACING)))
    assert np.sort(found.to_prediction) == pytest.approx(np.sort(brute_force(other, one, SPACING)))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI warns of itself
@settings(max_examples=10, deadline=None)
@given(npst.arrays(np.uint8, (6, 7, 5), elements=st.integers(0, 2)), st.integers(0, 2**16))
def test_metrics_agree_with_monai(truth: np.ndarray, seed: int) -> None:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    truth[0, 0, 0], truth[-1, -1, -1] = 1, 2
    found = np.random.default_rng(seed).permutation(truth.ravel()).reshape(truth.shape)
    pair = [
        torch.nn.functional.one_hot(torch.from_numpy(v.astype(np.int64)), 3).movedim(-1, 0)[None]
        for v in (found, truth)
    ]
    theirs = {
        "hd": compute_hausdorff_distance(*pair, spacing=SPACING),
        "hd95": compute_hausdorff_distance(*pair, spacing=SPACING, percentile=95),
        "assd": compute_average_surface_distance(*pair, spacing=SPACING, symmetric=True),
        "asd": compute_average_surface_distance(*pair, spacing=SPACING),
    }
    for index, score in enumerate(metrics.score_case(found, truth, ("a", "b"), SPACING, surfaces=True)):
        for name, values in theirs.items():
            expected = float(values[0, index])  # in float32
            assert score.metrics[name] == pytest.approx(expected, rel=1e-5, abs=1e-4), name


def test_an_ellipsoid_pair_gives_the_definitions_numbers() -> None:
    """Definitions differ: here against statistics of one dense distance transform per surface."""
    from scipy.ndimage import distance_transform_edt

    spacing = (2.0, 1.0, 1.0)
    truth = ellipsoid((48, 96, 96), (24, 48, 48), (12, 30, 24))
    found = ellipsoid((48, 96, 96), (25, 50, 46), (13, 29, 25))
    found[24, 80:90, 48] = True  # one outlier bump
    there, back = (
        distance_transform_edt(~border(b), sampling=spacing)[border(a)]
        for a, b in ((found, truth), (truth, found))
    )
    both = np.concatenate([there, back])
    expected = {
        "hd": both.max(),
        "hd95": max(np.percentile(there, 95), np.percentile(back, 95)),
        "hd95_pooled": np.percentile(both, 95),
        "hd95_mean": (np.percentile(there, 95) + np.percentile(back, 95)) / 2,
        "assd": both.mean(),
        "asd": there.mean(),
        "assd_mean": (there.mean() + back.mean()) / 2,
    }
    (score,) = metrics.score_case(
        found.astype(np.uint8), truth.astype(np.uint8), ("organ",), spacing, surfaces=True
    )
    for name, value in expected.items():
        assert score.metrics[name] == pytest.approx(value, rel=1e-9), name
    assert len({round(score.metrics[n], 6) for n in ("hd95", "hd95_pooled", "hd95_mean")}) == 3
    assert score.metrics["hd95_penalised"] == score.metrics["hd95"]


@pytest.mark.parametrize("slab", [1, 60, 2**20])
def test_borders_of_all_classes_are_those_of_each_mask_in_any_memory_order(
    slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scipy.ndimage import binary_erosion

    monkeypatch.setattr(surface, "SLAB", slab)
    rng = np.random.default_rng(slab)
    for shape in ((9, 7, 8), (1, 6, 5), (12, 11), (30,)):
        labels = rng.integers(0, 4, shape).astype(np.uint8)
        labels[tuple(slice(size // 3, None) for size in shape)] = 2
        labels[rng.random(shape) < 0.02] = 255
        wide = np.zeros(tuple(2 * size for size in shape), np.uint8)
        spread = wide[tuple(slice(None, None, 2) for _ in shape)]
        spread[...] = labels
        for volume in (labels, np.asfortranarray(labels), spread, labels.astype(np.int32)):
            found = surface.class_borders(volume, 3)
            for index, places in enumerate(found, start=1):
                mask = labels == index
                assert places.tolist() == np.flatnonzero(mask & ~binary_erosion(mask)).tolist()


def test_scores_are_the_same_to_the_last_bit_in_any_memory_order() -> None:
    rng = np.random.default_rng(3)
    truth = np.zeros((20, 30, 24), np.uint8)
    truth[ellipsoid(truth.shape, (9, 14, 12), (6, 9, 8))] = 1
    truth[ellipsoid(truth.shape, (12, 22, 6), (4, 5, 4))] = 2
    found = np.roll(truth, (1, 2, 0), (0, 1, 2))
    found[rng.random(truth.shape) < 0.001] = 1
    expected = metrics.score_case(found, truth, ("a", "b"), SPACING, surfaces=True)
    for one, other in ((np.asfortranarray, np.asfortranarray), (np.asarray, np.asfortranarray)):
        scores = metrics.score_case(one(found), other(truth), ("a", "b"), SPACING, surfaces=True)
        assert [s.metrics for s in scores] == [s.metrics for s in expected]


def test_a_noisy_prediction_takes_the_other_way_to_the_same_numbers() -> None:
    rng = np.random.default_rng(0)
    noise = rng.random((40, 40, 40)) < 0.5  # so many border voxels that the transform is taken
    ball = ellipsoid((40, 40, 40), (20, 20, 20), (9, 8, 7))
    found = metrics.surface_distances(noise, ball, SPACING)
    assert found.to_truth.size == border(noise).sum() > noise.size / 8
    nearest = brute_force(ball, noise, SPACING)
    assert np.sort(found.to_prediction) == pytest.approx(np.sort(nearest))


@settings(max_examples=60, deadline=None)
@given(
    npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9),
    st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    st.sampled_from([0.02, 0.3, 1.0]),
    st.lists(st.sampled_from([0.3, 1.0, 1.7, 50.0]), min_size=3, max_size=3),
    st.integers(0, 2**16),
)
def test_distances_plane_by_plane_are_those_of_the_whole_box(
    shape: tuple[int, ...], of_points: float, of_others: float, sizes: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    points, others = rng.random(shape) < of_points, rng.random(shape) < of_others
    others[tuple(rng.integers(0, n) for n in shape)] = True
    spacing = sizes[: len(shape)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface, "_COLUMN_VOXELS", 20)
        found = surface._by_planes(points, others, spacing)
    # voxels that are equally near may be told apart by the last bit
    assert found == pytest.approx(surface._by_transform(points, others, spacing), rel=1e-14, abs=0)
    a, b = (np.argwhere(mask) * spacing for mask in (points, others))
    assert found == pytest.approx(np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).min(1))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.8, 1.0, 1e-310, 7.3, 1e6]), min_size=1, max_size=60),
    st.lists(st.floats(0, 1e9), max_size=60),
)
def test_statistics_of_long_lists_are_numpys_without_a_copy(ties: list[float], others: list[float]) -> None:
    lists = surface.Surfaces(np.array(ties), np.array(others, float))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface, "_FEW", 0)
        patch.setattr(surface, "_AT_ONCE", 7)
        assert surface.hd95_pooled(lists) == np.percentile(lists.pooled, 95)
        assert surface.assd(lists) == pytest.approx(lists.pooled.mean(), rel=1e-14)


def noise(shape: tuple[int, ...], share: float, n_classes: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    labels = rng.integers(1, n_classes + 1, shape, np.uint8)
    labels[rng.random(shape, np.float32) > share] = 0
    return labels


@pytest.mark.parametrize(
    ("prediction", "truth", "n_classes"),
    [
        ("one class in half of the voxels", "ball", 1),
        ("one class in half of the voxels", "noise", 1),
        ("one class so rare that a tree is built", "ball", 1),
        ("one class so rare that a tree is built", "noise", 1),
        ("all classes everywhere", "ball", 30),
    ],
)
def test_memory_is_bounded_whatever_is_predicted(
    prediction: str, truth: str, n_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small volume with small pieces, so that what grows with the volume is what is measured."""
    import tracemalloc

    for name, value in {"SLAB": 2**14, "_AT_ONCE": 2**12, "_COLUMN_VOXELS": 2**15, "_FEW": 2**10}.items():
        monkeypatch.setattr(surface, name, value)
    monkeypatch.setattr(surface, "_SMALL_BOX", 2**12)
    monkeypatch.setattr(overlap, "SLAB", 2**14)
    shape = (80, 72, 90)
    share = {"one class in half of the voxels": 0.5, "all classes everywhere": 1.0}.get(prediction, 0.06)
    found = np.asfortranarray(noise(shape, share, n_classes))
    ball = ellipsoid(shape, (40, 40, 50), (20, 25, 15)).astype(np.uint8)
    true = np.asfortranarray(ball if truth == "ball" else np.roll(found, 5, 0))
    names = [f"class {index}" for index in range(1, n_classes + 1)]
    metrics.score_case(found[:9], true[:9], names, SPACING, surfaces=True)  # imports
    tracemalloc.start()
    metrics.score_case(found, true, names, SPACING, surfaces=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * found.size


def test_a_shift_by_whole_voxels_is_measured_in_mm() -> None:
    truth, found = np.zeros((2, 9, 30, 12), np.uint8)
    truth[4, 5:9, 4:8], found[4, 8:12, 4:8] = 1, 1  # plates, three voxels apart along y
    (score,) = metrics.score_case(found, truth, ("plate",), (5.0, 0.7, 1.0), surfaces=True)
    assert score.metrics["hd"] == pytest.approx(2.1)
    assert score.metrics["hd95"] == pytest.approx(2.1)
    assert score.metrics["asd"] == pytest.approx((0 + 0.7 + 1.4 + 2.1) / 4)


@pytest.mark.parametrize(
    ("found", "truth", "state", "penalty"),
    [
        (0, 1, "missed", math.sqrt(20**2 + 12**2 + 4**2)),
        (1, 0, "spurious", math.sqrt(20**2 + 12**2 + 4**2)),
        (0, 0, "absent", math.nan),
    ],
)
def test_without_both_surfaces_there_is_a_penalty_or_nothing(
    found: int, truth: int, state: str, penalty: float
) -> None:
    volumes = np.zeros((2, 10, 12, 8), np.uint8)
    volumes[0, 4, 5, 6], volumes[1, 4, 5, 6] = found, truth
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (score,) = metrics.score_case(*volumes, ("organ",), (2.0, 1.0, 0.5), surfaces=True)
    assert score.state == state
    for name, metric in metrics.SURFACE_METRICS.items():
        expected = penalty if metric.penalised else math.nan
        assert score.metrics[name] == pytest.approx(expected, nan_ok=True), name


def test_a_missed_structure_never_makes_a_mean_better_silently() -> None:
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[2:6, 2:6, 2:6] = 1
    off = np.roll(truth, 3, 0)
    cases = [("a", truth), ("b", off)]
    honest = [
        s for n, p in cases for s in metrics.score_case(p, truth, ("x",), (1, 1, 1), case=n, surfaces=True)
    ]
    (mean,) = metrics.distributions(honest, ["hd95"])
    cases[1] = ("b", np.zeros_like(truth))
    lazy = [
        s for n, p in cases for s in metrics.score_case(p, truth, ("x",), (1, 1, 1), case=n, surfaces=True)
    ]
    (plain,) = metrics.distributions(lazy, ["hd95"])
    (penalised,) = metrics.distributions(lazy, ["hd95_penalised"])
    assert plain.mean == 0 < mean.mean
    assert (plain.n, plain.n_missed) == (1, 1)
    assert penalised.mean == pytest.approx(math.sqrt(3) * 12 / 2)


def test_ignored_voxels_are_on_no_surface() -> None:
    truth = np.zeros((1, 8, 8), np.uint8)
    truth[0, 2:4, 2:4] = 1
    found = truth.copy()
    found[0, 7, 7], truth[0, 7, 7] = 1, 255
    (score,) = metrics.score_case(found, truth, ("x",), (1, 1, 1), surfaces=True)
    assert score.metrics["hd"] == 0


def test_a_slice_of_two_axes_is_measured_too() -> None:
    truth, found = np.zeros((2, 10, 10), np.uint8)
    truth[2:5, 2:5], found[2:5, 4:7] = 1, 1
    (score,) = metrics.score_case(found, truth, ("x",), (1.0, 0.5), surfaces=True)
    assert score.metrics["hd"] == pytest.approx(1.0)


@settings(max_examples=15, deadline=None)
@given(masks, masks)
def test_what_holds_for_any_two_masks(one: np.ndarray, other: np.ndarray) -> None:
    one[0, 0, 0] = other[-1, -1, -1] = True
    there = metrics.surface_distances(one, other, SPACING)
    back = metrics.surface_distances(other, one, SPACING)
    values = {n: m.function(there) for n, m in metrics.SURFACE_METRICS.items()}
    swapped = {n: m.function(back) for n, m in metrics.SURFACE_METRICS.items()}
    assert all(values[n] == pytest.approx(swapped[n]) for n in values if n != "asd")
    assert 0 <= values["hd95_mean"] <= values["hd95"] <= values["hd"]
    assert values["hd95_pooled"] <= values["hd"] and values["assd"] <= values["hd"]
    assert metrics.surface_distances(one, one, SPACING).pooled.max() == 0


def test_a_volume_of_one_slice_is_measured_as_a_picture() -> None:
    truth, found = np.zeros((2, 1, 20, 20), np.uint8)
    truth[0, 4:14, 4:14], found[0, 4:14, 6:16] = 1, 1
    (thick,) = metrics.score_case(found, truth, ("x",), (5.0, 0.5, 0.5), surfaces=True)
    (flat,) = metrics.score_case(found[0], truth[0], ("x",), (0.5, 0.5), surfaces=True)
    for name in ("hd", "hd95", "hd95_pooled", "hd95_mean", "asd", "assd", "assd_mean"):
        assert thick.metrics[name] == flat.metrics[name], name
    # of the contour's 36 pixels most are off; were all the mask its surface, four of five would have distance 0
    assert thick.metrics["asd"] > 0.3
