"""The list of errors in the tab Inspect: what it lists, flying, keys, verdicts beside the run, the next patient."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt

from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.label_versions import versions_of
from segexplorer.data.volume import Volume
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display, look_at
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.panels.inspect import InspectPanel
from segexplorer.training.experiment import Experiment
from segexplorer.training.verdicts import keep_verdict, read_verdicts
from segexplorer.viewmodels.error_navigator import ORDERS
from segexplorer.viewmodels.error_pieces import KINDS
from tests.frontends.napari.scripted import snapshot
from tests.frontends.napari.test_transitions import run_of


@pytest.fixture
def panel(qtbot: Any) -> Iterator[InspectPanel]:
    viewer = ViewerModel()
    made = InspectPanel(Display(viewer, RunBridge(), CaseLayers(viewer)))
    qtbot.addWidget(made)
    made.show()
    yield made
    made.closing()
    made.display.closing()
    qtbot.waitUntil(lambda: not made.busy)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    data = {"kind": "phantom", "anatomy": "ct_abdomen", "count": 2, "size": 24, "seed": 0}
    return run_of(Experiment.of({"data": data}), tmp_path / "phantoms", (10, 20, 40))


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """A run on two cases whose labels are files, of 2 mm voxels in LPS."""
    root = tmp_path / "data"
    label = np.zeros((16, 14, 12), np.uint8)
    label[4:10, 4:10, 4:8] = 1
    for folder, array in (("imagesTr", label * np.float32(100)), ("labelsTr", label)):
        (root / folder).mkdir(parents=True)
        for name in ("a", "b"):
            volume = Volume.from_array(array, affine=np.diag([-2.0, -2.0, 2.0, 1.0]))
            save_volume(volume, root / folder / f"{name}.nii.gz", integer=folder == "labelsTr")
    pairs = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("a", "b")]
    manifest = {"labels": {"0": "background", "1": "liver"}, "training": pairs}
    (root / "dataset.json").write_text(json.dumps(manifest))
    made = run_of(
        Experiment.of({"data": {"kind": "decathlon", "root": str(root)}}), tmp_path / "run", (10, 20)
    )
    made.labels = root / "labelsTr"
    return made


def bring(panel: InspectPanel, qtbot: Any) -> None:
    """A liver half found with an extra rim, and a lesion that was missed."""
    panel.display.bridge.watched_arrived.emit({"validation": snapshot(1)})
    qtbot.waitUntil(lambda: panel.errors.table.rowCount() == 3)


def show(panel: InspectPanel, qtbot: Any, run: Any) -> None:
    display = panel.display
    display.bridge.open(run, run.events)
    qtbot.waitUntil(lambda: display.reality.judged is not None and display.reality.since is not None)


def said(panel: InspectPanel, qtbot: Any, folder: Path, count: int) -> list[Any]:
    """Wait until so many verdicts are kept and drawn."""

    def there() -> bool:
        judged, kept = panel.display.reality.judged, read_verdicts(folder)
        return judged is not None and judged.verdicts == kept and len(kept) == count

    qtbot.waitUntil(there)
    return list(read_verdicts(folder))


def test_kinds_are_told_apart_and_a_row_says_where(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot)
    table = panel.errors.table
    rows = [table.texts(row) for row in range(3)]
    assert [row[:2] for row in rows] == [["liver", "too little"], ["liver", "too much"], ["lesion", "missed"]]
    # 72, 72 and 8 voxels of 8 mm3; the rims are two voxels of 2 mm deep
    assert [row[2] for row in rows] == ["0.6", "0.6", "0.06"] and rows[0][3] == "4"
    assert rows[2][4].endswith("12") and not table.item(2, 0).icon().isNull()
    assert KINDS["missed_object"] in table.item(2, 1).toolTip()
    assert panel.errors.summary.text() == "3 errors, 1.2 ml"


def test_volumes_and_places_of_a_whole_body_fit_into_their_columns(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot)
    table = panel.errors.table
    for column, text in ((1, "too much"), (1, "spurious"), (2, "99999"), (3, "999"), (4, "R upper 999")):
        table.item(0, column).setText(text)
        needed = table.sizeHintForIndex(table.model().index(0, column)).width()
        assert needed <= table.columnWidth(column), text


def test_the_column_of_verdicts_gives_its_room_to_long_names_until_there_is_one(
    panel: InspectPanel, qtbot: Any
) -> None:
    bring(panel, qtbot)
    table = panel.errors.table
    said = table.columnCount() - 1
    table.setFixedWidth(900)
    qtbot.waitUntil(lambda: not table.isColumnHidden(said))
    table.setFixedWidth(330)
    table.item(0, 0).setText("left superior segment of the lower lobe of the lung")
    table._fit_columns()
    assert table.isColumnHidden(said)
    table.item(1, said).setText("true")
    table._fit_columns()
    assert not table.isColumnHidden(said)


def test_a_high_tab_shows_more_rows_of_both_tables(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot)
    panel.scores.table.setRowCount(104)
    panel.errors.table.setRowCount(104)
    heights = []
    for height in (470, 720, 1000):
        panel.resize(381, height)
        qtbot.waitUntil(lambda h=height: panel.height() == h)
        heights.append((panel.scores.table.height(), panel.errors.table.height()))
    assert heights[0] == heights[1] < heights[2]
    assert heights[2][0] > heights[1][0] and heights[2][1] > heights[1][1]


def test_sorting_filtering_and_searching(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot)
    table = panel.errors.table
    table.horizontalHeader().sectionClicked.emit(4)
    assert table.texts(0)[0] == "lesion", "the highest slice comes first"
    qtbot.keyClicks(panel.errors.search, "lesi")
    assert table.numbers == [3] and panel.errors.summary.text() == "1 of 3 errors, 0.06 ml"
    panel.errors.search.clear()
    panel.errors.search.textEdited.emit("")
    panel.errors.kinds.menu().actions()[list(KINDS).index("too_much")].trigger()
    assert [table.texts(row)[1] for row in range(table.rowCount())] == ["too much"]
    panel.display.issue("next_case")
    assert panel.display.screen.displayed.listing.filter.kinds, "there is but one case"
    panel.display.issue("close")
    assert not panel.display.screen.displayed.listing.filter.kinds and not panel.errors.search.text()


def test_a_click_flies_there_and_keys_go_on(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot)
    table, viewer = panel.errors.table, panel.viewer
    viewer.reset_view()
    before = viewer.scene.camera.zoom
    flown = []
    panel.display.flown.connect(lambda place, size: flown.append(place))
    place = table.visualItemRect(table.item(2, 1)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert all(24 <= position <= 26 for position in viewer.dims.point)
    assert np.allclose(viewer.scene.camera.center, flown[0]) and viewer.scene.camera.zoom >= before
    assert "lesion: missed object" in panel.errors.about.text() and "slice 12" in panel.errors.about.text()
    seen = []
    for key in (Qt.Key.Key_N, Qt.Key.Key_P, Qt.Key.Key_Up):
        qtbot.keyClick(table, key)
        seen.append((panel.display.screen.navigator.chosen, table.currentRow()))
    assert seen == [(1, 0), (3, 2), (2, 1)]
    viewer.keymap[next(k for k in viewer.keymap if str(k) == "N")](viewer)
    assert panel.display.screen.navigator.chosen == 3


def test_a_slice_stays_in_the_middle_for_an_error_that_needs_all_of_it() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((40, 40, 40)), scale=(2, 2, 2))
    viewer.reset_view()
    whole, middle = viewer.scene.camera.zoom, viewer.scene.camera.center
    look_at(viewer, (10, 4, 4), (60, 60, 60))
    assert viewer.scene.camera.zoom == whole and viewer.scene.camera.center == middle
    look_at(viewer, (10, 4, 4), (6, 6, 6))
    assert viewer.scene.camera.zoom > 2 * whole and viewer.scene.camera.center[1:] == (4, 4)


def test_the_chosen_error_is_outlined_at_its_place(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot)
    panel.display.look_at_error(3)
    qtbot.waitUntil(lambda: panel.display.screen.mark is not None)
    mark = panel.display.screen.mark
    assert mark is not None and "chosen error" in panel.legend.names
    for axis in range(3):  # two voxels of 2 mm, of which the first has its centre at 24 mm
        index = mark.index(axis, 26.0)
        assert index == 1 and mark.index(axis, 22.0) is None and mark.index(axis, 28.0) is None
        ends = mark.lines(axis, index)["here"]
        assert (ends.min(), ends.max()) == (23.0, 27.0)
    panel.display.issue("choose_class", 1)
    assert panel.display.screen.mark is None and "chosen error" not in panel.legend.names
    assert panel.errors.about.text() == ""


def test_the_step_since_which_it_is_there_and_its_life(panel: InspectPanel, qtbot: Any, run: Any) -> None:
    show(panel, qtbot, run)
    panel.viewer.reset_view()
    before = panel.viewer.scene.camera.zoom
    panel.errors.table.choose(panel.errors.table.rowCount() - 1)
    assert panel.viewer.scene.camera.zoom > 2 * before, "a small error in a large volume"
    panel.errors.table.choose(0)
    qtbot.waitUntil(lambda: len(panel.errors.life.moments) == 3)
    qtbot.waitUntil(lambda: "There since" in panel.errors.about.text())
    assert [moment.step for moment in panel.errors.life.moments] == [10, 20, 40]
    dice = [moment.dice for moment in panel.errors.life.moments]
    assert dice[0] < dice[1] < dice[2], "the predictions get better"
    text = panel.errors.about.text()
    assert "There since step 10" in text and f"{dice[2]:.2f} at step 40" in text
    assert "there since step 10" in panel.errors.table.item(0, 0).toolTip()
    chosen = panel.display.screen.displayed.error
    panel.display.issue("scrub", 10.0)
    qtbot.waitUntil(lambda: panel.display.screen.cursor == 10)
    assert panel.display.screen.displayed.error is chosen and panel.display.screen.mark is not None


def test_verdicts_are_kept_beside_the_run_and_exported(
    panel: InspectPanel, qtbot: Any, run: Any, tmp_path: Path
) -> None:
    show(panel, qtbot, run)
    table, display = panel.errors.table, panel.display
    assert not display.screen.verdict.enabled and "Choose an error" in display.screen.verdict.why
    table.choose(0)
    table.setFocus()
    qtbot.keyClick(table, Qt.Key.Key_L)
    qtbot.keyClick(table, Qt.Key.Key_Return)  # quicker than the disk: both are of the same verdict
    assert display.screen.navigator.chosen == 2, "ticked off, on to the next one"
    qtbot.waitUntil(lambda: any(verdict.done for verdict in read_verdicts(run.folder)))
    first = said(panel, qtbot, run.folder, 1)[0]
    assert (first.judgement, first.done, first.case) == ("label_error", True, run.cases[0])
    assert table.texts(0)[5] == "label" and panel.errors.summary.text().endswith("; 1 seen")
    qtbot.keyClicks(panel.errors.note, "faint, ask =A1")
    qtbot.keyClick(panel.errors.note, Qt.Key.Key_Return)
    said(panel, qtbot, run.folder, 2)
    panel.errors.states.menu().actions()[1].trigger()  # ticked off alone: none, since both say more
    assert table.rowCount() == 0
    panel.errors.states.menu().actions()[1].trigger()
    panel.errors.search.textEdited.emit("faint")
    path = tmp_path / "errors.csv"
    panel.errors.export(path)
    qtbot.waitUntil(path.exists)
    (row,) = csv.DictReader(path.read_text().splitlines())
    assert row["note"] == "faint, ask =A1" and row["case"] == run.cases[0] and row["since_step"] == "10"
    table.choose(0)
    qtbot.mouseClick(panel.errors.verdicts["true_error"], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: read_verdicts(run.folder)[1].judgement == "true_error")
    qtbot.waitUntil(lambda: panel.errors.verdicts["true_error"].isChecked())
    display.review.judge("true_error")
    qtbot.waitUntil(lambda: read_verdicts(run.folder)[1].judgement is None)


def test_verdicts_of_another_reader_are_kept_and_the_next_patient_has_none(
    panel: InspectPanel, qtbot: Any, run: Any
) -> None:
    show(panel, qtbot, run)
    panel.errors.table.choose(0)
    panel.display.review.judge("unclear", note="seen before")
    other = said(panel, qtbot, run.folder, 1)[0].model_copy(update={"id": "0" * 32, "note": "by another"})
    keep_verdict(run.folder, other)
    panel.display.review.judge(note="seen again")
    qtbot.waitUntil(lambda: "seen again" in {v.note for v in read_verdicts(run.folder)})
    assert {v.note for v in said(panel, qtbot, run.folder, 2)} == {"seen again", "by another"}
    panel.display.issue("next_case")
    qtbot.waitUntil(lambda: panel.display.screen.seen is not None)
    assert panel.display.screen.displayed.case == run.cases[1]
    assert panel.errors.about.text() == "" and panel.errors.note.text() == ""
    assert not panel.errors.verdicts["unclear"].isVisible() and panel.display.screen.mark is None
    assert all(panel.errors.table.texts(row)[5] == "" for row in range(panel.errors.table.rowCount()))


def test_a_label_error_is_painted_and_saved_as_a_new_version(
    panel: InspectPanel, qtbot: Any, files: Any
) -> None:
    show(panel, qtbot, files)
    display, painter, viewer = panel.display, panel.errors.painter, panel.viewer
    original = (files.labels / "a.nii.gz").read_bytes()
    panel.errors.table.choose(0)
    place = tuple(viewer.dims.point)
    qtbot.mouseClick(panel.errors.verdicts["label_error"], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: painter.layer is not None)
    layer = painter.layer
    assert layer.editable and layer.mode == "paint" and layer.selected_label == 1
    assert viewer.layers.selection.active == layer and tuple(viewer.dims.point) == place
    assert panel.layers.layer("errors") is None or not panel.layers.layer("errors").visible
    assert "open for painting" in panel.errors.painting_text.text()
    assert "not of this case" not in display.screen.caption.remark
    qtbot.keyClick(panel.errors.table, Qt.Key.Key_N)
    viewer.keymap[next(k for k in viewer.keymap if str(k) == "P")](viewer)
    assert display.screen.navigator.chosen == 1, "N and P do nothing while a label is open"
    assert not painter.painted
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
    assert painter.painted
    # the next patient: the label is out of sight, and comes back with its case
    display.issue("next_case")
    qtbot.waitUntil(lambda: display.screen.seen is not None and not display.busy)
    assert not layer.visible and not panel.errors.painting_text.isVisible()
    display.issue("next_case")
    qtbot.waitUntil(lambda: display.screen.seen is not None and not display.busy)
    assert layer.visible and painter.painted
    qtbot.mouseClick(panel.errors.save_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: painter.layer is None)
    (version,) = versions_of(files.labels / "a.nii.gz")
    assert (version.file, version.parent, version.voxels_changed) == ("a_v2.nii.gz", "a.nii.gz", 1)
    assert version.reason["case"] == files.cases[0] and version.reason["run"] == "run"
    assert (files.labels / "a.nii.gz").read_bytes() == original
    saved = open_volume(files.labels / "label_versions/a_v2.nii.gz", label=True)
    before = open_volume(files.labels / "a.nii.gz", label=True)
    changed = np.argwhere(np.asarray(saved.array) != np.asarray(before.array))
    assert np.allclose(saved.affine, before.affine)
    # lower, posterior, left in RAS: the last voxel along both axes of an LPS file
    assert changed.tolist() == [[15, 13, 0]]
    qtbot.waitUntil(lambda: read_verdicts(files.folder)[0].corrected == "a_v2.nii.gz")
    assert read_verdicts(files.folder)[0].corrected_sha256 == version.sha256
    assert layer not in viewer.layers and not panel.errors.painting_text.isVisible()
    assert display.screen.displayed.overlays >= {"errors"}


def test_a_label_that_is_no_file_is_not_opened(panel: InspectPanel, qtbot: Any, run: Any) -> None:
    show(panel, qtbot, run)
    panel.errors.table.choose(0)
    panel.errors.painter.open()
    told = notification_manager.records
    qtbot.waitUntil(lambda: bool(told) and "not one file" in told[-1].message)
    assert panel.errors.painter.layer is None and panel.display.screen.painting == ""


def test_errors_are_sorted_by_how_suspect_they_make_the_label(
    panel: InspectPanel, qtbot: Any, run: Any
) -> None:
    show(panel, qtbot, run)
    shutil.copytree(run.folder, run.folder.parent / "another seed")
    actions = panel.errors.orders.menu().actions()
    actions[list(ORDERS).index("suspect")].trigger()
    qtbot.waitUntil(lambda: panel.display.reality.suspicion is not None)
    panel.errors.table.choose(0)
    assert "Suspect label: in 2 of 2 runs" in panel.errors.about.text()
    scores = [entry.suspicion for entry in panel.display.screen.navigator.shown]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1]
    panel.display.issue("next_case")
    assert panel.errors.about.text() == ""


def test_without_a_run_folder_there_are_no_verdicts(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot)
    panel.errors.table.choose(0)
    assert not panel.errors.verdicts["true_error"].isEnabled() and panel.display.screen.verdict.why
    panel.display.review.judge("true_error")
    assert panel.display.screen.navigator.entry.verdict is None  # type: ignore[union-attr]
