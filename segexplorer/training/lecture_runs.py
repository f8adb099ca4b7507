"""The recorded runs of the lectures: made once on this computer, and kept in the cache folder.

Each is an ordinary run folder of a built-in phantom. Two are short trainings. The third is no training but a case
with logits that were made up, written by `Recorder`, since it shows what a loss asks for in a situation that a
training does not come to reliably. A recording is written aside and renamed when it is complete; its folder's name
has a hash of the recipe, so that another recipe or another version of the package makes it anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer import __version__
from segexplorer.core.atomic_files import translate_disk_errors
from segexplorer.core.errors import SegExplorerError, TrainingError
from segexplorer.core.events import RunFinished, StepDone
from segexplorer.data.cache_folder import base_folder
from segexplorer.data.datasets.phantom import Phantoms
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.recorder import Recorder
from segexplorer.training.run import Run

FOLDER = "lectures"
"""Where in the cache folder they are."""
_OTHERS = {
    "network": {"kind": "unet", "base_features": 8, "levels": 3},
    "validation": {"overlap": 0.0, "every_epochs": 2},
    # one thread, so that a computer with many makes the same run
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
    "seed": 0,
}


@dataclass(frozen=True)
class Making:
    """How far a recording is.

    Attributes
    ----------
    done, total
        Optimiser steps.
    seconds
        Since the first step.
    """

    done: int
    total: int
    seconds: float = 0.0

    def sentence(self) -> str:
        """Return it in a line, with the time that is left once that can be told."""
        if not self.done:
            return "The recorded run of this lecture is made once: preparing…"
        text = f"The recorded run of this lecture is made once: step {self.done} of {self.total}"
        if self.done < 5 or self.done >= self.total:
            return f"{text}…"
        left = self.seconds / self.done * (self.total - self.done)
        return f"{text}, about {max(1, round(left))} s left…"


Report = Callable[[Making], None]


@dataclass(frozen=True)
class Recording:
    """A run that a lecture shows.

    Attributes
    ----------
    name
        Part of the folder's name.
    recipe
        An experiment, or what is written without a training (see `write`).
    write
        Writes the run where nothing is trained; None: `recipe` is trained.
    """

    name: str
    recipe: Mapping[str, Any]
    write: Callable[[Path, Mapping[str, Any]], None] | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        text = json.dumps([__version__, self.recipe], sort_keys=True)
        return base_folder() / FOLDER / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def ready(self) -> bool:
        """Whether it is there, complete and in a form that this version reads."""
        try:
            return self.folder.is_dir() and open_run(self.folder).state == "finished"
        except SegExplorerError:
            return False

    def make(self, report: Report = lambda _: None, stop: threading.Event | None = None) -> Path:
        """Return its folder; made now where it is not there.

        Parameters
        ----------
        report
            Told how far it is, on this thread.
        stop
            Set from another thread to end it; nothing is left then.

        Raises
        ------
        TrainingError
            When it was stopped, or the training failed.
        DiskError
            When it cannot be written.
        """
        if self.ready:
            return self.folder
        aside = self.folder.with_name(f".{self.folder.name}-{secrets.token_hex(4)}")
        with translate_disk_errors(self.folder):
            aside.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self.write is not None:
                self.write(aside, self.recipe)
            else:
                _train(Experiment.of(self.recipe), aside, report, stop or threading.Event())
            self._keep(aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return self.folder

    def _keep(self, aside: Path) -> None:
        """Move the finished run to its place, where another process may have put the same meanwhile."""
        if not self.ready:
            shutil.rmtree(self.folder, ignore_errors=True)  # damaged, or of an older form
            with contextlib.suppress(OSError):
                aside.rename(self.folder)
        if not self.ready:
            raise TrainingError(
                f"The recorded run could not be moved to {self.folder}.", "Empty that folder and try again."
            )


def _train(experiment: Experiment, folder: Path, report: Report, stop: threading.Event) -> None:
    run = Run(RunFolder.create(experiment, folder))
    total = experiment.schedule.epochs * (experiment.sampling.steps_per_epoch or 0)
    report(Making(0, total))
    began = 0.0
    for event in run:
        if isinstance(event, StepDone):
            began = began or time.monotonic() - event.seconds
            report(Making(event.step, total, time.monotonic() - began))
        if stop.is_set() and run.accepts("stop"):
            run.stop()
        if isinstance(event, RunFinished) and event.state != "finished":
            if stop.is_set():
                raise TrainingError("The recorded run was not made.", "Choose the lecture again to make it.")
            raise TrainingError(event.error or event.reason, event.remedy)


# ---- the recipes

SAME_MISTAKE = Recording(
    "same-mistake",
    {
        "name": "Lecture: same mistake, other orders",
        "data": {"kind": "phantom", "count": 1, "size": 64, "seed": 0, "classes": {"lesion": 7}},
        "split": {"self_validation": True},
        "sampling": {
            "patch_size": [24, 24, 24],
            "batch_size": 2,
            "foreground_ratio": 0.8,
            "steps_per_epoch": 25,
        },
        "loss": "dice_cross_entropy",
        "optimiser": {"kind": "adam", "learning_rate": 1.3e-3},
        "schedule": {"kind": "polynomial", "epochs": 12},
        "checkpoints": {"keep_every": 4},
        **_OTHERS,
    },
)
THRESHOLD = Recording(
    "threshold-or-loss",
    {
        "name": "Lecture: threshold or loss?",
        "data": {"kind": "phantom", "count": 4, "size": 64, "seed": 0, "classes": {"kidneys": 3}},
        "split": {"validation_count": 1},
        "sampling": {
            "patch_size": [32, 32, 32],
            "batch_size": 2,
            "foreground_ratio": 0.8,
            "steps_per_epoch": 25,
        },
        "loss": {"kind": "tversky", "alpha": 0.5, "beta": 0.5},
        "optimiser": {"kind": "adam", "learning_rate": 3e-3},
        "schedule": {"kind": "polynomial", "epochs": 8},
        "checkpoints": {"keep_every": 2},
        **_OTHERS,
    },
)
SURE, SURER = 9.0, 16.0
"""Logits that were made up: of the background everywhere, and of the structure where it is found."""


def half_found(label: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (2, x, y, z) logits under which the half of a structure toward the middle is found, and nothing else.

    Parameters
    ----------
    label
        (x, y, z) with x to the patient's right, 1 where the structure is, which lies on the left.
    """
    found = label.astype(bool)
    found[: int(np.median(np.nonzero(found)[0]))] = False
    return np.stack([np.full(label.shape, SURE), np.where(found, SURER, 0.0)]).astype(np.float32)


