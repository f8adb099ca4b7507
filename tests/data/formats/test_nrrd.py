"""NRRD: attached and detached, all encodings, axes that are none of space, segmentations; against SimpleITK."""

from __future__ import annotations

import bz2
import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data.formats.voxels import SeveralVolumesError
from segexplorer.data.io import open_volume

SHAPE = (4, 5, 6)
VOXELS = np.arange(120, dtype=np.int16).reshape(SHAPE) - 7
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
GIVEN = np.array([[-1.5, 0, 0, 40], [0, -1.5, 0, 50], [0, 0, 3, -10], [0, 0, 0, 1]])


def header(**fields: str | None) -> bytes:
    """A header of the volume above; None leaves a field out, "kinds" etc. are added."""
    given: dict[str, str | None] = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "4 5 6",
        "space directions": "(1.5,0,0) (0,1.5,0) (0,0,3)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(-40,-50,-10)",
    }
    named = {key if key.startswith("Segment") else key.replace("_", " "): v for key, v in fields.items()}
    given |= named
    lines = [f"{key}: {value}\n" for key, value in given.items() if value is not None]
    return ("NRRD0004\n# a comment: with a colon\n" + "".join(lines)).encode()


def written(path: Path, data: bytes | None = None, end: bytes = b"\n", **fields: str | None) -> Path:
    path.write_bytes(header(**fields) + end + (VOXELS.tobytes(order="F") if data is None else data))
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_volume(path, **options).array  # noqa: B018
    assert caught.value.message.endswith(".") and caught.value.remedy
    assert path.name in caught.value.message and str(path.parent) not in str(caught.value)
    return caught.value.message


def test_a_plain_file_is_read_lazily_in_its_own_order(tmp_path: Path) -> None:
    volume = open_volume(written(tmp_path / "a.nrrd"))
    assert not volume.loaded and volume.shape == SHAPE and volume.notes == ()
    assert np.array_equal(volume.affine, GIVEN) and volume.orientation == "LPS"
    assert np.array_equal(volume.array, VOXELS) and volume.array.dtype == np.int16
    again = pickle.loads(pickle.dumps(volume))
    assert not again.loaded and np.array_equal(again.array, VOXELS)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", gzip.compress(VOXELS.tobytes(order="F"))),
        (
            "gz",
            gzip.compress(VOXELS.tobytes(order="F")[:100]) + gzip.compress(VOXELS.tobytes(order="F")[100:]),
        ),
        ("bzip2", bz2.compress(VOXELS.tobytes(order="F"))),
        ("text", " ".join(map(str, VOXELS.ravel(order="F"))).encode()),
        ("ascii", "\n".join(map(str, VOXELS.ravel(order="F"))).encode()),
    ],
)
def test_every_encoding(tmp_path: Path, encoding: str, data: bytes) -> None:
    path = written(tmp_path / "a.nrrd", data, encoding=encoding)
    assert np.array_equal(open_volume(path).array, VOXELS)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *[("uchar", "u1"), ("signed char", "i1"), ("uint16", "u2"), ("int", "i4"), ("unsigned int", "u4")],
        *[("int64_t", "i8"), ("unsigned long long", "u8"), ("float", "f4"), ("double", "f8")],
    ],
)
@pytest.mark.parametrize("order", ["little", "big"])
def test_every_type_and_byte_order(tmp_path: Path, kind: str, dtype: str, order: str) -> None:
    array = np.abs(VOXELS).astype(dtype)
    data = array.astype((">" if order == "big" else "<") + dtype).tobytes(order="F")
    volume = open_volume(written(tmp_path / "a.nrrd", data, type=kind, endian=order))
    assert np.array_equal(volume.array, array) and volume.array.dtype == dtype and volume.array.dtype.isnative


def test_windows_line_ends_and_odd_spacing_of_fields(tmp_path: Path) -> None:
    text = header().replace(b"\n", b"\r\n").replace(b"sizes: ", b"Sizes:   ")
    (tmp_path / "a.nrrd").write_bytes(text + b"\r\n" + VOXELS.tobytes(order="F"))
    assert np.array_equal(open_volume(tmp_path / "a.nrrd").array, VOXELS)


