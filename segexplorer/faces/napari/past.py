"""The watched cases as they were: frames of a run's history made into snapshots again; for workers."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.types import Role
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import Frame, open_run
from segexplorer.training.snapshots import WatchedSnapshot

Truth = NDArray[np.uint8] | None


def frames_of(folder: Path) -> dict[Role, tuple[Frame, ...]]:
    """Return the complete frames of each role, in order of steps; also while the run writes.

    Raises
    ------
    DataError
        When the folder is no run folder.
    """
    record = open_run(folder)
    return {role: tuple(record.watched(role)) for role in get_args(Role)}


class Past:
    """Loads frames of one run; the labels, which the history does not hold, are read once per case.

    Parameters
    ----------
    experiment
        Whose data set names the cases and classes.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._refs: Mapping[str, CaseRef] | None = None
        self._truths: dict[str, Truth] = {}
        self._lock = threading.Lock()

    def know(self, snapshot: WatchedSnapshot) -> None:
        """Take over the label of a snapshot that came from the run itself."""
        self._truths.setdefault(snapshot.case, snapshot.truth)

    def snapshot(self, frame: Frame) -> WatchedSnapshot:
        """Return a frame with the label of its case.

        Raises
        ------
        SegExplorerError
            When the case's files are gone or damaged.
        """
        loaded = frame.load()
        return replace(loaded, truth=self._truth(loaded.case))

    def ref(self, case: str) -> CaseRef | None:
        """Return a case of the data set by its id; None where the data set no longer has it."""
        with self._lock:
            if self._refs is None:
                self._refs = {ref.id: ref for ref in self._experiment.data.cases()}
            return self._refs.get(case)

    def _truth(self, case: str) -> Truth:
        if case not in self._truths:
            self._truths[case] = self._read_truth(case)
        return self._truths[case]

    def _read_truth(self, case: str) -> Truth:
        ref = self.ref(case)
        label = None if ref is None or ref.label is None else ref.open().label
        if label is None:
            return None
        data = self._experiment.data
        return ClassMap.from_classes(data.class_values(), data.unselected).encode(np.asarray(label.array))
