"""DICOM series written by hand: every odd thing a scanner, an archive or an anonymiser leaves in a folder."""

from __future__ import annotations

import itertools
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, MissingExtraError
from segexplorer.data.case import CaseRef
from segexplorer.data.formats.dicom.series import SeveralSeriesError, list_series
from segexplorer.data.geometry import is_sheared
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume
from segexplorer.testing.dicom import write_enhanced, write_series


def stored(slices: int = 6, seed: int = 0, dtype: Any = np.uint16) -> NDArray[Any]:
    """(slices, rows, columns) random values of 12 bits."""
    return np.random.default_rng(seed).integers(0, 4096, (slices, 7, 5)).astype(dtype)


def hounsfield(voxels: NDArray[Any]) -> NDArray[Any]:
    """What a series of these stored values is, in index order (column, row, slice)."""
    return (voxels.astype(float) - 1024).transpose(2, 1, 0)


def refusal(path: Path, **how: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        _ = open_volume(path, **how).array
    assert caught.value.remedy and caught.value.message.endswith(".")
    return caught.value


def values_along(volume: Volume, lps: Any) -> Any:
    """The voxel at a world position (LPS mm)."""
    x, y, z = lps
    index = np.linalg.inv(volume.affine) @ [-x, -y, z, 1]
    np.testing.assert_allclose(index[:3], np.rint(index[:3]), atol=1e-4)
    return volume.array[tuple(np.rint(index[:3]).astype(int))]


def test_a_series_is_the_voxels_written_where_they_were_written(tmp_path: Path) -> None:
    voxels = stored()
    write_series(tmp_path, voxels)
    volume = open_volume(tmp_path)
    assert volume.shape == (5, 7, 6) and volume.orientation == "LPS" and not volume.loaded
    np.testing.assert_allclose(volume.spacing, (0.5, 0.75, 2))
    np.testing.assert_array_equal(volume.array, hounsfield(voxels))
    assert volume.array.dtype == np.int16 and volume.modality == "CT" and volume.notes == ()
    assert values_along(volume, (-20 + 3 * 0.5, -30 + 5 * 0.75, 40 + 4 * 2)) == voxels[4, 5, 3] - 1024.0


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1),
    st.floats(0, 6.28),
    st.floats(0.2, 3),
    st.floats(0.3, 7),
    st.booleans(),
)
def test_oblique_series_lie_where_simpleitk_puts_them(
    tmp_path_factory: pytest.TempPathFactory,
    normal: tuple[float, ...],
    turn: float,
    pixel: float,
    gap: float,
    downwards: bool,
) -> None:
    """Any orientation of the slices; the files in either order of positions."""
    axis = np.asarray(normal) / np.linalg.norm(normal)
    helper = np.eye(3)[np.abs(axis).argmin()]
    u = np.cross(axis, helper)
    u /= np.linalg.norm(u)
    row = np.cos(turn) * u + np.sin(turn) * np.cross(axis, u)
    column = np.cross(axis, row)
    folder = tmp_path_factory.mktemp("oblique")
    step = np.asarray(np.cross(row, column)) * gap * (-1 if downwards else 1)
    paths = write_series(
        folder, stored(4), across=[*row, *column], spacing=(pixel, pixel * 1.5), step=step.tolist()
    )
    volume = open_volume(folder)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in (paths[::-1] if downwards else paths)])
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array, SimpleITK.GetArrayFromImage(image).T)
    for index in itertools.product((0, 4), (0, 6), (0, 3)):
        lps = np.asarray(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], lps * (-1, -1, 1), atol=1e-3)


