"""The demo: the window on the built-in CT phantom, training under the adaptive region loss (Chen 2023).

On a desktop it opens and stays. Headless it plays itself: it walks through the tabs, takes pictures of the whole
window at several moments, exports the curves, closes, and leaves everything in one folder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QTimer

from segexplorer.core.errors import TrainingError
from segexplorer.core.events import Event, Role, RunFinished, StepDone, ValidationDone
from segexplorer.training.experiment import Experiment, shipped_experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run
from segexplorer.viewmodels.watched_case import SWITCHES

CONFIGURATION = "chen2023_phantom"
SIZE = (1280, 800)
TICK_MS = 200
SETTLING_TICKS = 5
"""Ticks between arranging a scene and taking its picture: workers bring layers a moment later."""
GIVEN_UP_S = 900
"""After so long a headless demo stops its run, and takes the pictures that can still be taken."""


@dataclass
class DemoReport:
    """What a headless demo left."""

    run_folder: Path | None = None
    pictures: list[Path] = field(default_factory=list)
    last: ValidationDone | None = None
    end: RunFinished | None = None


@dataclass(frozen=True)
class Scene:
    """One picture: its name, when it may be taken, and how the window is arranged for it.

    One of a prediction is left out where the run ended before its first validation.
    """

    name: str
    when: Callable[[], bool]
    arrange: Callable[[], None]
    of_prediction: bool = False


def run_demo(output: Path, headless: bool) -> DemoReport:
    """Open the window and start training; headless, play to the end and return what was left.

    Raises
    ------
    TrainingError
        When the demo's run failed.
    """
    viewer = napari.Viewer(title="Segmentation Explorer")
    viewer.window.resize(*SIZE)
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    experiment = Experiment.from_yaml(shipped_experiment(CONFIGURATION).path)
    report = DemoReport()
    player = _Player(viewer, dock, experiment, output, report, headless=headless)
    dock.ready.connect(player.begin)
    napari.run()
    if report.end is not None and report.end.state == "failed":
        raise TrainingError(f"The demo failed: {report.end.error}", report.end.remedy)
    return report


class _Player:
    """Plays the demo on the main thread, by a timer."""

    def __init__(
        self,
        viewer: Any,
        dock: Any,
        experiment: Experiment,
        output: Path,
        report: DemoReport,
        *,
        headless: bool,
    ) -> None:
        self.viewer, self.dock, self.experiment = viewer, dock, experiment
        self.output, self.report, self.headless = output, report, headless
        self.step, self.validations, self.ticks, self._settling = 0, 0, 0, 0
        self._scenes: deque[Scene] = deque(self._play() if headless else ())
        self._timer = QTimer(dock)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)

    def begin(self) -> None:
        """Show the experiment in the tabs and start the clock; on a desktop, start training at once."""
        self.output.mkdir(parents=True, exist_ok=True)
        self.dock.experiment.set_experiment(self.experiment)
        self.dock.run.set_folder(self.output)
        self.dock.bridge.events_arrived.connect(self._on_events)
        if self.headless:
            self._timer.start()
        else:
            self.start()
            self.tab("run")

    def start(self) -> None:
        """Begin the run, beside the pictures."""
        run = Run(RunFolder.create(self.experiment, parent=self.output), window=True)
        self.report.run_folder = run.folder
        self.dock.run.begin(run)

    def tab(self, kind: str) -> None:
        """Bring a tab to the front."""
        self.dock.show_tab(kind)

    def look_at(self, role: Role, class_name: str | None, *switches: str) -> None:
        """Show a watched case in the Inspect tab with these layers and no others, where most of the class is."""
        display = self.dock.display
        self.tab("inspect")
        display.issue("choose_case", role)
        names = display.screen.class_names
        display.issue("choose_class", None if class_name is None else 1 + names.index(class_name))
        for name in SWITCHES:
            display.issue("toggle", name, name in switches)

    def _play(self) -> list[Scene]:
        """The scenes in order."""

        def always() -> bool:
            return True

        def ended() -> bool:
            return self.report.end is not None

        def after(validations: int) -> Callable[[], bool]:
            return lambda: ended() or self.validations >= validations

        def begin() -> None:
            self.start()
            self.tab("run")

        return [
            Scene("1-cases", always, lambda: self.tab("cases")),
            Scene("2-experiment", always, lambda: self.tab("experiment")),
            Scene("3-preparing", always, begin),
            Scene("4-first-steps", lambda: ended() or self.step >= 20, lambda: self.tab("run")),
            Scene(
                "5-errors-early",
                after(1),
                lambda: self.look_at("validation", None, "errors"),
                of_prediction=True,
            ),
            Scene(
                "6-balance-kidneys",
                after(2),
                lambda: self.look_at("validation", "kidneys", "balance", "errors"),
                of_prediction=True,
            ),
            Scene(
                "7-alpha-vessel",
                after(3),
                lambda: self.look_at("train", "vessel", "alpha", "prediction"),
                of_prediction=True,
            ),
            Scene(
                "8-errors-late",
                after(4),
                lambda: self.look_at("validation", None, "errors"),
                of_prediction=True,
            ),
            Scene("9-finished", ended, lambda: self.tab("run")),
            Scene(
                "10-inspect-finished",
                ended,
                lambda: self.look_at("validation", None, "errors", "prediction"),
                of_prediction=True,
            ),
        ]

    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, StepDone):
                self.step = event.step
            elif isinstance(event, ValidationDone):
                self.validations += 1
                self.report.last = event
            elif isinstance(event, RunFinished):
                self.report.end = event

    def _tick(self) -> None:
        self.ticks += 1
        late = self.ticks * TICK_MS > GIVEN_UP_S * 1000
        if late and self.dock.bridge.busy and self.dock.bridge.current.accepts("stop"):
            self.dock.run.stop()
        while self._scenes and self._scenes[0].of_prediction and self.report.end and not self.validations:
            self._scenes.popleft()
        if not self._scenes:
            if not self.dock.bridge.busy:  # the worker has said good-bye too
                self._leave()
            return
        scene = self._scenes[0]
        if self._settling == 0:
            if scene.when():
                scene.arrange()
                self._settling = 1
        elif self._settling < SETTLING_TICKS:
            self._settling += 1
        else:
            self._settling = 0
            self._scenes.popleft()
            self._photograph(scene.name)

    def _photograph(self, name: str) -> None:
        path = self.output / f"{name}.png"
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        self.report.pictures.append(path)

    def _leave(self) -> None:
        self._timer.stop()
        self.dock.plots.export(self.output / "curves.csv")
        self.dock.plots.export(self.output / "curves.png")
        self.viewer.close()
