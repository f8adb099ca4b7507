"""Real DICOM from scanners and other programs, against SimpleITK and highdicom by world position."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK

from segexplorer.core.errors import DataError
from segexplorer.data.formats.dicom.reader import read_segments
from segexplorer.data.formats.dicom.series import list_series
from segexplorer.data.geometry import compare
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Volume

highdicom = pytest.importorskip("highdicom")  # no wheels for Python 3.14 yet


def by_simpleitk(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    ids = reader.GetGDCMSeriesIDs(str(folder))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), ids[0] if ids else ""))
    return reader.Execute()


@pytest.mark.parametrize(
    ("folder", "shape", "spacing", "low", "high"),
    [
        ("ct_dicom_totalseg/dicom", (512, 512, 20), (0.9766, 0.9766, 2), -1024, 1839),
        ("dicom_small/series_17_slices", (88, 128, 17), (2, 2, 2), 0, 696),
        ("dicom_small/oblique_3_slices", (100, 50, 3), (2.5, 3.5, 4.5), -10, 9.999),
        ("dicom_small/rtstruct_phantom", (512, 512, 2), (0.4883, 0.4883, 5), -3024, 125),
    ],
)
def test_series_have_simpleitks_voxels_at_simpleitks_places(
    shared_data: Path,
    folder: str,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    low: float,
    high: float,
) -> None:
    volume = open_volume(shared_data / folder)
    assert volume.shape == shape
    np.testing.assert_allclose(volume.spacing, spacing, atol=1e-4)
    assert (volume.array.min(), volume.array.max()) == pytest.approx((low, high))
    image = by_simpleitk(shared_data / folder)
    inverse = np.linalg.inv(volume.affine)
    ours = volume.array
    for index in np.random.default_rng(0).integers(0, image.GetSize(), (200, 3)).tolist():
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        at = inverse @ [-x, -y, z, 1]
        np.testing.assert_allclose(at[:3], np.rint(at[:3]), atol=2e-3)
        assert ours[tuple(np.rint(at[:3]).astype(int))] == pytest.approx(image.GetPixel(index))


def test_gantry_tilt_phantom_leans_as_its_header_says(shared_data: Path) -> None:
    folder = shared_data / "dicom_gantry_tilt_phantom"
    volume = open_volume(folder)
    assert "tilted by 18.5 degrees" in volume.notes[0]
    np.testing.assert_allclose(volume.spacing, (0.482422, 0.482422, 2.5), atol=1e-5)
    normal = np.cross(volume.affine[:3, 0], volume.affine[:3, 1])
    between = abs(volume.affine[:3, 2] @ normal / np.linalg.norm(normal))
    assert between == pytest.approx(2.371, abs=1e-3)
    for path in sorted(folder.glob("*.dcm"))[::3]:
        header = pydicom.dcmread(path)
        place = np.array(header.ImagePositionPatient, float) * (-1, -1, 1)
        index = np.linalg.inv(volume.affine) @ [*place, 1]
        np.testing.assert_allclose(index[:2], 0, atol=1e-4)
        raw = header.pixel_array.astype(int) - 1024
        np.testing.assert_array_equal(volume.array[:, :, round(index[2])], raw.T)


def test_labels_of_the_ct_lie_on_its_organs(shared_data: Path) -> None:
    """The label is a NIfTI with rows the other way: by position the liver has the density of liver."""
    volume = open_volume(shared_data / "ct_dicom_totalseg" / "dicom")
    label = open_volume(shared_data / "ct_dicom_totalseg" / "labels.nii.gz", label=True).resampled(
        volume, order=0
    )
    for value, count, density in ((5, 366708, 89), (1, 130634, 80), (32, 23576, 267)):
        inside = label.array == value
        assert inside.sum() == count
        assert volume.array[inside].mean() == pytest.approx(density, abs=0.6)


def test_every_encoding_of_one_slice_and_of_one_multiframe_is_equal(shared_data: Path) -> None:
    folder = shared_data / "dicom_small" / "same_slice_encodings"
    true = pydicom.dcmread(folder / "MR_small.dcm").pixel_array.T[..., None]
    read = 0
    for path in sorted(folder.glob("MR_small*.dcm")):
        volume = open_volume(path)
        np.testing.assert_array_equal(volume.array, true, err_msg=path.name)
        assert volume.spacing == pytest.approx((0.3125, 0.3125, 0.8)) and volume.modality == "MR"
        read += 1
    assert read == 8
    with pytest.raises(DataError, match="cut off"):
        open_volume(folder / "MR_truncated.dcm")
    frames = [open_volume(path).array for path in (shared_data / "dicom_small" / "multiframe").glob("*.dcm")]
    assert len(frames) == 4 and frames[0].shape == (64, 64, 10)
    assert all(np.array_equal(other, frames[0]) for other in frames)


def test_the_listing_of_everything_names_no_patient(shared_data: Path) -> None:
    listed = list_series(shared_data / "dicom_small")
    kinds = [one.kind for one in listed]
    assert kinds.count("structures") == 1 and kinds.count("image") == 9
    words = {"PatientName", "PatientID", "StudyID", "AccessionNumber"}
    for path in (shared_data / "dicom_small").rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        for word in words & set(header.dir()):
            value = str(header.get(word))
            assert len(value) < 4 or not any(value in str(one.facts) for one in listed)


def test_segments_are_those_that_dcmqi_wrote_as_nrrd(shared_data: Path) -> None:
    folder = shared_data / "ct_dicom_seg_dcmqi"
    image = open_volume(folder)
    assert image.shape == (512, 512, 3)
    liver = open_volume(folder / "liver.dcm", label=True, like=image)
    assert liver.label_names == {1: "Liver"} and int((liver.array == 1).sum()) == 107098
    assert 30 < image.array[liver.array == 1].mean() < 70
    segments = read_segments(folder / "partial_overlaps.dcm", like=image)
    assert list(segments.names.values()) == ["GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"]
    for number, file in ((1, 1), (4, 1), (5, 1), (2, 2), (3, 3)):
        nrrd = SimpleITK.ReadImage(str(folder / f"partial_overlaps-{file}.nrrd"))
        theirs = Volume.from_array(SimpleITK.GetArrayFromImage(nrrd).T, affine=lps_affine(nrrd))
        assert compare(theirs, segments.grid).same
        np.testing.assert_array_equal(segments.mask(number), theirs.array == number)
    assert set(segments.overlaps()) == {(1, 2), (1, 3), (2, 3)}


def lps_affine(image: SimpleITK.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def test_the_phantoms_structure_is_its_square_less_its_other_contour(shared_data: Path) -> None:
    folder = shared_data / "dicom_small" / "rtstruct_phantom"
    image = open_volume(folder)
    segments = read_segments(folder / "rt.dcm", like=image)
    assert dict(segments.names) == {1: "ROI-1"}
    mask = segments.mask(1)
    assert not mask[:, :, 1].any()
    index = np.argwhere(mask[:, :, 0])
    world = index * (0.488281, 0.488281) - 125
    assert (world >= -51.001).all() and (world <= -26.999).all()
    # areas by the shoelace rule, mm2; the second contour lies inside the first
    contours = pydicom.dcmread(folder / "rt.dcm").ROIContourSequence[0].ContourSequence
    areas = []
    for contour in contours:
        x, y = np.reshape(contour.ContourData, (-1, 3)).astype(float)[:, :2].T
        areas.append(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)
    assert mask.sum() * 0.488281**2 == pytest.approx(areas[0] - areas[1], rel=0.03)


def test_a_ct_label_survives_dicom_seg_as_highdicom_reads_it(shared_data: Path, tmp_path: Path) -> None:
    volume = open_volume(shared_data / "ct_dicom_totalseg" / "dicom")
    label = open_volume(shared_data / "ct_dicom_totalseg" / "labels.nii.gz", label=True).resampled(
        volume, order=0
    )
    kept = np.where(np.isin(label.array, (1, 5)), label.array, 0)
    from segexplorer.data.formats.dicom.seg import write_seg

    path = write_seg(volume.with_array(kept), tmp_path / "out.dcm", names={1: "Spleen", 5: "Liver"})
    seg = highdicom.seg.segread(path)
    theirs = seg.get_volume(combine_segments=True)
    assert [int((theirs.array == n).sum()) for n in (1, 2)] == [130634, 366708]
    back = open_volume(path, label=True, like=volume)
    np.testing.assert_array_equal(back.array, kept)
    # the same places as in the NIfTI it came from
    nifti = nib.load(shared_data / "ct_dicom_totalseg" / "labels.nii.gz")
    centre = nifti.affine @ [*np.argwhere(np.asarray(nifti.dataobj) == 5).mean(axis=0), 1]
    ours = back.affine @ [*np.argwhere(back.array == 5).mean(axis=0), 1]
    np.testing.assert_allclose(ours[:3], centre[:3], atol=0.01)