def test_several_series_are_listed_without_the_patient_and_one_is_chosen(tmp_path: Path) -> None:
    first, second = stored(6, 1), stored(3, 2)
    write_series(tmp_path / "a", first, number=4)
    write_series(tmp_path / "b", second, number=2, step=(2.0, 0, 0), across=(0, 1, 0, 0, 0, -1))
    listed = list_series(tmp_path)
    assert [one.facts["voxels"] for one in listed] == ["5 × 7 × 3", "5 × 7 × 6"]
    assert [one.facts["orientation"] for one in listed] == ["PIR", "LPS"]
    assert not any("Planted" in str(one.facts) or "PLANTED" in str(one.facts) for one in listed)
    error = refusal(tmp_path)
    assert "holds 2 series: 1: CT, 5 × 7 × 3" in error.message and "--series 1" in error.remedy
    np.testing.assert_array_equal(open_volume(tmp_path, select=2).array, hounsfield(first))
    np.testing.assert_array_equal(open_volume(tmp_path, select="1").array.min(), second.min() - 1024.0)
    assert "no series 3" in refusal(tmp_path, select=3).message


def test_a_localizer_in_the_same_series_is_a_volume_of_its_own(tmp_path: Path) -> None:
    voxels = stored()
    write_series(tmp_path, voxels, series="1.2.3", number=1)
    write_series(tmp_path / "scout", stored(1), series="1.2.3", across=(0, 1, 0, 0, 0, -1))
    assert sorted(one.shape[2] for one in list_series(tmp_path)) == [1, 6]


def test_orientations_that_differ_by_rounding_are_one_volume(tmp_path: Path) -> None:
    def jitter(data: Any, k: int) -> None:
        data.ImageOrientationPatient = [
            "0.8775",
            f"{0.4794999 + 2e-7 * k:.7f}",
            "0",
            "-0.4795",
            "0.8775",
            "0",
        ]

    write_series(tmp_path, stored(), change=jitter)
    assert open_volume(tmp_path).shape == (5, 7, 6)


def test_time_points_at_one_place_are_parted(tmp_path: Path) -> None:
    early, late = stored(4, 1), stored(4, 2)

    def at_time(time: int) -> Any:
        def change(data: Any, k: int) -> None:
            data.TemporalPositionIdentifier = time
            data.InstanceNumber = 2 * k + time

        return change

    write_series(tmp_path / "1", early, series="1.2.3", change=at_time(1))
    write_series(tmp_path / "2", late, series="1.2.3", change=at_time(2))
    assert [one.shape for one in list_series(tmp_path)] == [(5, 7, 4)] * 2
    np.testing.assert_array_equal(open_volume(tmp_path, select=1).array, hounsfield(early))
    np.testing.assert_array_equal(open_volume(tmp_path, select=2).array, hounsfield(late))


def test_slices_that_are_there_twice_are_taken_once(tmp_path: Path) -> None:
    voxels = stored()
    write_series(tmp_path, voxels, series="1.2.3")
    write_series(tmp_path / "again", voxels[2:3], series="1.2.3", at=[2])
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, hounsfield(voxels))
    assert "there twice" in volume.notes[0]


def test_different_slices_at_one_place_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, stored(), series="1.2.3")
    write_series(tmp_path / "again", stored(1, seed=9), series="1.2.3", at=[2])
    assert "at the same position" in refusal(tmp_path).message


def test_missing_slices_are_filled_and_said(tmp_path: Path) -> None:
    voxels = stored(5)
    write_series(tmp_path, voxels, at=[0, 1, 3, 4, 7])
    volume = open_volume(tmp_path)
    assert volume.shape[2] == 8 and "3 slices are missing (after slice 2, 4 of 5)" in volume.notes[0]
    true = hounsfield(voxels)
    for k, where in enumerate([0, 1, 3, 4, 7]):
        np.testing.assert_array_equal(volume.array[:, :, where], true[:, :, k])
    np.testing.assert_allclose(volume.array[:, :, 2], (true[:, :, 1] + true[:, :, 2]) / 2, atol=0.5)
    np.testing.assert_allclose(volume.array[:, :, 5], (2 * true[:, :, 3] + true[:, :, 4]) / 3, atol=0.5)
    np.testing.assert_allclose(volume.spacing[2], 2)


