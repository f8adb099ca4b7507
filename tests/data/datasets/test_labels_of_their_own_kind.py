"""Labels that need more than opening: without a place (Pancreas-CT), one file per structure (PDDCA), many masks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.data.case import CaseRef
from segexplorer.data.checks import check_case
from segexplorer.data.io import save_volume
from segexplorer.data.sources import Structures, best_place, turned
from segexplorer.data.volume import Volume

sitk = pytest.importorskip("SimpleITK")
pydicom = pytest.importorskip("pydicom")

RNG = np.random.default_rng(4)


def pancreas_set(root: Path, layouts: ModuleType, *, rows: bool, slices: bool) -> np.ndarray:
    """Write one case: a CT with a bright organ off the middle, and its label turned over, without a place.

    Returns the organ in the index order of the DICOM volume: column, row, slice.
    """
    from segexplorer.testing.dicom import write_series

    organ = np.zeros((16, 14, 12), bool)
    organ[3:9, 2:6, 7:11] = True
    hounsfield = np.where(organ, 100, -900) + RNG.normal(0, 5, organ.shape)
    stored = np.round(hounsfield + 1024).astype(np.uint16).transpose(2, 1, 0)
    write_series(root / "Pancreas-CT/PANCREAS_0001/11-24-2015-PANCREAS0001/Pancreas-18957", stored)
    label = turned(organ.astype(np.uint8), ("rows " if rows else "") + ("slices" if slices else ""))
    layouts.save(root / "TCIA_pancreas_labels-02-05-2017/label0001.nii.gz", label, np.eye(4))
    return organ


@pytest.mark.parametrize(("rows", "slices"), [(False, False), (True, False), (False, True), (True, True)])
def test_pancreas_labels_are_turned_onto_the_organ(
    tmp_path: Path, layouts: ModuleType, rows: bool, slices: bool
) -> None:
    organ = pancreas_set(tmp_path, layouts, rows=rows, slices=slices)
    data = segexplorer.open_dataset(tmp_path)
    assert data.plain()["kind"] == "pancreas_ct" and data.class_values() == {"pancreas": (1,)}
    (ref,) = data.cases()
    case = ref.open()
    assert ref.id == "PANCREAS_0001" and case.label is not None
    assert np.array_equal(case.label.array > 0, organ)
    assert case.images[0].array[organ].min() > 50
    notes = [p.message for p in check_case(case, None) if p.code == "geometry"]
    assert any("placed by index, as the intensities fit best" in note for note in notes)


def test_pancreas_labels_are_left_alone_when_told_to(tmp_path: Path, layouts: ModuleType) -> None:
    organ = pancreas_set(tmp_path, layouts, rows=True, slices=False)
    data = segexplorer.open_dataset(tmp_path, place="stored")
    label = data.cases()[0].open().label
    assert label is not None and np.array_equal(label.array > 0, organ[:, ::-1])


def test_a_label_that_says_where_it_lies_is_not_turned(tmp_path: Path, layouts: ModuleType) -> None:
    organ = pancreas_set(tmp_path, layouts, rows=True, slices=False)
    data = segexplorer.open_dataset(tmp_path)
    image = data.cases()[0].open().images[0]
    path = tmp_path / "TCIA_pancreas_labels-02-05-2017/label0001.nii.gz"
    save_volume(image.with_array(organ[:, ::-1].astype(np.uint8)), path, integer=True)
    label = data.cases()[0].open().label
    assert label is not None and np.array_equal(label.array > 0, organ[:, ::-1])


def test_an_organ_turned_over_in_a_ct_is_noticed() -> None:
    organ = np.zeros((20, 20, 20), bool)
    organ[4:14, 2:9, 3:13] = True
    body = np.where(organ, 60, -900) + RNG.normal(0, 8, organ.shape)
    image = Volume.from_array(body.astype(np.int16))
    wrong = Volume.from_array(organ[:, ::-1].astype(np.uint8))
    assert best_place(body, wrong.array) == "rows"
    found = check_case(CaseRef("a", (image,), wrong).open(), None)
    assert [p.message for p in found if p.code == "turned_over"] == [
        "The label seems to be turned over along rows: it fits the image much better that way."
    ]
    right = Volume.from_array(organ.astype(np.uint8))
    assert not check_case(CaseRef("a", (image,), right).open(), None)


def nrrd(path: Path, voxels: np.ndarray, thickness: float = 2.5) -> Path:
    """Write voxels (x, y, z) as NRRD by SimpleITK."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
    image.SetSpacing((1.0, 1.0, thickness))
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def mask(first: int, last: int) -> np.ndarray:
    voxels = np.zeros((10, 9, 8), np.uint8)
    voxels[first:last, 2:7, 2:6] = 1
    return voxels


def pddca(root: Path) -> None:
    for case in ("0522c0001", "0522c0002"):
        nrrd(root / case / "img.nrrd", RNG.normal(0, 50, (10, 9, 8)).astype(np.int16))
        nrrd(root / case / "structures/BrainStem.nrrd", mask(1, 5))
        nrrd(root / case / "structures/Mandible.nrrd", mask(3, 8))
    nrrd(root / "0522c0001/structures/Parotid_L.nrrd", mask(8, 9))


