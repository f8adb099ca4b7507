"""From data set to batch and back: phantoms, class map, splits, preprocessing, sampler, store, checks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data import datasets
from segexplorer.data.case import Case, CaseRef, ClassMap
from segexplorer.data.checks import check_case, check_dataset
from segexplorer.data.phantom import CLASSES, render
from segexplorer.data.sampler import Sampler, Sampling
from segexplorer.data.splits import Split, assign_roles
from segexplorer.data.store import PreprocessedCache
from segexplorer.data.transforms import Augmentation, FittedPreprocessing, Preprocessing, fit
from segexplorer.data.volume import Volume

CLASSMAP = ClassMap.from_classes({"kidneys": [2, 3], "liver": 5}, "ignored")
STILL = Augmentation(enabled=False)


def boxed(name: str, shape: tuple[int, int, int], affine: np.ndarray | None = None) -> CaseRef:
    """A case whose label is one box of liver and a single kidney voxel."""
    label = np.zeros(shape, np.uint8)
    label[2:5, 3:6, 2:4] = 5
    label[1, 1, 1] = 3
    image = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32) + label
    matrix = np.eye(4) if affine is None else affine
    volumes = (Volume.from_array(image, affine=matrix), Volume.from_array(label, affine=matrix))
    return CaseRef(name, (volumes[0],), volumes[1], name)


def sampler(
    refs: list[CaseRef], sampling: Sampling, augmentation: Augmentation = STILL, seed: int = 3
) -> Sampler:
    store = PreprocessedCache({r.id: r for r in refs}, fit(Preprocessing(), refs), CLASSMAP)
    return Sampler(store, [r.id for r in refs], sampling, augmentation, seed)


def test_class_map_merges_and_ignores() -> None:
    coded = CLASSMAP.encode(np.array([0, 2, 3, 5, 9]))
    assert coded.tolist() == [0, 1, 1, 2, IGNORED]
    assert CLASSMAP.decode(coded).tolist() == [0, 2, 2, 5, 0]


@pytest.mark.parametrize("anatomy", ["ct_abdomen", "mr_brain"])
def test_phantom_is_deterministic_and_holds_every_class(anatomy: str) -> None:
    first, again, other = (render(anatomy, (64, 56, 60), s) for s in (1, 1, 2))  # type: ignore[arg-type]
    assert np.array_equal(first.image, again.image) and np.array_equal(first.label, again.label)
    assert not np.array_equal(first.label, other.label)
    assert set(np.unique(first.label)) == set(range(len(CLASSES[anatomy]) + 1))  # type: ignore[index]


def test_liver_lies_on_the_patients_right() -> None:
    label = render("ct_abdomen", (48, 48, 48), 0).label
    assert np.argwhere(label == 1)[:, 0].mean() > 24 > np.argwhere(label == 2)[:, 0].mean()


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(3)), st.tuples(*[st.sampled_from((-1, 1))] * 3), st.sampled_from((None, 0.5)))
def test_restore_undoes_apply(order: list[int], flips: tuple[int, ...], finer: float | None) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order] * flips
    ref = boxed("case", (8, 10, 7), affine)
    spacing = None if finer is None else (finer,) * 3
    fitted = FittedPreprocessing.of(
        json.loads(json.dumps(fit(Preprocessing(spacing=spacing), [ref]).plain()))
    )
    prepared = fitted.apply(ref.open(), CLASSMAP)
    assert prepared.label is not None
    assert prepared.label.shape == fitted.prepared_shape(ref) == prepared.image.shape[1:]
    assert isinstance(ref.label, Volume)
    back = fitted.restore(prepared.label, prepared.grid, order=0)
    assert np.array_equal(CLASSMAP.decode(back) == 5, ref.label.array == 5)


def test_batches_depend_on_seed_epoch_and_index_only() -> None:
    refs = [boxed(f"c{i}", (12, 11, 9)) for i in range(5)]
    sampling = Sampling(patch_size=(6, 6, 6), batch_size=2)
    varied = Augmentation()
    one, two = sampler(refs, sampling, varied), sampler(refs[::-1], sampling, varied)
    late = one.batch(4, 1)
    for index in range(3):
        two.batch(0, index)
    assert np.array_equal(late.images, two.batch(4, 1).images)
    assert not np.array_equal(late.images, one.batch(4, 2).images)
    assert one.steps_per_epoch == 3
    assert {c for i in range(3) for c in one.batch(0, i).cases[: 2 if i < 2 else 1]} == {r.id for r in refs}


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_foreground_share_reaches_the_rare_class(ratio: float) -> None:
    ref = boxed("c", (40, 40, 40))
    made = sampler([ref], Sampling(patch_size=(4, 4, 4), batch_size=40, foreground_ratio=ratio))
    labels = made.batch(0, 0).labels
    share = np.mean([(patch == 1).any() for patch in labels])
    assert (0.25 < share < 0.75) if ratio else share < 0.2
    assert np.mean([(patch > 0).any() for patch in labels]) == 1 or not ratio


def test_whole_volumes_are_padded_with_ignored_voxels() -> None:
    refs = [boxed("a", (9, 8, 8)), boxed("bb", (7, 8, 6))]
    batch = sampler(refs, Sampling(patch_size=None, batch_size=2, divisor=(4, 4, 4))).batch(0, 0)
    assert batch.images.shape == (2, 1, 12, 8, 8)
    assert [int((patch != IGNORED).sum()) for patch in batch.labels] == [
        int(np.prod(shape)) for shape in batch.volume_shapes
    ]


def test_split_keeps_patients_together_whatever_the_order() -> None:
    refs = [boxed(f"p{i // 2}_{i % 2}", (8, 8, 8)) for i in range(20)]
    refs = [CaseRef(r.id, r.images, r.label, r.id[:2]) for r in refs]
    roles = assign_roles(refs, Split(validation_fraction=0.3), 0)
    assert roles == assign_roles(refs[::-1], Split(validation_fraction=0.3), 0)
    assert all(roles[f"p{i}_0"] == roles[f"p{i}_1"] for i in range(10))
    assert list(roles.values()).count("validation") == 6


def test_store_drops_the_least_recent_and_reads_its_disk_cache(tmp_path: Path) -> None:
    refs = [boxed(f"c{i}", (10, 10, 10)) for i in range(3)]
    fitted = fit(Preprocessing(), refs)
    store = PreprocessedCache(refs, fitted, CLASSMAP, memory_budget=11_000, disk_folder=tmp_path)
    first = store.get("c0")
    for i in range(3):
        store.get(f"c{i}")
    assert store.memory <= 11_000
    assert len(list(tmp_path.glob("prepared/??/*.zip"))) == 1, "equal voxels are kept once"
    again = PreprocessedCache(refs, fitted, CLASSMAP, disk_folder=tmp_path).get("c0")
    assert np.array_equal(again.image, first.image) and again.grid.shape == first.grid.shape


def test_checks_name_what_is_wrong() -> None:
    good = boxed("good", (8, 8, 8))
    image = good.images[0]
    assert isinstance(image, Volume)
    holes = image.array.copy()
    holes[0, 0, 0] = np.nan
    empty = Volume.from_array(np.zeros((8, 8, 8), np.uint8))
    moved = Volume.from_array(np.ones((8, 8, 7), np.uint8), spacing=(1, 1, 1.2))
    binary = Volume.from_array((np.arange(512).reshape(8, 8, 8) % 2 * 255).astype(np.uint8))
    lesion = ClassMap.from_classes({"lesion": 1})
    cases = [
        (Case("c", (image.with_array(holes),), good.label), CLASSMAP, "not_finite"),  # type: ignore[arg-type]
        (Case("c", (image,), empty), CLASSMAP, "empty_label"),
        (Case("c", (image,), moved), CLASSMAP, "shape"),
        (Case("c", (image,), binary), lesion, "mask_255"),
    ]
    for case, classes, code in cases:
        assert code in [p.code for p in check_case(case, classes)]
    twin = CaseRef("twin", good.images, good.label, "twin")
    found = check_dataset([good, twin], {"good": "train", "twin": "validation"}, CLASSMAP)
    assert [(p.code, p.severity) for p in found] == [("duplicate", "error")]


def test_paths_that_lead_nowhere_are_reported() -> None:
    for root, word in (
        ("/no/such/place", "no folder"),
        ("${NO_SUCH_VARIABLE_HERE}/x", "NO_SUCH_VARIABLE_HERE"),
    ):
        with pytest.raises(DataError, match=word):
            datasets.parse({"kind": "decathlon", "root": root}).cases()


def test_hippocampus_splits_48_to_12(shared_data: Path) -> None:
    spec = datasets.parse({"kind": "decathlon", "root": str(shared_data / "Task04_Hippocampus")})
    roles = list(assign_roles(spec.cases(), Split(), 0).values())
    assert (roles.count("train"), roles.count("validation")) == (48, 12)
    assert spec.class_values() == {"Anterior": (1,), "Posterior": (2,)}
