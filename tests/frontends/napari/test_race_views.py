"""A race in the window: begun by clicks, drawn in linked views, left, replayed from its folder, and gone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from segexplorer.core import colours
from segexplorer.frontends.napari.linked_views import PlaneView
from segexplorer.frontends.napari.race_views import LaneView
from segexplorer.study.race import Race, open_race, plan_race
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run
from segexplorer.viewmodels.errors import Code
from segexplorer.viewmodels.race import DIFFERENCE, ONLY_A, ONLY_B, RaceSeen

pytestmark = [pytest.mark.gui, pytest.mark.slow, pytest.mark.timeout(3000)]
PATIENCE = 900_000
"""Milliseconds: three lanes are trained on a machine that may be busy."""
OTHERS = ("B", "control", DIFFERENCE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps in four epochs, and another one beside it."""
    for name, seed in (("run", 1), ("other", 2)):
        experiment = Experiment.of(
            {
                "data": {"kind": "phantom", "count": 3, "size": 32, "seed": seed, "classes": {"liver": 1}},
                "split": {"validation_count": 1},
                "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2},
                "network": {"kind": "unet", "base_features": 4, "levels": 2},
                "loss": "dice_cross_entropy",
                "optimiser": {"kind": "adamw", "learning_rate": 1e-2},
                "schedule": {"kind": "constant", "epochs": 4 if name == "run" else 1},
                "compute": {"device": "cpu", "precision": "float32", "threads": 1},
            }
        )
        parent = tmp_path_factory.getbasetemp() / "races"
        parent.mkdir(exist_ok=True)
        assert list(Run(RunFolder.create(experiment, parent / name)))[-1].state == "finished"
    return parent / "run"


@pytest.fixture(scope="module")
def raced(trained: Path) -> Path:
    """A finished race of four steps against the cross entropy."""
    race = Race(trained.parent / "race", plan_race(trained, {"loss": "cross_entropy"}, steps=4, every=2))
    list(race)
    assert race.state == "finished", race.reason
    return race.folder


@pytest.fixture
def dock(viewer: Any, qtbot: Any) -> Iterator[Any]:
    viewer.window.resize(1280, 800)
    _, made = viewer.window.add_plugin_dock_widget("segexplorer")
    qtbot.waitUntil(lambda: made.tabs is not None, timeout=PATIENCE)
    yield made
    made.closing()


def settle(dock: Any, qtbot: Any) -> None:
    display = dock.display
    qtbot.waitUntil(
        lambda: not (display.busy or display.races.busy or display.races.trains or display.screen.request),
        timeout=PATIENCE,
    )


def click(button: Any, qtbot: Any) -> None:
    qtbot.waitUntil(button.isEnabled)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def open_run(dock: Any, qtbot: Any, folder: Path) -> None:
    dock.run.open_run(folder)
    display = dock.display
    qtbot.waitUntil(
        lambda: display.displayed.run == str(folder) and display.seen is not None, timeout=PATIENCE
    )
    settle(dock, qtbot)


def lanes(dock: Any) -> dict[str, LaneView]:
    return {key: view for key, view in dock.workbench.views.items() if isinstance(view, LaneView)}


def read(dock: Any) -> str:
    """Everything that the tab Why says."""
    return "\n".join(
        str(label.text()) for label in dock.why.findChildren(QLabel) if label.isVisibleTo(dock.why)
    )


def nothing_of_a_race(dock: Any) -> None:
    assert dock.display.screen.race is None and not lanes(dock) and dock.workbench.layout != "lanes"
    assert dock.plots.race.isHidden() and not dock.plots.race.curves
    assert not dock.plots.panes[0].isHidden()
    assert not dock.why.race.sentences.text() and not dock.why.race.head.text()
    assert not dock.lanes.main_title


