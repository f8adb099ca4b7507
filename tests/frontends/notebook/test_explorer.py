"""The widget of a cell: a run is trained, looked at and asked from it, and nothing stays when it is closed."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core.colours import CLASSES, ClassColours
from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import RunFinished
from segexplorer.frontends.notebook.curves import NOTHING_YET
from segexplorer.training.experiment import Experiment
from tests.frontends.notebook.conftest import EXPERIMENT, own_threads


def waited(explorer: Any, condition: Any, seconds: float = 60.0) -> None:
    """Wait for something that a run brings; looks are what the ticker does."""
    import time

    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_a_run_is_trained_in_the_background_and_shown(explored: Any, tmp_path: Path) -> None:
    explorer = explored(EXPERIMENT, output=tmp_path / "run")
    assert "press Start" in explorer.controls.headline.value and not explorer.controls.start.disabled
    assert explorer.controls.pause.disabled and not (tmp_path / "run").exists()
    for later in (explorer.wait, lambda: explorer.folder, explorer.next_error, explorer.ask):
        with pytest.raises(SegExplorerError, match=r"There is no run yet\. Press Start"):
            later()
    explorer.controls.start.click()
    explorer.wait(120)
    assert explorer.run.state == "finished" and "finished" in explorer.controls.headline.value
    screen = explorer.display.screen
    assert screen.caption.step == "step 4" and screen.caption.held == "not trained on"
    assert [layer.key for layer in explorer._scene.layers] == ["image", "errors"]
    assert explorer.show.history.options[-1] == ("4", 4) and not explorer.show.history.disabled
    assert "Dice" in explorer.scores.table.value
    lines = {(trace.yaxis, trace.name) for trace in explorer.curves.figure.data}
    assert ("y", "total") in lines and len(lines) == len(explorer.curves.figure.data)
    total = next(t for t in explorer.curves.figure.data if t.name == "total")
    assert list(total.x) == [1, 2, 3, 4]
    with pytest.raises(SegExplorerError, match="done all its epochs"):
        explorer.controls.begin()
    assert explorer.folder == tmp_path / "run"


def test_what_can_be_clicked_has_a_command(explored: Any, finished: Path) -> None:
    explorer = explored(finished)
    with pytest.raises(SegExplorerError, match=r"no class 'liverr'.*liver"):
        explorer.choose_class("liverr")
    explorer.choose_class("liver")
    assert explorer.show.cls.value == 1
    said = explorer.next_error()
    assert "liver" in said and said == explorer.display.screen.error_text
    assert "asks for" in explorer.ask("asked") and explorer.why.look.value == "asked"
    explorer.choose_class(None)
    assert explorer.show.cls.value == 0


def test_a_case_has_nothing_to_ask(explored: Any) -> None:
    explorer = explored(Experiment.of(EXPERIMENT).data.cases()[0].open())
    with pytest.raises(SegExplorerError, match="no prediction"):
        explorer.next_error()
    with pytest.raises(SegExplorerError, match="no run folder"):
        _ = explorer.folder


def test_pause_change_step_and_stop(explored: Any, tmp_path: Path) -> None:
    loss = {"kind": "tversky", "alpha": 0.3, "beta": 0.7}
    longer = {**EXPERIMENT, "loss": loss, "schedule": {"epochs": 500}}
    explorer = explored(longer, output=tmp_path / "run")
    explorer.controls.start.click()
    waited(explorer, lambda: explorer.run is not None and explorer.run.accepts("predict_now"))
    waited(explorer, lambda: not explorer.controls.pause.disabled)
    explorer.controls.pause.click()
    waited(explorer, lambda: explorer.run.state == "paused")
    waited(explorer, lambda: explorer.controls.pause.description == "Resume")
    live = explorer.controls.settings.live
    live.fields["loss.alpha"].widget.value = 0.8
    live.fields["loss.beta"].widget.value = 0.2
    before = explorer.display.status._step
    explorer.controls.step.click()
    waited(explorer, lambda: explorer.run.state == "paused" and explorer.display.status._step > before)
    waited(explorer, lambda: explorer.run.experiment.loss.alpha == 0.8)
    explorer.controls.stop.click()
    explorer.wait(60)
    assert explorer.run.state == "stopped"
    changed = [mark.text for mark in explorer.display.curves.marks() if mark.kind == "change"]
    assert any("loss.alpha" in text for text in changed)
    assert "loss.alpha" in explorer.curves.changes.value
    assert "1" in [note.text for note in explorer.curves.figure.layout.annotations]


def test_a_recorded_run_is_looked_through_and_asked(explored: Any, finished: Path) -> None:
    explorer = explored(finished)
    display = explorer.display
    assert display.wait(60)
    first, last = (step for _, step in explorer.show.history.options)
    explorer.show.history.value = first
    display.wait(60)
    assert display.screen.cursor == first == 2
    assert any(shape.x0 == 2 for shape in explorer.curves.figure.layout.shapes)
    explorer.show.history.value = last
    explorer.show.cls.value = 1
    display.wait(60)
    keys = [layer.key for layer in explorer._scene.layers]
    assert keys == ["image", "balance"] and explorer.planes._words["bar"]["ends"] == ["missed", "extra"]
    explorer.errors.next.click()
    display.wait(60)
    entry = display.screen.navigator.entry
    assert entry is not None and np.allclose(explorer.planes.place, entry.piece.centre, atol=12)
    assert explorer.errors.list.value == entry.number and "mark" in [p.key for p in explorer._scene.lines]
    explorer.why.look.value = "asked"
    explorer.click(explorer.planes.place)
    display.wait(60)
    assert "pull" in [layer.key for layer in explorer._scene.layers]
    assert "asks for" in explorer.why.sentence.value and "inside" in explorer.why.shares.value


def test_the_decision_moves_the_picture_and_counts_at_once(explored: Any, finished: Path) -> None:
    explorer = explored(finished)
    explorer.display.wait(60)
    explorer.show.cls.value = 1
    explorer.tab("Why")
    explorer.display.wait(60)
    before = explorer.display.screen.seen.snapshot.prediction
    explorer.why.bias.value = 8.0
    explorer.display.wait(60)
    after = explorer.display.screen.seen.snapshot.prediction
    assert (after == 1).sum() > (before == 1).sum()
    assert "what if: bias +8" in dict(explorer.planes._words["caption"])["remark"]
    assert "Dice" in explorer.why.decision.value


def test_a_second_cell_shows_the_same_run_by_its_folder(explored: Any, tmp_path: Path) -> None:
    first = explored(EXPERIMENT, output=tmp_path / "run")
    first.controls.start.click()
    waited(first, lambda: first.run is not None)
    second = explored(tmp_path / "run")
    assert second.run is first.run
    first.wait(120)
    second.wait(120)
    assert second.display.screen.caption.step == first.display.screen.caption.step == "step 4"


def test_closing_leaves_no_thread_widget_or_listener_and_the_run_goes_on(
    explored: Any, tmp_path: Path
) -> None:
    longer = {**EXPERIMENT, "schedule": {"epochs": 500}}
    explorer = explored(longer, output=tmp_path / "run")
    explorer.controls.start.click()
    waited(explorer, lambda: explorer.run is not None and explorer.run.accepts("predict_now"))
    run = explorer.run
    assert len(run.events) == 2  # the session that made it, and the cell
    explorer.close()
    assert len(run.events) == 1 and [n for n in own_threads() if not n.startswith("run ")] == []
    assert run.state in {"running", "preparing"}
    run.stop()
    for thread in threading.enumerate():
        if thread.name.startswith("run "):
            thread.join(60)
    assert run.state == "stopped"
    again = explored(tmp_path / "run")
    assert "stopped" in again.controls.headline.value


def test_parts_alone(explored: Any, finished: Path) -> None:
    curves = explored.curves(finished, ("loss",))
    assert curves.planes is None and {t.name for t in curves.curves.figure.data} >= {"total"}
    volume = explored.volume(finished)
    errors = explored.errors(finished)
    for one in (volume, errors):
        one.display.wait(60)
        assert one.planes.sent == 0, "nobody has asked yet"
        one.planes._on_message(None, {"kind": "ready", "webgl": True}, [])
        assert one.planes.sent > 0 and one.curves is None
    assert errors.errors.list.options and volume.errors is None
    for one in (curves, volume, errors):
        one.close()


def test_a_still_needs_no_kernel(explored: Any, finished: Path) -> None:
    explorer = explored(finished)
    explorer.display.wait(60)
    still = explorer.still()
    assert "data:image/png;base64," in still and "not trained on" in still and "<svg" in still
    assert "Dice" in still and "extra (false positive)" in still
    assert "Saved picture" in explorer._still_bundle()["text/html"]


def test_what_is_said_once_the_kernel_has_gone_opens_the_run(explored: Any, finished: Path) -> None:
    explorer = explored(finished)
    explorer.display.wait(60)
    sentence = explorer.planes._words["gone"]
    (call,) = re.findall(r"segexplorer\.(explore\(.*\))", sentence)
    again = eval(call, {"explore": explored})
    assert again._subject.folder == finished


def test_curves_have_the_colours_of_their_classes_whenever_these_become_known(
    explored: Any, finished: Path
) -> None:
    explorer = explored.curves(finished)
    explorer.display.wait(60)
    names = explorer.display.screen.class_names
    palette = ClassColours(names)
    drawn = {t.name: t.line.color for t in explorer.curves.figure.data if t.yaxis == "y3" and t.name in names}
    assert drawn and drawn == {name: palette.colour(name) for name in drawn}


def test_image_label_and_prediction(explored: Any) -> None:
    image = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    label = np.zeros((20, 20, 20), np.uint8)
    label[4:12, 4:12, 4:12] = 1
    prediction = np.roll(label, 2, axis=0)
    explorer = explored((image, label, prediction), classes={"tumour": 1})
    explorer.display.wait(60)
    screen = explorer.display.screen
    assert screen.class_names == ("tumour",) and explorer.controls is None
    assert [layer.key for layer in explorer._scene.layers] == ["image", "errors"]
    assert screen.scores[0].metrics["dice"] == pytest.approx(0.75)
    assert explorer.show.history.layout.display == "none", "predictions of others have no steps"
    assert explorer.show.overlays["balance"].disabled and not explorer.show.overlays["balance"].value


def test_a_case_shows_its_classes_and_volumes(explored: Any) -> None:
    case = Experiment.of(EXPERIMENT).data.cases()[0].open()
    explorer = explored(case)
    assert [layer.key for layer in explorer._scene.layers] == ["preview/image", "preview/label"]
    assert explorer.planes._words["legend"][0][1] == CLASSES[0] and "Volume (ml)" in explorer.facts.value
    assert explorer.tabs is None and "<table" in explorer.still()


def test_a_click_in_a_case_reads_intensity_and_class(explored: Any) -> None:
    case = Experiment.of(EXPERIMENT).data.cases()[0].open()
    explorer = explored(case)
    assert explorer.planes._words["read"], "what is at the crosshair is read from the beginning"
    image, label = case.images[0], case.label
    index = np.argwhere(np.asarray(label.array) == 1)[0]
    x, y, z = image.affine[:3, :3] @ index + image.affine[:3, 3]
    explorer.planes._on_message(None, {"kind": "click", "place": [z, y, x]}, [])
    name = next(name for name, values in explorer._preview.classes.items() if 1 in values)
    assert explorer.planes._words["read"] == f"{float(image.array[tuple(index)]):.4g} HU, {name}"


def test_many_classes_of_a_case_are_counted_in_its_caption(explored: Any) -> None:
    label = np.arange(20 * 8 * 8, dtype=np.uint8).reshape(20, 8, 8) % 20
    explorer = explored((np.zeros(label.shape, np.float32), label))
    said = dict(explorer.planes._words["caption"])
    assert said["class"] == "19 classes" and "Volumes of 19 classes" in explorer.facts.value


def test_what_is_absent_is_said_of_the_slice_that_is_shown(explored: Any, finished: Path) -> None:
    explorer = explored(finished)
    assert explorer.display.wait(60)
    screen = explorer.display.screen
    assert list(explorer.display.reality.point) == explorer.planes.place
    assert not any(absence.overlay == "errors" for absence in screen.absent)
    assert explorer.planes._words["read"] == screen.read_out != ""


def test_before_start_nothing_is_promised_that_cannot_be_clicked(explored: Any) -> None:
    explorer = explored(EXPERIMENT)
    assert "Press Start" in explorer.planes._words["message"]
    assert [note.text for note in explorer.curves.figure.layout.annotations] == [NOTHING_YET]
    explorer.why.look.value = "asked"
    explorer.errors.next.click()
    assert "first prediction" in explorer.why.sentence.value and explorer.why.reset.disabled


def test_a_run_that_has_done_all_its_epochs_goes_on_by_extend_alone(explored: Any, finished: Path) -> None:
    explorer = explored(finished)
    assert explorer.controls.start.disabled and not explorer.controls.extend.disabled


def test_the_end_is_shown_at_once_and_events_are_put_aside_meanwhile(explored: Any, finished: Path) -> None:
    explorer = explored.curves(finished)
    told: list[Any] = []
    explorer.display.heard.connect(told.append)
    explorer.display._on_event(RunFinished(state="stopped", reason="so", step=4, attempt=9, seq=1))
    waited(explorer, lambda: bool(told), 10)
    waited(explorer, lambda: explorer.display._ticker is None, 10)
