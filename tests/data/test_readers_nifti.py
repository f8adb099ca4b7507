"""NIfTI: every awkward header ends in the right voxels at the right places, or in one sentence."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from segexplorer.core.errors import DataError
from segexplorer.data.formats import registry
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Volume

LPS = np.array([[-1.0, 0, 0, 40], [0, -2, 0, 50], [0, 0, 3, -10], [0, 0, 0, 1]])
REFUSED = {
    "16_4d_three_frames.nii.gz": "holds 3 volumes",
    "29_rgb24.nii.gz": "colours or complex",
    "31_complex64.nii.gz": "colours or complex",
    "90_truncated.nii.gz": "cut off or damaged",
    "91_short_data.nii": "cut off",
    "92_not_an_image.nii.gz": "not a readable NIfTI",
    "5D_small.nii": "holds 3 volumes",
    "example4d.nii.gz": "holds 2 volumes",
    "example_nifti2.nii.gz": "holds 2 volumes",
    "functional.nii": "holds 20 volumes",
    "not-nifti.nii": "not a readable NIfTI",
}
NOTED = {
    "10_sform2_qform1_disagree.nii.gz": "sform and qform disagree",
    "12_no_forms.nii.gz": "does not say where it is in space",
    "13_nan_in_air.nii.gz": "2 voxels are NaN",
    "14_inf_voxels.nii.gz": "3 voxels are NaN or infinite",
    "19_sheared_sform.nii.gz": "not at right angles",
    "20_units_micron.nii.gz": "micrometres and were converted",
    "23_2d.nii.gz": "single slice",
    "09_oblique.nii.gz": "22 degrees oblique",
    "09_oblique_label.nii.gz": "22 degrees oblique",
    "shear.nii.gz": "sform and qform disagree",
    "someones_epi.nii.gz": "17 degrees oblique",
    "minimal.nii.gz": "does not say where it is in space",
    "resampled_anat_moved.nii": "153 voxels are NaN",
}


def refusal(path: Path, *, label: bool = False) -> DataError:
    """The error that opening and reading a file ends in: one sentence, a remedy, no folder names."""
    with pytest.raises(DataError) as caught:
        open_volume(path, label=label).array  # noqa: B018
    error = caught.value
    assert path.name in error.message and error.remedy
    assert error.message.endswith(".") and error.remedy.endswith((".", "?"))
    assert "\n" not in str(error) and "Traceback" not in str(error)
    return error


def value_at(volume: Volume, world: Any) -> Any:
    """The voxel whose centre is nearest to a world position, by plain arithmetic."""
    index = np.linalg.solve(volume.affine, [*world, 1.0])[:3]
    return volume.array[tuple(np.rint(index).astype(int))]


# --- the shared folders, by iteration ---


@pytest.fixture(scope="module")
def expected(shared_data: Path) -> dict[str, Any]:
    return json.loads((shared_data / "headers_derived" / "expected.json").read_text())


def test_every_derived_header_ends_right_or_in_a_sentence(
    shared_data: Path, expected: dict[str, Any]
) -> None:
    folder, probed, refused = shared_data / "headers_derived", 0, 0
    windowed = {f"{n}_dtype" for n in range(24, 29)}
    for name, facts in expected["files"].items():
        path = folder / name
        if name in REFUSED or not registry.readable(path):
            assert REFUSED.get(name, "no reader knows") in refusal(path).message, name
            refused += 1
            continue
        volume = open_volume(path)
        array = volume.array
        finite = array[np.isfinite(array)]
        mm = 1e-3 if facts.get("units") == "um" else 1.0
        shape = [*facts["shape"][:3], 1][:3]
        assert list(volume.shape) == shape == list(array.shape), name
        np.testing.assert_allclose(
            volume.affine[:3], mm * np.array(facts["affine"])[:3], atol=1e-3, err_msg=name
        )
        assert volume.orientation == facts["axcodes"], name
        np.testing.assert_allclose(volume.spacing, mm * np.array(facts["spacing"]), rtol=1e-4, err_msg=name)
        assert (np.linalg.det(volume.affine) < 0) == facts["left_handed"], name
        assert int(np.isnan(array).sum()) == facts["nan"], name
        np.testing.assert_allclose(
            [finite.min(), finite.max(), finite.mean()],
            [facts["min"], facts["max"], facts["mean_finite"]],
            rtol=1e-5,
            err_msg=name,
        )
        assert array.dtype.isnative, name
        if facts["same_world"] and not any(name.startswith(w) for w in (*windowed, "22", "23", "30")):
            for probe in expected["probes"]:
                assert value_at(volume, probe["world"]) == probe["value"], (name, probe)
                probed += 1
        noted = " ".join(volume.notes)
        assert NOTED.get(name, "") in noted and bool(noted) == (name in NOTED), (name, noted)
    assert probed >= 8 * 12 and refused == 6


def test_labels_of_every_orientation_mark_the_same_places(
    shared_data: Path, expected: dict[str, Any]
) -> None:
    labels = {n: f for n, f in expected["files"].items() if "label_file" in f}
    assert len(labels) == 5
    for name, facts in labels.items():
        image = open_volume(shared_data / "headers_derived" / name)
        label = open_volume(shared_data / "headers_derived" / facts["label_file"], label=True)
        assert label.array.dtype == np.uint8
        assert np.array_equal(label.affine, image.affine) and label.shape == image.shape
        counts = {str(v): int((label.array == v).sum()) for v in np.unique(label.array)}
        assert counts == expected["label_counts"], name
        if facts["same_world"]:
            for value, world in expected["label_world_centroid"].items():
                centre = ndimage.center_of_mass(label.array == int(value))
                np.testing.assert_allclose((label.affine @ [*centre, 1])[:3], world, atol=0.01)
            assert all(value_at(label, p["world"]) == p["label"] for p in expected["probes"])


def test_every_real_header_reads_as_nibabel_reads_it_or_ends_in_a_sentence(shared_data: Path) -> None:
    read = 0
    for path in sorted((shared_data / "headers_real").iterdir()):
        if path.suffix == ".mha":
            continue
        if path.name in REFUSED or not registry.readable(path):
            assert REFUSED.get(path.name, "no reader knows") in refusal(path).message, path.name
            continue
        volume, reference = open_volume(path), nib.load(path)
        np.testing.assert_allclose(
            volume.array, reference.get_fdata().reshape(volume.shape, order="F"), rtol=1e-6, err_msg=path.name
        )
        np.testing.assert_array_equal(volume.affine, reference.affine)
        noted = " ".join(volume.notes)
        assert NOTED.get(path.name, "") in noted and bool(noted) == (path.name in NOTED), (path.name, noted)
        read += 1
    assert read >= 9


def test_big_and_little_endian_are_one_image(shared_data: Path) -> None:
    big, little = (open_volume(shared_data / "headers_real" / f"{n}.nii.gz") for n in ("big", "little"))
    assert np.array_equal(big.array, little.array) and np.array_equal(big.affine, little.affine)


# --- single files that go wrong ---


def header_of(shape: tuple[int, ...], dtype: str = "int16") -> Any:
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_sform(LPS, 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return header


def test_a_small_gz_that_claims_gigabytes_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(header_of((1290, 1290, 1290)).binaryblock + bytes(4)))
    assert path.stat().st_size < 150
    tracemalloc.start()
    error = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "cut off" in error.message and "4,293,378,000 bytes" in error.message
    assert peak < 20e6


def test_a_plain_file_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "liar.nii"
    path.write_bytes(header_of((32767, 32767, 32767), "float64").binaryblock + bytes(100))
    assert "cut off" in refusal(path).message


def test_a_volume_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.nii"
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), LPS), path)
    monkeypatch.setattr("segexplorer.data.formats.voxels.MAX_BYTES", 1000)
    error = refusal(path)
    assert "limit" in error.message and "Crop" in error.remedy


def test_missing_empty_folder_and_wrong_suffix(tmp_path: Path) -> None:
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "text.nii.gz").write_text("this is no image\n" * 100)
    (tmp_path / "text.nii").write_text("this is no image\n" * 100)
    assert "There is no file" in refusal(tmp_path / "absent.nii.gz").message
    assert "is empty" in refusal(tmp_path / "empty.nii.gz").message
    assert "is a folder" in refusal(tmp_path / "folder.nii.gz").message
    assert ".nii.gz" in refusal(tmp_path / "notes.txt").remedy
    assert "not a readable NIfTI" in refusal(tmp_path / "text.nii.gz").message
    assert "not a readable NIfTI" in refusal(tmp_path / "text.nii").message


@pytest.mark.parametrize("kept", [1, 20, 200, 0.3, 0.999])
def test_a_gz_cut_anywhere_is_reported(tmp_path: Path, kept: float) -> None:
    whole = tmp_path / "whole.nii.gz"
    noise = np.random.default_rng(0).integers(0, 2000, (20, 20, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, LPS), whole)
    content = whole.read_bytes()
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    refusal(path)


def test_damaged_bytes_inside_a_gz_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "damaged.nii.gz"
    noise = np.random.default_rng(0).integers(0, 2000, (20, 20, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, LPS), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
    path.write_bytes(content)
    assert "damaged" in refusal(path).message


def test_a_file_that_vanishes_after_opening_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), LPS), path)
    volume = open_volume(path)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        volume.array  # noqa: B018


@pytest.mark.parametrize("packed", [False, True])
def test_a_pair_reads_from_either_name_and_misses_its_other_half(tmp_path: Path, packed: bool) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    end = ".gz" if packed else ""
    head, body = tmp_path / f"scan.hdr{end}", tmp_path / f"scan.img{end}"
    nib.save(nib.Nifti1Pair(array, LPS), tmp_path / f"scan.img{end}")
    assert head.exists() and body.exists()
    for path in (head, body):
        assert np.array_equal(open_volume(path).array, array)
        assert np.array_equal(open_volume(path).affine, LPS)
    body.rename(tmp_path / "elsewhere")
    assert "missing" in refusal(head).message
    (tmp_path / "elsewhere").rename(body)
    head.unlink()
    refusal(body)


def test_analyze_is_refused_because_it_does_not_say_left_from_right(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "old.img")
    assert "left from right" in refusal(tmp_path / "old.hdr").message


def test_capital_suffixes_and_dots_in_names(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.int16), LPS), tmp_path / "a.nii.gz")
    for name in ("PATIENT.1.2.NII.GZ", "scan.v2.nii.gz", "scan 1 (copy).nii.gz", "Größe.nii.gz"):
        shutil.copy(tmp_path / "a.nii.gz", tmp_path / name)
        assert open_volume(tmp_path / name).array.sum() == 60


def changed(tmp_path: Path, change: Callable[[Any], None], array: Any = None) -> Path:
    """A file whose header was changed behind nibabel's back."""
    path = tmp_path / "changed.nii"
    data = np.zeros((4, 5, 6), np.int16) if array is None else array
    image = nib.Nifti1Image(data, LPS)
    image.set_qform(LPS, 1)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    change(header)
    content[:348] = header.binaryblock
    path.write_bytes(content)
    return path


