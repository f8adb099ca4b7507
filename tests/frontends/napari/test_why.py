"""The tab Why over a viewer: real clicks on its parts, and two cases one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QLabel, QRadioButton

import segexplorer
from segexplorer.core import colours
from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import LabelScheme
from segexplorer.data.geometry import DisplayGrid
from segexplorer.data.volume import Volume
from segexplorer.frontends.napari import theme
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.panels.why import WhyPanel
from segexplorer.training import explanation
from segexplorer.training.doctor import Diagnosis, NotChecked
from segexplorer.training.doctor.base import Finding, Place
from segexplorer.training.experiment import Experiment
from segexplorer.training.explanation import Explanation, explain_arrays
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run
from segexplorer.training.snapshots import WatchedSnapshot
from tests.frontends.napari.scripted import CLASSES, snapshot


def explain(of: WatchedSnapshot, after: WatchedSnapshot | None, _: Any = None) -> Explanation:
    def logits(shown: WatchedSnapshot) -> np.ndarray:
        classes = np.arange(3).reshape(-1, 1, 1, 1)
        return np.where(shown.prediction == classes, 1 + shown.step / 10, 0).astype(np.float32)

    assert of.truth is not None
    found = explain_arrays(
        of.truth,
        logits=logits(of),
        later=None if after is None else logits(after),
        loss="dice_cross_entropy",
        class_names=CLASSES,
        affine=of.affine,
    )
    return replace(found, case=of.case, role=of.role, step=of.step)


@pytest.fixture
def panel(qtbot: Any) -> Iterator[WhyPanel]:
    viewer, bridge = ViewerModel(), RunBridge()
    display = Display(viewer, bridge, CaseLayers(viewer))
    made = WhyPanel(display)
    qtbot.addWidget(made)
    made.resize(381, 700)
    made.show()
    yield made
    made.closing()
    display.closing()
    bridge.close()


def bring(panel: WhyPanel, qtbot: Any, *snapshots: WatchedSnapshot) -> None:
    display = panel.display
    classes = np.arange(3).reshape(-1, 1, 1, 1)
    given = [
        replace(s, probabilities=np.where(s.prediction == classes, 200, 20).astype(np.uint8))
        for s in snapshots
    ]
    display.bridge.watched_arrived.emit({s.role: s for s in given})
    display._know(explain=explain)
    settle(panel, qtbot)


def settle(panel: WhyPanel, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not panel.display.busy)


def click(button: Any, qtbot: Any) -> None:
    # a radio button is as wide as its column, but hears clicks on its dot and its text alone
    at = QPoint(8, button.height() // 2) if isinstance(button, QRadioButton) else button.rect().center()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton, pos=at)


def test_before_a_prediction_nothing_can_be_asked(panel: WhyPanel) -> None:
    assert not any(button.isEnabled() for button in panel.look.buttons.values())
    assert "Open or start a run" in panel.about.text()
    assert not panel.ask_here.isEnabled() and not panel.decision.slider.isEnabled()


def test_classes_that_overlap_are_asked_before_their_sigmoid(panel: WhyPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(4))
    assert panel.before_softmax.text() == "Before softmax"
    nested = LabelScheme.of(2, [[1], [1, 2]])
    bring(panel, qtbot, replace(snapshot(5), scheme=nested))
    assert (
        panel.before_softmax.text() == "Before sigmoid" and "After sigmoid" in panel.before_softmax.toolTip()
    )


def test_the_loss_of_another_run_is_not_offered_for_a_change(panel: WhyPanel, qtbot: Any) -> None:
    panel.loss_section.button.click()
    assert not panel.loss.form.native.isVisibleTo(panel) and "Asked" in panel.loss.waits.text()
    bring(panel, qtbot, snapshot(4))
    panel.look.buttons["asked"].click()
    settle(panel, qtbot)
    assert panel.loss.form.native.isVisibleTo(panel)
    panel.look.buttons[None].click()
    panel.display.issue("close")
    assert not panel.loss.form.native.isVisibleTo(panel)


def test_a_doctor_that_fails_says_so(panel: WhyPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(4))
    panel.display.learn(examined="")
    assert "Examining" in panel.doctor.note.text()
    panel.display._doctor._failed(DataError("The log is gone.", "Bring it back."))
    assert panel.doctor.note.text() == "The log is gone. Bring it back."


def test_asked_is_drawn_explained_and_taken_away(panel: WhyPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(4))
    panel.display.issue("choose_class", 1)
    settle(panel, qtbot)
    panel.look.buttons["asked"].click()
    settle(panel, qtbot)
    layer = panel.display.layers.layer("pull")
    assert layer is not None and layer.visible
    assert "balance" not in panel.display.displayed.overlays, "one map at a time"
    assert panel.shares.labels[1][0].text() == "Cross entropy"
    assert panel.scale.high.text().startswith("more liver")
    assert not panel.sentence.text().startswith("Truth")
    panel.display.ask_at((16.0, 16.0, 16.0))
    settle(panel, qtbot)
    assert panel.sentence.text().startswith("Truth: liver")
    panel.display.viewer.dims.set_point(range(3), (26.0, 26.0, 26.0))
    click(panel.ask_here, qtbot)
    settle(panel, qtbot)
    assert panel.sentence.text().startswith("Truth: lesion")
    assert panel.term.count() == 3
    panel.term.setCurrentIndex(1)
    settle(panel, qtbot)
    assert panel.display.displayed.question.term == "dice"
    panel.look.buttons[None].click()
    settle(panel, qtbot)
    assert panel.display.layers.layer("pull") is None or not panel.display.layers.layer("pull").visible
    assert not panel.shares.isVisibleTo(panel)


def test_got_says_that_it_needs_a_later_prediction(panel: WhyPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(4))
    panel.display.issue("choose_class", 1)
    panel.look.buttons["got"].click()
    settle(panel, qtbot)
    assert "no later prediction" in panel.note.text()
    assert panel.display.layers.layer("pull") is None


def test_another_case_leaves_nothing_of_the_first(panel: WhyPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(4), snapshot(4, "train", "case 2"))
    panel.display.issue("choose_class", 1)
    panel.look.buttons["asked"].click()
    panel.display.ask_at((16.0, 16.0, 16.0))
    settle(panel, qtbot)
    assert "case 1" in panel.display.layers.layer("pull").name and panel.sentence.text().startswith("Truth")
    panel.display.issue("choose_case", "train")
    assert not panel.sentence.text().startswith("Truth")
    settle(panel, qtbot)
    assert "case 2" in panel.display.layers.layer("pull").name
    assert panel.about.text().startswith("case 2") and not panel.sentence.text().startswith("Truth")


def test_the_loss_waits_for_training_and_the_decision_does_not(panel: WhyPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(4))
    panel.display.issue("choose_class", 1)
    panel.look.buttons["asked"].click()
    settle(panel, qtbot)
    display = panel.display
    before = display.layers.layer("prediction").data.copy() if display.layers.layer("prediction") else None
    predicted, asked = display.seen.snapshot.prediction, display.layers.layer("pull").data.copy()
    panel.loss_section.button.click()
    panel.loss.form.set(type(panel.loss.form.value)(loss={"kind": "tversky", "alpha": 0.9, "beta": 0.1}))
    panel.loss.ask()
    settle(panel, qtbot)
    assert not np.allclose(display.layers.layer("pull").data, asked)
    assert display.seen.snapshot.prediction is predicted and before is None
    click(panel.loss.reset, qtbot)
    settle(panel, qtbot)
    assert np.allclose(display.layers.layer("pull").data, asked)
    assert panel.loss.form.value.loss == display.screen.answer.explanation.loss
    panel.decision_section.button.click()
    settle(panel, qtbot)
    panel.decision.slider.setValue(500)
    settle(panel, qtbot)
    assert display.displayed.bias == 5 and (display.seen.snapshot.prediction == 1).all()
    assert "what if: bias +5" in display.screen.caption.remark
    assert display.seen.recorded.prediction is predicted
    assert np.allclose(display.layers.layer("pull").data, asked), (
        "the loss was asked of the prediction itself"
    )
    click(panel.decision.reset, qtbot)
    settle(panel, qtbot)
    assert display.seen.snapshot.prediction is predicted


def test_findings_of_the_doctor_lead_to_their_step_class_and_place(panel: WhyPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(4), snapshot(4, "train", "case 2"))
    place = Place("lesion", "case 2", "train", None, (20.0, 22.0, 24.0))
    finding = Finding(
        "collapsed", "problem", "The lesion was lost.", remedy="Raise beta.", step=4, place=place
    )
    untold = NotChecked("plateau", "Plateaus", "too few steps")
    panel.display.learn(diagnosis=("", Diagnosis((finding,), (), (untold,))))
    sentence, remedy, show = panel.doctor.rows[0]
    assert sentence.text() == "The lesion was lost." and remedy.text() == "Raise beta."
    assert "plateaus (too few steps)" in panel.doctor.note.text()
    click(show, qtbot)
    settle(panel, qtbot)
    assert panel.display.displayed.role == "train" and panel.display.displayed.cls == 2
    assert panel.display.viewer.dims.point[-3:] == (24.0, 22.0, 20.0)
    panel.display.learn(diagnosis=("another run", Diagnosis((finding,))))
    assert not panel.doctor.rows and not panel.doctor.note.text()


def test_what_was_paid_is_listed_and_leads_to_its_regions(panel: WhyPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot(12))
    shown = panel.display.reality.run
    assert shown is not None and shown.newest["validation"].regions is not None
    report = shown.newest["validation"].regions

    def read(frame: Any) -> WatchedSnapshot:
        """The eight regions had other errors: most improved in the first, worse in the last."""
        values = {name: array.copy() for name, array in report.values.items()}
        values["fp"][1, 0] += 50 * (1 + (frame.step == 4))
        values["fp"][1, 7] -= 20
        found = snapshot(frame.step)
        return replace(found, regions=replace(report, values=values))

    frames = tuple(
        SimpleNamespace(
            step=step,
            facts=SimpleNamespace(case="case 1", class_names=CLASSES),
            prediction=lambda step=step: snapshot(step).prediction,
        )
        for step in (4, 8)
    )
    panel.display._know(frames={"validation": frames}, load=read)
    panel.display.issue("choose_class", 1)
    panel.look.buttons["paid"].click()
    settle(panel, qtbot)
    assert panel.finding.text().startswith("From step 8 to 12, liver has 0.4 ml fewer errors")
    assert [b.text() for b in panel.paid.rows] == [
        "0.4 ml fewer (extra -0.4, missed +0)",
        "0.16 ml more (extra +0.16, missed +0)",
    ]
    assert panel.scale.high.text().startswith("fewer errors") and panel.scale.high.text().endswith("ml")
    assert not panel.compared.isVisibleTo(panel) and not panel.of_loss.isVisibleTo(panel)
    panel.paid.since.setCurrentIndex(0)
    settle(panel, qtbot)
    assert panel.finding.text().startswith("From step 4 to 12, liver has 0.8 ml fewer errors")
    click(panel.paid.rows[1], qtbot)
    # the last of eight regions of 8 voxels of 2 mm: its middle is at 23 mm
    assert tuple(panel.display.viewer.dims.point) == (23.0, 23.0, 23.0)
    layer = panel.display.layers.layer("pull")
    assert layer is not None and layer.visible
    panel.look.buttons[None].click()
    settle(panel, qtbot)
    assert not panel.paid.isVisibleTo(panel)


def test_layers_of_the_user_are_explained(panel: WhyPanel, qtbot: Any) -> None:
    viewer, box = panel.display.viewer, panel.own_layers
    assert not box.explain.isEnabled() and "probabilities first" in box.explain.toolTip()
    truth = np.zeros((6, 8, 8), np.uint8)
    truth[2:4, 2:5, 2:5] = 1
    found = np.where(np.roll(truth, 1, axis=2) == 1, 0.9, 0.1).astype(np.float32)
    viewer.add_image(np.random.default_rng(0).random(truth.shape), name="scan")
    viewer.add_labels(truth, name="label")
    viewer.add_image(np.stack([1 - found, found]), name="network")
    assert [box.image.itemText(i) for i in range(box.image.count())] == ["none", "scan", "network"]
    box.probabilities.setCurrentText("network")
    box.image.setCurrentText("scan")
    click(box.explain, qtbot)
    qtbot.waitUntil(lambda: panel.display.screen.answer is not None and not panel.display.busy)
    display = panel.display
    assert display.displayed.source == "results" and display.screen.title == "Results: network"
    field = display.layers.layer("pull").data
    missed, extra = (truth == 1) & (found < 0.5), (truth == 0) & (found > 0.5)
    assert (field[missed] > 0).all() and (field[extra] < 0).all()
    assert viewer.layers["scan"].visible
    assert not viewer.layers["label"].visible, "its outline is drawn instead"
    box.probabilities.setCurrentText("scan")
    viewer.layers["scan"].data = 5 * viewer.layers["scan"].data
    click(box.explain, qtbot)
    qtbot.waitUntil(lambda: "no probabilities" in box.problem.text())
    display.issue("close")
    assert viewer.layers["network"].visible and viewer.layers["label"].visible


# ---- the last patch


@contextmanager
def training(panel: WhyPanel, qtbot: Any, folder: Path) -> Iterator[Run]:
    """A run that trains in this window, after its first prediction; it has ended before the window is closed."""
    experiment = Experiment.of(
        {
            "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 2, "steps_per_epoch": 2},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "augmentation": {"placement": {"probability": 0}, "elastic": {"probability": 0}},
            "loss": "region_dice",
            "schedule": {"kind": "polynomial", "epochs": 5000},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )
    run = Run(RunFolder.create(experiment, folder))
    bridge, display = panel.display.bridge, panel.display
    bridge.events_arrived.connect(lambda _: display.refresh_run())
    bridge.start(run)
    try:
        qtbot.waitUntil(lambda: display.seen is not None, timeout=240_000)
        yield run
    finally:
        run.stop()
        qtbot.waitUntil(lambda: not bridge.busy, timeout=240_000)


def test_the_last_patch_is_asked_in_a_window_that_trains(panel: WhyPanel, qtbot: Any, tmp_path: Path) -> None:
    with training(panel, qtbot, tmp_path / "run") as run:
        _look_at_the_last_patch(panel, qtbot, run)


def _look_at_the_last_patch(panel: WhyPanel, qtbot: Any, run: Run) -> None:
    display, row = panel.display, panel.extent
    assert row.buttons["case"].isChecked() and row.buttons["patch"].isEnabled()
    assert run.trained.last("patch") is None, "nobody has asked"
    click(panel.look.buttons["asked"], qtbot)
    click(row.buttons["patch"], qtbot)

    def drawn() -> bool:
        screen = display.screen
        answered = screen.answer is not None and screen.why_request is None
        return screen.patch is not None and answered and "pull" in screen.layers

    qtbot.waitUntil(drawn, timeout=240_000)
    screen = display.screen
    first = screen.patch
    assert first is not None and first is run.trained.last("patch")
    explained = segexplorer.explain(run, patch=True)
    index = screen.answer.class_index
    shown = np.asarray(display.layers.layer("pull").data)
    expected = DisplayGrid.of(Volume.from_array(explained.asked(index).values, affine=explained.affine))
    assert np.allclose(shown, expected.to_display(explained.asked(index).values))
    # its image is the patch as the network saw it, on the same grid
    image = display.layers.layer("image")
    assert image.data.shape == shown.shape
    assert np.allclose(image.data, expected.to_display(first.image[0]))
    assert f"this patch, training mode, step {first.step}" in panel.about.text()
    assert "training mode" in screen.caption.text and "One of 2 in its batch" in panel.patch_note.text()
    assert "on this batch of 2 patches" in panel.finding.text()
    assert not screen.errors and screen.history is None

    run.pause()
    qtbot.waitUntil(lambda: run.state == "paused", timeout=240_000)
    click(row.newer, qtbot)
    assert (
        not row.newer.isEnabled() and "The next training step brings a newer patch" in panel.patch_note.text()
    )
    assert display.screen.patch is first, "it stays until there is another"
    run.step()
    qtbot.waitUntil(lambda: display.screen.patch is not first and drawn(), timeout=240_000)
    assert display.screen.patch is not None and display.screen.patch.step > first.step

    click(row.buttons["case"], qtbot)
    qtbot.waitUntil(lambda: display.screen.patch is None and not display.busy, timeout=240_000)
    assert "whole case" in panel.about.text() and display.screen.history is not None
    assert display.layers.layer("image").data.shape == (32, 32, 32)


def test_a_run_that_does_not_train_has_no_last_patch_and_says_why(panel: WhyPanel, qtbot: Any) -> None:
    bring(panel, qtbot, snapshot())
    button = panel.extent.buttons["patch"]
    assert not button.isEnabled() and "while a run trains in this window" in button.toolTip()


def test_a_value_of_the_layer_has_the_colour_of_its_strength() -> None:
    table = colours.pull()
    for value in (-1, -0.25, 0.04, 0.5, 1):
        drawn = theme.pull_colormap().map(np.array([(value + 1) / 2]))[0]
        place = (np.sign(value) * np.sqrt(abs(value)) + 1) / 2 * (len(table) - 1)
        assert drawn == pytest.approx(table[round(place)], abs=0.02)


def test_of_a_large_case_the_slice_that_is_seen_comes_first(
    panel: WhyPanel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanation, "SLICES_FIRST", 1)
    bring(panel, qtbot, snapshot(4))
    panel.display.issue("choose_class", 1)
    settle(panel, qtbot)
    said: list[tuple[str, bool]] = []
    panel.display.changed.connect(
        lambda screen, _: said.append(
            (panel.note.text(), screen.answer is not None and screen.answer.partial)
        )
    )
    panel.look.buttons["asked"].click()
    settle(panel, qtbot)
    assert any(partial and "slices that are seen are there first" in text for text, partial in said)
    answer = panel.display.screen.answer
    assert answer is not None and not answer.partial and panel.display.screen.why_request is None
    assert "follow" not in panel.note.text()


def test_errors_are_rims_as_soon_as_a_map_is_asked_for_also_where_there_is_none(
    panel: WhyPanel, qtbot: Any
) -> None:
    bring(panel, qtbot, snapshot(4))
    assert panel.display.layers.layer("errors").colormap.map(np.array([1, 2]))[:, 3].all()
    assert not panel.display.screen.rims
    panel.look.buttons["got"].click()  # nothing came after the last prediction
    settle(panel, qtbot)
    assert panel.display.screen.map is None and panel.display.screen.answer is not None
    assert panel.display.screen.rims, "the lines have the colours that the voxels have lost"
    assert not panel.display.layers.layer("errors").colormap.map(np.array([1, 2]))[:, 3].any()
    panel.look.buttons[None].click()
    settle(panel, qtbot)
    assert not panel.display.screen.rims
    assert panel.display.layers.layer("errors").colormap.map(np.array([1, 2]))[:, 3].all()


def test_texts_of_a_section_that_is_opened_are_seen_whole(panel: WhyPanel, qtbot: Any) -> None:
    panel.setStyleSheet("QLabel { padding: 4px; }")  # as napari's own style does
    bring(panel, qtbot, snapshot(4))
    click(panel.race_section.button, qtbot)
    qtbot.wait(50)
    texts = [label for label in panel.race_offer.findChildren(QLabel) if label.isVisible()]
    assert texts and all(label.height() >= label.heightForWidth(label.width()) for label in texts)
