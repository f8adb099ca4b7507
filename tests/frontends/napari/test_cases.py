"""The Cases tab: pairs, verdicts, classes, and the data set that comes out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QPushButton

from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.napari.layers import layer_arguments
from segexplorer.frontends.napari.panels.case_sources import case_name
from segexplorer.frontends.napari.panels.cases import CasesPanel
from segexplorer.frontends.napari.panels.class_table import ClassTable, bar_length
from segexplorer.viewmodels.layer_images import examine, image_picture, label_picture, offered_classes

AFFINE = np.diag([2.0, 2.0, 2.5, 1.0])


def image(shape: tuple[int, int, int] = (10, 10, 10)) -> Volume:
    return Volume.from_array(np.random.default_rng(0).normal(0, 300, shape).astype(np.float32), affine=AFFINE)


def label(values: tuple[int, ...] = (2, 3, 5), affine: Any = AFFINE) -> Volume:
    array = np.zeros((10, 10, 10), np.uint8)
    for i, value in enumerate(values):
        array[i] = value
    return Volume.from_array(array, affine=affine)


def show(viewer: Any, picture: Any) -> Any:
    adder = viewer.add_image if picture.kind == "image" else viewer.add_labels
    return adder(picture.data, **layer_arguments(picture))


@pytest.fixture
def panel(qtbot: Any, tmp_path: Path) -> Iterator[CasesPanel]:
    made = CasesPanel(None, ViewerModel(), folder=tmp_path / "cases")
    qtbot.addWidget(made)
    made.show()
    yield made
    qtbot.waitUntil(lambda: not made.busy)
    made.closing()


def add_pair(panel: CasesPanel, qtbot: Any, **kwargs: Any) -> None:
    show(panel.viewer, image_picture(image(), "scan"))
    show(panel.viewer, label_picture(label(**kwargs), "organs", {2: "left", 3: "right", 5: "liver"}))
    add_again(panel, qtbot)


def add_again(panel: CasesPanel, qtbot: Any) -> None:
    with qtbot.waitSignal(_qt(panel)):
        click(panel, "Add pair")


def _qt(panel: CasesPanel) -> Any:
    """Return a Qt signal that follows the panel's psygnal one, for qtbot."""
    from qtpy.QtCore import QObject, Signal

    class Relay(QObject):  # type: ignore[misc, unused-ignore]
        heard = Signal()

    relay = Relay(panel)
    panel.changed.connect(relay.heard.emit)
    return relay.heard


def click(panel: Any, text: str) -> None:
    next(b for b in panel.findChildren(QPushButton) if b.text() == text).click()


def test_examination_measures_labels_and_compares_grids() -> None:
    seen = examine(image(), label())
    assert seen.severity == "ok"
    assert seen.volumes_ml == pytest.approx({2: 1.0, 3: 1.0, 5: 1.0})
    assert seen.total_ml == pytest.approx(10.0)
    moved = AFFINE.copy()
    moved[0, 3] = 5
    other = examine(image(), label(affine=moved))
    assert other.severity == "error" and other.remedy
    assert "empty" in examine(image(), label(values=())).verdict


def test_classes_offered_by_a_label() -> None:
    assert offered_classes({255: 1.0}, {}) == {"structure": (255,)}
    assert offered_classes({1: 1.0, 2: 1.0}, {2: "liver"}) == {"label 1": (1,), "liver": (2,)}


def test_names_of_cases_never_clash() -> None:
    assert case_name("a/b", []) == "a-b"
    assert case_name("ct", ["ct", "ct 2"]) == "ct 3"


def test_the_bar_shows_a_lesion_beside_a_liver() -> None:
    assert bar_length(1.0) == 100 and bar_length(0) == 0
    assert bar_length(1e-4) > 20


def test_an_empty_viewer_gives_guidance(panel: CasesPanel) -> None:
    assert "Nothing is open yet" in panel.layer_source.hint.text()
    assert not panel.layer_source.add_button.isEnabled()
    with pytest.raises(DataError, match="No case is chosen"):
        panel.dataset_maker()


def test_layers_without_files_become_a_data_set(panel: CasesPanel, qtbot: Any) -> None:
    add_pair(panel, qtbot)
    assert panel.cases == ("scan",)
    assert panel.table.item(0, 1).text() == "same grid"
    with pytest.raises(DataError, match="cannot be held out"):
        panel.dataset_maker()
    panel.one_case.setChecked(True)
    dataset, split = panel.dataset_maker()()
    assert split.self_validation
    assert dataset.class_values() == {"left": (2,), "right": (3,), "liver": (5,)}
    (reference,) = dataset.cases()
    case = reference.open()
    np.testing.assert_array_equal(case.label.array, label().array)
    np.testing.assert_allclose(case.images[0].affine, AFFINE)
    assert len(list(panel.folder.iterdir())) == 2
    panel.dataset_maker()()
    assert len(list(panel.folder.iterdir())) == 2


