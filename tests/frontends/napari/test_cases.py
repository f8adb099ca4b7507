"""The Cases tab: pairs, verdicts, classes, and the data set that comes out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton, QScrollArea, QWidget

from segexplorer.core.errors import DataError, SegExplorerError, SpecError
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers, layer_arguments
from segexplorer.frontends.napari.panels.case_sources import case_name
from segexplorer.frontends.napari.panels.cases import CasesPanel
from segexplorer.frontends.napari.panels.class_table import ClassTable, bar_length
from segexplorer.viewmodels.layer_images import examine, image_picture, label_picture, offered_classes

AFFINE = np.diag([2.0, 2.0, 2.5, 1.0])


ELSEWHERE = np.array([[2.0, 0, 0, 300], [0, 2, 0, -200], [0, 0, 2.5, 80], [0, 0, 0, 1]])


def image(shape: tuple[int, int, int] = (10, 10, 10), affine: Any = AFFINE) -> Volume:
    return Volume.from_array(np.random.default_rng(0).normal(0, 300, shape).astype(np.float32), affine=affine)


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
    viewer = ViewerModel()
    display = Display(viewer, RunBridge(), CaseLayers(viewer))
    made = CasesPanel(None, viewer, folder=tmp_path / "cases", display=display)
    qtbot.addWidget(made)
    made.show()
    yield made
    made.closing()
    display.closing()
    qtbot.waitUntil(lambda: not made.busy)


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


def test_a_class_table_does_not_outlive_its_case(panel: CasesPanel, qtbot: Any) -> None:
    add_pair(panel, qtbot)
    table = panel.class_table.table
    qtbot.waitUntil(lambda: table.rowCount() == 3)
    table.item(0, 1).setText("kidney of patient A")
    panel.table.selectRow(0)
    click(panel, "Remove case")
    assert table.rowCount() == 0 and panel.cases == ()
    panel.viewer.layers.clear()
    show(panel.viewer, image_picture(image(), "hippocampus"))
    show(panel.viewer, label_picture(label(values=(2, 3)), "parts", {2: "anterior", 3: "posterior"}))
    add_again(panel, qtbot)
    qtbot.waitUntil(lambda: table.rowCount() == 2)
    assert panel.class_table.classes() == {"anterior": (2,), "posterior": (3,)}


def test_classes_of_layers_may_overlap(panel: CasesPanel, qtbot: Any) -> None:
    """Regions are typed into the table of classes; the box below it says that they overlap."""
    add_pair(panel, qtbot)
    table, box = panel.class_table.table, panel.overlap
    qtbot.waitUntil(lambda: table.rowCount() == 3)
    panel.one_case.setChecked(True)
    values = [panel.class_table.classes()[name][0] for name in panel.class_table.classes()]
    for row, (name, own) in enumerate({"whole": values, "core": values[1:], "inner": values[2:]}.items()):
        table.item(row, 1).setText(name)
        table.item(row, 2).setText(", ".join(map(str, own)))
    assert box.isVisibleTo(panel) and not box.isChecked() and "regions" in box.toolTip()
    with pytest.raises(SpecError, match=r'both whole and core\..*check "Classes overlap"'):
        panel.dataset_maker()
    assert panel.problem_path == "data.classes"
    box.click()
    assert panel.problem_path == ""
    dataset, _ = panel.dataset_maker()()
    assert dataset.overlapping and dataset.class_map().scheme.members == ((1,), (1, 2), (1, 2, 3))
    panel.source_box.setCurrentIndex(1)
    assert not box.isVisibleTo(panel)  # the form of the data set has the setting


def test_what_was_written_into_the_class_table_stays_while_one_of_its_cases_does(
    panel: CasesPanel, qtbot: Any
) -> None:
    add_pair(panel, qtbot)
    table = panel.class_table.table
    qtbot.waitUntil(lambda: table.rowCount() == 3)
    table.item(0, 1).setText("left kidney")
    add_again(panel, qtbot)
    panel.table.selectRow(1)
    click(panel, "Remove case")
    assert "left kidney" in panel.class_table.classes()


def test_cases_that_name_a_label_differently_are_not_trained_together(panel: CasesPanel, qtbot: Any) -> None:
    add_pair(panel, qtbot)
    panel.viewer.layers.clear()
    show(panel.viewer, image_picture(image(), "other"))
    show(panel.viewer, label_picture(label(), "parts", {2: "anterior", 3: "right", 5: "liver"}))
    add_again(panel, qtbot)
    with pytest.raises(SpecError, match="Label 2 is “left” in scan, but “anterior” in other"):
        panel.dataset_maker()
    row = next(r for r in range(3) if panel.class_table.table.item(r, 2).text() == "2")
    panel.class_table.table.item(row, 1).setText("left side of either")
    panel.dataset_maker()


# ---- a case before any training


def two_pairs(panel: CasesPanel, qtbot: Any) -> None:
    """Two cases of different size, place and labels; one has a value that is part of no class of the other."""
    add_pair(panel, qtbot)
    other = np.zeros((6, 6, 8), np.uint8)
    other[:3] = 5
    show(panel.viewer, image_picture(image((6, 6, 8), ELSEWHERE), "second"))
    drawn = Volume.from_array(other, affine=ELSEWHERE)
    show(panel.viewer, label_picture(drawn, "organs of the second", {5: "liver"}))
    source = panel.layer_source
    assert (source.image_box.currentText(), source.label_box.currentText()) == (
        "second",
        "organs of the second",
    )  # what was opened last is offered next
    add_again(panel, qtbot)
    qtbot.waitUntil(lambda: not panel.busy)


def seen(panel: CasesPanel) -> list[str]:
    """Names of the layers that can be seen."""
    return sorted(layer.name for layer in panel.viewer.layers if layer.visible)


def test_a_case_is_looked_at_before_training_and_nothing_of_the_one_before_stays(
    panel: CasesPanel, qtbot: Any
) -> None:
    two_pairs(panel, qtbot)
    assert (
        panel.class_table.table.item(2, 3).text() == "2.4 ml"
    )  # liver of both: 100 and 144 voxels of 10 mm3
    panel.table.setFocus()
    qtbot.mouseClick(
        panel.table.viewport(),
        Qt.MouseButton.LeftButton,
        pos=panel.table.visualItemRect(panel.table.item(0, 0)).center(),
    )
    qtbot.waitUntil(lambda: panel.preview.current is not None and not panel.busy)
    assert seen(panel) == ["image (scan)", "label (scan)"]
    assert "scan: same grid. 10 × 10 × 10 voxels of 2 × 2 × 2.5 mm, RAS" in panel.preview.text.text()
    layer = panel.viewer.layers["label (scan)"]
    assert list(layer.features["class"]) == ["background", "left", "right", "liver"]
    assert panel.class_table.table.item(2, 3).text() == "1.0 ml"
    for index in (1, 2, 3):  # the swatch of the table is the colour of the picture
        swatch = panel.class_table.table.item(index - 1, 0).background().color().getRgbF()[:3]
        np.testing.assert_allclose(layer.get_color(index)[:3], swatch, atol=0.01)
    qtbot.keyClick(panel.table, Qt.Key.Key_Down)
    qtbot.waitUntil(lambda: panel.preview.current is not None and panel.preview.current.case == "second")
    assert seen(panel) == ["image (second)", "label (second)"]
    layer = panel.viewer.layers["label (second)"]
    assert layer.data.shape == (8, 6, 6)
    # in the middle of the view, wherever the scans of others lie
    np.testing.assert_allclose(panel.viewer.scene.camera.center[-2:], layer.extent.world.mean(0)[-2:])
    texts = [panel.class_table.table.item(row, 3).text() for row in range(3)]
    assert texts == ["0.0 ml", "0.0 ml", "1.4 ml"]
    assert "scan" not in panel.preview.text.text()
    qtbot.mouseClick(panel.preview.next_button, Qt.MouseButton.LeftButton)  # after the last comes the first
    qtbot.waitUntil(lambda: seen(panel) == ["image (scan)", "label (scan)"])
    qtbot.mouseClick(panel.preview.close_button, Qt.MouseButton.LeftButton)
    assert seen(panel) == ["organs", "organs of the second", "scan", "second"]
    assert panel.table.selectedIndexes() == [] and panel.class_table.table.item(2, 3).text() == "2.4 ml"


def test_a_case_that_is_removed_while_it_is_shown_leaves_nothing(panel: CasesPanel, qtbot: Any) -> None:
    two_pairs(panel, qtbot)
    panel.show_case("scan")
    qtbot.waitUntil(lambda: seen(panel) == ["image (scan)", "label (scan)"])
    click(panel, "Remove case")
    qtbot.waitUntil(lambda: seen(panel) == ["image (second)", "label (second)"])
    click(panel, "Remove case")
    assert seen(panel) == ["organs", "organs of the second", "scan", "second"]
    assert panel.cases == () and panel.class_table.classes() == {}


def test_a_run_takes_the_preview_away_and_a_preview_the_run(panel: CasesPanel, qtbot: Any) -> None:
    from tests.frontends.napari.scripted import snapshot

    add_pair(panel, qtbot)
    qtbot.waitUntil(lambda: not panel.busy)
    display = panel.preview._display
    assert display is not None
    panel.show_case("scan")
    qtbot.waitUntil(lambda: seen(panel) == ["image (scan)", "label (scan)"])
    display.bridge.watched_arrived.emit({"validation": snapshot(1)})
    qtbot.waitUntil(lambda: not display.busy)
    assert not {"image (scan)", "label (scan)"} & {layer.name for layer in panel.viewer.layers}
    assert panel.preview.current is None and panel.table.selectedIndexes() == []
    assert any(name.startswith("errors") for name in seen(panel))
    panel.show_case("scan")
    qtbot.waitUntil(lambda: seen(panel) == ["image (scan)", "label (scan)"])
    assert display.screen.badge == "" and display.screen.scores == () and display.screen.errors == ()


def test_the_cases_of_a_data_set_are_listed_and_looked_at(panel: CasesPanel, qtbot: Any) -> None:
    from segexplorer.data.datasets import registry
    from segexplorer.data.splits import Split

    panel.set_dataset(registry.spec("phantom").of({"count": 3, "size": 32}), Split(validation_count=1))
    qtbot.waitUntil(lambda: panel.table.rowCount() == 3)
    assert panel.table.item(0, 0).text() == "phantom_000" and panel.table.item(0, 2).text() == "by split"
    panel.show_case("phantom_001")
    qtbot.waitUntil(lambda: seen(panel) == ["image (phantom_001)", "label (phantom_001)"])
    assert panel.table.item(1, 1).text() == "same grid"
    names = [panel.class_table.table.item(row, 1).text() for row in range(panel.class_table.table.rowCount())]
    assert names == list(registry.spec("phantom").of({}).class_values())
    assert panel.class_table.table.item(0, 3).text().endswith(" ml")
    panel.source_box.setCurrentIndex(0)  # the other source: nothing of the data set stays
    assert seen(panel) == [] and panel.table.rowCount() == 0 and panel.class_table.classes() == {}


def test_tables_are_left_with_tab_and_controls_have_names(panel: CasesPanel, qtbot: Any) -> None:
    add_pair(panel, qtbot)
    qtbot.waitUntil(lambda: not panel.busy)
    panel.activateWindow()
    for table in (panel.table, panel.class_table.table):
        table.setFocus()
        table.setCurrentCell(0, 1)
        qtbot.keyClick(table, Qt.Key.Key_Tab)
        assert table.currentColumn() == 1, "Tab does not go from cell to cell"
    for control in panel.findChildren(QWidget):
        if control.focusPolicy() & Qt.FocusPolicy.TabFocus and control.isVisible():
            named = control.accessibleName() or getattr(control, "text", lambda: "")()
            assert named or isinstance(control, QScrollArea), control


def test_long_names_are_shortened_in_the_middle_and_numbers_are_on_the_right(qtbot: Any) -> None:
    table = ClassTable()
    qtbot.addWidget(table)
    table.resize(360, 400)
    table.show()
    names = [
        f"structure {k:03d} of the left superior segmental bronchopulmonary region"[:60] for k in range(104)
    ]
    table.set_classes(
        {name: (k + 1,) for k, name in enumerate(names)}, {k + 1: 1.0 for k in range(104)}, 104.0
    )
    inner = table.table
    assert inner.rowCount() == 104 and inner.horizontalScrollBar().maximum() == 0
    assert inner.textElideMode() == Qt.TextElideMode.ElideMiddle
    assert inner.item(7, 1).toolTip() == names[7]
    assert inner.item(7, 2).textAlignment() & Qt.AlignmentFlag.AlignRight
    assert inner.item(7, 3).textAlignment() & Qt.AlignmentFlag.AlignRight
    assert inner.columnWidth(1) >= 90
    used = sum(inner.columnWidth(column) for column in range(5))
    assert used <= inner.viewport().width()
