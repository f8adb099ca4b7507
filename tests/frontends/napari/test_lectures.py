"""The lectures, carried out in a real window: every click that they ask for, and what is seen then.

Recordings are made in the cache folder of the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QTabWidget

from segexplorer.core import colours
from segexplorer.frontends.napari.lectures import REACHED
from segexplorer.viewmodels.decision import beside_curve
from segexplorer.viewmodels.lectures import LECTURES, MISSED_AT, RACED_FROM

LEFT = Qt.MouseButton.LeftButton


class Reader:
    """Somebody who follows a lecture with mouse and keyboard."""

    def __init__(self, qtbot: Any, viewer: Any, dock: Any, pictures: Path) -> None:
        self.qtbot, self.viewer, self.dock, self.pictures = qtbot, viewer, dock, pictures
        self.display, self.panel = dock.display, dock.lectures.panel
        self.why, self.inspect = dock.why, dock.inspect

    def wait(self, condition: Any) -> None:
        self.qtbot.waitUntil(condition, timeout=600_000)

    def settle(self) -> None:
        self.wait(lambda: not self.display.busy and self.display.screen.request is None)
        self.wait(lambda: self.display.screen.why_request is None)

    def open(self, name: str) -> None:
        menu = self.dock.lecture_menu.menu()
        menu.popup(self.dock.lecture_menu.mapToGlobal(QPoint(0, 0)))
        self.qtbot.mouseClick(
            menu, LEFT, pos=menu.actionGeometry(self.dock.lecture_menu.actions_by_name[name]).center()
        )
        self.wait(lambda: self.panel.next.isEnabled() and not self.dock.bridge.busy)
        self.settle()

    def click(self, button: Any) -> None:
        self.show(button)
        self.qtbot.mouseClick(button, LEFT)
        self.settle()

    def tick(self, box: Any, on: bool) -> None:
        self.show(box)
        self.qtbot.mouseClick(box, LEFT, pos=QPoint(8, box.height() // 2))
        assert box.isChecked() == on
        self.settle()

    def show(self, widget: Any) -> None:
        """Scroll to a widget, as a reader would."""
        parent = widget.parentWidget()
        while parent is not None and not hasattr(parent, "ensureWidgetVisible"):
            parent = parent.parentWidget()
        if parent is not None:
            parent.ensureWidgetVisible(widget)
        QApplication.processEvents()

    def tab(self, kind: str) -> None:
        tabs: QTabWidget = self.dock.tabs
        at = tabs.indexOf(getattr(self.dock, kind))
        self.qtbot.mouseClick(tabs.tabBar(), LEFT, pos=tabs.tabBar().tabRect(at).center())
        assert tabs.currentIndex() == at
        self.settle()

    def choose(self, box: Any, text: str) -> None:
        """Choose an entry of a list by typing its first letters."""
        self.show(box)
        box.setFocus()
        self.qtbot.wait(
            QApplication.keyboardInputInterval() + 50
        )  # else Qt adds the letters to the last word
        self.qtbot.keyClicks(box, text)
        assert box.currentText() == text
        self.settle()

    def drag_to(self, step: int) -> None:
        """Move the handle of the history to a step, key by key."""
        slider = self.inspect.history.slider
        steps = self.display.screen.history.steps
        self.show(slider)
        slider.setFocus()
        for _ in range(len(steps)):
            now = steps[self.display.screen.history.place]
            if now == step:
                break
            self.qtbot.keyClick(slider, Qt.Key.Key_Right if now < step else Qt.Key.Key_Left)
        self.settle()
        assert self.display.seen.snapshot.step == step

    def click_voxel(self, mask: np.ndarray) -> tuple[int, int, int]:
        """Click the middle one of some voxels of the case, (x, y, z), in the picture; go to its slice first."""
        explanation = self.display.screen.answer.explanation
        voxels = np.argwhere(mask)
        voxel = voxels[len(voxels) // 2]
        x, y, z = (explanation.affine @ np.append(voxel, 1.0))[:3]
        self.viewer.dims.set_point(0, z)
        self.settle()
        qt_viewer = self.viewer.window._qt_viewer
        canvas = qt_viewer.canvas

        def world(px: float, py: float) -> np.ndarray:
            return np.asarray(canvas._map_canvas2world((px, py), canvas.view))[-2:]

        origin = world(0, 0)
        matrix = np.stack([(world(100, 0) - origin) / 100, (world(0, 100) - origin) / 100], axis=1)
        pixel = np.linalg.solve(matrix, np.array([y, x]) - origin)
        self.qtbot.mouseClick(canvas.native, LEFT, pos=QPoint(*(round(float(p)) for p in pixel)))
        self.settle()
        return tuple(int(i) for i in voxel)  # type: ignore[return-value]

    def picture(self, name: str) -> None:
        self.viewer.window._qt_window.grab().save(str(self.pictures / f"{name}.png"))

    def answer(self, name: str) -> str:
        """Ask for the answer: the window must show what the step leads to, and not have said so before."""
        self.settle()
        assert self.panel.reached.text() == REACHED, self.panel.do.text()
        assert not self.panel.answer.isVisible()
        self.picture(name)
        self.click(self.panel.show_answer)
        assert self.panel.answer.isVisible() and not self.panel.show_answer.isVisible()
        return str(self.panel.answer.text())

    def next(self) -> None:
        self.click(self.panel.next)
        assert not self.panel.answer.isVisible()
        assert not self.panel.reached.isVisible(), "a step that is there already needs no click"


@pytest.fixture
def reader(qtbot: Any, viewer: Any, tmp_path: Path) -> Iterator[Reader]:
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    qtbot.waitUntil(lambda: dock.tabs is not None, timeout=600_000)
    viewer.window._qt_window.resize(1280, 800)
    yield Reader(qtbot, viewer, dock, tmp_path)
    dock.lectures.leave()


def outside_and_missed(reader: Reader) -> tuple[np.ndarray, np.ndarray]:
    explanation = reader.display.screen.answer.explanation
    truth = explanation.labels == 1
    return ~truth, truth & (explanation.logits.argmax(0) == 0)


def seen_in_lesion(reader: Reader, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which voxels of the lesion are in the slice that is shown, and how strong the colour of each is, 0 to 1."""
    display = reader.display
    affine = display.screen.answer.explanation.affine
    heights = np.tensordot(affine[2, :3], np.indices(truth.shape), 1) + affine[2, 3]
    there = truth & (np.abs(heights - reader.viewer.dims.point[0]) < 1e-3)
    errors, layer = display.layers.layer("errors"), display.layers.layer("pull")
    assert there.any() and layer.visible
    assert not errors.visible or not errors.colormap.map(np.array([2]))[..., 3].any(), "nothing covers them"
    return there, colours.pull_strength(pull(reader)[there] / layer.contrast_limits[1])