def test_two_cases_have_roles(panel: CasesPanel, qtbot: Any) -> None:
    add_pair(panel, qtbot)
    add_again(panel, qtbot)
    assert panel.cases == ("scan", "scan 2")
    assert not panel.one_case.isVisible()
    panel.table.cellWidget(1, 2).setCurrentText("validation")
    dataset, _ = panel.dataset_maker()()
    assert [ref.role for ref in dataset.cases()] == [None, "validation"]


def test_a_pair_on_two_grids_is_refused_in_words(panel: CasesPanel, qtbot: Any) -> None:
    moved = AFFINE.copy()
    moved[:3, 3] = 7
    add_pair(panel, qtbot, affine=moved)
    panel.one_case.setChecked(True)
    with pytest.raises(DataError, match="scan"):
        panel.dataset_maker()


def test_a_2d_layer_is_refused_where_one_looks(panel: CasesPanel) -> None:
    panel.viewer.add_image(np.zeros((5, 5)), name="flat")
    panel.viewer.add_labels(np.zeros((5, 5), int), name="flat label")
    click(panel, "Add pair")
    assert "single slice" in panel.message.text()
    assert panel.cases == ()


def test_classes_are_merged_and_named(qtbot: Any) -> None:
    table = ClassTable()
    qtbot.addWidget(table)
    table.set_classes({"left": (2,), "right": (3,)}, {2: 1.0, 3: 2.0}, 10.0)
    table.table.item(0, 1).setText("kidneys")
    table.table.item(0, 2).setText("2, 3")
    assert table.table.item(0, 3).text() == "3.0 ml"
    table.table.selectRow(1)
    click(table, "Remove")
    assert table.classes() == {"kidneys": (2, 3)}
    table.table.item(0, 2).setText("two")
    with pytest.raises(SegExplorerError, match="whole numbers"):
        table.classes()


def test_a_data_set_on_the_disk(panel: CasesPanel) -> None:
    from segexplorer.data.datasets import registry
    from segexplorer.data.splits import Split

    phantoms = registry.spec("phantom").of({"count": 3, "size": 32})
    panel.set_dataset(phantoms, Split(validation_count=1))
    assert panel.dataset_maker()() == (phantoms, Split(validation_count=1))


def test_a_file_that_was_not_painted_on_is_used_as_it_is(
    panel: CasesPanel, qtbot: Any, tmp_path: Path
) -> None:
    from segexplorer.data.io import save_volume
    from segexplorer.frontends.napari.io import read

    save_volume(image(), tmp_path / "ct.nii.gz")
    save_volume(label(), tmp_path / "ct_label.nii.gz", integer=True)
    for data, attributes, sort in read([str(tmp_path / "ct.nii.gz"), str(tmp_path / "ct_label.nii.gz")]):
        getattr(panel.viewer, f"add_{sort}")(data, **attributes)
    add_again(panel, qtbot)
    panel.one_case.setChecked(True)
    dataset, _ = panel.dataset_maker()()
    assert Path(dataset.pairs[0].image) == (tmp_path / "ct.nii.gz").resolve()
    assert open_volume(dataset.pairs[0].label, label=True).shape == (10, 10, 10)


def test_of_a_file_with_several_volumes_the_one_shown_is_taken(panel: CasesPanel, qtbot: Any) -> None:
    viewer = panel.viewer
    single = image_picture(image(), "scan")
    frames = np.stack([single.data, single.data + 1000])
    arguments = layer_arguments(single) | {
        "scale": (1.0, *single.scale),
        "translate": (0.0, *single.translate),
        "units": ("pixel", "mm", "mm", "mm"),
        "axis_labels": ("frame", "z", "y", "x"),
    }
    viewer.add_image(frames, **arguments)
    show(viewer, label_picture(label(), "organs"))
    viewer.dims.set_point(0, 1)
    assert "is taken: frame 1" in panel.layer_source.hint.text()
    add_again(panel, qtbot)
    pair = panel.pairs[0]
    assert pair.image.shape == (10, 10, 10) and pair.image_path is None
    assert np.allclose(pair.image.array, image().array + 1000)
    assert np.allclose(pair.image.affine, AFFINE)