def test_uneven_slices_are_interpolated_where_they_lie(tmp_path: Path) -> None:
    """A ramp along z stays the ramp, at true positions."""
    at = np.array([0, 1, 2, 3.4, 4.5, 5.5, 6.5, 7.9])
    ramp = np.repeat((1000 + 100 * at).astype(np.uint16), 35).reshape(-1, 7, 5)
    write_series(tmp_path, ramp, at=at.tolist())
    volume = open_volume(tmp_path)
    assert "uneven, 2 to 2.8 mm apart" in volume.notes[0]
    for k in range(volume.shape[2]):
        z = (volume.affine @ [0, 0, k, 1])[2]
        np.testing.assert_allclose(volume.array[:, :, k], 1000 + 100 * (z - 40) / 2 - 1024, atol=1)
    assert (volume.affine @ [0, 0, volume.shape[2] - 1, 1])[2] == pytest.approx(40 + 2 * 7.9)


def test_scattered_positions_are_evened_and_said(tmp_path: Path) -> None:
    voxels = stored()
    write_series(tmp_path, voxels, at=[0, 1.02, 2, 2.98, 4, 5])
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, hounsfield(voxels))
    assert "scatter by up to 0.04 mm" in volume.notes[0]


@pytest.mark.parametrize(
    ("at", "words"),
    [([0, 1, 2, 30, 31, 32], "27 of them in a row"), ([0, 1, 2.3, 3.1, 40, 41.7], "gaps too large to fill")],
)
def test_series_in_pieces_are_refused(tmp_path: Path, at: list[float], words: str) -> None:
    write_series(tmp_path, stored(), at=at)
    assert words in refusal(tmp_path).message


def test_slices_beside_each_other_are_refused(tmp_path: Path) -> None:
    def shift(data: Any, k: int) -> None:
        data.ImagePositionPatient = [-20 + 5 * (k % 2), -30, 40 + 2 * k]

    write_series(tmp_path, stored(), change=shift)
    assert "shifted against each other by up to 4 mm" in refusal(tmp_path).message


def test_gantry_tilt_is_a_sheared_grid_exact_at_every_voxel(tmp_path: Path) -> None:
    voxels = stored()
    angle = np.radians(20)
    across = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    write_series(tmp_path, voxels, across=across, step=(0, 0, 3.0))
    volume = open_volume(tmp_path)
    assert is_sheared(volume.affine) and "tilted by 20.0 degrees" in volume.notes[0]
    place = np.array([-20, -30, 40]) + 3 * 0.5 * np.array(across[:3]) + 5 * 0.75 * np.array(across[3:])
    assert values_along(volume, place + np.array([0, 0, 4 * 3.0])) == voxels[4, 5, 3] - 1024.0


def test_rescale_may_differ_from_slice_to_slice(tmp_path: Path) -> None:
    voxels = stored()

    def change(data: Any, k: int) -> None:
        data.RescaleSlope, data.RescaleIntercept = 0.5 + k, -10.25 * k

    write_series(tmp_path, voxels, change=change)
    expected = np.stack([voxels[k] * (0.5 + k) - 10.25 * k for k in range(6)]).transpose(2, 1, 0)
    array = open_volume(tmp_path).array
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32])
def test_every_integer_type_keeps_its_extremes(tmp_path: Path, dtype: Any) -> None:
    info = np.iinfo(dtype)
    voxels = np.full((3, 7, 5), info.min, dtype)
    voxels[1, 2, 3], voxels[2] = info.max, 5
    write_series(tmp_path, voxels, intercept=-7)
    array = open_volume(tmp_path).array
    np.testing.assert_array_equal(array, voxels.astype(np.int64).transpose(2, 1, 0) - 7)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_that_do_not_belong_to_the_value_are_taken_off(tmp_path: Path, signed: bool) -> None:
    true = stored(3).astype(np.int32) - (2048 if signed else 0)

    def change(data: Any, k: int) -> None:
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, int(signed)

    drawn = ((true & 0xFFF) | 0xA000).astype(np.uint16)
    write_series(tmp_path, drawn, intercept=0, change=change)
    np.testing.assert_array_equal(open_volume(tmp_path).array, true.transpose(2, 1, 0))


