"""DICOM SEG and RTSTRUCT: the segments where they are in the world, overlaps and names kept, and written back."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.case import CaseRef
from segexplorer.data.formats.dicom.reader import read_segments
from segexplorer.data.formats.dicom.seg import write_seg
from segexplorer.data.geometry import compare
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume
from segexplorer.testing.dicom import write_enhanced, write_series, write_structures

highdicom = pytest.importorskip("highdicom")  # no wheels for Python 3.14 yet
OVAL = np.array([[np.cos(t), np.sin(t)] for t in np.linspace(0, 2 * np.pi, 60, endpoint=False)])


@pytest.fixture
def image(tmp_path: Path) -> Volume:
    """A CT of 20 x 24 x 8 voxels of 0.5 x 0.75 x 2 mm."""
    voxels = np.random.default_rng(0).integers(0, 4096, (8, 24, 20)).astype(np.uint16)
    write_series(tmp_path / "ct", voxels)
    return open_volume(tmp_path / "ct")


def seg_of(image: Volume, masks: list[NDArray[Any]], path: Path, kind: str = "BINARY", **how: Any) -> Path:
    """Write masks (i, j, k) that may overlap with highdicom, as other programs do."""
    sources = [pydicom.dcmread(p) for p in sorted(Path(str(image.provenance.path)).iterdir())]
    sources.sort(key=lambda data: float(data.ImagePositionPatient[2]))
    code = pydicom.sr.coding.Code("85756007", "SCT", "Tissue")
    described = [
        highdicom.seg.SegmentDescription(n, f"Part {n}", code, code, "MANUAL")
        for n in range(1, len(masks) + 1)
    ]
    stacked = np.stack([mask.transpose(2, 1, 0) for mask in masks], axis=-1)
    highdicom.seg.Segmentation(
        sources,
        stacked,
        kind,
        described,
        highdicom.UID(),
        7,
        highdicom.UID(),
        1,
        "Maker",
        "Model",
        "1",
        "1",
        **how,
    ).save_as(path)
    return path


def three_masks(image: Volume) -> list[NDArray[Any]]:
    """Boxes: a large one, a smaller one inside it, one beside; some slices stay empty, at the ends and between."""
    masks = [np.zeros(image.shape, bool) for _ in range(3)]
    masks[0][2:15, 3:20, 2:6] = True
    masks[1][5:9, 8:12, 3:5] = True
    masks[2][16:19, 2:9, [2, 6]] = True
    return masks


def test_overlapping_segments_stay_apart_and_their_order_can_be_chosen(image: Volume, tmp_path: Path) -> None:
    masks = three_masks(image)
    path = seg_of(image, masks, tmp_path / "seg.dcm")
    segments = read_segments(path, like=image)
    assert segments.names == {1: "Part 1", 2: "Part 2", 3: "Part 3"}
    for number, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(segments.mask(number), mask)
    assert segments.overlaps() == {(1, 2): int((masks[0] & masks[1]).sum())}
    label = open_volume(path, label=True, like=image)
    assert compare(image, label).same and label.label_names == segments.names
    np.testing.assert_array_equal(label.array, np.select([masks[1], masks[2], masks[0]], [2, 3, 1]))
    assert "the smaller one counts" in label.notes[0]
    chosen = open_volume(path, label=True, like=image, select="Part 2, Part 1")
    np.testing.assert_array_equal(chosen.array, np.select([masks[0], masks[1]], [2, 1]))
    assert chosen.label_names == {1: "Part 2", 2: "Part 1"} and chosen.array.dtype == np.uint8
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(chosen)).array, chosen.array)
    with pytest.raises(DataError, match="no segment called 'Liver'"):
        open_volume(path, label=True, select="Liver")


def test_a_file_that_describes_more_frames_than_it_holds_is_refused(image: Volume, tmp_path: Path) -> None:
    """Else the segments of the frames beyond would be empty without a word."""
    path = seg_of(image, three_masks(image), tmp_path / "seg.dcm")
    data = pydicom.dcmread(path)
    count, data.NumberOfFrames = data.NumberOfFrames, 3
    data.save_as(path)
    with pytest.raises(DataError, match=f"holds 3 frames but describes {count}"):
        read_segments(path, like=image)


def test_segments_of_a_tilted_gantry_are_read_back(tmp_path: Path) -> None:
    """highdicom writes them, but does not read them as a volume."""
    voxels = np.random.default_rng(0).integers(0, 4096, (8, 24, 20)).astype(np.uint16)
    angle = np.radians(20)
    across = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    write_series(tmp_path / "ct", voxels, across=across, step=(0, 0, 3.0))
    tilted = open_volume(tmp_path / "ct")
    masks = three_masks(tilted)
    segments = read_segments(seg_of(tilted, masks, tmp_path / "seg.dcm"), like=tilted)
    for number, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(segments.mask(number), mask)


def test_segments_of_other_coordinates_are_reported(image: Volume, tmp_path: Path) -> None:
    path = seg_of(image, three_masks(image), tmp_path / "seg.dcm")
    assert "frame of reference" not in " ".join(open_volume(path, label=True, like=image).notes)
    write_series(tmp_path / "other", np.zeros((8, 24, 20), np.uint16))
    label = open_volume(path, label=True, like=open_volume(tmp_path / "other"))
    assert "another frame of reference" in " ".join(label.notes)


def test_without_its_image_a_segmentation_lies_on_its_own_part_of_the_grid(
    image: Volume, tmp_path: Path
) -> None:
    masks = three_masks(image)
    own = read_segments(seg_of(image, masks, tmp_path / "seg.dcm"))
    assert own.grid.shape == (20, 24, 5)
    lowest = image.affine @ [0, 0, 2, 1]
    np.testing.assert_allclose(own.grid.affine[:, 3], lowest)
    np.testing.assert_array_equal(own.mask("Part 3"), masks[2][:, :, 2:7])


def test_a_segmentation_follows_the_world_onto_any_grid(image: Volume, tmp_path: Path) -> None:
    """Turned, flipped and finer: every voxel asks where it is, not which index it has."""
    masks = three_masks(image)
    path = seg_of(image, masks, tmp_path / "seg.dcm")
    turn = np.array([[0, 0, 1, 0], [-1, 0, 0, 19], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    other = Volume.from_array(np.zeros((24, 8, 20)), affine=image.affine @ turn)
    moved = read_segments(path, like=other).mask(1)
    for index in np.argwhere(np.ones(other.shape))[::37]:
        at = tuple(np.rint((turn @ [*index, 1])[:3]).astype(int))
        assert moved[tuple(index)] == masks[0][at]
    finer = Volume.from_array(np.zeros((40, 24, 16)), affine=image.affine @ np.diag([0.5, 1, 0.5, 1]))
    np.testing.assert_array_equal(read_segments(path, like=finer).mask(1)[::2, :, ::2], masks[0])


@pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
def test_label_maps_and_fractions(image: Volume, tmp_path: Path, kind: str) -> None:
    masks = three_masks(image)
    masks[1] &= ~masks[0]
    masks[0][0, 0, 0] = masks[1][1, 1, 7] = True
    path = tmp_path / "seg.dcm"
    if kind == "LABELMAP":
        seg_of(image, masks, path, kind)
    else:
        seg_of(image, [0.6 * mask for mask in masks], path, kind)
    segments = read_segments(path, like=image)
    for number, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(segments.mask(number), mask)
    assert segments.may_overlap == (kind != "LABELMAP")


def test_image_and_segmentation_in_one_folder_make_a_case(image: Volume, tmp_path: Path) -> None:
    masks = three_masks(image)
    folder = Path(str(image.provenance.path))
    seg_of(image, masks, folder / "seg.dcm")
    case = CaseRef("one", (folder,), folder).open()
    assert case.label is not None and compare(case.images[0], case.label).same
    np.testing.assert_array_equal(case.images[0].array, image.array)
    np.testing.assert_array_equal(case.label.array == 3, masks[2])


def test_a_prediction_is_written_and_read_back_with_values_and_names(image: Volume, tmp_path: Path) -> None:
    masks = three_masks(image)
    label = np.select([masks[1], masks[2], masks[0]], [300, 2, 5]).astype(np.int32)
    names = {2: "Spleen", 5: "Liver", 300: "Lesion"}
    path = save_volume(image.with_array(label, label_names=names), tmp_path / "out.dcm", integer=True)
    back = open_volume(path, label=True, like=image)
    np.testing.assert_array_equal(back.array, label)
    assert back.label_names == names and back.provenance.format == "DICOM SEG"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ct", "out.dcm"]
    # as an independent program reads it
    seg = highdicom.seg.segread(path)
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["Spleen", "Liver", "Lesion"]
    series = pydicom.dcmread(next((tmp_path / "ct").iterdir())).SeriesInstanceUID
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == series
    theirs = seg.get_volume(combine_segments=True)
    for index in np.argwhere(theirs.array)[::5]:
        x, y, z = theirs.map_indices_to_reference(index[None])[0]
        at = np.rint(np.linalg.inv(image.affine) @ [-x, -y, z, 1])[:3].astype(int)
        assert {1: 2, 2: 5, 3: 300}[int(theirs.array[tuple(index)])] == label[tuple(at)]


def test_slices_that_were_filled_in_are_left_out_of_the_file(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 4096, (5, 8, 6)).astype(np.uint16)
    write_series(tmp_path / "ct", voxels, at=[0, 1, 3, 4, 5])
    image = open_volume(tmp_path / "ct")
    label = np.ones(image.shape, np.uint8)
    path = write_seg(image.with_array(label), tmp_path / "out.dcm", names={1: "All"})
    back = open_volume(path, label=True, like=image).array
    assert back[:, :, [0, 1, 3, 4, 5]].all() and not back[:, :, 2].any()


def test_a_multiframe_image_gets_its_segmentation(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 4096, (4, 8, 6)).astype(np.uint16)
    places = [(0.0, 0.0, 3.0 * k) for k in (2, 0, 3, 1)]
    source = write_enhanced(tmp_path / "mr.dcm", voxels, places)
    image = open_volume(source)
    label = (image.array > 2000).astype(np.uint8)
    path = write_seg(image.with_array(label), tmp_path / "out.dcm")
    np.testing.assert_array_equal(open_volume(path, label=True, like=image).array, label)


def test_what_cannot_be_written_is_refused(image: Volume, tmp_path: Path) -> None:
    label = image.with_array(np.ones(image.shape, np.uint8))
    with pytest.raises(DataError, match="only labels"):
        save_volume(image, tmp_path / "out.dcm")
    with pytest.raises(DataError, match="is not from one"):
        save_volume(Volume.from_array(label.array), tmp_path / "out.dcm", integer=True)
    with pytest.raises(DataError, match="marks nothing"):
        save_volume(image.with_array(0 * label.array), tmp_path / "out.dcm", integer=True)
    with pytest.raises(DataError, match="another grid"):
        source = Path(str(image.provenance.path))
        write_seg(Volume.from_array(label.array), tmp_path / "out.dcm", source=source)
    assert not (tmp_path / "out.dcm").exists()


def contour(
    image: Volume, k: float, centre: tuple[float, float], radius: tuple[float, float]
) -> NDArray[Any]:
    """An ellipse in a slice, LPS mm, given in voxels."""
    index = np.column_stack([OVAL * radius + centre, np.full(len(OVAL), k), np.ones(len(OVAL))])
    return np.asarray((index @ image.affine.T)[:, :3] * (-1, -1, 1))


def disc(image: Volume, centre: tuple[float, float], radius: tuple[float, float]) -> NDArray[Any]:
    """(i, j) inside the polygon that `contour` draws, by the winding of its corners around each voxel."""
    i, j = np.meshgrid(np.arange(image.shape[0]), np.arange(image.shape[1]), indexing="ij")
    corners = OVAL * radius + centre
    angle = np.arctan2(corners[:, 1] - j[..., None], corners[:, 0] - i[..., None])
    turned = np.diff(np.concatenate([angle, angle[..., :1]], axis=-1), axis=-1)
    wound = ((turned + np.pi) % (2 * np.pi) - np.pi).sum(axis=-1)
    return np.asarray(np.abs(wound) > np.pi)


def test_contours_are_filled_with_holes_where_their_slices_are(image: Volume, tmp_path: Path) -> None:
    outer, inner = ((9.3, 11.2), (7.1, 8.4)), ((8.2, 10.7), (2.9, 3.3))
    structures = {
        "Ring": [contour(image, k, *shape) for k in (2, 3, 4) for shape in (outer, inner)],
        "Core": [contour(image, 3, *inner)],
    }
    path = write_structures(tmp_path / "rt.dcm", structures)
    segments = read_segments(path, like=image)
    ring, core = disc(image, *outer) & ~disc(image, *inner), disc(image, *inner)
    expected = np.zeros(image.shape, bool)
    expected[:, :, 2:5] = ring[..., None]
    np.testing.assert_array_equal(segments.mask("Ring"), expected)
    np.testing.assert_array_equal(segments.mask("Core")[:, :, 3], core)
    case = CaseRef("one", (Path(str(image.provenance.path)),), path).open()
    assert case.label is not None and case.label.label_names == {1: "Ring", 2: "Core"}
    np.testing.assert_array_equal(case.label.array[:, :, 3], np.select([core, ring], [2, 1]))


def test_contours_beside_their_slices_and_drawn_twice(image: Volume, tmp_path: Path) -> None:
    """Off by a tenth of a slice, two planes on one slice, the same contour twice, beyond the image, and a gap."""
    shape = (9.3, 11.2), (5.1, 6.4)
    heights = (1.1, 2.9, 3.3, 6, 6, 20)
    path = write_structures(tmp_path / "rt.dcm", {"Part": [contour(image, k, *shape) for k in heights]})
    segments = read_segments(path, like=image)
    mask = segments.mask("Part")
    assert [k for k in range(8) if mask[:, :, k].any()] == [1, 3, 6]
    np.testing.assert_array_equal(mask[:, :, 6], disc(image, *shape))
    notes = " ".join(segments.provenance.notes)
    assert "no contour on 3 slices" in notes
    assert "first or last slice, 1 contour " in notes and "1 plane of contours" in notes


def test_contours_on_an_image_with_other_axes(image: Volume, tmp_path: Path) -> None:
    shape = (9.3, 11.2), (5.1, 6.4)
    path = write_structures(tmp_path / "rt.dcm", {"Part": [contour(image, k, *shape) for k in (3, 4)]})
    order = np.eye(4)[:, [2, 0, 1, 3]]
    turned = Volume.from_array(image.array.transpose(2, 0, 1), affine=image.affine @ order)
    straight = read_segments(path, like=image).mask("Part")
    np.testing.assert_array_equal(read_segments(path, like=turned).mask("Part"), straight.transpose(2, 0, 1))
    tipped = image.affine.copy()
    tipped[:3, :3] = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]) @ tipped[:3, :3]
    with pytest.raises(DataError, match="not parallel"):
        read_segments(path, like=Volume.from_array(image.array, affine=tipped))


def test_structures_without_image_or_contours_are_refused(image: Volume, tmp_path: Path) -> None:
    path = write_structures(tmp_path / "rt.dcm", {"Part": [contour(image, 3, (9, 9), (3, 3))]})
    with pytest.raises(DataError, match="no voxels of their own") as caught:
        open_volume(path, label=True)
    assert caught.value.remedy == "Open it as the label of its image."
    points = write_structures(tmp_path / "p.dcm", {"Part": [contour(image, 3, (9, 9), (3, 3))]}, kind="POINT")
    with pytest.raises(DataError, match="no closed contour"):
        open_volume(points, label=True, like=image)
    away = write_structures(tmp_path / "a.dcm", {"Part": [contour(image, 99, (9, 9), (3, 3))]})
    with pytest.raises(DataError, match="outside the image"):
        open_volume(away, label=True, like=image)


def test_segments_outside_of_the_image_are_refused(image: Volume, tmp_path: Path) -> None:
    path = seg_of(image, three_masks(image), tmp_path / "seg.dcm")
    affine = image.affine.copy()
    affine[2, 3] += 500
    far = Volume.from_array(image.array, affine=affine)
    with pytest.raises(DataError, match=r"outside of the image.*drawn on"):
        open_volume(path, label=True, like=far)


def test_contours_that_cross_are_said(image: Volume, tmp_path: Path) -> None:
    one, other = ((7.3, 9.2), (4.1, 5.4)), ((12.2, 11.7), (4.9, 5.3))
    nested = ((7.2, 9.1), (1.9, 2.3))
    crossing = {"Pair": [contour(image, 3, *one), contour(image, 3, *other)]}
    path = write_structures(tmp_path / "crossing.dcm", crossing)
    assert "Contours of Pair cross each other" in " ".join(read_segments(path, like=image).provenance.notes)
    ring = {"Ring": [contour(image, 3, *one), contour(image, 3, *nested)]}
    path = write_structures(tmp_path / "ring.dcm", ring)
    assert "cross" not in " ".join(read_segments(path, like=image).provenance.notes)


def test_segments_of_two_slices_in_a_long_scan_are_found(tmp_path: Path) -> None:
    long = np.random.default_rng(0).integers(0, 2000, (120, 8, 7)).astype(np.uint16)
    write_series(tmp_path / "long", long)
    image = open_volume(tmp_path / "long")
    mask = np.zeros(image.shape, bool)
    mask[2:4, 3:6, 61:63] = True
    path = seg_of(image, [mask], tmp_path / "seg.dcm")
    case = CaseRef("one", (tmp_path / "long",), path).open()
    assert case.label is not None
    np.testing.assert_array_equal(case.label.array > 0, mask)
