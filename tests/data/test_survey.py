"""What `segexplorer check` is made of: facts of cases, duplicates, outliers, values counted; labels read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segexplorer
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data import case as label_values
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.data.checks import CaseFacts, check_case, check_dataset, duplicates, outliers, survey
from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume, value_counts

LIVER = ClassMap.from_classes({"liver": 1})


def case(
    name: str, *, seed: int = 0, size: int = 12, spacing: float = 2.0, gain: float = 1.0, marked: int = 4
) -> CaseRef:
    """A noisy image, and a label of marked^3 voxels."""
    voxels = np.random.default_rng(seed).normal(100, 10, (size,) * 3) * gain
    label = np.zeros((size,) * 3, np.uint8)
    label[:marked, :marked, :marked] = 1
    steps = (spacing,) * 3
    image = Volume.from_array(voxels.astype(np.float32), spacing=steps, modality="MR")
    return CaseRef(name, (image,), Volume.from_array(label, spacing=steps), name)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(-3, 70_000), min_size=1, max_size=40),
    st.sampled_from((np.int32, np.int64, np.float64)),
)
def test_counts_are_those_of_numpy(values: list[int], kind: type) -> None:
    array = np.asarray(values, kind).astype(np.int64)
    known, counts = np.unique(array, return_counts=True)
    assert value_counts(array) == dict(zip(known.tolist(), counts.tolist(), strict=True))


def test_counts_of_large_arrays_in_any_memory_order() -> None:
    array = np.random.default_rng(1).integers(0, 5, (300, 200, 100), dtype=np.uint8)
    expected = dict(enumerate(np.bincount(array.ravel()).tolist()))
    assert (
        value_counts(array) == value_counts(np.asfortranarray(array)) == value_counts(array[::-1]) == expected
    )


def test_facts_of_a_case() -> None:
    (facts,), across = survey([case("a", marked=5)], LIVER, {"a": "train"})
    assert (facts.role, facts.shape, facts.spacing, facts.orientation) == (
        "train",
        (12, 12, 12),
        (2, 2, 2),
        "RAS",
    )
    assert facts.volumes_ml == {"liver": pytest.approx(125 * 8 / 1000)}
    voxels = case("a", marked=5).open().images[0].array
    assert facts.intensities == ((float(voxels.min()), float(voxels.max())),)
    assert facts.problems == () and across == []


def test_headers_alone_read_no_voxels() -> None:
    refs = [case(name) for name in "ab"]

    def refuse() -> np.ndarray:
        raise AssertionError("voxels were read")

    closed = [
        CaseRef(r.id, tuple(Volume(i.shape, i.affine, load=refuse) for i in r.open().images)) for r in refs
    ]
    rows, across = survey(closed, LIVER, voxels=False)
    assert [row.shape for row in rows] == [(12, 12, 12)] * 2 and across == []


def test_one_image_twice_is_found_whatever_its_file(tmp_path: Path) -> None:
    first = case("a")
    image = first.open().images[0]
    for name in ("a.nii.gz", "b.nii", "c.nii.gz"):
        save_volume(image if name[0] != "c" else image.with_array(image.array + 1), tmp_path / name)
    refs = [CaseRef(n[0], (tmp_path / n,), first.label, n[0]) for n in ("a.nii.gz", "b.nii", "c.nii.gz")]
    _, across = survey(refs, LIVER)
    assert [(p.severity, p.case, p.message) for p in across] == [
        ("warning", "b", "Its image is the same as that of a.")
    ]
    _, across = survey(refs, LIVER, {"a": "train", "b": "validation", "c": "train"})
    assert [(p.severity, p.code) for p in across] == [("error", "duplicate")]
    found = check_dataset(refs, {"a": "train", "b": "validation", "c": "train"}, LIVER)
    assert [(p.severity, p.code, p.case) for p in found] == [("error", "duplicate", "b")]


def test_unread_cases_are_no_duplicates() -> None:
    assert duplicates([CaseFacts("a"), CaseFacts("b")]) == []


def test_outliers_in_size_intensity_and_volume_are_named() -> None:
    usual = [case(f"c{n}", seed=n, marked=4 + n % 2) for n in range(8)]
    odd = [
        case("cropped", seed=20, size=6),
        case("fine", seed=21, size=48, spacing=0.5),
        case("bright", seed=22, gain=50),
        case("tiny", seed=23, marked=1),
    ]
    _, across = survey([*usual, *odd], LIVER)
    told = {(p.case, p.code) for p in across}
    assert {("cropped", "size"), ("fine", "size"), ("bright", "intensity"), ("tiny", "volume")} <= told
    assert not [p for p in across if p.case.startswith("c") and p.case != "cropped"]
    assert all(p.severity == "warning" for p in across)
    size = next(p for p in across if p.case == "fine" and p.code == "size")
    assert size.message == "A voxel side is 0.5 mm; the median is 2 mm."


def test_few_cases_have_no_outliers() -> None:
    rows = [CaseFacts(f"c{n}", shape=(4, 4, 4), spacing=(1, 1, 1), extent=(10.0**n,) * 3) for n in range(5)]
    assert outliers(rows) == []


def test_a_ct_that_is_not_in_hounsfield_units_stands_out() -> None:
    rng = np.random.default_rng(5)
    voxels = [
        np.where(rng.random((14,) * 3) < 0.5, -1000, 40) + rng.normal(0, 9, (14,) * 3) for _ in range(7)
    ]
    refs = [
        CaseRef(f"c{n}", (Volume.from_array((v + (1024 if n == 3 else 0)).astype(np.int16)),))
        for n, v in enumerate(voxels)
    ]
    _, across = survey(refs, LIVER)
    assert [(p.case, p.code) for p in across] == [("c3", "intensity")]
    assert "intercept" in across[0].remedy


def test_0_and_255_are_read_as_0_and_1_and_said() -> None:
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:5] = 255
    assert np.array_equal(LIVER.encode(mask), mask // 255)
    image = Volume.from_array(np.random.default_rng(0).normal(size=(8, 8, 8)))
    ref = CaseRef("a", (image,), Volume.from_array(mask), "a")
    (problem,) = check_case(ref.open(), LIVER)
    assert (problem.severity, problem.message) == (
        "note",
        "The mask holds 0 and 255; 255 is read as 1, liver.",
    )
    assert check_dataset([ref], {"a": "train"}, LIVER) == []
    (facts,), _ = survey([ref], LIVER)
    assert facts.volumes_ml == {"liver": pytest.approx(192 / 1000)}


@pytest.mark.parametrize(
    "classes",
    [
        ClassMap.from_classes({"liver": 1}, "ignored"),
        ClassMap.from_classes({"liver": 1, "ignore": 255}),
        ClassMap.from_classes({"liver": 1, "spleen": 2}),
        ClassMap.from_classes({"liver": 255}),
    ],
)
def test_255_keeps_its_meaning_where_it_has_one(classes: ClassMap) -> None:
    coded = classes.encode(np.array([0, 255]))
    expected = {"ignored": IGNORED}.get(classes.other_labels, 0)
    if 255 in classes.ignored:
        expected = IGNORED
    if classes.values == ((255,),):
        expected = 1
    assert coded.tolist() == [0, expected]


def test_class_map_keeps_ignored_values_through_a_checkpoint() -> None:
    made = ClassMap.from_classes({"edge": [2, 7], "core": 3, "ignore": 9})
    again = ClassMap.of(made.plain())
    assert again == made
    assert made.label_names == {2: "edge", 3: "core"}
    coded = made.encode(np.array([0, 2, 7, 3, 9, 4]))
    assert coded.tolist() == [0, 1, 1, 2, IGNORED, 0]
    assert made.decode(coded).tolist() == [0, 2, 2, 3, 0, 0]
    assert made.unnamed(np.array([9, 4, 2])) == [4]


def test_an_unchanged_label_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = case("a")
    case_a = ref.open()
    assert case_a.label is not None
    save_volume(case_a.label, tmp_path / "a.nii.gz", integer=True)
    stored = CaseRef("a", ref.images, tmp_path / "a.nii.gz")
    assert label_values.label_values(stored) == {0, 1}
    reads = []
    monkeypatch.setattr(label_values, "value_counts", lambda array: reads.append(1) or value_counts(array))
    assert label_values.label_values(stored) == {0, 1} and not reads
    save_volume(case_a.label.with_array(case_a.label.array * 7), tmp_path / "a.nii.gz", integer=True)
    assert label_values.label_values(stored) == {0, 7} and reads


def test_masks_of_1_and_of_255_mean_one_class() -> None:
    refs = []
    for n, value in enumerate((1, 255, 1)):
        ref = case(f"c{n}")
        label = ref.open().label
        assert label is not None
        refs.append(CaseRef(ref.id, ref.images, label.with_array(label.array * np.uint8(value))))
    assert label_values.present_values(refs) == {"foreground": (1, 255)}
    both = np.asarray([0, 1, 255], np.uint8).reshape(3, 1, 1)
    refs.append(CaseRef("both", refs[0].images, Volume.from_array(both)))
    assert label_values.present_values(refs) == {"label 1": (1,), "label 255": (255,)}


def test_what_is_ignored_counts_in_no_score() -> None:
    truth = np.zeros((9, 9, 9), np.uint8)
    truth[:4], truth[4:6] = 1, 4
    prediction = np.where(truth == 4, 1, truth)
    prediction[8] = 4
    volumes = [Volume.from_array(array) for array in (prediction.astype(np.uint8), truth)]
    (score,) = segexplorer.evaluate(*volumes, classes={"liver": 1, "ignore": 4})
    assert (score.class_name, score.metrics["dice"]) == ("liver", 1)
    (score,) = segexplorer.evaluate(*volumes, classes={"liver": 1})
    assert score.metrics["dice"] < 1