def test_a_race_begun_by_clicks_is_drawn_lane_by_lane(
    dock: Any, qtbot: Any, trained: Path, tmp_path: Path
) -> None:
    display, why = dock.display, dock.why
    dock.run.set_folder(tmp_path)
    open_run(dock, qtbot, trained)
    dock.show_tab("why")
    display.issue("choose_class", 1)
    point = tuple(dock.viewer.dims.point)
    click(why.race_section.button, qtbot)
    assert not why.race_offer.begin.isEnabled() and "loss of lane B" in why.race_offer.why_not.text()
    click(why.look.buttons["asked"], qtbot)
    settle(dock, qtbot)
    click(why.loss_section.button, qtbot)
    why.loss.form.set(type(why.loss.form.value)(loss={"kind": "tversky", "alpha": 0.1, "beta": 0.9}))
    why.loss.ask()
    click(why.look.buttons[None], qtbot)
    why.race_offer.steps.setValue(4)
    qtbot.waitUntil(why.race_offer.begin.isEnabled)
    assert "3 lanes of 4 steps" in why.race_offer.cost.text()
    assert "That takes about" in why.race_offer.cost.text()
    click(why.race_offer.begin, qtbot)
    assert not dock.run.buttons.start.isEnabled() and "race is being trained" in why.race_offer.why_not.text()
    qtbot.waitUntil(lambda: display.displayed.source == "race", timeout=PATIENCE)
    settle(dock, qtbot)
    record = open_race(display.displayed.run)
    assert record.finished and record.folder.parent == tmp_path
    assert record.lanes["B"].experiment.loss.beta == 0.9

    # the same case, class and slice, side by side
    assert display.displayed.cls == 1 and tuple(dock.viewer.dims.point) == point
    assert dock.workbench.layout == "lanes" and tuple(lanes(dock)) == OTHERS
    qtbot.wait(100)
    sizes = [view.parentWidget().size() for view in lanes(dock).values()]
    assert max(s.width() for s in sizes) - min(s.width() for s in sizes) <= 1
    for view in lanes(dock).values():
        assert view.model.dims.point[0] == point[0]
        assert view.model.scene.camera.zoom == dock.viewer.scene.camera.zoom
        assert view.model.layers[0].name.startswith("image")
    seen = display.seen
    assert isinstance(seen, RaceSeen) and seen.snapshot.step == 12

    # error colours per lane, and where one lane alone is right
    for name in ("B", "control"):
        layer = lanes(dock)[name].drawn["errors"]
        truth, found = seen.snapshot.truth, seen.others[name].snapshot.prediction
        assert (layer.data == Code.FALSE_NEGATIVE).sum() == ((truth == 1) & (found != 1)).sum()
        assert (layer.data == Code.FALSE_POSITIVE).sum() == ((truth == 0) & (found == 1)).sum()
        shown = layer.colormap.map(np.array([Code.FALSE_POSITIVE, Code.FALSE_NEGATIVE], np.uint8))
        assert np.allclose(
            shown[:, :3], [colours.rgba(c)[:3] for c in (colours.VERMILLION, colours.BLUE)], atol=0.01
        )
        assert dock.notes._others[lanes(dock)[name]].lines, "outlines of truth and prediction"
    difference = lanes(dock)[DIFFERENCE].drawn[DIFFERENCE]
    table = difference.colormap.map(np.array([0, ONLY_A, ONLY_B], np.uint8))
    assert table[0, 3] == 0
    assert np.allclose(
        table[1:, :3], [colours.rgba(c)[:3] for c in (colours.ONLY_A, colours.ONLY_B)], atol=0.01
    )
    assert bool(difference.data.any()) == (seen.difference.beyond and seen.difference.coloured_ml > 0)

    # one plot, in the colours of the lanes; and words without a winner
    plot = dock.plots.race
    assert not plot.isHidden() and dock.plots.panes[0].isHidden()
    assert {name: item.opts["pen"].color().name().upper() for name, item in plot.curves.items()} == {
        "A": colours.ONLY_A.upper(),
        "B": colours.ONLY_B.upper(),
        "control": colours.CONTROL.upper(),
    }
    steps, values = plot.curves["B"].getData()
    assert steps[0] == 8 and steps[-1] == 12 and np.isclose(values, record.dice("liver")["B"][1]).all()
    said = read(dock)
    assert "Dice of liver at step 12: A" in said and "3 lanes leave run at step 8" in said
    assert not any(word in said.lower() for word in ("better", "worse", "winner", "beats"))
    assert {"only A right", "only B right", "extra (false positive)"} <= set(why.race.legend.names)
    assert lanes(dock)["B"].title.text().startswith("B: tversky")
    assert dock.lanes.main_title.startswith("A: dice_cross_entropy\nDice 0.")
    caption = dock.notes.caption
    assert caption.label.isHidden() and caption.strip.isVisible(), "the caption is of all lanes"
    assert caption.text.startswith(f"{display.displayed.case} · not trained on")

    click(why.race.leave, qtbot)
    settle(dock, qtbot)
    nothing_of_a_race(dock)
    assert display.displayed.run == str(trained) and display.displayed.cls == 1
    assert tuple(dock.viewer.dims.point) == point and dock.workbench.layout == "one"