def test_structures_of_pddca_overlap_in_the_order_stated(tmp_path: Path) -> None:
    pddca(tmp_path)
    data = segexplorer.open_dataset(tmp_path)
    assert data.plain()["kind"] == "pddca"
    assert data.class_values() == {"BrainStem": (1,), "Mandible": (3,), "Parotid_L": (6,)}
    label = data.cases()[0].open().label
    assert label is not None
    assert label.label_names == {1: "BrainStem", 3: "Mandible", 6: "Parotid_L"}
    assert label.array[:, 4, 4].tolist() == [0, 1, 1, 3, 3, 3, 3, 3, 6, 0]
    stem_last = data.model_copy(update={"order": ("Mandible", "BrainStem")})
    assert stem_last.class_values() == {"BrainStem": (1,), "Mandible": (3,)}
    label = stem_last.cases()[0].open().label
    assert label is not None and label.array[:, 4, 4].tolist() == [0, 1, 1, 1, 1, 3, 3, 3, 0, 0]


def test_what_is_not_drawn_is_said(tmp_path: Path) -> None:
    pddca(tmp_path)
    data = segexplorer.open_dataset(tmp_path)
    (problem,) = data.listing().problems
    assert (problem.severity, problem.case) == ("warning", "0522c0002")
    assert problem.message == "Not drawn, so counted as background: Parotid_L."
    with pytest.raises(DataError, match=r"no case has a structure 'Parotid_l'.*Parotid_L|No case has"):
        data.model_copy(update={"order": ("Parotid_l",)}).cases()


def test_structures_on_another_grid_are_refused_by_name(tmp_path: Path) -> None:
    one = nrrd(tmp_path / "one.nrrd", mask(1, 3))
    other = nrrd(tmp_path / "other.nrrd", np.ones((4, 4, 4), np.uint8), thickness=2.0)
    with pytest.raises(DataError, match="structure b has another grid"):
        Structures(((1, "a", one), (2, "b", other))).open(label=True)


def picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_busi_masks_of_one_image_are_joined(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (20, 30), dtype=np.uint8)
    for kind in ("benign", "malignant"):
        picture(tmp_path / f"{kind}/{kind} (1).png", pixels)
        lesion = np.zeros((20, 30), np.uint8)
        lesion[2:5, 2:5] = 255
        picture(tmp_path / f"{kind}/{kind} (1)_mask.png", lesion)
    second = np.zeros((20, 30), np.uint8)
    second[10:12, 20:24] = 255
    picture(tmp_path / "benign/benign (1)_mask_1.png", second)
    data = segexplorer.open_dataset(tmp_path)
    benign, malignant = data.cases()
    assert (benign.id, malignant.id) == ("benign (1)", "malignant (1)")
    assert data.class_values() == {"foreground": (1, 255)}
    label = benign.open().label
    assert label is not None and int((label.array > 0).sum()) == 9 + 8


def test_one_name_in_two_folders_gets_its_folder(tmp_path: Path, layouts: ModuleType) -> None:
    for site in ("a", "b"):
        layouts.image(tmp_path / site / "p1.nii.gz")
        layouts.label(tmp_path / site / "p1_seg.nii.gz")
    assert [ref.id for ref in segexplorer.open_dataset(tmp_path).cases()] == ["a_p1", "b_p1"]


def test_images_may_have_an_ending_of_their_own(shared_data: Path) -> None:
    data = segexplorer.open_dataset(shared_data / "mr_tumour_nrrd")
    assert [(ref.id, ref.images[0].name) for ref in data.cases()] == [  # type: ignore[union-attr]
        ("brain1", "brain1_image.nrrd"),
        ("breast1", "breast1_image.nrrd"),
    ]
    assert data.class_values() == {"foreground": (1,)}


def test_a_folder_of_one_case_is_one(shared_data: Path) -> None:
    data = segexplorer.open_dataset(shared_data / "ct_dicom_totalseg")
    (ref,) = data.cases()
    case = ref.open()
    assert case.label is not None and case.label.shape == case.images[0].shape == (512, 512, 20)
    liver = case.images[0].array[case.label.array == 5]
    assert liver.size == 366708 and liver.mean() == pytest.approx(89, abs=1)


def test_a_recipes_fingerprint_sees_its_files_and_its_order(tmp_path: Path) -> None:
    paths = [nrrd(tmp_path / f"{name}.nrrd", mask(n, n + 3)) for n, name in enumerate("ab")]
    image = nrrd(tmp_path / "img.nrrd", mask(0, 9))
    parts = tuple((n, path.stem, path) for n, path in enumerate(paths, start=1))
    seen = {CaseRef("c", (image,), Structures(order)).fingerprint() for order in (parts, parts[::-1])}
    nrrd(paths[0], mask(5, 6))
    seen.add(CaseRef("c", (image,), Structures(parts)).fingerprint())
    assert len(seen) == 3
