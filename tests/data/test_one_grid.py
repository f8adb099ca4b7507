"""One mask through every writer there is comes back onto its image voxel for voxel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.case import CaseRef
from segexplorer.data.geometry import Grid
from segexplorer.data.grid import aligned, compare_grids, fits, touch
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.cli.app import run
from segexplorer.testing.dicom import write_series, write_structures

Mask = NDArray[np.uint8]
OBLIQUE = (0.957826285, 0.275637356, 0.081227114, -0.287360632, 0.921060994, 0.262887065)
GRIDS = [
    {"spacing": (0.742, 0.742), "step": (0.0, 0.0, 3.3), "origin": (-17.3, 28.1, -4.7)},
    {"spacing": (0.9765625, 0.683594), "step": (0.0, 0.0, -1.7), "origin": (101.4, -211.9, 1204.55)},
    {"spacing": (0.61, 1.13), "step": tuple(2.1 * np.cross(OBLIQUE[:3], OBLIQUE[3:])), "across": OBLIQUE},
]


@pytest.fixture(scope="module", params=range(len(GRIDS)))
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Volume:
    """A CT of 22 × 26 × 9 voxels: no spacing is a power of two, one is oblique, one goes from head to feet."""
    voxels = np.random.default_rng(1).integers(0, 3000, (9, 26, 22)).astype(np.uint16)
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, voxels, **GRIDS[request.param])
    return open_volume(folder)


def blob(shape: tuple[int, ...], seed: int = 0) -> Mask:
    """A ragged mask with holes and single voxels, away from the border."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2)
    mask = noise > np.quantile(noise, 0.7)
    inner = np.zeros(shape, bool)
    inner[2:-2, 2:-2, 1:-1] = True
    return np.asarray(mask & inner, np.uint8)


def resaved_with_the_old_header(image: Volume, mask: Mask, path: Path) -> Path:
    """The mask through floats, stored with a slope: 1 becomes .99608."""
    header = nib.Nifti1Image(image.array, image.affine).header
    header.set_data_dtype(np.uint8)
    file = path / "label.nii.gz"
    nib.save(nib.Nifti1Image(mask.astype(np.float64) * 2, image.affine, header), file)
    return file


def cropped_as_by_slicer(image: Volume, mask: Mask, path: Path) -> Path:
    """The box around the mask, one voxel wider, with the origin of that box."""
    box = ndimage.find_objects(mask)[0]
    start = [max(s.start - 1, 0) for s in box]
    piece = mask[tuple(slice(a, s.stop + 1) for a, s in zip(start, box, strict=True))]
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    file = path / "label.nrrd"
    save_volume(Volume.from_array(np.ascontiguousarray(piece), affine=affine), file, integer=True)
    return file


def with_rounded_header(image: Volume, mask: Mask, path: Path) -> Path:
    affine = np.round(image.affine, 5)
    file = path / "label.nii.gz"
    nib.save(nib.Nifti1Image(mask, affine), file)
    return file


def with_other_axes(image: Volume, mask: Mask, path: Path) -> Path:
    turned, affine = geometry.canonical(mask, image.affine)
    file = path / "label.nii.gz"
    nib.save(nib.Nifti1Image(np.ascontiguousarray(turned), affine), file)
    return file


def traced(image: Volume, mask: Mask, path: Path) -> Path:
    """Contours through the centres of the outermost voxels, of holes too, as tools that trace masks write them."""
    contours = []
    for k in range(mask.shape[2]):
        for points in find_contours(mask[:, :, k].astype(float), 1 - 1e-9):
            index = np.column_stack([points[:-1], np.full(len(points) - 1, k), np.ones(len(points) - 1)])
            contours.append((index @ image.affine.T)[:, :3] * (-1, -1, 1))
    return write_structures(path / "label.dcm", {"Part": contours})


def by(suffix: str) -> Callable[[Volume, Mask, Path], Path]:
    def write(image: Volume, mask: Mask, path: Path) -> Path:
        file = path / f"label{suffix}"
        save_volume(image.with_array(mask), file, integer=True)
        return file

    write.__name__ = suffix
    return write


