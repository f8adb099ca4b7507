"""The manifest's reader, writers and samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.data.formats.registry import formats
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.napari import io
from segexplorer.frontends.napari.io import get_reader, read, write_image, write_labels

AFFINE = np.array([[-2.0, 0, 0, 30], [0, -3.0, 0, 40], [0, 0, 4.0, -50], [0, 0, 0, 1]])


def test_the_manifest_is_valid_and_what_it_names_exists() -> None:
    manifest = PluginManifest.from_file(Path(segexplorer.__file__).parent / "napari.yaml")
    manifest.validate_imports()
    assert manifest.contributions.widgets is not None


def test_the_manifest_names_the_suffixes_of_the_registry() -> None:
    """The manifest is data that napari reads without importing us, so it cannot be made from the registry."""
    own = [known for known in formats.values() if not formats.package_of(known.name)]
    contributions = PluginManifest.from_file(Path(segexplorer.__file__).parent / "napari.yaml").contributions
    (reader,) = contributions.readers or ()
    # napari opens everyday pictures itself
    read = {f"*{suffix}" for known in own if not known.picture for suffix in known.suffixes}
    assert set(reader.filename_patterns) == read
    images, labels = (set(writer.filename_extensions) for writer in contributions.writers or ())
    # a DICOM segmentation refers to the series that it was drawn on, which a layer does not hold
    written = {suffix for known in own for suffix in known.writes if not known.folders}
    assert labels == written
    assert images == {suffix for suffix in written if suffix != ".seg.nrrd"}


NAMES = [
    "a.nii",
    "A.NII.GZ",
    "b.hdr",
    "b.img",
    "b.img.gz",
    "c.nrrd",
    "c.seg.nrrd",
    "d.mha",
    "d.mhd",
    "e.mgz",
    "f.dcm",
]


@pytest.mark.parametrize("name", NAMES)
def test_knows_its_formats_by_name(name: str) -> None:
    assert get_reader(name) is read
    assert get_reader([name, "other.txt"]) is None


def test_pictures_and_other_folders_are_left_to_napari(tmp_path: Path) -> None:
    assert get_reader("a.png") is None and get_reader("a.tif") is None
    (tmp_path / "store.zarr").mkdir()
    (tmp_path / "store.zarr" / "zarr.json").write_text("{}")
    assert get_reader(str(tmp_path / "store.zarr")) is None


@pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd", ".mha", ".nii"])
def test_labels_are_written_in_the_format_of_the_name(tmp_path: Path, suffix: str) -> None:
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:4, 2:4, 2:4] = 7
    volume = Volume.from_array(labels, affine=AFFINE)
    save_volume(volume, tmp_path / "in.seg.nrrd", integer=True, names={7: "liver"})
    ((data, attributes, sort),) = read(str(tmp_path / "in.seg.nrrd"))
    assert sort == "labels" and list(attributes["features"]["class"]) == ["background", "liver"]
    (written,) = write_labels(str(tmp_path / f"out{suffix}"), data, attributes)
    assert written.endswith(suffix)
    back = open_volume(written, label=True)
    assert np.array_equal(back.array, labels) and np.array_equal(back.affine, AFFINE)
    assert back.label_names == ({7: "liver"} if "nrrd" in suffix else {})


def test_a_time_series_is_one_layer_whose_frames_know_their_place(shared_data: Path, tmp_path: Path) -> None:
    from napari.layers import Layer
    from napari.layers.utils.stack_utils import stack_to_images

    from segexplorer.frontends.napari.layers import volume_from_layer

    path = shared_data / "4d/dmri.nii.gz"
    layer = Layer.create(*read(str(path))[0])
    assert layer.data.shape == (7, 5, 42, 40) and layer.axis_labels[0] == "frame"
    frame = volume_from_layer(stack_to_images(layer, 0)[2])
    expected = open_volume(path, select=2)
    assert np.array_equal(frame.array, expected.array)
    np.testing.assert_allclose(frame.affine, expected.affine)
    # the path alone would not lead back to the frame
    assert layer.metadata["segexplorer"]["path"] is None


def test_of_several_series_the_chosen_are_read(
    tmp_path: Path, qtbot: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pydicom")
    from segexplorer.data.formats.dicom.series import SeveralSeriesError
    from segexplorer.frontends.napari import series_picker
    from segexplorer.testing.dicom import write_series

    rng = np.random.default_rng(0)
    for number, slices in ((1, 3), (2, 6)):
        folder = tmp_path / "scan" / str(number)
        folder.mkdir(parents=True)
        write_series(folder, rng.integers(0, 99, (slices, 5, 4)).astype(np.int16), number=number)
    with pytest.raises(SeveralSeriesError) as caught:
        open_volume(tmp_path / "scan")
    picker = series_picker.SeriesPicker(caught.value.series)
    assert picker.chosen() == (2,)  # the larger one, before anybody chooses
    assert picker.table.item(0, 3).text() == "4 × 5 × 3"
    picker.deleteLater()
    monkeypatch.setattr(series_picker.SeriesPicker, "exec", lambda self: self.table.selectAll() or 1)
    assert get_reader(str(tmp_path / "scan")) is read
    layers = read(str(tmp_path / "scan"))
    assert [data.shape for data, _, _ in layers] == [(3, 5, 4), (6, 5, 4)]
    assert [attributes["name"] for _, attributes, _ in layers] == ["scan 1", "scan 2"]
    monkeypatch.setattr(series_picker.SeriesPicker, "exec", lambda self: 0)
    assert read(str(tmp_path / "scan")) == [(None,)]


def test_image_and_label_come_back_as_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    image = Volume.from_array(rng.normal(0, 300, (8, 9, 10)).astype(np.float32), affine=AFFINE)
    labels = np.zeros((8, 9, 10), np.uint8)
    labels[2:4, 2:4, 2:4] = 255
    save_volume(image, tmp_path / "ct.nii.gz")
    save_volume(Volume.from_array(labels, affine=AFFINE), tmp_path / "ct_label.nii.gz", integer=True)
    (data, attributes, sort), (marks, mark_attributes, mark_sort) = read(
        [str(tmp_path / "ct.nii.gz"), str(tmp_path / "ct_label.nii.gz")]
    )
    assert (sort, mark_sort) == ("image", "labels")
    (written,) = write_image(str(tmp_path / "out"), data, attributes)
    back = open_volume(written)
    np.testing.assert_allclose(back.array, image.array, rtol=1e-6)
    np.testing.assert_allclose(back.affine, AFFINE)
    (written,) = write_labels(str(tmp_path / "out_label.nii"), marks, mark_attributes)
    back = open_volume(written, label=True)
    np.testing.assert_array_equal(back.array, labels)
    assert back.orientation == "LPS"


def test_a_damaged_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_text("no volume")
    with pytest.raises(DataError):
        read(str(tmp_path / "bad.nii.gz"))


@pytest.mark.parametrize("sample", [io.ct_phantom, io.mr_phantom])
def test_samples_are_an_image_and_a_label_with_names(sample) -> None:  # type: ignore[no-untyped-def]
    (image, _, sort), (label, attributes, label_sort) = sample()
    assert (sort, label_sort) == ("image", "labels")
    assert image.shape == label.shape
    named = dict(zip(attributes["features"]["index"], attributes["features"]["class"], strict=True))
    assert set(np.unique(label)) <= set(named) and len(named) >= 6


def test_the_liver_is_at_screen_left(shared_data: Path) -> None:
    folder = shared_data / "ct_abdomen_totalseg"
    label, attributes, _ = read(str(folder / "example_ct_sm_labels.nii.gz"))[0]
    assert attributes["units"] == ("mm", "mm", "mm")
    liver, spleen = (np.argwhere(label == value)[:, 2].mean() for value in (5, 1))
    assert liver > spleen  # RAS: x grows to the right, drawn leftwards


def test_what_the_header_said_survives_the_way_through_a_layer(tmp_path: Path) -> None:
    import nibabel as nib
    from napari.layers import Layer

    from segexplorer.data.io import open_volume, save_volume
    from segexplorer.frontends.napari.io import read_one
    from segexplorer.frontends.napari.layers import volume_from_layer

    affine = np.diag([-2000.0, 1000.0, 3000.0, 1.0])
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)
    image.header.set_xyzt_units("micron")
    image.set_sform(affine, 2)
    image.to_filename(tmp_path / "scan.nii.gz")
    volume = volume_from_layer(Layer.create(*read_one(tmp_path / "scan.nii.gz", label=False)))
    assert any("mm" in note for note in volume.provenance.notes)
    save_volume(volume, tmp_path / "again.nii.gz")
    header = nib.load(tmp_path / "again.nii.gz").header
    assert header.get_xyzt_units()[0] == "micron" and int(header["sform_code"]) == 2
    np.testing.assert_allclose(open_volume(tmp_path / "again.nii.gz").affine, volume.affine)


def test_painting_on_a_label_layer_leaves_the_volume_alone() -> None:
    from segexplorer.data.volume import Volume
    from segexplorer.viewmodels.layer_images import label_picture

    volume = Volume.from_array(np.zeros((4, 5, 6), np.uint8))
    picture = label_picture(volume, "label")
    picture.data[:] = 7
    assert not volume.array.any()