def test_detached_with_and_without_an_end_and_with_bytes_to_skip(tmp_path: Path) -> None:
    raw = VOXELS.tobytes(order="F")
    (tmp_path / "v.raw").write_bytes(raw)
    (tmp_path / "v.raw.gz").write_bytes(gzip.compress(raw))
    (tmp_path / "skip.raw").write_bytes(b"head" + raw)
    cases: list[dict[str, str]] = [
        {"data file": "v.raw"},
        {"datafile": "./v.raw"},
        {"data file": "v.raw.gz", "encoding": "gzip"},
        {"data file": "skip.raw", "byte skip": "4"},
        {"data file": "skip.raw", "byte skip": "-1"},
    ]
    for fields in cases:
        for end in (b"", b"\n"):
            path = written(tmp_path / "h.nhdr", b"", end, **fields)
            assert np.array_equal(open_volume(path).array, VOXELS), fields


def test_detached_without_its_other_half(tmp_path: Path) -> None:
    path = written(tmp_path / "h.nhdr", b"", data_file="gone.raw")
    assert "gone.raw" in refusal(path) and "missing" in refusal(path)
    assert "no file" in refusal(written(tmp_path / "h.nhdr", b"", data_file="."))
    assert "several files" in refusal(written(tmp_path / "h.nhdr", b"", data_file="slice%03d.raw 0 5 1"))
    assert "several files" in refusal(written(tmp_path / "h.nhdr", b"", data_file="LIST"))


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("LPS", (-1, -1, 1)),
    ],
)
def test_every_anatomical_space(tmp_path: Path, space: str, signs: tuple[int, ...]) -> None:
    volume = open_volume(written(tmp_path / "a.nrrd", space=space))
    np.testing.assert_array_equal(volume.affine, np.diag([*signs, 1.0]) @ LPS @ GIVEN)


def test_what_a_header_leaves_open_is_assumed_and_told(tmp_path: Path) -> None:
    volume = open_volume(written(tmp_path / "a.nrrd", space="scanner-xyz"))
    assert np.array_equal(volume.affine, GIVEN) and "only says scanner-xyz" in volume.notes[0]
    volume = open_volume(written(tmp_path / "b.nrrd", space_origin=None))
    assert "origin was assumed" in volume.notes[0] and not volume.affine[:3, 3].any()
    bare: dict[str, str | None] = {"space": None, "space directions": None, "space origin": None}
    volume = open_volume(written(tmp_path / "c.nrrd", **bare, spacings="1.5 1.5 3"))
    assert volume.spacing == (1.5, 1.5, 3) and volume.orientation == "LPS"
    assert "does not say where it is in space" in volume.notes[0]
    volume = open_volume(written(tmp_path / "d.nrrd", **bare))
    assert volume.spacing == (1, 1, 1) and "1 mm was assumed" in volume.notes[1]


def test_ends_of_axes_give_spacing_and_origin(tmp_path: Path) -> None:
    bare: dict[str, str | None] = {"space": None, "space directions": None, "space origin": None}
    node = {"axis mins": "-3 10 0", "axis maxs": "3 2 12.5"}
    volume = open_volume(written(tmp_path / "a.nrrd", **bare, **node))
    # three gaps between four nodes; the second axis runs the other way; LPS turns x and y
    np.testing.assert_allclose(volume.affine[:3, :3], np.diag([-2.0, 2.0, 2.5]))
    np.testing.assert_allclose(volume.affine[:3, 3], (3, -10, 0))
    cell = written(tmp_path / "b.nrrd", **bare, **node, centers="cell cell cell")
    np.testing.assert_allclose(open_volume(cell).spacing, (1.5, 1.6, 12.5 / 6))
    np.testing.assert_allclose(open_volume(cell).affine[:3, 3], (2.25, -9.2, 12.5 / 12))
    given = open_volume(written(tmp_path / "c.nrrd", **bare, **node, spacings="7 nan 7"))
    np.testing.assert_allclose(given.spacing, (7, 2, 7))