def test_a_singular_sform_is_refused(tmp_path: Path) -> None:
    def flatten(header: Any) -> None:
        header["srow_z"] = 0

    error = refusal(changed(tmp_path, flatten))
    assert "singular" in error.message and "Correct its header" in error.remedy


def test_a_form_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    def break_it(header: Any) -> None:
        header["srow_x"] = np.nan

    assert "singular" in refusal(changed(tmp_path, break_it)).message


def test_a_broken_qform_does_no_harm_beside_an_sform(tmp_path: Path) -> None:
    def break_it(header: Any) -> None:
        header["quatern_b"] = 3

    volume = open_volume(changed(tmp_path, break_it))
    assert np.array_equal(volume.affine, LPS)
    assert any("the qform is broken" in note for note in volume.notes)


def test_a_broken_qform_alone_is_refused(tmp_path: Path) -> None:
    def break_it(header: Any) -> None:
        header["quatern_b"], header["sform_code"] = 3, 0

    assert "qform is broken" in refusal(changed(tmp_path, break_it)).message


@pytest.mark.parametrize(
    ("unit", "factor", "word"), [("meter", 1000, "metres"), ("micron", 1e-3, "micrometres")]
)
def test_units_become_millimetres(tmp_path: Path, unit: str, factor: float, word: str) -> None:
    path = changed(tmp_path, lambda header: header.set_xyzt_units(unit))
    volume = open_volume(path)
    np.testing.assert_allclose(volume.affine[:3], LPS[:3] * factor)
    assert any(word in note for note in volume.notes)
    assert any("implausible" in note for note in volume.notes) == (unit == "meter")