WRITERS = [
    resaved_with_the_old_header,
    cropped_as_by_slicer,
    with_rounded_header,
    with_other_axes,
    traced,
    *map(by, (".nii.gz", ".nrrd", ".seg.nrrd", ".mha", ".dcm")),
]


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_a_mask_comes_back_voxel_for_voxel(image: Volume, writer: Any, tmp_path: Path) -> None:
    mask = blob(image.shape)
    path = writer(image, mask, tmp_path)
    folder = Path(str(image.provenance.path))
    case = CaseRef("one", (folder,), path).open()
    assert case.label is not None and case.label.shape == image.shape
    np.testing.assert_array_equal(np.asarray(case.label.array) > 0, mask > 0)
    truth = tmp_path / "truth.nii.gz"
    save_volume(image.with_array(mask), truth, integer=True)
    value = int(case.label.array.max())
    # `evaluate` goes by the same door
    if path.suffix != ".dcm":
        moved = open_volume(path, label=True)
        (score,) = segexplorer.evaluate(
            moved.with_array((moved.array > 0).astype(np.uint8)), truth, {"part": 1}, surfaces=False
        )
        assert score.metrics["dice"] == 1 and value >= 1


def test_segments_of_highdicom(image: Volume, tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    pydicom = pytest.importorskip("pydicom")
    mask = blob(image.shape)
    sources = [pydicom.dcmread(path) for path in Path(str(image.provenance.path)).iterdir()]
    sources.sort(key=lambda data: int(data.InstanceNumber))
    code = pydicom.sr.coding.Code("85756007", "SCT", "Tissue")
    described = [highdicom.seg.SegmentDescription(1, "Part", code, code, "MANUAL")]
    inverse = np.linalg.inv(image.affine)
    place = [
        inverse @ np.append(np.array(data.ImagePositionPatient, float) * (-1, -1, 1), 1) for data in sources
    ]
    order = [round(float(index[2])) for index in place]
    stacked = mask.transpose(2, 1, 0)[order][..., np.newaxis]
    uid = highdicom.UID
    highdicom.seg.Segmentation(
        sources, stacked, "BINARY", described, uid(), 7, uid(), 1, "Maker", "Model", "1", "1"
    ).save_as(tmp_path / "seg.dcm")
    case = CaseRef("one", (Path(str(image.provenance.path)),), tmp_path / "seg.dcm").open()
    assert case.label is not None
    np.testing.assert_array_equal(case.label.array, mask)


AFFINE = np.array([[0.7, 0.05, 0, -12.3], [-0.05, 0.8, 0.1, 40.1], [0, -0.1, 2.9, 7.7], [0, 0, 0, 1]])


@settings(max_examples=60, deadline=None)
@given(
    st.permutations(range(3)),
    st.tuples(*[st.booleans()] * 3),
    st.tuples(*[st.integers(-4, 4)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.integers(0, 99),
)
def test_what_is_on_one_lattice_is_placed_by_world_position(
    axes: list[int], flips: tuple[bool, ...], start: tuple[int, ...], shape: tuple[int, ...], seed: int
) -> None:
    """The value at every place of the image is that of the label's voxel there, and 0 beyond."""
    image = Grid((6, 5, 4), AFFINE)
    whole = np.pad(np.random.default_rng(seed).integers(1, 200, shape).astype(np.uint8), 0)
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3)[:, axes] * np.where(flips, -1, 1)
    matrix[:3, 3] = start
    label = Volume.from_array(whole, affine=AFFINE @ matrix)
    expected = np.zeros(image.shape, np.uint8)
    met = False
    for index in np.ndindex(*shape):
        target = np.rint(matrix[:3, :3] @ index + matrix[:3, 3]).astype(int)
        if (target >= 0).all() and (target < image.shape).all():
            expected[tuple(target)] = whole[index]
            met = True
    assert fits(image, label, label=True) is met
    if met:
        moved = aligned(label, image, label=True)
        np.testing.assert_array_equal(moved.array, expected)
        assert geometry.compare(image, moved).same


def test_scores_of_a_cropped_truth_count_what_is_predicted_beyond_it() -> None:
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:6, 2:6, 2:6] = 1
    predicted = mask.copy()
    predicted[7, 7, 7] = 1
    affine = np.diag([0.7, 0.7, 3.0, 1.0])
    piece_affine = affine.copy()
    piece_affine[:3, 3] = affine[:3, :3] @ [2, 2, 2]
    truth = Volume.from_array(mask[2:6, 2:6, 2:6], affine=piece_affine)
    said: list[str] = []
    (score,) = segexplorer.evaluate(
        Volume.from_array(predicted, affine=affine), truth, {"part": 1}, on_note=said.append
    )
    assert score.metrics["dice"] == pytest.approx(2 * 64 / (64 + 65))
    assert said and "Truth: The label was placed on a larger grid without resampling" in " ".join(said)
    codes = segexplorer.error_map(Volume.from_array(predicted, affine=affine), truth, {"part": 1})
    assert codes.shape == (8, 8, 8) and np.count_nonzero(codes.array == 2) == 1


def test_a_place_that_nobody_stated_places_nothing() -> None:
    label = Volume.from_array(np.ones((3, 3, 3), np.uint8))
    image = Volume.from_array(np.zeros((4, 4, 4)))
    assert not fits(image, label, label=True)
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's identity
    assert not fits(Grid((4, 4, 4), turned), Grid((3, 3, 3), turned), label=True)
    with pytest.raises(DataError, match=r"different grids.*--resample"):
        segexplorer.evaluate(label, Volume.from_array(np.ones((4, 4, 4), np.uint8)), {"a": 1})


def test_a_small_label_touches_a_large_image_wherever_it_is() -> None:
    image = Grid((900, 900, 900), AFFINE)
    for start in ([401, 223, 777], [0, 899, 3], [-1, -1, -1]):
        small = AFFINE.copy()
        small[:3, :3] *= 0.45
        small[:3, 3] = (AFFINE @ [*start, 1])[:3]
        assert touch(image, Grid((3, 3, 3), small)) and touch(Grid((3, 3, 3), small), image)
    for start in ([902, 0, 0], [-3, 4, 4], [450, -9, 450]):
        far = AFFINE.copy()
        far[:3, :3] *= 0.45
        far[:3, 3] = (AFFINE @ [*start, 1])[:3]
        assert not touch(image, Grid((3, 3, 3), far))
    own = AFFINE.copy()
    own[:3, :3] *= 0.45
    verdict, remedy = compare_grids(image, Grid((3, 3, 3), own))
    assert not verdict.same and "covers less than 1 % of the image" in remedy


def test_an_image_must_cover_the_other_a_label_need_not() -> None:
    small, large = Grid((4, 4, 4), AFFINE), Grid((6, 6, 6), AFFINE)
    assert fits(small, large, label=False) and not fits(large, small, label=False)
    assert fits(small, large, label=True) and fits(large, small, label=True)


def test_regrid_says_what_it_did_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Volume.from_array(np.zeros((8, 8, 8), np.float32), affine=AFFINE)
    fine = AFFINE.copy()
    fine[:3, :3] /= 2
    fine[:3, 3] -= fine[:3, :3] @ [0.5, 0.5, 0.5]
    marks = np.zeros((16, 16, 16), np.uint8)
    marks[4:12, 4:12, 4:12] = 3
    for name, volume in (("image", image), ("fine", Volume.from_array(marks, affine=fine))):
        save_volume(volume, tmp_path / f"{name}.nii.gz", integer=name == "fine")
    out = tmp_path / "out.nii.gz"
    command = [
        "regrid",
        str(tmp_path / "fine.nii.gz"),
        "--like",
        str(tmp_path / "image.nii.gz"),
        "-o",
        str(out),
    ]
    assert run(command) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(out) and "resampled onto that grid (nearest voxel)" in told.err
    moved = open_volume(out, label=True)
    expected = np.zeros((8, 8, 8), np.uint8)
    expected[2:6, 2:6, 2:6] = 3
    np.testing.assert_array_equal(moved.array, expected)
    assert geometry.compare(image, moved).same
    assert run(command) == 2 and "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("value", [0.5, 0.3])
def test_a_probability_map_is_no_label_whatever_its_slope(tmp_path: Path, value: float) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    array = np.full((4, 4, 4), value)
    array[0] = 0
    array[1] = 1
    nib.save(nib.Nifti1Image(array, AFFINE, header), tmp_path / "p.nii.gz")
    with pytest.raises(DataError, match="no whole numbers"):
        _ = open_volume(tmp_path / "p.nii.gz", label=True).array


def test_the_given_cases(shared_cases: Path) -> None:
    good = open_volume(shared_cases / "labels_good.nii.gz", label=True)
    saved = open_volume(shared_cases / "labels_resaved_by_nibabel.nii.gz", label=True)
    np.testing.assert_array_equal(saved.array, good.array)
    assert any("rounded to the nearest whole number" in note for note in saved.notes)
    image = shared_cases / "image.nii.gz"
    case = CaseRef("c", (image,), shared_cases / "label_cropped_same_lattice.nii.gz").open()
    assert case.label is not None
    np.testing.assert_array_equal(case.label.array, good.array)
    two = [open_volume(shared_cases / f"grid_2um_{name}.nii.gz") for name in ("image", "label")]
    assert geometry.compare(*two).same
    for score in segexplorer.evaluate(
        shared_cases / "eval_pred_lps.nii.gz", shared_cases / "eval_truth_ras.nii.gz"
    ):
        assert score.metrics["dice"] == 1
