"""A run that follows a script: the interface of `Run`, a few milliseconds a step, no torch."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segexplorer.core.errors import RunStateError
from segexplorer.core.events import (
    CaseScore,
    Event,
    ParameterApplied,
    Planned,
    RegionReport,
    Role,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
)
from segexplorer.training.experiment import Experiment
from segexplorer.training.run import ACCEPTED
from segexplorer.training.snapshots import LatestValues, PatchSnapshot, WatchedSnapshot
from segexplorer.training.trained_patch import TrainedPatch

CLASSES = ("liver", "lesion")


def snapshot(step: int = 1, role: Role = "validation", case: str = "case 1") -> WatchedSnapshot:
    """A liver half found with an extra rim, and a lesion that was missed; 2 mm voxels, 8 regions."""
    truth = np.zeros((16, 16, 16), np.uint8)
    truth[4:10, 4:10, 4:10] = 1
    truth[12:14, 12:14, 12:14] = 2
    prediction = np.zeros_like(truth)
    prediction[6:12, 4:10, 4:10] = 1
    ones = np.ones((3, 8), np.float32)
    report = RegionReport(
        {"alpha": 0.68 * ones, "beta": 0.32 * ones, "fp": 30 * ones, "fn": 10 * ones}, ((0, 8, 16),) * 3
    )
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return WatchedSnapshot(
        case=case,
        role=role,
        step=step,
        index=step,
        class_names=CLASSES,
        affine=affine,
        prediction=prediction,
        truth=truth,
        regions=report,
        regions_affine=affine,
    )


def score(class_name: str, state: Any, dice: float, case: str = "case 1") -> CaseScore:
    metrics = {"dice": dice, "f2": dice, "sensitivity": dice, "precision": float("nan")}
    return CaseScore(
        case=case,
        class_name=class_name,
        role="validation",
        state=state,
        metrics=metrics,
        false_positive_ml=1.5,
        false_negative_ml=0.25,
        truth_ml=3.0,
    )


class ScriptedRun:
    """Steps until it is told to stop, or to its end, or to its failure."""

    def __init__(self, *, steps: int = 10_000, fail_at: int | None = None, raises: bool = False) -> None:
        self.folder = Path("runs/scripted")
        self.experiment: Any = Experiment.of({"data": {"kind": "phantom"}})
        self.state: Any = "idle"
        self.plan = None
        self.watched: LatestValues[WatchedSnapshot] = LatestValues()
        self.patch: LatestValues[PatchSnapshot] = LatestValues()
        self.trained: LatestValues[TrainedPatch | str] = LatestValues()
        self.steps, self.fail_at, self.raises = steps, fail_at, raises
        self.done, self.attempt = 0, 0
        self.commands: list[str] = []
        self._mail: deque[tuple[str, Any]] = deque()
        self._arrived = threading.Condition()

    def accepts(self, command: str) -> bool:
        return command in ACCEPTED[self.state]

    def _post(self, command: str, argument: Any = None) -> None:
        if not self.accepts(command):
            raise RunStateError(f"A run that is {self.state} cannot {command}.")
        self.commands.append(command)
        with self._arrived:
            self._mail.append((command, argument))
            self._arrived.notify_all()

    def pause(self) -> None:
        self._post("pause")

    def unpause(self) -> None:
        self._post("unpause")

    def step(self, view: Any = None) -> None:
        self._post("step", view)

    def stop(self) -> None:
        self._post("stop")

    def predict_now(self) -> None:
        self._post("predict_now")

    def extend(self, epochs: int) -> None:
        self._post("extend", epochs)

    def set_values(self, values: dict[str, Any]) -> None:
        for path, value in values.items():
            self._post("set", (path, value))

    def __iter__(self) -> Iterator[Event]:
        self.attempt += 1
        yield from self._state("running")
        yield self._event(
            Planned, steps=self.steps, epochs=10, steps_per_epoch=5, badges=("a badge",), classes=CLASSES
        )
        single = False
        while self._mail or self.done < self.steps:
            while self._mail or self.state == "paused":
                with self._arrived:
                    while not self._mail:
                        self._arrived.wait(0.5)
                    command, argument = self._mail.popleft()
                if command == "stop":
                    self.state = "stopped"
                    yield self._event(RunFinished, state="stopped", reason="stopped by the user")
                    return
                if command == "set":
                    field, value = argument
                    yield self._event(ParameterApplied, field=field, value=value, previous=0)
                elif command == "extend":
                    self.steps += 5 * argument
                else:
                    single = command == "step"
                    yield from self._state("paused" if command == "pause" else "running")
            self.done += 1
            time.sleep(0.002)
            if self.done == self.fail_at:
                if self.raises:
                    raise ValueError("the data rotted")
                self.state = "failed"
                yield self._event(
                    RunFinished,
                    state="failed",
                    reason="failed",
                    error="The loss is not finite.",
                    remedy="Lower the learning rate.",
                    cause="Traceback ...",
                )
                return
            terms = {"dice": (0.5, 1.0)}
            yield self._event(
                StepDone,
                epoch=1,
                loss=1 / self.done,
                terms=terms,
                learning_rate=1e-3,
                gradient_norm=1.0,
                seconds=0.002,
                samples=2,
            )
            if self.done % 20 == 1:
                self.watched.put("validation", snapshot(self.done))
                yield self._validation()
            if single:
                single = False
                yield from self._state("paused")
        self.state = "finished"
        yield self._event(RunFinished, state="finished", reason="all epochs done")

    def _validation(self) -> Event:
        return self._event(
            ValidationDone,
            epoch=1,
            loss=0.5,
            scores=(score("liver", "scored", 0.8), score("lesion", "missed", 0.0)),
            mean_dice=0.4,
            class_dice={"liver": 0.8, "lesion": 0.0},
            n_used=2,
            n_absent=0,
            n_missed=1,
            best=False,
            seconds=0.1,
        )

    def _state(self, state: Any) -> Iterator[Event]:
        self.state = state
        yield self._event(StateChanged, state=state)

    def _event(self, kind: Any, **values: Any) -> Event:
        made: Event = kind(attempt=self.attempt, step=self.done, time=time.time(), **values)
        return made