def _write_half_found(folder: Path, recipe: Mapping[str, Any]) -> None:
    data = Phantoms.of(recipe["data"])
    (name, values), *_ = dict(data.class_values()).items()
    case = data.cases()[0].open()
    assert case.label is not None  # phantoms have one
    label = np.isin(np.asarray(case.label.array), values).astype(np.uint8)
    with Recorder(
        folder,
        [name],
        loss=recipe["loss"],
        trainer="nobody: the prediction was made up for a lecture",
        name=str(recipe["name"]),
    ) as recorder:
        scores = recorder.watch(
            "made-up prediction",
            image=case.images[0],
            label=label,
            affine=case.label.affine,
            logits=half_found(label),
        )
        recorder.validate(scores)


REWARDED = Recording(
    "rewarded-errors",
    {
        "name": "Lecture: a loss that rewards errors",
        "data": {"kind": "phantom", "count": 1, "size": 96, "seed": 0, "classes": {"spleen": 2}},
        "loss": {"kind": "adaptive_region_tversky", "a": 0.3, "b": 0.4, "grid": [6, 6, 6]},
        "logits": [SURE, SURER],
    },
    _write_half_found,
)
RECORDINGS: Mapping[str, Recording] = {found.name: found for found in (SAME_MISTAKE, THRESHOLD, REWARDED)}