def test_monochrome1_is_turned_over_and_said(tmp_path: Path) -> None:
    voxels = stored()

    def change(data: Any, k: int) -> None:
        data.PhotometricInterpretation, data.BitsStored, data.HighBit = "MONOCHROME1", 12, 11

    write_series(tmp_path, 4095 - voxels, change=change)
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, hounsfield(voxels))
    assert "MONOCHROME1" in volume.notes[0]


def test_big_endian_implicit_and_files_without_preamble(tmp_path: Path) -> None:
    voxels = stored()

    def change(data: Any, k: int) -> None:
        if k < 2:
            data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
            data.PixelData = voxels[k].astype(">u2").tobytes()
        elif k < 4:
            data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"

    paths = write_series(tmp_path, voxels, change=change)
    paths[2].write_bytes(paths[2].read_bytes()[132:])
    paths[5].write_bytes(paths[5].read_bytes()[132:])
    np.testing.assert_array_equal(open_volume(tmp_path).array, hounsfield(voxels))


def test_a_single_file_is_one_slice_and_says_so(tmp_path: Path) -> None:
    voxels = stored()
    path = write_series(tmp_path, voxels)[3]
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.array, hounsfield(voxels)[:, :, 3:4])
    np.testing.assert_allclose(volume.spacing, (0.5, 0.75, 2))
    assert "one slice" in volume.notes[0]


def test_enhanced_multiframe_in_any_order_with_a_scale_per_frame(tmp_path: Path) -> None:
    voxels = stored(4)
    places = [(-5.0, 6.0, 10 + 3.0 * k) for k in (2, 0, 3, 1)]
    scales = [(2.0, 10.0 * k) for k in range(4)]
    path = write_enhanced(tmp_path / "mr.dcm", voxels, places, scales=scales)
    volume = open_volume(path)
    assert volume.modality == "MR" and volume.notes == ()
    for k, place in enumerate(places):
        assert values_along(volume, place) == 2.0 * voxels[k, 0, 0] + 10.0 * k
    np.testing.assert_allclose(volume.spacing, (0.5, 0.75, 3))


def test_enhanced_time_points_are_volumes_to_choose_from(tmp_path: Path) -> None:
    voxels = stored(6)
    places = [(0.0, 0.0, 3.0 * (k % 3)) for k in range(6)]
    path = write_enhanced(tmp_path / "mr.dcm", voxels, places, times=[1, 1, 1, 2, 2, 2])
    assert "holds 2 series" in refusal(path).message
    np.testing.assert_array_equal(open_volume(path, select=2).array, voxels[3:].transpose(2, 1, 0))


def test_an_archive_reads_as_its_folder_and_is_never_unpacked(tmp_path: Path) -> None:
    voxels = stored()
    paths = write_series(tmp_path / "in", voxels)
    packed = tmp_path / "study.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, f"patient/series/{path.name}")
        archive.writestr("patient/readme.txt", "no image")
        archive.writestr("__MACOSX/._x.dcm", "no image")
    before = sorted(tmp_path.rglob("*"))
    volume = open_volume(packed)
    np.testing.assert_array_equal(volume.array, hounsfield(voxels))
    np.testing.assert_array_equal(volume.affine, open_volume(tmp_path / "in").affine)
    assert sorted(tmp_path.rglob("*")) == before
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume)).array, hounsfield(voxels))


def test_archives_that_cannot_be_trusted_are_refused(tmp_path: Path) -> None:
    def packed(name: str, data: bytes, kind: int = zipfile.ZIP_DEFLATED) -> Path:
        path = tmp_path / "bad.zip"
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr(name, data)
        return path

    assert "points out of the archive" in refusal(packed("../../etc/x.dcm", b"x")).message
    assert "points out of the archive" in refusal(packed("/etc/x.dcm", b"x")).message
    assert "unpack to more than" in refusal(packed("x.dcm", bytes(2**24), zipfile.ZIP_BZIP2)).message
    assert "holds no DICOM file" in refusal(packed("x.txt", b"text")).message
    broken = tmp_path / "broken.zip"
    broken.write_bytes(packed("x.dcm", bytes(999)).read_bytes()[:-30])
    assert "not a readable zip" in refusal(broken).message


