"""The lectures, carried out in a real window: every click that they ask for, and what is seen then.

Recordings are made in the cache folder of the tests, once per session.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QTabWidget

from segexplorer.frontends.napari.lectures import REACHED
from segexplorer.viewmodels.lectures import LECTURES

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for all tests, so that each recording is made once."""
    return tmp_path_factory.mktemp("lectures")


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

    def answer(self, name: str) -> str:
        """Ask for the answer: the window must show what the step leads to, and not have said so before."""
        self.settle()
        assert self.panel.reached.text() == REACHED, self.panel.do.text()
        assert not self.panel.answer.isVisible()
        self.viewer.window._qt_window.grab().save(str(self.pictures / f"{name}.png"))
        self.click(self.panel.show_answer)
        assert self.panel.answer.isVisible() and not self.panel.show_answer.isVisible()
        return str(self.panel.answer.text())

    def next(self) -> None:
        self.click(self.panel.next)
        assert not self.panel.answer.isVisible()
        assert not self.panel.reached.isVisible(), "a step that is there already needs no click"


@pytest.fixture
def reader(
    qtbot: Any, viewer: Any, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    monkeypatch.setenv("SEGEXPLORER_CACHE", str(recordings))
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    qtbot.waitUntil(lambda: dock.tabs is not None, timeout=600_000)
    viewer.window._qt_window.resize(1280, 800)
    yield Reader(qtbot, viewer, dock, tmp_path)
    dock.lectures.leave()


def outside_and_missed(reader: Reader) -> tuple[np.ndarray, np.ndarray]:
    explanation = reader.display.screen.answer.explanation
    truth = explanation.labels == 1
    return ~truth, truth & (explanation.logits.argmax(0) == 0)


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