def pull(reader: Reader) -> np.ndarray:
    """The values that are drawn, (x, y, z)."""
    found = reader.display.screen.answer
    question = reader.display.displayed.question
    values = found.explanation.asked(1, question.loss, term=question.term, space=question.space).values
    drawn = np.asarray(reader.display.layers.layer("pull").data)
    assert np.isclose(np.abs(drawn).sum(), np.abs(values).sum(), rtol=1e-3)
    return values


@pytest.mark.gui
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_loss_that_rewards_errors(reader: Reader) -> None:
    reader.open("rewarded-errors")
    panel, why = reader.panel, reader.why
    assert panel.title.text() == LECTURES["rewarded-errors"].title and panel.heading.text() == "Step 1 of 3"
    assert not panel.back.isEnabled() and not panel.reached.isVisible()
    missed_ml = next(s for s in reader.display.screen.scores if s.class_name == "spleen").false_negative_ml
    assert missed_ml > 0

    reader.tab("why")
    reader.click(why.look.buttons["asked"])
    outside, missed = outside_and_missed(reader)
    reader.click_voxel(missed)
    assert "FP .30, FN .70" in why.sentence.text() and "asks for more spleen" in why.sentence.text()
    assert (pull(reader)[outside] < 0).all() and (pull(reader)[missed] > 0).all()
    assert "FP .3 and FN .7" in reader.answer("1-held-fixed")

    reader.next()
    reader.click(why.loss_section.button)
    form = why.loss.form
    assert form.focus("loss.detach")
    reader.tick(form.widget_for("loss.detach").native, False)
    reader.wait(lambda: getattr(reader.display.screen.answer.loss, "detach", None) is False)
    reader.settle()
    more = outside & (pull(reader) > 0)
    report = reader.display.screen.answer.explanation.regions(reader.display.screen.answer.loss)
    boxes = report.regions.numbers()
    with_misses = np.isin(boxes, np.unique(boxes[missed]))
    assert more.sum() > 1000 and not (more & ~with_misses).any(), "only in boxes with misses"
    assert (more == (outside & with_misses)).mean() > 0.99, "and there nearly everywhere"
    fp, fn = (report.values[key][1][np.unique(boxes[missed])] for key in ("fp", "fn"))
    assert (fp < 0.07 * fn).all()
    assert "more** errors" in reader.answer("2-rewarded")

    reader.next()
    entry = form.widget_for("loss.a").native
    reader.show(entry)
    entry.setFocus()
    entry.selectAll()
    reader.qtbot.keyClicks(entry, "0.4")
    reader.qtbot.keyClick(entry, Qt.Key.Key_Return)
    reader.wait(lambda: getattr(reader.display.screen.answer.loss, "a", None) == 0.4)
    reader.settle()
    assert not (pull(reader)[outside] > 0).any()
    assert "not the formula" in reader.answer("3-cured")
    assert not panel.next.isEnabled()
    reader.click(panel.back)
    assert panel.heading.text() == "Step 2 of 3"
    reader.qtbot.mouseClick(panel.leave, LEFT)
    assert panel.parent() is None and reader.display.seen is not None


