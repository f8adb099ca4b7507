"""Latency of the event loop: a precise 10 ms timer in the idle viewer and while training, both scrubbed.

    python -m segexplorer.frontends.cli.screen python benchmarks/latency.py \\
        [--seconds 60] [--image CT --label LABEL]

The same window, the same layers made beforehand and the same scrubbing (ten slices a second) in both parts, first
idle, then training in the background with every display on. Prints median, 99th percentile and maximum of the
time between two ticks, and the verdict: p99 at most 1.5 times idle's, maximum at most max(100 ms, 1.2 times
idle's).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import Qt, QTimer

from segexplorer.core.events import Event, RunFinished, ValidationDone
from segexplorer.frontends.napari.demo import SIZE, configuration
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run

TICK_MS = 10
SCRUB_MS = 100


class Ticker:
    """Measures the time between two ticks of a precise timer."""

    def __init__(self, parent: Any) -> None:
        self.gaps: list[float] = []
        self._last = 0.0
        self._timer = QTimer(parent)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)

    def start(self) -> None:
        """Begin a new measurement."""
        self.gaps, self._last = [], time.perf_counter()
        self._timer.start()

    def stop(self) -> dict[str, float]:
        """End it; return median, p99 and maximum in ms."""
        self._timer.stop()
        gaps = 1000 * np.asarray(self.gaps)
        return {
            "median": float(np.median(gaps)),
            "p99": float(np.percentile(gaps, 99)),
            "max": float(gaps.max()),
        }

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.append(now - self._last)
        self._last = now


class Measurement:
    """Warm-up until the layers are there, then idle, then training."""

    def __init__(self, viewer: Any, dock: Any, experiment: Experiment, folder: Path, seconds: float) -> None:
        self.viewer, self.dock, self.seconds = viewer, dock, seconds
        self.run = Run(RunFolder.create(experiment, folder), window=True)
        self.results: dict[str, dict[str, float]] = {}
        self.steps = self.validations = 0
        self.ticker = Ticker(dock)
        self.scrubber = QTimer(dock)
        self.scrubber.setInterval(SCRUB_MS)
        self.scrubber.timeout.connect(self._scrub)

    def begin(self) -> None:
        """Train until the first prediction is shown, so that all layers exist, then pause."""
        self.dock.bridge.events_arrived.connect(self._on_events)
        self.dock.run.begin(self.run)
        self.dock.tabs.setCurrentIndex(3)
        self.dock.inspect.switches["balance"].setChecked(True)

    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, ValidationDone):
                self.validations += 1
                if self.validations == 1:
                    self.run.pause()
                    QTimer.singleShot(4000, self._idle)
            if isinstance(event, RunFinished) and event.error:
                raise SystemExit(event.error)
            self.steps = max(self.steps, event.step)

    def _idle(self) -> None:
        self.scrubber.start()
        self.ticker.start()
        QTimer.singleShot(int(1000 * self.seconds), self._train)

    def _train(self) -> None:
        self.results["idle"] = self.ticker.stop()
        self.first = self.steps
        self.run.unpause()
        QTimer.singleShot(1000, self._measure_training)

    def _measure_training(self) -> None:
        self.ticker.start()
        QTimer.singleShot(int(1000 * self.seconds), self._end)

    def _end(self) -> None:
        self.results["training"] = self.ticker.stop()
        self.scrubber.stop()
        self.run.stop()
        self.dock.bridge.ended.connect(lambda _: QTimer.singleShot(200, self.viewer.close))

    def _scrub(self) -> None:
        last = int(self.viewer.dims.nsteps[0])
        self.viewer.dims.set_current_step(0, (self.viewer.dims.current_step[0] + 1) % last)


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--epochs", type=int, default=1000)
    options = parser.parse_args()
    changed = {
        "schedule.epochs": options.epochs,
        "sampling.steps_per_epoch": 20,
        "validation.every_epochs": 2,
    }
    experiment = Experiment.from_yaml(configuration(), changed)
    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    with tempfile.TemporaryDirectory() as scratch:
        measured = Measurement(viewer, dock, experiment, Path(scratch) / "run", options.seconds)
        dock.ready.connect(measured.begin)
        napari.run()
    for name, figures in measured.results.items():
        print(f"{name:9s}" + "  ".join(f"{k} {v:7.1f} ms" for k, v in figures.items()))
    idle, training = measured.results["idle"], measured.results["training"]
    print(f"steps while measured: {measured.steps - measured.first}; validations: {measured.validations}")
    good = training["p99"] <= 1.5 * idle["p99"] and training["max"] <= max(100.0, 1.2 * idle["max"])
    print(
        f"p99 ratio {training['p99'] / idle['p99']:.2f}, max ratio {training['max'] / idle['max']:.2f}: {good}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