def test_a_truncated_slice_spoils_its_series_in_one_sentence(tmp_path: Path) -> None:
    paths = write_series(tmp_path, stored())
    paths[2].write_bytes(paths[2].read_bytes()[:-10])
    assert f"{paths[2].name} is cut off" in refusal(tmp_path).message
    paths[2].write_bytes(paths[2].read_bytes()[:200])
    assert paths[2].name in refusal(tmp_path).message
    paths[2].write_bytes(b"")
    assert open_volume(tmp_path).notes  # an empty file is none of the series, which then lacks a slice


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Rows": 60000, "Columns": 60000}, "cut off"),
        ({"Rows": 0}, ""),
        ({"NumberOfFrames": 10**7}, "cut off"),
        ({"BitsStored": 40}, "40 bits up to bit 15 of 16"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "orientation"),
        ({"PixelSpacing": [0, 0]}, "pixel spacing of 0"),
        ({"SamplesPerPixel": 3, "Rows": 1}, "colours"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic of many slices"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    def lie(data: Any, k: int) -> None:
        for word, value in change.items():
            setattr(data, word, value)

    write_series(tmp_path, stored(), change=lie)
    assert words in refusal(tmp_path).message


def test_a_case_of_a_folder_and_its_fingerprint(tmp_path: Path) -> None:
    write_series(tmp_path / "a", stored())
    write_series(tmp_path / "b", stored(seed=1))
    first, second = (CaseRef(name, (tmp_path / name,)) for name in "ab")
    assert first.open().images[0].shape == (5, 7, 6)
    assert first.fingerprint() == first.fingerprint() != second.fingerprint()


def test_a_folder_without_dicom_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x" * 300)
    assert "holds no DICOM file" in refusal(tmp_path).message


def test_a_classic_file_of_many_frames_tells_where_the_first_lies(tmp_path: Path) -> None:
    """As radiotherapy doses do, by offsets."""
    voxels = stored(4)

    def many(data: Any, k: int) -> None:
        data.NumberOfFrames, data.GridFrameOffsetVector = 4, [0, 3, 6, 9]
        data.PixelData = voxels.tobytes()
        del data.RescaleSlope, data.RescaleIntercept
        data.DoseGridScaling, data.Modality = 0.25, "RTDOSE"

    (path,) = write_series(tmp_path, voxels[:1], change=many)
    write_series(tmp_path, voxels, number=2)
    assert open_volume(tmp_path).modality == "CT" and open_volume(tmp_path, select=1).shape == (5, 7, 4)
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.array, (voxels * 0.25).transpose(2, 1, 0))
    assert values_along(volume, (-20, -30, 40 + 6)) == voxels[2, 0, 0] * 0.25


def test_frames_that_do_not_say_where_they_lie_are_stacked_and_it_is_said(tmp_path: Path) -> None:
    voxels = stored()

    def lost(data: Any, k: int) -> None:
        del data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing

    write_series(tmp_path, voxels, change=lost)
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, hounsfield(voxels))
    assert "does not say where it is in space" in volume.notes[0] and "1 mm was assumed" in volume.notes[1]


def test_the_choice_of_a_series_travels_with_the_error(tmp_path: Path) -> None:
    for number in (1, 2):
        write_series(tmp_path / str(number), stored(3), number=number)
    with pytest.raises(SeveralSeriesError) as caught:
        open_volume(tmp_path)
    again = pickle.loads(pickle.dumps(caught.value))
    assert [one.facts["voxels"] for one in again.series] == ["5 × 7 × 3"] * 2
    assert [one.number for one in again.series] == [1, 2]


def test_writing_segments_names_the_package_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """highdicom has no wheels for Python 3.14 yet."""
    write_series(tmp_path / "ct", stored(3))
    image = open_volume(tmp_path / "ct")
    label = image.with_array((image.array > 0).astype(np.uint8))
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(
        MissingExtraError, match=r"^Writing DICOM SEG needs .*highdicom.*: pip install highdicom$"
    ):
        save_volume(label, tmp_path / "out.dcm", integer=True)
    assert not (tmp_path / "out.dcm").exists()


