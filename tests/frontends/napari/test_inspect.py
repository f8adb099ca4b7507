"""The Inspect tab: layers of a watched case, read-out, scores, errors; and layers that the user takes away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QLabel

from segexplorer.core.events import ValidationDone
from segexplorer.core.untrusted_files import with_checksum
from segexplorer.frontends.forms import appearance
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.panels.inspect import NO_MAP, InspectPanel
from segexplorer.frontends.napari.panels.result_tables import COLUMNS, ScoreTable, counts_sentence
from segexplorer.training.scores import SplitScores
from segexplorer.viewmodels import watched_case
from tests.frontends.napari.scripted import score, snapshot


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


def bring(panel: InspectPanel, qtbot: Any, *snapshots: Any) -> None:
    panel.display.bridge.watched_arrived.emit({s.role: s for s in snapshots})
    settle(panel, qtbot)


def settle(panel: InspectPanel, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not panel.busy)


def test_a_watched_case_appears_and_is_updated(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    assert set(panel.layers.keys) == {"errors"}
    assert "are drawn for one class" in panel.message.text()  # two classes have two balances in every region
    panel.choices.class_picker.setCurrentText("liver")
    settle(panel, qtbot)
    assert set(panel.layers.keys) == {"errors", "balance"} and panel.message.text() == ""
    assert "step 1" in panel.layers.layer("errors").name
    bring(panel, qtbot, snapshot(2))
    assert len(panel.viewer.layers) == 2 and "step 2" in panel.layers.layer("errors").name
    panel.choices.switches["prediction"].setChecked(True)
    panel.choices.map_picker.setCurrentText(NO_MAP)
    settle(panel, qtbot)
    assert panel.layers.layer("prediction").visible and not panel.layers.layer("balance").visible


def test_deleted_and_renamed_layers_are_left_alone_until_asked_for(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    panel.display.issue("choose_class", 1)
    settle(panel, qtbot)
    panel.viewer.layers.remove(panel.layers.layer("errors"))
    assert not panel.choices.switches["errors"].isChecked(), "a ticked box has a layer"
    panel.layers.layer("balance").name = "mine"
    bring(panel, qtbot, snapshot(2))
    assert [layer.name for layer in panel.viewer.layers] == ["mine"]
    panel.choices.switches["errors"].setChecked(True)
    settle(panel, qtbot)
    assert len(panel.viewer.layers) == 2 and panel.layers.layer("errors").visible
    panel.viewer.layers.clear()
    assert not any(box.isChecked() for box in panel.choices.switches.values())
    assert panel.choices.map_picker.currentText() == NO_MAP
    bring(panel, qtbot, snapshot(3))
    assert len(panel.viewer.layers) == 0


def test_a_layer_hidden_by_the_eye_of_napari_is_an_overlay_that_is_off(
    panel: InspectPanel, qtbot: Any
) -> None:
    bring(panel, qtbot, snapshot(1))
    panel.layers.layer("errors").visible = False
    assert not panel.choices.switches["errors"].isChecked()
    bring(panel, qtbot, snapshot(2))
    assert panel.layers.layer("errors") is None, "nothing of step 1 is left beside step 2"
    panel.choices.switches["errors"].setChecked(True)
    settle(panel, qtbot)
    assert "step 2" in panel.layers.layer("errors").name


def test_alpha_beta_and_balance_are_one_choice(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    panel.display.issue("choose_class", 1)
    assert panel.choices.map_picker.currentData() == "balance"
    panel.choices.map_picker.setCurrentIndex(panel.choices.map_picker.findData("alpha"))
    settle(panel, qtbot)
    assert panel.display.displayed.overlays == {"errors", "alpha"}
    assert {key for key in panel.layers.keys if panel.layers.layer(key).visible} == {"errors", "alpha"}


def test_the_role_and_class_can_be_chosen(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1), snapshot(1, role="train", case="case 2"))
    panel.choices.case_picker.setCurrentIndex(panel.choices.case_picker.findData("train"))
    settle(panel, qtbot)
    assert "case 2: training case, not held out" in panel.badge.text()
    assert "training" in panel.layers.layer("errors").name
    panel.choices.class_picker.setCurrentText("lesion")
    settle(panel, qtbot)
    assert panel.choices.class_index == 2 and "lesion" in panel.layers.layer("balance").name
    assert panel.errors.table.rowCount() == 1


def test_a_click_on_a_row_of_the_scores_looks_at_that_class(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    panel.display.issue("choose_scores", "watched")
    table = panel.scores.table
    assert [table.class_of(row) for row in range(table.rowCount())] == ["liver", "lesion", ""]
    for row, chosen in ((1, 2), (0, 1), (2, None)):
        table.cellClicked.emit(row, 0)
        settle(panel, qtbot)
        assert panel.display.displayed.cls == chosen
    assert not table.item(0, 0).icon().isNull() and table.item(2, 0).icon().isNull()
    for width, narrow in ((340, True), (600, False)):
        table.resize(width, 120)
        assert table.isColumnHidden(COLUMNS.index("F2")) == narrow


def test_the_name_of_a_long_run_is_one_line_and_a_tool_tip(panel: InspectPanel, qtbot: Any) -> None:
    panel.resize(300, 500)
    panel.title.setText("Run " + 30 * "long-" + "name: as recorded")
    panel.title.show()
    shown = QLabel.text(panel.title)
    assert "…" in shown and shown.startswith("Run ") and shown.endswith("recorded")
    assert panel.title.toolTip() == panel.title.text() and panel.title.minimumSizeHint().height() < 40


def test_read_out_under_the_cursor(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    # 30 and 10 voxels of 8 mm3 in every region; (z, y, x) in mm: voxel (4, 4, 4) is liver, missed
    panel.display.point_at((8.0, 8.0, 8.0))
    text = panel.read_out.text()
    assert text.startswith("liver, predicted background")
    assert "0.2 ml extra, 0.08 ml missed: FP penalty .68, FN .32" in text
    panel.display.point_at((8.0, 8.0, 14.0))
    assert panel.read_out.text().startswith("liver, correct")
    for elsewhere in ((-50.0, 0.0, 0.0), None):
        panel.display.point_at((8.0, 8.0, 8.0))
        panel.display.point_at(elsewhere)
        assert "liver" not in panel.read_out.text()


def test_a_loss_without_regions_is_a_sentence() -> None:
    from dataclasses import replace

    bare = replace(snapshot(1), regions=None, regions_affine=None)
    seen = watched_case.see(
        bare, None, watched_case.Wanted(frozenset({"balance", "alpha", "errors", "patch"}))
    )
    assert [p.key for p in seen.pictures] == ["errors"]
    assert "no regions" in seen.note and "no patch" in seen.note
    assert seen.note.count("no regions") == 1


def test_the_users_own_layer_of_the_same_voxels_is_not_doubled() -> None:
    from types import SimpleNamespace

    from segexplorer.data.volume import Volume

    volume = Volume.from_array(np.arange(24, dtype=np.float32).reshape(2, 3, 4), affine=np.eye(4))
    label = volume.with_array((volume.array > 5).astype(np.uint8))
    case = SimpleNamespace(images=(volume,), label=label)
    picture = watched_case.image_of(lambda: case, "case 1", []).picture
    assert picture is not None and picture.data.shape == (4, 3, 2)
    there = [picture.data + 1, picture.data.copy(), (picture.data > 5).astype(int)]
    found = watched_case.image_of(lambda: case, "case 1", there)
    assert found.picture is None and found.own == {1, 2}


def test_scores_write_their_states_out(qtbot: Any) -> None:
    table = ScoreTable()
    qtbot.addWidget(table)
    scores = (
        score("liver", "scored", 0.8),
        score("lesion", "missed", 0.0),
        score("vessel", "absent", float("nan")),
    )
    table.show_scores(scores)
    assert table.row_texts(0) == ["liver", "0.800", "0.800", "0.800", "–", "1.5", "0.2", "yes"]
    assert table.row_texts(1)[-1] == "missed" and table.row_texts(2)[-1] == "absent"
    assert table.row_texts(3)[:2] == ["Mean", "0.400"]
    assert counts_sentence(scores) == "Mean over 2 of 3 (case, class) pairs: 1 absent, 1 missed (counted 0)"


def test_long_names_have_the_room_of_what_their_tool_tip_says(qtbot: Any) -> None:
    table = ScoreTable()
    qtbot.addWidget(table)
    table.resize(900, 200)
    table.show()
    found = COLUMNS.index("Found")
    table.show_scores((score("left superior segment of the lower lobe of the lung", "missed", 0.0),))
    assert not table.isColumnHidden(found)
    table.resize(330, 200)
    qtbot.waitUntil(lambda: table.isColumnHidden(found))
    assert table.item(0, 0).toolTip().endswith("Found missed")
    assert table.columnWidth(0) >= 80
    table.resize(900, 200)
    qtbot.waitUntil(lambda: not table.isColumnHidden(found))


def test_scores_of_several_cases_are_counted(qtbot: Any, panel: InspectPanel) -> None:
    scores = (score("liver", "scored", 0.8), score("liver", "missed", 0.0, case="case 2"))
    done = ValidationDone(
        step=7,
        epoch=1,
        loss=0.1,
        scores=scores,
        mean_dice=0.4,
        class_dice={},
        n_used=2,
        n_absent=0,
        n_missed=1,
        best=True,
        seconds=1.0,
    )
    panel.display.bridge.events_arrived.emit([done])
    assert panel.scores.table.row_texts(0)[-1] == "1 of 2"
    assert "2 of 2" in panel.scores.counts.text() and "step 7" in panel.scores.counts.text()


def test_rows_have_the_colours_of_classes_that_become_known_later(panel: InspectPanel, qtbot: Any) -> None:
    done = ValidationDone(
        step=7,
        epoch=1,
        loss=0.1,
        scores=(score("lesion", "scored", 0.8),),
        mean_dice=0.8,
        class_dice={},
        n_used=1,
        n_absent=0,
        n_missed=0,
        best=True,
        seconds=1.0,
    )
    panel.display.bridge.events_arrived.emit([done])
    table = panel.scores.table
    assert table.row_texts(0)[0] == "lesion" and table.item(0, 0).icon().isNull()
    bring(panel, qtbot, snapshot(7))
    assert not table.item(0, 0).icon().isNull()


def test_recorded_scores_of_test_cases_are_shown(panel: InspectPanel, qtbot: Any, tmp_path: Path) -> None:
    record = SplitScores(
        split="test",
        number=2,
        checkpoint="best",
        weights="step_40",
        step=40,
        sha256="0" * 64,
        time=0.0,
        seconds=1.0,
        version="0",
        definitions={},
        fingerprints={},
        scores=(score("liver", "scored", 0.75), score("liver", "missed", 0.0, "case 2")),
    )
    run = SimpleNamespace(folder=tmp_path, experiment=None, plan=None)
    panel.scores.source.setCurrentIndex(panel.scores.source.findData("test"))
    panel.display.bridge.begun.emit(run)
    assert "have not been scored" in panel.scores.counts.text()
    (tmp_path / "scores").mkdir()
    path = tmp_path / "scores/test.2.json"
    path.write_text(json.dumps(with_checksum(json.loads(record.model_dump_json()))))
    panel.display.bridge.begun.emit(SimpleNamespace(folder=tmp_path, experiment=None, plan=None))
    qtbot.waitUntil(lambda: panel.scores.table.rowCount() > 0)
    text = panel.scores.counts.text()
    assert "best weights, step 40" in text and "scored 2 times" in text and "1970-01-01" in text
    assert panel.scores.table.item(0, 1).text() == "0.375"


def test_in_3d_there_are_surfaces_and_the_slices_come_back(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    panel.viewer.dims.ndisplay = 3
    settle(panel, qtbot)
    shown = [key for key in panel.layers.keys if panel.layers.layer(key).visible]
    assert set(shown) == {"surface/errors", "surface/truth"}, "no slab of voxels"
    assert "truth" in panel.legend.names
    before = panel.layers.layer("surface/truth")
    before.opacity = 0.4
    bring(panel, qtbot, snapshot(2))
    truth = panel.layers.layer("surface/truth")
    assert truth == before, "a layer that goes stops the window for a moment"
    assert len(truth.vertex_colors) == len(truth.vertices)
    assert truth.opacity == 0.4 and "step 2" in truth.name, "what the user set stays"
    panel.choices.switches["errors"].setChecked(False)
    settle(panel, qtbot)
    assert not [key for key in panel.layers.keys if panel.layers.layer(key).visible]
    panel.viewer.dims.ndisplay = 2
    panel.choices.switches["errors"].setChecked(True)
    settle(panel, qtbot)
    assert [key for key in panel.layers.keys if panel.layers.layer(key).visible] == ["errors"]


def test_a_slice_without_errors_leads_to_the_nearest_with_some(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    panel.viewer.dims.set_point(0, 0.0)
    assert "No error in this slice; nearest: 4" in panel.absent.text()
    panel.absent.setStyleSheet("color: #ffffff")  # as in a dark theme
    assert appearance.colour("amber", dark=True) in panel.absent.text(), "Qt's own blue cannot be read there"
    panel.absent.linkActivated.emit("0")
    assert panel.viewer.dims.point[0] == 8.0 and panel.absent.text() == ""
