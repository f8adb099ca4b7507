"""The sampler: what decides a batch, where patches lie, what is padding."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.data.sampler import Batch, Sampler, Sampling
from segexplorer.data.store import PreprocessedCache
from segexplorer.data.transforms import Augmentation, Preprocessing, fit
from segexplorer.data.transforms.intensities import Percentile
from segexplorer.data.volume import Volume

CLASSES = ClassMap.from_classes({"big": 1, "small": 2})
STILL = Augmentation(enabled=False)


def numbered(name: str, shape: tuple[int, int, int], marked: dict[tuple[int, int, int], int]) -> CaseRef:
    """A case whose voxels are numbered, with some labelled; label 0 elsewhere."""
    label = np.zeros(shape, np.uint8)
    for voxel, value in marked.items():
        label[voxel] = value
    image = np.arange(label.size, dtype=np.float32).reshape(shape)
    return CaseRef(name, (Volume.from_array(image),), Volume.from_array(label), name)


def sampler(
    refs: list[CaseRef], sampling: Sampling, augmentation: Augmentation = STILL, seed: int = 0
) -> Sampler:
    fitted = fit(Preprocessing(intensity=Percentile(low=0, high=100)), refs)
    store = PreprocessedCache(refs, fitted, CLASSES)
    return Sampler(store, [r.id for r in refs], sampling, augmentation, seed)


def batches(made: Sampler, epochs: int = 1) -> list[Batch]:
    return [made.batch(epoch, index) for epoch in range(epochs) for index in range(made.steps_per_epoch)]


def same(a: Batch, b: Batch) -> bool:
    names = ("images", "labels", "origins", "volume_shapes", "spacings")
    return a.cases == b.cases and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


def test_a_batch_is_the_same_whatever_came_before_it_and_from_any_thread() -> None:
    refs = [numbered(f"c{i}", (12, 10, 9), {(i, 4, 4): 1}) for i in range(4)]
    asked = Sampling(patch_size=(6, 6, 6), batch_size=2, steps_per_epoch=4)
    varied = Augmentation.of({"elastic": {"probability": 0.5}})
    expected = batches(sampler(refs, asked, varied, seed=7), epochs=2)
    other = sampler(refs[::-1], asked, varied, seed=7)
    places = [(epoch, index) for epoch in range(2) for index in range(4)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda place: other.batch(*place), places[::-1]))[::-1]
    assert all(same(a, b) for a, b in zip(expected, found, strict=True))
    assert not any(same(a, b) for i, a in enumerate(expected) for b in expected[:i])
    assert not same(expected[0], sampler(refs, asked, varied, seed=8).batch(0, 0))


def test_every_case_comes_once_before_any_comes_again_and_epochs_differ() -> None:
    refs = [numbered(f"c{i}", (6, 6, 6), {}) for i in range(5)]
    made = sampler(refs, Sampling(patch_size=(4, 4, 4), batch_size=2, steps_per_epoch=5))
    orders = []
    for epoch in range(3):
        order = [case for index in range(5) for case in made.batch(epoch, index).cases]
        assert sorted(order[:5]) == sorted(order[5:]) == list(made.ids)
        orders.append(tuple(order))
    assert len(set(orders)) == 3
    assert Sampling(batch_size=2).steps_for(5) == 3 and Sampling(batch_size=9).steps_for(5) == 1


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.integers(3, 12)] * 3),
    st.tuples(*[st.integers(2, 14)] * 3),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([None, 0, 3, 50]),
)
def test_a_patch_is_the_piece_at_its_origin_and_padding_is_ignored(
    shape: tuple[int, int, int], patch: tuple[int, int, int], ratio: float, shift: int | None
) -> None:
    ref = numbered("c", shape, {(0, 0, 0): 1, (shape[0] - 1, shape[1] - 1, shape[2] - 1): 2})
    asked = Sampling(patch_size=patch, batch_size=3, foreground_ratio=ratio, shift=shift)
    batch = sampler([ref], asked).batch(0, 0)
    assert batch.images.shape == (3, 1, *patch) and batch.images.dtype == np.float32
    assert batch.labels.shape == (3, 1, *patch) and batch.labels.dtype == np.uint8
    assert batch.volume_shapes.tolist() == [list(shape)] * 3
    for image, label, origin in zip(batch.images[:, 0], batch.labels[:, 0], batch.origins, strict=True):
        for first, wanted, there in zip(origin, patch, shape, strict=True):
            # inside where there is room; else padded by equal halves
            assert (0 <= first <= there - wanted) if wanted <= there else first == -((wanted - there) // 2)
        places = np.indices(patch) + origin.reshape(3, 1, 1, 1)
        inside = ((places >= 0) & (places < np.reshape(shape, (3, 1, 1, 1)))).all(axis=0)
        assert ((label == IGNORED) == ~inside).all()
        numbers = np.ravel_multi_index(tuple(places[:, inside]), shape)
        assert image[inside] * (np.prod(shape) - 1) == pytest.approx(numbers, abs=0.02)
        assert (image[~inside] == 0).all(), "padding is the darkest value"


@pytest.mark.parametrize(("shift", "reach"), [(None, (5, 4, 3)), (0, (0, 0, 0)), (2, (2, 2, 2))])
def test_foreground_patches_lie_about_a_voxel_within_their_shift(
    shift: int | None, reach: tuple[int, int, int]
) -> None:
    """Without a shift given, a quarter of the patch; the bound is reached."""
    voxel, patch = np.array([20, 18, 16]), np.array([20, 16, 12])
    ref = numbered("c", (40, 36, 32), {(20, 18, 16): 1})
    asked = Sampling(
        patch_size=(20, 16, 12), batch_size=16, steps_per_epoch=8, foreground_ratio=1, shift=shift
    )
    found = np.concatenate([batch.origins for batch in batches(sampler([ref], asked))])
    away = np.abs(found + patch // 2 - voxel).max(axis=0)
    assert tuple(away.tolist()) == reach


def test_the_foreground_share_is_kept() -> None:
    """A patch that is placed anywhere holds the one voxel with a chance of (4/37)^3, 0.1 %."""
    ref = numbered("c", (40, 40, 40), {(20, 20, 20): 1})
    asked = Sampling(patch_size=(4, 4, 4), batch_size=64, steps_per_epoch=8, foreground_ratio=0.6)
    hits = np.concatenate([(b.labels == 1).any(axis=(1, 2, 3, 4)) for b in batches(sampler([ref], asked))])
    assert hits.mean() == pytest.approx(0.6, abs=4 * (0.6 * 0.4 / 512) ** 0.5)


@pytest.mark.parametrize(("balanced", "share"), [(True, 0.5), (False, 1 / 9)])
def test_classes_are_balanced_or_as_large_as_they_are(balanced: bool, share: float) -> None:
    marked = {(2, 2, z): 1 for z in range(2, 10)} | {(9, 9, 5): 2}
    ref = numbered("c", (12, 12, 12), marked)
    asked = Sampling(
        patch_size=(1, 1, 1), batch_size=64, steps_per_epoch=8, foreground_ratio=1, class_balanced=balanced
    )
    found = np.concatenate([b.labels.ravel() for b in batches(sampler([ref], asked))])
    assert (found > 0).all()
    assert (found == 2).mean() == pytest.approx(share, abs=4 * (share * (1 - share) / 512) ** 0.5)


def test_a_case_without_foreground_or_label_is_sampled_anywhere() -> None:
    empty = numbered("empty", (9, 9, 9), {})
    unlabelled = CaseRef("unlabelled", empty.images, None, "unlabelled")
    asked = Sampling(patch_size=(3, 3, 3), batch_size=2, steps_per_epoch=8, foreground_ratio=1)
    made = batches(sampler([empty, unlabelled], asked))
    origins = np.concatenate([b.origins for b in made])
    assert len(np.unique(origins, axis=0)) > 10
    for batch in made:
        for case, label in zip(batch.cases, batch.labels, strict=True):
            assert (label == (0 if case == "empty" else IGNORED)).all()


def test_whole_volumes_of_a_batch_get_one_shape_the_network_can_halve() -> None:
    refs = [numbered("a", (9, 8, 3), {}), numbered("b", (5, 10, 4), {})]
    batch = sampler(refs, Sampling(patch_size=None, batch_size=2, divisor=(4, 4, 1))).batch(0, 0)
    assert batch.images.shape == (2, 1, 12, 12, 4)
    known = {
        case: int((label != IGNORED).sum()) for case, label in zip(batch.cases, batch.labels, strict=True)
    }
    assert known == {"a": 9 * 8 * 3, "b": 5 * 10 * 4}


def test_what_cannot_be_sampled_is_reported() -> None:
    ref = numbered("c", (4, 4, 4), {})
    store = PreprocessedCache([ref], fit(Preprocessing(), [ref]), CLASSES)
    with pytest.raises(DataError, match="no case to sample"):
        Sampler(store, [], Sampling(), STILL, 0)
    with pytest.raises(DataError, match="'gone'"):
        Sampler(store, ["gone"], Sampling(), STILL, 0).batch(0, 0)
    for wrong in ({"foreground_ratio": 1.5}, {"shift": -1}, {"batch_size": 0}):
        with pytest.raises(SpecError):
            Sampling.of(wrong)