def test_trailing_axes_of_one_are_dropped_and_thin_volumes_kept(tmp_path: Path) -> None:
    for shape, kept in [((4, 5, 6, 1, 1), (4, 5, 6)), ((4, 5, 1, 1), (4, 5, 1)), ((1, 5, 6), (1, 5, 6))]:
        array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
        nib.save(nib.Nifti1Image(array, LPS), tmp_path / "axes.nii.gz")
        volume = open_volume(tmp_path / "axes.nii.gz")
        assert volume.shape == kept and np.array_equal(volume.array, array.reshape(kept))


def test_a_column_of_voxels_is_no_volume(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((9, 1, 1), np.int16), LPS), tmp_path / "line.nii")
    assert "is 1D" in refusal(tmp_path / "line.nii").message


# --- labels ---


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_labels_are_integers_whatever_they_are_stored_as(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.array([0, 1, 2, 117] * 6).reshape(2, 3, 4)
    stored = values.astype(np.dtype(dtype).newbyteorder(order))
    header = nib.Nifti1Header(endianness=order)
    nib.save(nib.Nifti1Image(stored, LPS, header), tmp_path / "label.nii")
    volume = open_volume(tmp_path / "label.nii", label=True)
    assert volume.array.dtype.kind in "iu" and volume.array.dtype.isnative
    assert np.array_equal(volume.array, values) and volume.modality == "unknown"


@pytest.mark.parametrize("bad", [0.4, np.nan, np.inf, 1e12])
def test_labels_that_are_no_whole_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    values = np.ones((2, 3, 4))
    values[0, 0, 0] = bad
    nib.save(nib.Nifti1Image(values, LPS), tmp_path / "label.nii")
    assert "label" in refusal(tmp_path / "label.nii", label=True).message
    assert open_volume(tmp_path / "label.nii").array.shape == (2, 3, 4)


def test_a_label_scaled_by_its_header_is_read_scaled(tmp_path: Path) -> None:
    path = changed(
        tmp_path, lambda h: h.set_slope_inter(2, 1), np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    )
    assert np.array_equal(open_volume(path, label=True).array, 2 * np.arange(24).reshape(2, 3, 4) + 1)


def test_scaling_keeps_large_integers_exact(tmp_path: Path) -> None:
    array = np.array([[[2**24 + 1, 2**30 + 1]]], dtype=np.int32).repeat(2, 0).repeat(2, 1)
    path = changed(tmp_path, lambda h: h.set_slope_inter(1, -1024), array)
    assert np.array_equal(open_volume(path).array, array.astype(np.float64) - 1024)


def test_header_bytes_are_where_the_standard_says(tmp_path: Path) -> None:
    """An independent reading of dim, pixdim and srow by the offsets of the NIfTI-1 standard."""
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), LPS), path)
    content, volume = path.read_bytes(), open_volume(path)
    assert struct.unpack_from("<4h", content, 40) == (3, *volume.shape)
    assert struct.unpack_from("<3f", content, 80) == volume.spacing
    assert np.array_equal(np.reshape(struct.unpack_from("<12f", content, 280), (3, 4)), volume.affine[:3])
