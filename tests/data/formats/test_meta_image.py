"""MetaImage: one file or two, packed or not, every type; geometry against SimpleITK."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume

SHAPE = (4, 5, 6)
VOXELS = np.arange(120, dtype=np.int16).reshape(SHAPE) - 7
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
GIVEN = np.array([[-1.5, 0, 0, 40], [0, -1.5, 0, 50], [0, 0, 3, -10], [0, 0, 0, 1]])


def written(path: Path, data: bytes | None = None, **tags: str | None) -> Path:
    """A file of the volume above; None leaves a tag out."""
    given: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "-40 -50 -10",
        "ElementSpacing": "1.5 1.5 3",
        "DimSize": "4 5 6",
        "ElementType": "MET_SHORT",
    }
    given |= tags
    given["ElementDataFile"] = given.pop("ElementDataFile", "LOCAL")
    text = "".join(f"{tag} = {value}\n" for tag, value in given.items() if value is not None)
    path.write_bytes(text.encode() + (VOXELS.tobytes(order="F") if data is None else data))
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_volume(path, **options).array  # noqa: B018
    assert caught.value.message.endswith(".") and caught.value.remedy
    assert path.name in caught.value.message and str(path.parent) not in str(caught.value)
    return caught.value.message


def their_affine(path: Path) -> Any:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine


def test_one_file_and_two(tmp_path: Path) -> None:
    raw, packed = VOXELS.tobytes(order="F"), zlib.compress(VOXELS.tobytes(order="F"))
    (tmp_path / "v.raw").write_bytes(raw)
    (tmp_path / "v.zraw").write_bytes(packed)
    (tmp_path / "skip.raw").write_bytes(b"head" + raw)
    paths = [
        written(tmp_path / "a.mha"),
        written(tmp_path / "b.mha", packed, CompressedData="True"),
        written(tmp_path / "c.mhd", b"", ElementDataFile="v.raw"),
        written(tmp_path / "d.mhd", b"", ElementDataFile="v.zraw", CompressedData="True"),
        written(tmp_path / "e.mhd", b"", ElementDataFile="skip.raw", HeaderSize="4"),
        written(tmp_path / "f.mhd", b"", ElementDataFile="skip.raw", HeaderSize="-1"),
        written(tmp_path / "g.mha", VOXELS.astype(">i2").tobytes(order="F"), BinaryDataByteOrderMSB="True"),
        written(tmp_path / "h.mha", " ".join(map(str, VOXELS.ravel(order="F"))).encode(), BinaryData="False"),
    ]
    for path in paths:
        volume = open_volume(path)
        assert not volume.loaded and volume.shape == SHAPE and volume.notes == (), path.name
        assert np.array_equal(volume.affine, GIVEN)
        assert np.array_equal(volume.array, VOXELS) and volume.array.dtype == np.int16, path.name


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *[("CHAR", "i1"), ("UCHAR", "u1"), ("USHORT", "u2"), ("INT", "i4"), ("UINT", "u4"), ("LONG", "i4")],
        *[("LONG_LONG", "i8"), ("ULONG_LONG", "u8"), ("FLOAT", "f4"), ("DOUBLE", "f8")],
    ],
)
def test_every_type(tmp_path: Path, kind: str, dtype: str) -> None:
    array = np.abs(VOXELS).astype(dtype)
    path = written(tmp_path / "a.mha", array.tobytes(order="F"), ElementType=f"MET_{kind}")
    assert np.array_equal(open_volume(path).array, array) and open_volume(path).array.dtype == dtype


@pytest.mark.parametrize(
    "tags",
    [
        {"TransformMatrix": "0.8 0.6 0 -0.6 0.8 0 0 0 1"},
        {"TransformMatrix": "0 0 1 1 0 0 0 1 0"},
        {"TransformMatrix": "0 1 0 1 0 0 0 0 1", "CenterOfRotation": "3 4 5", "AnatomicalOrientation": "RAI"},
        {"Offset": None, "Position": "1 2 3"},
        {"ElementSpacing": None, "ElementSize": "2 2 2"},
    ],
)
def test_places_are_those_of_simpleitk(tmp_path: Path, tags: dict[str, str | None]) -> None:
    path = written(tmp_path / "a.mha", **tags)
    np.testing.assert_allclose(open_volume(path).affine, their_affine(path), atol=1e-12)


def test_what_is_left_open_is_assumed_and_told(tmp_path: Path) -> None:
    notes = open_volume(written(tmp_path / "a.mha", ElementSpacing=None)).notes
    assert notes == ("The file does not give its spacing; 1 mm was assumed.",)
    volume = open_volume(written(tmp_path / "b.mha", Offset=None, TransformMatrix=None))
    assert volume.orientation == "LPS" and "does not say where it is in space" in volume.notes[0]
    volume = open_volume(written(tmp_path / "c.mha", DistanceUnits="um"))
    np.testing.assert_allclose(volume.affine[:3], GIVEN[:3] / 1000)
    assert "um" in volume.notes[0]


def test_frames_and_channels(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(-99, 99, (*SHAPE, 3)).astype(np.int16)
    series = written(
        tmp_path / "t.mha",
        frames.tobytes(order="F"),
        NDims="4",
        DimSize="4 5 6 3",
        TransformMatrix="1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
        Offset="-40 -50 -10 0",
        ElementSpacing="1.5 1.5 3 1",
    )
    channels = written(
        tmp_path / "c.mha", np.moveaxis(frames, -1, 0).tobytes(order="F"), ElementNumberOfChannels="3"
    )
    for path in (series, channels):
        assert "holds 3 volumes" in refusal(path)
        for k in range(3):
            volume = open_volume(path, select=k)
            assert np.array_equal(volume.array, frames[..., k]) and np.array_equal(volume.affine, GIVEN)


def test_a_single_slice(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.mha",
        VOXELS[..., 0].tobytes(order="F"),
        NDims="2",
        DimSize="4 5",
        TransformMatrix="1 0 0 1",
        Offset="-40 -50",
        ElementSpacing="1.5 1.5",
    )
    volume = open_volume(path)
    assert volume.shape == (4, 5, 1) and volume.spacing == (1.5, 1.5, 1)
    assert np.array_equal(volume.array[..., 0], VOXELS[..., 0]) and "single slice" in volume.notes[0]


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"ElementType": "MET_STRING"}, "MET_STRING"),
        ({"ElementType": None}, "type unknown"),
        ({"DimSize": "4 5"}, "no size for each of its 3 axes"),
        ({"DimSize": "4 0 6"}, "is no volume"),
        ({"DimSize": "4 5 7"}, "cut off"),
        ({"DimSize": "4 5 5"}, "more voxels"),
        ({"NDims": "many"}, "no count for NDims"),
        ({"NDims": "1", "DimSize": "120"}, "is no volume"),
        ({"ElementSpacing": "1 1 x"}, "no numbers for ElementSpacing"),
        ({"ElementSpacing": "1 1 0"}, "at one place"),
        ({"ElementSpacing": "1 1"}, "not that of 3 axes"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "at one place"),
        ({"ElementDataFile": "gone.raw"}, "missing"),
        ({"ElementDataFile": "LIST"}, "several files"),
        ({"ElementDataFile": "s%02d.raw 1 6 1"}, "several files"),
        ({"ElementToIntensityFunctionSlope": "2"}, "rescale"),
        ({"ElementNumberOfChannels": "0"}, "no count"),
        ({"CompressedData": "True"}, "cut off or damaged"),
        ({"DistanceUnits": "ell"}, "'ell'"),
    ],
)
def test_broken_headers_end_in_a_sentence(tmp_path: Path, tags: dict[str, str | None], said: str) -> None:
    assert said in refusal(written(tmp_path / "a.mha", **tags))


@pytest.mark.parametrize("count", [300, 70_000, 900_000])
@pytest.mark.parametrize(
    "tag", ["Name", "Comment", "ElementSpacing", "DimSize", "ElementType", "DistanceUnits", "ElementDataFile"]
)
def test_a_tag_of_any_length_ends_in_voxels_or_a_short_sentence(tmp_path: Path, tag: str, count: int) -> None:
    """SimpleITK 2.5.7 crashes at a name of 300 characters."""
    for value in ("x" * count, "1 " * (count // 2)):
        path = written(tmp_path / "a.mha", **{tag: value})
        try:
            assert np.array_equal(open_volume(path).array, VOXELS)
        except DataError as error:
            assert len(error.message) < 300 and "\n" not in error.message


@pytest.mark.parametrize("dimensions", ["-8", "0", "11", "80", "4294967299", "9" * 400])
def test_a_wrong_number_of_axes_is_refused(tmp_path: Path, dimensions: str) -> None:
    """SimpleITK 2.5.7 crashes at 80 and at -8."""
    refusal(written(tmp_path / "a.mha", NDims=dimensions))


def test_damaged_voxels_are_never_returned(tmp_path: Path) -> None:
    """SimpleITK 2.5.7 returns what is in memory for a packed .mha that cannot be unpacked."""
    packed = zlib.compress(VOXELS.tobytes(order="F"))
    for place in range(len(packed)):
        damaged = bytearray(packed)
        damaged[place] ^= 0x55
        path = written(
            tmp_path / "a.mha", bytes(damaged), CompressedData="True", CompressedDataSize=str(len(packed))
        )
        assert "cut off or damaged" in refusal(path), place


def test_what_is_no_meta_image(tmp_path: Path) -> None:
    for content, said in [(b"", "empty"), (b"hello\n", "no header"), (b"NDims = 3\n", "without an end")]:
        (tmp_path / "a.mha").write_bytes(content)
        assert said in refusal(tmp_path / "a.mha")
    (tmp_path / "a.mha").write_bytes(b"NDims = 3\nwhat\nElementDataFile = LOCAL\n")
    assert "not belong to MetaImage" in refusal(tmp_path / "a.mha")


def test_a_shear_is_kept(tmp_path: Path) -> None:
    affine = np.array([[1.0, 0, 0, 0], [0, 1, 0.5, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    path = save_volume(Volume.from_array(VOXELS, affine=affine), tmp_path / "tilt.mha")
    np.testing.assert_allclose(open_volume(path).affine, affine, atol=1e-14)
    np.testing.assert_allclose(their_affine(path), affine, atol=1e-12)


def test_the_real_file_is_as_simpleitk_has_it(shared_data: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    for name in ("headers_real/mha.mha", "headers_derived/40_same.mha", "headers_derived/41_same.mhd"):
        path = shared_data / name
        volume = open_volume(path)
        assert np.array_equal(volume.array, sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T)
        np.testing.assert_allclose(volume.affine, their_affine(path), atol=1e-12)
