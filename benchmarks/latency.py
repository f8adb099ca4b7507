"""Latency of the event loop: a precise 10 ms timer in the idle viewer and while training, both scrubbed.

    python -m segexplorer.frontends.cli.screen python benchmarks/latency.py [--seconds 60]
        [--clicks 6] [--views 2D four 3D] [--small]

The same window, the same layers made beforehand and the same scrubbing (ten slices a second, or turns of the camera
in 3D) in both parts, first idle, then training in the background with every display on; one after the other for one
view, four views, and 3D. Each part of training lasts until a new prediction is on the screen. Prints median, 99th
percentile and maximum of the time between two ticks, how long a new slice takes from the request to the picture on
the screen, and the verdict: p99 at most 1.5 times idle's, maximum at most max(100 ms, 1.2 times idle's). 3D is
reported without a verdict.

Then it clicks: on errors and classes in their tables, and it chooses the other case by a key, each by an event of
Qt. Printed is the time until the canvas has drawn the view that belongs to it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest

from segexplorer.core.events import Event, RunFinished, ValidationDone
from segexplorer.frontends.napari.demo import CONFIGURATION, SIZE
from segexplorer.frontends.napari.linked_views import canvas_in
from segexplorer.training.experiment import Experiment, shipped_experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run

TICK_MS, SCRUB_MS = 10, 100
VIEWS = ("2D", "four", "3D")
JUDGED = ("2D", "four")
CLICKS = ("error", "class", "case")
PATIENCE_S = 120.0
"""How long a part of training waits for a new prediction, and a click for its view."""
SMALL: dict[str, Any] = {
    "data.size": 32,
    "data.count": 3,
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "sampling.patch_size": [16, 16, 16],
    "sampling.batch_size": 1,
    "sampling.steps_per_epoch": 4,
}
Figures = dict[str, float]


def summary(milliseconds: list[float]) -> Figures:
    """Return median, 99th percentile and maximum."""
    values = np.asarray(milliseconds)
    return {"median": float(np.median(values)), "p99": float(np.percentile(values, 99)), "max": values.max()}


class Ticker:
    """Measures the time between two ticks of a precise timer, and from a request to its picture."""

    def __init__(self, parent: Any, canvas: Any) -> None:
        self.gaps: list[float] = []
        self.shown: list[float] = []
        self._last, self._asked = 0.0, 0.0
        self._timer = QTimer(parent)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        canvas.frameSwapped.connect(self._on_frame)

    def start(self) -> None:
        """Begin a new measurement."""
        self.gaps, self.shown, self._asked, self._last = [], [], 0.0, time.perf_counter()
        self._timer.start()

    def stop(self) -> tuple[Figures, Figures]:
        """End it; return the figures of the ticks and of the pictures, in ms."""
        self._timer.stop()
        return summary(self.gaps), summary(self.shown or [float("nan")])

    def asked(self) -> None:
        """A picture was asked for now."""
        self._asked = time.perf_counter()

    def _on_frame(self) -> None:
        if self._asked:
            self.shown.append(1000 * (time.perf_counter() - self._asked))
            self._asked = 0.0

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(1000 * (now - self._last))
        self._last = now


class Clicker:
    """Clicks on an error, a class or the next case, and measures the time until the view is drawn."""

    def __init__(self, dock: Any, canvas: Any) -> None:
        self.dock = dock
        self.taken: float | None = None
        self._clicked, self._ready = 0.0, False
        self._there: Callable[[Any], bool] = lambda screen: False
        dock.display.changed.connect(self._on_changed)
        canvas.frameSwapped.connect(self._on_frame)

    def click(self, kind: str, number: int) -> bool:
        """Click; return whether there was something to click on. `taken` is the time in ms, once it is known."""
        screen, inspect = self.dock.display.screen, self.dock.inspect
        self.taken, self._ready = None, False
        if kind == "case":
            other = (screen.chosen + 1) % len(screen.choices)
            self._there = lambda new: new.chosen == other and new.request is None and new.seen is not None
            key = Qt.Key.Key_Down if other > screen.chosen else Qt.Key.Key_Up
            self._clicked = time.perf_counter()
            QTest.keyClick(inspect.choices.case_picker, key)
            return True
        table = inspect.errors.table if kind == "error" else inspect.scores.table
        rows = [
            row for row in range(table.rowCount()) if table.visualItemRect(table.item(row, 0)).height() > 0
        ]
        if kind == "class":
            rows = [row for row in rows if table.class_of(row) in screen.class_names]
        if not rows:
            return False
        row = rows[number % len(rows)]
        table.scrollToItem(table.item(row, 0))
        if kind == "error":
            asked = inspect.errors.table.numbers[row]
            self._there = lambda new: new.navigator.chosen == asked
        else:
            index = screen.class_names.index(table.class_of(row)) + 1
            self._there = lambda new: new.displayed.cls == index and new.request is None
        self._clicked = time.perf_counter()
        QTest.mouseClick(
            table.viewport(),
            Qt.MouseButton.LeftButton,
            pos=table.visualItemRect(table.item(row, 0)).center(),
        )
        return True

    def _on_changed(self, screen: Any, _: Any) -> None:
        if self._clicked and self._there(screen):
            self._ready = True

    def _on_frame(self) -> None:
        if self._clicked and self._ready:
            self.taken = 1000 * (time.perf_counter() - self._clicked)
            self._clicked = 0.0


class Measurement:
    """Warm-up until the layers are there; then, for every arrangement of views, idle and training."""

    def __init__(
        self, viewer: Any, dock: Any, experiment: Experiment, folder: Path, options: argparse.Namespace
    ) -> None:
        self.viewer, self.dock, self.options = viewer, dock, options
        self.run = Run(RunFolder.create(experiment, folder), window=True)
        self.results: dict[tuple[str, str], tuple[Figures, Figures]] = {}
        self.steps: dict[str, int] = {}
        self.predictions: dict[str, int] = {}
        self.clicks: dict[tuple[str, str, str], list[float]] = {}
        self._step, self._validations, self._predictions = 0, 0, 0
        canvas = canvas_in(viewer.window._qt_window.centralWidget())
        self.ticker, self.clicker = Ticker(dock, canvas), Clicker(dock, canvas)
        dock.display.changed.connect(self._on_changed)
        self.scrubber = QTimer(dock)
        self.scrubber.setInterval(SCRUB_MS)
        self.scrubber.timeout.connect(self._scrub)
        self._program = self._play()

    def begin(self) -> None:
        """Train until the first prediction is shown, so that all layers exist, then pause."""
        self.dock.bridge.events_arrived.connect(self._on_events)
        self.dock.run.begin(self.run)
        self.dock.show_tab("inspect")
        self.dock.display.issue("choose_class", 1)
        self.dock.display.issue("toggle", "balance", True)

    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            self._step = max(self._step, event.step)
            if isinstance(event, RunFinished) and event.error:
                raise SystemExit(event.error)
            if isinstance(event, ValidationDone):
                self._validations += 1
                if self._validations == 1:
                    self.run.pause()
                    self._go_on()

    def _on_changed(self, screen: Any, parts: frozenset[str]) -> None:
        self._predictions += "cursor" in parts and screen.seen is not None

    def _play(self) -> Iterator[float]:
        """Yield the seconds after which to go on."""
        settle = 0.5 if self.options.small else 4.0
        yield settle
        self.scrubber.start()
        for view in self.options.views:
            self._arrange(view)
            yield settle
            while not self.run.accepts("unpause"):  # it pauses at a boundary
                yield 0.1
            self.ticker.start()
            yield self.options.seconds
            self.results[view, "idle"] = self.ticker.stop()
            yield from self._click_through(view, "idle")
            before = self._step
            self.run.unpause()
            yield settle / 4
            seen, end = self._predictions, time.monotonic() + self.options.seconds + PATIENCE_S
            self.ticker.start()
            yield self.options.seconds
            while self._predictions == seen and time.monotonic() < end:
                yield 0.2
            yield 0.5  # what a new prediction brings about is measured too
            self.results[view, "training"] = self.ticker.stop()
            self.predictions[view] = self._predictions - seen
            self.steps[view] = self._step - before
            yield from self._click_through(view, "training")
            self.run.pause()
        self.scrubber.stop()
        self.run.stop()
        self.dock.bridge.ended.connect(lambda _: QTimer.singleShot(200, self.viewer.close))

    def _click_through(self, view: str, name: str) -> Iterator[float]:
        self.scrubber.stop()
        for kind in CLICKS:
            times = self.clicks[view, name, kind] = []
            for number in range(1, self.options.clicks + 1):
                end = time.monotonic() + PATIENCE_S
                if not self.clicker.click(kind, number):
                    break
                while self.clicker.taken is None and time.monotonic() < end:
                    yield 0.05
                times.append(float("nan") if self.clicker.taken is None else self.clicker.taken)
                yield 0.3
        self.dock.display.issue("choose_class", 1)
        self.scrubber.start()

    def _go_on(self) -> None:
        seconds = next(self._program, None)
        if seconds is not None:
            QTimer.singleShot(int(1000 * seconds), self._go_on)

    def _arrange(self, view: str) -> None:
        self.viewer.dims.ndisplay = 3 if view == "3D" else 2
        self.dock.workbench.arrange("four" if view == "four" else "one")

    def _scrub(self) -> None:
        self.ticker.asked()
        if self.viewer.dims.ndisplay == 3:
            first, *others = self.viewer.scene.camera.angles
            self.viewer.scene.camera.angles = (first + 2, *others)
            return
        last = int(self.viewer.dims.nsteps[0])
        self.viewer.dims.set_current_step(0, (self.viewer.dims.current_step[0] + 1) % last)


def judge(measured: Measurement, write: Callable[[str], None] = print) -> bool:
    """Print the figures; return whether what is judged is good."""
    good = True
    for view in measured.options.views:
        for name in ("idle", "training"):
            ticks, pictures = measured.results[view, name]
            line = "  ".join(f"{key} {value:7.1f}" for key, value in ticks.items())
            write(f"{view:5s} {name:9s} {line} ms; a picture after {pictures['median']:.0f} ms (median)")
        for kind in CLICKS:
            for name in ("idle", "training"):
                times = measured.clicks[view, name, kind]
                if times:
                    middle, most = np.nanmedian(times), np.nanmax(times)
                    write(
                        f"{view:5s} {name:9s} {kind} clicked: its view after {middle:.0f} ms, at most {most:.0f} ms"
                    )
        idle, training = measured.results[view, "idle"][0], measured.results[view, "training"][0]
        fine = training["p99"] <= 1.5 * idle["p99"] and training["max"] <= max(100.0, 1.2 * idle["max"])
        verdict = f"within the aim: {fine}" if view in JUDGED else "reported only"
        write(
            f"{view:5s} p99 ratio {training['p99'] / idle['p99']:.2f}, max ratio "
            f"{training['max'] / idle['max']:.2f}, {measured.steps[view]} steps, "
            f"{measured.predictions[view]} new predictions: {verdict}"
        )
        good = good and (fine or view not in JUDGED)
    return good


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clicks", type=int, default=6, help="of each kind, in each part")
    parser.add_argument("--views", nargs="+", default=list(VIEWS), choices=VIEWS)
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args()
    changed: dict[str, Any] = {
        "schedule.epochs": 100_000,
        "sampling.steps_per_epoch": 20,
        "validation.every_epochs": 1,
    }
    if options.small:
        options.seconds, options.clicks = min(options.seconds, 0.5), 1
        changed |= SMALL
    experiment = Experiment.from_yaml(shipped_experiment(CONFIGURATION).path, changed)
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    with tempfile.TemporaryDirectory() as scratch:
        measured = Measurement(viewer, dock, experiment, Path(scratch) / "run", options)
        dock.ready.connect(measured.begin)
        napari.run()
        dock.bridge.wait(30)
    good = judge(measured)
    return 0 if good or options.small else 1


if __name__ == "__main__":
    sys.exit(main())