def test_the_place_of_the_chosen_image_is_reported(panel: CasesPanel) -> None:
    show(panel.viewer, image_picture(image(), "scan"))
    note = panel.layer_source.geometry
    assert "10 × 10 × 10 voxels, RAS, 2 × 2 × 2.5 mm" in note.place.text()
    tilted = AFFINE.copy()
    angle = np.deg2rad(19)
    tilted[:3, :3] = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    tilted[:3, :3] *= 3
    show(panel.viewer, image_picture(Volume.from_array(image().array, affine=tilted), "tilted"))
    panel.layer_source.image_box.setCurrentText("tilted")
    assert "oblique by 19 degrees" in note.place.text()
    assert note.bring.isHidden()


def test_a_label_that_was_cropped_trains_as_it_is(panel: CasesPanel, qtbot: Any) -> None:
    """What the window says of a label on the image's lattice is what the table, and training, make of it."""
    whole = label()
    affine = whole.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [1, 0, 1]
    piece = Volume.from_array(whole.array[1:, :-1, 1:].copy(), affine=affine)
    show(panel.viewer, image_picture(image(), "scan"))
    show(panel.viewer, label_picture(piece, "organs", {2: "left", 3: "right", 5: "liver"}))
    source = panel.layer_source
    assert (
        "of one lattice" in source.geometry.distance.text()
        and "without loss" in source.geometry.distance.text()
    )
    add_again(panel, qtbot)
    assert panel.table.item(0, 1).text().startswith("same grid; The label was placed on")
    panel.one_case.setChecked(True)
    dataset, _ = panel.dataset_maker()()
    (reference,) = dataset.cases()
    placed = reference.open().label
    expected = whole.array.copy()
    expected[0], expected[:, -1], expected[:, :, 0] = 0, 0, 0
    np.testing.assert_array_equal(placed.array, expected)


def test_a_label_elsewhere_is_brought_onto_the_grid_of_its_image(panel: CasesPanel, qtbot: Any) -> None:
    finer = np.diag([1.0, 1.0, 1.25, 1.0])
    finer[:3, 3] = [-0.5, -0.5, -0.625]
    drawn = Volume.from_array(label().array.repeat(2, 0).repeat(2, 1).repeat(2, 2), affine=finer)
    show(panel.viewer, image_picture(image(), "scan"))
    show(panel.viewer, label_picture(drawn, "organs", {2: "left", 3: "right", 5: "liver"}))
    source = panel.layer_source
    assert "different grids" in source.geometry.distance.text()
    click(panel, "Bring the label onto the image's grid")
    qtbot.waitUntil(lambda: source.label_box.currentText() == "organs on the image's grid")
    assert source.geometry.bring.isHidden() and source.geometry.distance.text() == ""
    add_again(panel, qtbot)
    assert panel.table.item(0, 1).text().startswith("same grid; The label was resampled onto")
    pair = panel.pairs[0]
    np.testing.assert_array_equal(pair.label.array, label().array)
    assert dict(pair.names) == {2: "left", 3: "right", 5: "liver"}


def test_a_label_that_touches_its_image_nowhere_is_not_resampled(panel: CasesPanel) -> None:
    far = AFFINE.copy()
    far[:3, 3] = 500
    show(panel.viewer, image_picture(image(), "scan"))
    show(panel.viewer, label_picture(label(affine=far), "organs"))
    note = panel.layer_source.geometry
    assert "do not touch" in note.distance.text()
    assert note.bring.isHidden()


def test_the_folder_of_a_data_set_is_recognised_in_words(
    panel: CasesPanel, qtbot: Any, tmp_path: Path
) -> None:
    from segexplorer.data.io import save_volume

    root = tmp_path / "set"
    for case in ("case_00000", "case_00001"):
        (root / case).mkdir(parents=True)
        save_volume(image(), root / case / "imaging.nii.gz")
        save_volume(label((1, 2)), root / case / "segmentation.nii.gz", integer=True)
    panel.source_box.setCurrentIndex(1)
    disk = panel.disk_source
    disk.recognise(root)
    qtbot.waitUntil(lambda: "recognised" in disk.message.text())
    assert "case_00000 with a file imaging" in disk.message.text()
    dataset, _ = panel.dataset_maker()()
    assert dataset.kind == "kits" and len(dataset.cases()) == 2
    disk.recognise(tmp_path / "nowhere")
    qtbot.waitUntil(lambda: "no folder" in panel.message.text())