@pytest.mark.gui
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_same_mistake_other_orders(reader: Reader) -> None:
    reader.open("same-mistake")
    panel, why, inspect = reader.panel, reader.why, reader.inspect
    assert panel.heading.text() == "Step 1 of 6"

    reader.tab("inspect")
    reader.choose(inspect.choices.class_picker, "lesion")
    reader.drag_to(MISSED_AT)
    seen = reader.display.seen.recorded
    assert seen.truth is not None and (seen.truth == 1).any() and not (seen.prediction == 1).any()
    (score,) = (s for s in reader.display.screen.scores if s.class_name == "lesion")
    assert score.metrics["dice"] == 0
    reader.answer("1-missed")

    reader.next()
    reader.tab("why")
    reader.click(why.look.buttons["asked"])
    reader.choose(why.term, "Cross entropy")
    truth = reader.display.screen.answer.explanation.labels == 1
    of_cross_entropy, shares = pull(reader), reader.display.screen.answer.shares[0]
    assert shares.elsewhere > 0.5, "most of the pull is outside"
    assert (of_cross_entropy[truth] > 0).all() and (of_cross_entropy[~truth] < 0).all()
    reader.answer("2-cross-entropy")

    reader.next()
    reader.choose(why.term, "Dice")
    of_dice = reader.display.screen.answer.shares[0]
    assert of_dice.inside + of_dice.boundary > shares.inside + shares.boundary, "the lesion brightens"
    brighter = np.abs(pull(reader)[truth]).mean() / np.abs(of_cross_entropy[truth]).mean()
    assert brighter > 1
    reader.answer("3-dice")

    reader.next()
    reader.tick(why.before_softmax, True)
    values = pull(reader)
    assert np.ptp(values[truth]) < 1e-4 * values[truth].mean(), "one value in the lesion"
    assert np.ptp(values[~truth]) < 1e-4 * np.abs(values[~truth]).mean(), "and one elsewhere"
    assert values[truth].mean() > 0 > values[~truth].mean()
    there, shades = seen_in_lesion(reader, truth)
    assert np.ptp(shades) == 0 and there.sum() > 6
    reader.answer("4-before-softmax")

    reader.next()
    reader.tick(why.before_softmax, False)
    explanation = reader.display.screen.answer.explanation
    there, shades = seen_in_lesion(reader, truth)
    p_there, seen_p = explanation.probabilities[1][there], []
    for darkest in (True, False):
        place = np.zeros_like(there)
        place[tuple(np.argwhere(there)[shades.argmin() if darkest else shades.argmax()])] = True
        reader.click_voxel(place)
        assert why.sentence.text().startswith("Truth: lesion")
        seen_p.append(float(why.sentence.text().partition("probability of lesion: ")[2].split(". ")[0]))
    assert seen_p[0] < seen_p[1] / 2, "the darkest is the one of which the network is surest"
    assert shades.min() < 0.65 * shades.max() and shades.max() > 0.95, "and that is seen"
    assert (np.diff(shades[np.argsort(p_there)]) >= -1e-5).all()
    strengths = np.sort(pull(reader)[there])
    assert 0.2 < strengths[0] / strengths[-1] < 0.45, "about a third"
    values, p = pull(reader)[truth], explanation.probabilities[1][truth]
    assert values[p.argmin()] < values[p.argmax()], "confident mistakes go dark"
    assert (np.diff(values[np.argsort(p)]) >= -1e-5 * values.max()).all(), "the surer, the darker"
    reader.answer("5-after-softmax")

    reader.next()
    reader.click(why.look.buttons["got"])
    later = reader.display.screen.answer
    assert later.picture is not None and later.explanation.later_step > MISSED_AT
    reader.picture("6-got")
    reader.tab("inspect")
    steps = reader.display.screen.history.steps
    reader.drag_to(steps[-1])
    found = reader.display.seen.recorded
    assert ((found.prediction == 1) & (found.truth == 1)).any(), "the lesion wakes"
    assert not panel.answer.isVisible()
    dice = [s.class_dice["lesion"] for _, s in sorted(reader.display.reality.run.validations.items())]
    assert dice[-1] > 0.2 and dice[-1] > dice[steps.index(MISSED_AT)] == 0
    reader.answer("6-awake")
    assert not panel.next.isEnabled()