def test_axes_of_space_are_never_guessed(tmp_path: Path) -> None:
    bare: dict[str, str | None] = {"space": None, "space directions": None, "space origin": None}
    frames = np.arange(4 * 5 * 6 * 2, dtype=np.int16).tobytes()
    four = {"dimension": "4", "sizes": "2 4 5 6"}
    assert "4 axes and does not say which" in refusal(written(tmp_path / "a.nrrd", frames, **bare, **four))
    told = open_volume(written(tmp_path / "b.nrrd", frames, **bare, **four, spacings="nan 1 2 3"), select=1)
    assert told.shape == SHAPE and told.spacing == (1, 2, 3)
    assert np.array_equal(told.array.ravel(order="F"), np.arange(1, 240, 2))


def test_units_become_millimetres(tmp_path: Path) -> None:
    volume = open_volume(written(tmp_path / "a.nrrd", space_units='"um" "um" "um"'))
    np.testing.assert_allclose(volume.affine[:3], GIVEN[:3] / 1000)
    assert "um" in volume.notes[0]
    assert "'furlong'" in refusal(written(tmp_path / "b.nrrd", space_units='"furlong" "furlong" "furlong"'))


def test_a_sheared_grid_is_exact_and_told(tmp_path: Path) -> None:
    volume = open_volume(written(tmp_path / "a.nrrd", space_directions="(1.5,0,0) (0,1.5,0) (0,1,3)"))
    assert volume.affine[1, 2] == -1 and "not at right angles" in volume.notes[0]


def test_a_frame_is_chosen_wherever_its_axis_lies(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(-99, 99, (*SHAPE, 3)).astype(np.int16)
    steps = "(1.5,0,0) (0,1.5,0) (0,0,3)"
    last = written(
        tmp_path / "last.nrrd",
        gzip.compress(frames.tobytes(order="F")),
        dimension="4",
        sizes="4 5 6 3",
        space_directions=f"{steps} none",
        encoding="gzip",
    )
    first = written(
        tmp_path / "first.nrrd",
        np.moveaxis(frames, -1, 0).tobytes(order="F"),
        dimension="4",
        sizes="3 4 5 6",
        space_directions=f"none {steps}",
        kinds="vector domain domain domain",
    )
    timed = written(
        tmp_path / "timed.nrrd",
        frames.tobytes(order="F"),
        dimension="4",
        space="left-posterior-superior-time",
        sizes="4 5 6 3",
        space_directions="(1.5,0,0,0) (0,1.5,0,0) (0,0,3,0) (0,0,0,2)",
        space_origin="(-40,-50,-10,0)",
    )
    for path in (last, first, timed):
        assert "holds 3 volumes" in refusal(path)
        for k in range(3):
            volume = open_volume(path, select=k)
            assert np.array_equal(volume.array, frames[..., k]), (path.name, k)
            assert np.array_equal(volume.affine, GIVEN)
        assert "no frame 3" in refusal(path, select=3)
        assert "no frame red" in refusal(path, select="red")


def test_a_slice_in_space_gets_a_thickness(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.nrrd",
        VOXELS[..., 0].tobytes(order="F"),
        dimension="2",
        sizes="4 5",
        space_directions="(0,1.5,0) (0,0,3)",
    )
    volume = open_volume(path)
    assert volume.shape == (4, 5, 1) and np.array_equal(volume.array[..., 0], VOXELS[..., 0])
    assert volume.spacing == (1.5, 3, 1) and "single slice" in volume.notes[0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "block"}, "type block"),
        ({"type": None}, "does not give its type"),
        ({"encoding": "hex"}, "encoding hex"),
        ({"endian": None}, "byte order"),
        ({"sizes": "4 5"}, "2 sizes for 3 axes"),
        ({"sizes": "4 0 6"}, "no voxels"),
        ({"sizes": "4 -5 6"}, "no number"),
        ({"sizes": "4 5 7"}, "cut off"),
        ({"sizes": "4 5 5"}, "more voxels than its header says"),
        ({"sizes": "4000000 5000000 6000000"}, "cut off"),
        ({"space directions": "(1,0,0) (0,1,0)"}, "2 directions for 3 axes"),
        ({"space directions": "(1,0,0) (1,0,0) (0,0,1)"}, "at one place"),
        ({"space directions": "(1,0,0) (0,nan,0) (0,0,1)"}, "at one place"),
        ({"space directions": "(1,0,0) (0,x,0) (0,0,1)"}, "'x'"),
        ({"space directions": "(1,0) (0,1) (0,0)"}, "a position has three"),
        ({"space directions": "(1,0,0) none none"}, "1 axes of space"),
        ({"byte skip": "some"}, "unknown way"),
        ({"line skip": "2"}, "unknown way"),
        ({"sizes ": "4 5 6"}, "twice"),
        ({"nonsense": "", "a line": None}, ""),
    ],
)
def test_broken_headers_end_in_a_sentence(tmp_path: Path, fields: dict[str, str | None], said: str) -> None:
    path = written(tmp_path / "a.nrrd", **fields)
    if said:
        assert said in refusal(path)
    else:
        assert open_volume(path).array.shape == SHAPE


