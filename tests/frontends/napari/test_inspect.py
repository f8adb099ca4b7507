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

from segexplorer.core.events import ValidationDone
from segexplorer.core.untrusted_files import with_checksum
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.panels.inspect import InspectPanel
from segexplorer.frontends.napari.panels.result_tables import ScoreTable, counts_sentence
from segexplorer.training.scores import SplitScores
from segexplorer.viewmodels import displayed
from tests.frontends.napari.scripted import score, snapshot


@pytest.fixture
def panel(qtbot: Any) -> Iterator[InspectPanel]:
    viewer = ViewerModel()
    made = InspectPanel(None, viewer, RunBridge(), CaseLayers(viewer))
    qtbot.addWidget(made)
    made.show()
    yield made
    made.closing()
    qtbot.waitUntil(lambda: not made.busy, timeout=20_000)


def bring(panel: InspectPanel, qtbot: Any, *snapshots: Any) -> None:
    panel.bridge.watched_arrived.emit({s.role: s for s in snapshots})
    settle(panel, qtbot)


def settle(panel: InspectPanel, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not panel.busy, timeout=20_000)


def test_a_watched_case_appears_and_is_updated(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    assert set(panel.layers.keys) == {"errors", "balance"}
    assert "step 1" in panel.layers.layer("errors").name
    bring(panel, qtbot, snapshot(2))
    assert len(panel.viewer.layers) == 2 and "step 2" in panel.layers.layer("errors").name
    panel.choices.switches["prediction"].setChecked(True)
    panel.choices.switches["balance"].setChecked(False)
    settle(panel, qtbot)
    assert panel.layers.layer("prediction").visible and not panel.layers.layer("balance").visible


def test_deleted_and_renamed_layers_are_left_alone_until_asked_for(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    panel.viewer.layers.remove(panel.layers.layer("errors"))
    panel.layers.layer("balance").name = "mine"
    bring(panel, qtbot, snapshot(2))
    assert [layer.name for layer in panel.viewer.layers] == ["mine"]
    panel.choices.switches["errors"].setChecked(False)
    panel.choices.switches["errors"].setChecked(True)
    settle(panel, qtbot)
    assert len(panel.viewer.layers) == 2
    panel.viewer.layers.clear()
    bring(panel, qtbot, snapshot(3))
    assert len(panel.viewer.layers) == 0


def test_the_role_and_class_can_be_chosen(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1), snapshot(1, role="train", case="case 2"))
    panel.choices.role_picker.setCurrentIndex(panel.choices.role_picker.findData("train"))
    settle(panel, qtbot)
    assert "case 2: training case, not held out" in panel.badge.text()
    assert "training" in panel.layers.layer("errors").name
    panel.choices.class_picker.setCurrentText("lesion")
    settle(panel, qtbot)
    assert panel.choices.class_index == 2 and "lesion" in panel.layers.layer("balance").name
    assert panel.errors.rows.count() == 1


def test_read_out_under_the_cursor(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    # 30 and 10 voxels of 8 mm3 in every region; (z, y, x) in mm: voxel (4, 4, 4) is liver, missed
    text = panel.read((8.0, 8.0, 8.0))
    assert text.startswith("liver, predicted background")
    assert "0.2 ml extra, 0.08 ml missed: FP penalty .68, FN .32" in text
    assert panel.read((8.0, 8.0, 14.0)).startswith("liver, correct")
    assert panel.read((-50.0, 0.0, 0.0)) == ""


def test_flying_to_an_error(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    assert panel.errors.rows.count() == 3
    rows = [panel.errors.rows.item(i).text() for i in range(3)]
    row = next(i for i, text in enumerate(rows) if "lesion" in text)
    panel.errors.fly(row)
    z, y, x = panel.viewer.dims.point
    assert all(24 <= position <= 26 for position in (z, y, x))


def test_keys_fly_to_the_next_and_the_previous_error(panel: InspectPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(1))
    seen = []
    for way in (1, 1, 1, 1, -1):
        panel.errors.fly_on(way)
        seen.append((panel.errors.rows.currentRow(), tuple(panel.viewer.dims.point)))
    assert [row for row, _ in seen] == [0, 1, 2, 0, 2]
    assert seen[0][1] == seen[3][1] != seen[1][1]
    assert {"N", "P"} <= {str(key) for key in panel.viewer.keymap}


def test_a_loss_without_regions_is_a_sentence() -> None:
    from dataclasses import replace

    bare = replace(snapshot(1), regions=None, regions_affine=None)
    seen = displayed.see(bare, None, displayed.Wanted(frozenset({"balance", "alpha", "errors", "patch"})))
    assert [p.key for p in seen.pictures] == ["errors"]
    assert "no regions" in seen.note and "no patch" in seen.note
    assert seen.note.count("no regions") == 1


def test_the_users_own_layer_of_the_same_voxels_is_not_doubled() -> None:
    from types import SimpleNamespace

    from segexplorer.data.volume import Volume

    volume = Volume.from_array(np.arange(24, dtype=np.float32).reshape(2, 3, 4), affine=np.eye(4))
    case = SimpleNamespace(images=(volume,))
    picture = displayed.image_of(lambda: case, "case 1", [])
    assert picture is not None and picture.data.shape == (4, 3, 2)
    assert displayed.image_of(lambda: case, "case 1", [picture.data.copy()]) is None


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
    panel.bridge.events_arrived.emit([done])
    assert panel.scores.table.row_texts(0)[-1] == "1 of 2"
    assert "2 of 2" in panel.scores.counts.text() and "step 7" in panel.scores.counts.text()


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
    panel.bridge.begun.emit(run)
    assert "have not been scored" in panel.scores.counts.text()
    (tmp_path / "scores").mkdir()
    path = tmp_path / "scores/test.2.json"
    path.write_text(json.dumps(with_checksum(json.loads(record.model_dump_json()))))
    panel.bridge.begun.emit(SimpleNamespace(folder=tmp_path, experiment=None, plan=None))
    qtbot.waitUntil(lambda: panel.scores.table.rowCount() > 0, timeout=10_000)
    text = panel.scores.counts.text()
    assert "best weights, step 40" in text and "scored 2 times" in text and "1970-01-01" in text
    assert panel.scores.table.item(0, 1).text() == "0.375"