def test_a_race_replays_from_its_folder_and_lanes_move_together(dock: Any, qtbot: Any, raced: Path) -> None:
    display, why = dock.display, dock.why
    dock.run.open_run(raced)
    qtbot.waitUntil(lambda: display.screen.race is not None and display.seen is not None, timeout=PATIENCE)
    settle(dock, qtbot)
    assert dock.tabs.currentWidget() is why and "as recorded" in display.screen.title
    assert not why.race.stop.isVisibleTo(why) and not why.race.go_on.isVisibleTo(why)
    dock.plots.race.step_dragged.emit(8.2)
    settle(dock, qtbot)
    assert display.seen.snapshot.step == 8 and dock.plots.race.cursor.value() == 8
    first = display.layers.layer("errors").data
    for name in ("B", "control"):
        assert np.array_equal(lanes(dock)[name].drawn["errors"].data, first), "all lanes begin alike"
    assert not lanes(dock)[DIFFERENCE].drawn[DIFFERENCE].data.any()
    assert "right in the same voxels" in why.race.sentences.text()
    click(why.race.play, qtbot)
    qtbot.waitUntil(lambda: display.seen is not None and display.seen.snapshot.step == 12)
    qtbot.waitUntil(lambda: why.race.play.text() == "Play")
    settle(dock, qtbot)

    before = dock.viewer.dims.point[0]
    lanes(dock)["B"].model.dims.set_point(0, before + 2 * dock.viewer.dims.range[0].step)
    moved = lanes(dock)["B"].model.dims.point[0]
    assert moved > before and dock.viewer.dims.point[0] == moved == lanes(dock)["control"].model.dims.point[0]
    lanes(dock)["control"].model.scene.camera.zoom = 9.0
    assert dock.viewer.scene.camera.zoom == 9.0 == lanes(dock)["B"].model.scene.camera.zoom
    dock.viewer.dims.order = (1, 0, 2)
    assert lanes(dock)["B"].model.dims.order == (1, 0, 2)
    dock.viewer.dims.order = (0, 1, 2)
    display.issue("choose_case", "train")
    settle(dock, qtbot)
    assert display.seen.snapshot.role == "train"
    assert {o.snapshot.case for o in display.seen.others.values()} == {display.displayed.case}


def test_deleting_layers_other_views_and_closing_the_dock_are_harmless(
    dock: Any, viewer: Any, qtbot: Any, raced: Path
) -> None:
    display = dock.display
    dock.run.open_run(raced)
    qtbot.waitUntil(lambda: display.screen.race is not None and display.seen is not None, timeout=PATIENCE)
    settle(dock, qtbot)
    viewer.layers.remove(display.layers.layer("errors"))
    settle(dock, qtbot)
    assert "errors" not in display.displayed.overlays
    assert all("errors" not in view.drawn for view in lanes(dock).values()), "off in all lanes"
    viewer.layers.clear()
    settle(dock, qtbot)
    display.issue("toggle", "errors", True)
    settle(dock, qtbot)
    assert all("errors" in lanes(dock)[name].drawn for name in ("B", "control"))
    dock.workbench.arrange("four")
    assert not lanes(dock) and [v for v in dock.workbench.views.values() if isinstance(v, PlaneView)]
    dock.workbench.arrange("lanes")
    qtbot.waitUntil(lambda: "errors" in lanes(dock)["B"].drawn)
    viewer.window.remove_dock_widget(dock)
    qtbot.wait(50)
    assert not [layer for layer in viewer.layers if layer.name.startswith("errors")]
    _, again = viewer.window.add_plugin_dock_widget("segexplorer")
    qtbot.waitUntil(lambda: again.tabs is not None, timeout=PATIENCE)
    nothing_of_a_race(again)
    again.run.open_run(raced)
    qtbot.waitUntil(
        lambda: again.display.screen.race is not None and again.display.seen is not None, timeout=PATIENCE
    )
    settle(again, qtbot)
    assert tuple(lanes(again)) == OTHERS
    again.closing()


def test_another_run_leaves_nothing_of_the_race(dock: Any, qtbot: Any, trained: Path, raced: Path) -> None:
    dock.run.open_run(raced)
    qtbot.waitUntil(
        lambda: dock.display.screen.race is not None and dock.display.seen is not None, timeout=PATIENCE
    )
    settle(dock, qtbot)
    open_run(dock, qtbot, trained.parent / "other")
    nothing_of_a_race(dock)
    assert not {"cross_entropy", "only A right"} & set(read(dock).split("\n"))


def test_a_race_that_was_stopped_goes_on_and_trains_in_the_background(
    dock: Any, qtbot: Any, trained: Path, tmp_path: Path
) -> None:
    race = Race(tmp_path / "race", plan_race(trained, {"loss": "cross_entropy"}, steps=6, every=2))
    for told in race:
        if told.lane == "A" and told.event.step >= 11:  # all lanes have a frame of step 10
            race.stop()
    assert race.state == "stopped"
    display, why = dock.display, dock.why
    dock.run.open_run(race.folder)
    qtbot.waitUntil(lambda: display.screen.race is not None and display.seen is not None, timeout=PATIENCE)
    settle(dock, qtbot)
    assert display.screen.history.steps == (8, 10)
    click(why.race.go_on, qtbot)
    assert why.race.stop.isVisibleTo(why) and "training in this window" in display.screen.title
    qtbot.waitUntil(lambda: display.reality.race.finished, timeout=PATIENCE)
    settle(dock, qtbot)
    assert "The race is over" in why.race.words.text() and display.seen.snapshot.step == 14
    shutil.rmtree(race.folder / "control")
    dock.run.open_run(race.folder)
    qtbot.waitUntil(lambda: not display.reality.making)
    settle(dock, qtbot)
    assert display.screen.race is not None, "what cannot be opened leaves what is shown"