def test_cut_off_damaged_and_foreign_files(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(VOXELS.tobytes(order="F")))
    path = written(tmp_path / "a.nrrd", bytes(packed[:-9]), encoding="gzip")
    assert "cut off or damaged" in refusal(path)
    packed[-6] ^= 1  # the checksum
    assert "cut off or damaged" in refusal(written(tmp_path / "a.nrrd", bytes(packed), encoding="gzip"))
    assert "does not begin" in refusal(_bytes(tmp_path / "b.nrrd", b"no image at all\n\n"))
    assert "empty" in refusal(_bytes(tmp_path / "c.nrrd", b""))
    assert "no end" in refusal(_bytes(tmp_path / "d.nrrd", header()))
    assert "not belong to NRRD" in refusal(_bytes(tmp_path / "e.nrrd", header() + b"a line\n\n"))


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_bomb_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = written(tmp_path / "a.nrrd", gzip.compress(bytes(99)), sizes="1000 1000 1000", encoding="gzip")
    assert "promises 2,000,000,000 bytes" in refusal(path)


@pytest.mark.parametrize("count", [300, 70_000, 2_000_000])
@pytest.mark.parametrize(
    "field",
    ["content", "kinds", "space", "space units", "spacings", "old min", "type", "encoding", "data file"],
)
def test_a_field_of_any_length_ends_in_voxels_or_a_short_sentence(
    tmp_path: Path, field: str, count: int
) -> None:
    """SimpleITK 2.5.7 writes beyond its buffers at most of these."""
    for value in ("x" * count, f'"{"x" * count}"', "1 " * (count // 2), "(" * count):
        path = written(tmp_path / "a.nrrd", **{field: value})
        try:
            volume = open_volume(path)
            assert np.array_equal(volume.array, VOXELS) and all(len(note) < 200 for note in volume.notes)
        except DataError as error:
            assert len(error.message) < 300 and "\n" not in error.message


# --- segmentations ---

MARKS = np.random.default_rng(3).integers(0, 2, (2, *SHAPE)).astype(np.uint8)
LAYERS: dict[str, str | None] = {
    "type": "uchar",
    "dimension": "4",
    "sizes": "2 4 5 6",
    "space directions": "none (1.5,0,0) (0,1.5,0) (0,0,3)",
    "kinds": "list domain domain domain",
    "Segment0_Name:": "liver",
    "Segment0_LabelValue:": "1",
    "Segment0_Layer:": "0",
    "Segment1_Name:": "tumour",
    "Segment1_LabelValue:": "1",
    "Segment1_Layer:": "1",
}


def segmentation(path: Path, fields: dict[str, str | None], data: bytes) -> Path:
    text = header(**fields).replace(b":: ", b":=")
    path.write_bytes(text + b"\n" + data)
    return path


def test_overlapping_segments_become_one_label_in_the_order_asked_for(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "s.seg.nrrd", LAYERS, MARKS.tobytes(order="F"))
    volume = open_volume(path, label=True)
    assert volume.label_names == {1: "liver", 2: "tumour"} and any("overlap" in note for note in volume.notes)
    assert np.array_equal(volume.array, np.where(MARKS[1], 2, MARKS[0]))
    volume = open_volume(path, label=True, select="tumour, liver")
    assert volume.label_names == {1: "tumour", 2: "liver"}
    assert np.array_equal(volume.array, np.where(MARKS[0], 2, MARKS[1]))
    volume = open_volume(path, label=True, select="tumour")
    assert np.array_equal(volume.array, MARKS[1])
    for number in (1, "1"):
        volume = open_volume(path, label=True, select=number)
        assert np.array_equal(volume.array, MARKS[1]) and volume.label_names == {1: "tumour"}
    with pytest.raises(DataError, match=r"no segment 'lover'.*liver"):
        open_volume(path, label=True, select="lover")


def test_older_segmentations_without_values(tmp_path: Path) -> None:
    fields = {k: v for k, v in LAYERS.items() if not k.endswith(("Value:", "Layer:"))}
    path = segmentation(tmp_path / "s.seg.nrrd", fields, MARKS.tobytes(order="F"))
    assert np.array_equal(open_volume(path, label=True).array, np.where(MARKS[1], 2, MARKS[0]))


def test_names_of_a_segmentation_without_overlap_are_facts(tmp_path: Path) -> None:
    flat = {
        **{k: v for k, v in LAYERS.items() if k.startswith("Segment")},
        "type": "uchar",
        "Segment1_LabelValue:": "7",
        "Segment1_Layer:": "0",
    }
    marks = (7 * MARKS[0]).tobytes(order="F")
    volume = open_volume(segmentation(tmp_path / "s.seg.nrrd", flat, marks), label=True)
    assert volume.label_names == {1: "liver", 7: "tumour"}
    assert np.array_equal(volume.array, 7 * MARKS[0])
    tumour = open_volume(tmp_path / "s.seg.nrrd", label=True, select="tumour")
    assert tumour.label_names == {1: "tumour"} and np.array_equal(tumour.array, MARKS[0])


def test_a_layer_that_is_not_there_and_a_vector_without_names(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "s.seg.nrrd", LAYERS | {"Segment1_Layer:": "5"}, MARKS.tobytes(order="F"))
    assert "layer" in refusal(path, label=True)
    unnamed = {k: v for k, v in LAYERS.items() if not k.startswith("Segment")}
    path = segmentation(tmp_path / "u.seg.nrrd", unnamed, MARKS.tobytes(order="F"))
    with pytest.raises(SeveralVolumesError) as caught:
        open_volume(path, label=True)
    assert caught.value.counts == (2,) and caught.value.choices() == ["0", "1"]
    assert pickle.loads(pickle.dumps(caught.value)).counts == (2,)


# --- real files ---


def test_every_real_nrrd_is_as_simpleitk_has_it(shared_data: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    folders = ("headers_derived", "mr_tumour_nrrd", "mr_flair_scribbles_niivue", "ct_dicom_seg_dcmqi")
    paths = [
        p for f in folders for p in sorted((shared_data / f).iterdir()) if p.suffix in (".nrrd", ".nhdr")
    ]
    for path in paths:
        volume, image = open_volume(path), sitk.ReadImage(str(path))
        assert np.array_equal(volume.array, sitk.GetArrayFromImage(image).T), path.name
        theirs = np.eye(4)
        theirs[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        theirs[:3, 3] = image.GetOrigin()
        np.testing.assert_allclose(volume.affine, LPS @ theirs, atol=1e-12, err_msg=path.name)
    assert len(paths) >= 14


def test_the_oblique_flair_is_one_image_as_nifti_and_as_nrrd(shared_data: Path) -> None:
    folder = shared_data / "mr_flair_scribbles_niivue"
    nifti, nrrd = (open_volume(folder / f"FLAIR.{end}") for end in ("nii.gz", "nrrd"))
    assert np.array_equal(nifti.array, nrrd.array)
    np.testing.assert_allclose(nifti.affine, nrrd.affine, atol=1e-4)
    assert any("19 degrees oblique" in note for note in nrrd.notes)