def test_padding_is_not_mixed_into_slices_that_are_filled(tmp_path: Path) -> None:
    voxels = np.full((3, 6, 5), 1000, np.uint16)
    voxels[2] = 1200
    voxels[2, 0] = 63536

    def padded(data: Any, number: int) -> None:
        data.add_new("PixelPaddingValue", "US", 63536)

    write_series(tmp_path, voxels, at=[0, 1, 4], change=padded)
    found = open_volume(tmp_path).array
    assert found.shape == (5, 6, 5)
    # slices 2 and 3 are filled between 1 and 4; where 4 holds padding, the nearer of the two counts alone
    assert (found[:, 0, 1] == -24).all() and (found[:, 0, 2] == -24).all()
    assert (found[:, 0, 3] == 63536 - 1024).all() and (found[:, 0, 4] == 63536 - 1024).all()
    assert (found[:, 1:, 2] == round(-24 + 200 / 3)).all() and (found[:, 1:, 3] == round(-24 + 400 / 3)).all()


def test_a_rescale_slope_of_0_is_said(tmp_path: Path) -> None:
    voxels = stored(3)
    write_series(tmp_path, voxels, slope=0)
    volume = open_volume(tmp_path)
    assert "rescale slope of 0" in " ".join(volume.notes)
    np.testing.assert_array_equal(volume.array, hounsfield(voxels))


# --- odd pixel bytes, and files without frames ---


@pytest.mark.parametrize("shift", [-3, -1, 1, 7])
@pytest.mark.parametrize("bits", [8, 16])
def test_pixel_data_of_an_odd_length(shift: int, bits: int, tmp_path: Path) -> None:
    stored = np.arange(75).reshape(3, 5, 5).astype(np.uint8 if bits == 8 else np.uint16)
    for path in write_series(tmp_path, stored, slope=1, intercept=0):
        content = bytearray(path.read_bytes())
        place = content.rfind(b"\xe0\x7f\x10\x00")
        place += 8 if content[place + 4 : place + 6] in (b"OW", b"OB") else 4
        length = int.from_bytes(content[place : place + 4], "little")
        content[place : place + 4] = (length + shift).to_bytes(4, "little")
        path.write_bytes(content)
    spare = 1 if bits == 8 else 0  # DICOM pads 25 bytes to 26
    if shift < -spare:
        with pytest.raises(DataError, match="cut off"):
            np.asarray(open_volume(tmp_path).array)
    else:
        assert np.array_equal(np.asarray(open_volume(tmp_path).array), stored.transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"PixelData": None}, "cut off before its voxels"),
        ({"PixelData": b""}, "cut off"),
        ({"PixelData": None, "NumberOfFrames": 0, "PerFrameFunctionalGroupsSequence": None}, "cut off"),
        ({"PerFrameFunctionalGroupsSequence": [], "NumberOfFrames": 0}, None),
        ({"PixelData": None, "Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "holds no"),
        ({"PixelData": None, "Rows": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66"}, "holds no"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "PixelData": None, "NumberOfFrames": 0}, "cut off"),
    ],
)
def test_a_file_without_frames_is_a_sentence(
    change: dict[str, Any], told: str | None, tmp_path: Path
) -> None:
    path = write_enhanced(tmp_path / "one.dcm", np.ones((3, 4, 4), np.uint16), [(0, 0, k) for k in range(3)])
    data = pydicom.dcmread(path)
    for name, value in change.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    if "SOPClassUID" in change:
        data.file_meta.MediaStorageSOPClassUID = change["SOPClassUID"]
    data.save_as(path)
    list_series(tmp_path)
    if told is None:
        assert np.asarray(open_volume(path).array).size
        return
    for place in (path, tmp_path):
        with pytest.raises(DataError, match=told):
            np.asarray(open_volume(place).array)