@pytest.mark.gui
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_threshold_or_loss(reader: Reader) -> None:
    reader.open("threshold-or-loss")
    why, inspect, display = reader.why, reader.inspect, reader.display
    reader.tab("inspect")
    reader.choose(inspect.choices.class_picker, "kidneys")
    reader.drag_to(RACED_FROM)
    reader.tab("why")
    reader.click(why.decision_section.button)
    reader.choose(why.decision.picker, "Precision against sensitivity")
    before = display.screen.decision.before
    predicted = display.seen.recorded.prediction
    slider = why.decision.slider
    reader.show(slider)
    slider.setFocus()
    points = []
    while slider.value() < 200:  # hundredths
        reader.qtbot.keyClick(slider, Qt.Key.Key_Right)
        reader.settle()
        now = display.screen.decision.now
        points.append((now.sensitivity, now.precision))
        assert beside_curve(display.screen.decision.curve, now).distance < 0.01, "never off the curve"
    sensitivity, precision = np.array(points).T
    assert (np.diff(sensitivity) >= 0).all() and sensitivity[-1] > before.sensitivity
    assert precision[-1] < before.precision, "what is gained on one side is paid on the other"
    assert (display.seen.snapshot.prediction == 1).sum() > (predicted == 1).sum(), "the picture has moved"
    reader.answer("1-bias")

    reader.next()
    reader.click(why.decision.reset)
    reader.click(why.look.buttons["asked"])
    shown = display.seen.snapshot.prediction.copy()
    value, asked = why.finding.text(), pull(reader).copy()
    reader.click(why.loss_section.button)
    entry = why.loss.form.widget_for("loss.beta").native
    reader.show(entry)
    entry.setFocus()
    entry.selectAll()
    reader.qtbot.keyClicks(entry, "0.9")
    reader.qtbot.keyClick(entry, Qt.Key.Key_Return)
    reader.wait(lambda: getattr(display.screen.answer.loss, "beta", None) == 0.9)
    reader.settle()
    assert why.finding.text() != value and not np.allclose(pull(reader), asked)
    assert (display.seen.snapshot.prediction == shown).all() and (shown == predicted).all()
    assert "only by training" in why.loss.waits.text()
    reader.answer("2-beta")

    reader.next()
    reader.dock.run.set_folder(reader.pictures)
    reader.click(why.race_section.button)
    reader.wait(why.race_offer.begin.isEnabled)
    assert why.race_offer.begin.text() == "50 steps from here: A, B, control"
    reader.click(why.race_offer.begin)
    reader.wait(lambda: display.screen.race is not None and display.screen.race.finished)
    reader.settle()
    reader.tab("inspect")
    reader.drag_to(RACED_FROM + 50)
    reader.tab("why")
    reader.wait(lambda: "A's curve" in why.race.sentences.text())
    assert "Under a bias of" in why.race.sentences.text()
    reader.answer("3-beside-the-curve")
    assert not reader.panel.next.isEnabled()
