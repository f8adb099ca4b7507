"""The store of prepared cases: memory within its budget, files on the disk, damage, threads."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from segexplorer.core.errors import DataError, DiskError
from segexplorer.data.case import Case, CaseRef, ClassMap
from segexplorer.data.io import save_volume
from segexplorer.data.store import PreprocessedCache
from segexplorer.data.transforms import FittedPreprocessing, Prepared, Preprocessing, fit
from segexplorer.data.volume import Volume

CLASSES = ClassMap.from_classes({"box": 1})
SHAPE = (10, 10, 10)
SIZE = 5 * 1000
"""Bytes of a prepared case: four of a voxel's image and one of its label."""


def cases(count: int = 3, label: bool = True) -> list[CaseRef]:
    rng = np.random.default_rng(0)
    return [
        CaseRef(
            f"c{i}",
            (Volume.from_array(rng.normal(size=SHAPE).astype(np.float32), modality="MR"),),
            Volume.from_array(rng.integers(0, 2, SHAPE, np.uint8)) if label else None,
            f"c{i}",
        )
        for i in range(count)
    ]


class Counted:
    """Counts how often each case is prepared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        apply = FittedPreprocessing.apply

        def counted(fitted: FittedPreprocessing, case: Case, classes: ClassMap) -> Prepared:
            self.made.append(case.id)
            return apply(fitted, case, classes)

        monkeypatch.setattr(FittedPreprocessing, "apply", counted)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def store(refs: list[CaseRef], folder: Path | None = None, budget: int = 2**20) -> PreprocessedCache:
    return PreprocessedCache(refs, fit(Preprocessing(), refs), CLASSES, budget, folder)


def same(a: Prepared, b: Prepared) -> bool:
    assert a.label is not None and b.label is not None
    return (
        np.array_equal(a.image, b.image)
        and np.array_equal(a.label, b.label)
        and np.array_equal(a.affine, b.affine)
        and np.array_equal(a.grid.affine, b.grid.affine)
        and (a.case, a.spacing, tuple(a.grid.shape), a.resampled)
        == (b.case, b.spacing, tuple(b.grid.shape), b.resampled)
    )


def test_the_least_recently_used_is_dropped_first(counted: Counted) -> None:
    made = store(cases(), budget=2 * SIZE)
    for name in ("c0", "c1", "c0", "c2"):  # c1 goes
        made.get(name)
        assert made.memory <= 2 * SIZE
    assert made.memory == 2 * SIZE
    for name in ("c0", "c2"):
        made.get(name)
    assert counted.made == ["c0", "c1", "c2"]
    made.get("c1")
    assert counted.made[3:] == ["c1"]


def test_one_case_larger_than_the_budget_is_still_given(counted: Counted) -> None:
    made = store(cases(), budget=10)
    assert made.get("c0").image.shape == (1, *SHAPE)
    made.get("c1")
    assert made.memory == SIZE and counted.made == ["c0", "c1"]


def test_the_disk_gives_back_what_was_prepared(tmp_path: Path, counted: Counted) -> None:
    refs = cases()
    first = {ref.id: store(refs, tmp_path).get(ref.id) for ref in refs}
    again = store(refs, tmp_path)
    assert all(same(again.get(name), prepared) for name, prepared in first.items())
    assert counted.made == ["c0", "c1", "c2"]
    assert not list(tmp_path.glob("*.part"))


def test_a_case_without_label_comes_back_from_the_disk_without(tmp_path: Path) -> None:
    refs = cases(1, label=False)
    for _ in range(2):
        made = store(refs, tmp_path)
        assert made.get("c0").label is None and made.truth("c0") is None


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_file_is_made_again(damage: str, tmp_path: Path, counted: Counted) -> None:
    refs = cases(1)
    expected = store(refs, tmp_path).get("c0")
    (file,) = tmp_path.glob("prepared/??/*.zip")
    whole = file.read_bytes()
    if damage == "other":
        with file.open("wb") as other:
            np.savez(other, something=np.zeros(3))
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    assert same(store(refs, tmp_path).get("c0"), expected)
    assert counted.made == ["c0", "c0"]
    assert same(store(refs, tmp_path).get("c0"), expected)
    assert len(counted.made) == 2, "the file was not made whole again"


def test_other_preprocessing_classes_or_voxels_get_files_of_their_own(tmp_path: Path) -> None:
    refs = cases(1)
    image = tmp_path / "image.nii.gz"
    array = refs[0].images[0].array  # type: ignore[union-attr]
    save_volume(Volume.from_array(array, modality="MR"), image)
    stored = [CaseRef("c0", (image,), refs[0].label, "c0")]
    folder = tmp_path / "cache"
    plain, coarse = fit(Preprocessing(), stored), fit(Preprocessing(spacing=(2, 2, 2)), stored)
    other = ClassMap.from_classes({"box": 1}, "ignored")
    for fitted, classes in ((plain, CLASSES), (coarse, CLASSES), (plain, other), (plain, CLASSES)):
        PreprocessedCache(stored, fitted, classes, disk_folder=folder).get("c0")
    assert len(list(folder.glob("prepared/??/*.zip"))) == 3
    save_volume(Volume.from_array(array + 1, modality="MR"), image)
    os.utime(image, (1, 1))
    PreprocessedCache(stored, plain, CLASSES, disk_folder=folder).get("c0")
    assert len(list(folder.glob("prepared/??/*.zip"))) == 4


def test_threads_that_want_one_case_prepare_it_once(counted: Counted) -> None:
    made = store(cases())
    together = threading.Barrier(8)

    def get(name: str) -> Prepared:
        together.wait(10)
        return made.get(name)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(get, ["c0", "c1"] * 4))
    assert sorted(counted.made) == ["c0", "c1"]
    assert all(prepared is found[i % 2] for i, prepared in enumerate(found))


def test_truth_is_on_the_cases_own_grid_and_counts_as_memory() -> None:
    affine = np.diag([-1.0, 1.0, -2.0, 1.0])
    values = np.random.default_rng(0).integers(0, 3, (4, 5, 6), np.uint8)
    image = Volume.from_array(values.astype(np.float32), affine=affine)
    ref = CaseRef("c", (image,), Volume.from_array(values, affine=affine), "c")
    made = store([ref])
    truth = made.truth("c")
    assert truth is not None and np.array_equal(truth, values == 1)
    assert made.truth("c") is truth and made.memory == truth.nbytes


def test_a_folder_that_cannot_be_written_and_an_unknown_case_are_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match="cannot be written"):
        PreprocessedCache(
            cases(1), fit(Preprocessing(), cases(1)), CLASSES, 10, tmp_path / "file", resident=False
        ).get("c0")
    alone = store(cases(1), tmp_path / "file")
    assert alone.get("c0").image.size and "not kept for the next run" in alone.take_notes()[0]
    with pytest.raises(DataError, match="no case 'c9'"):
        store(cases(1)).get("c9")
