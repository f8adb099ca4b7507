"""The record of a run: events, metrics and the watched cases through time; opens without torch.

`history.zarr/<role>/<index>` is one group per frame, complete once its `complete` attribute is set, so that a
reader in another process, or after a kill, never sees half a frame.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError
from segexplorer.core.events import (
    ACTIVE_STATES,
    EpochDone,
    Event,
    RegionReport,
    Role,
    RunFinished,
    RunState,
    StateChanged,
    StepDone,
    ValidationDone,
    from_json,
)
from segexplorer.training.experiment import Experiment
from segexplorer.training.ownership import Holder, holder_of
from segexplorer.training.scores import SplitScores, recorded_scores
from segexplorer.training.sinks.record import EVENTS, EXPERIMENT, METRICS
from segexplorer.training.snapshots import WatchedSnapshot

HISTORY = "history.zarr"
FORMAT_FILE, FORMAT = "run.json", 2
"""File that names the format of a run folder, and the format that is written and read now. Format 1 had no such
file; its settings, events and loss states have other names."""

RecordedState = RunState | Literal["interrupted"]
"""State of a run folder. A run is interrupted when its process died, or has shown no sign of life for minutes."""


def write_format(folder: Path) -> None:
    """Write the format number into a new run folder."""
    atomic_write(folder / FORMAT_FILE, json.dumps({"format": FORMAT}).encode())


def require_run_folder(folder: Path) -> None:
    """Check that a folder holds a run in the present format.

    Raises
    ------
    DataError
        When it is not a run folder, or was written by an older or newer version.
    """
    if not (folder / EXPERIMENT).is_file():
        raise DataError(f"{folder} is not a run folder.", f"Choose a folder that contains {EXPERIMENT}.")
    try:
        found = json.loads((folder / FORMAT_FILE).read_text(encoding="utf-8"))["format"]
    except FileNotFoundError:
        found = 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / FORMAT_FILE} is damaged.", "Copy the whole run folder again.") from error
    if found != FORMAT:
        age = "an older" if isinstance(found, int) and found < FORMAT else "another"
        raise DataError(
            f"The run folder {folder} was written by {age} version of segexplorer (format {found}, not {FORMAT}).",
            "Open it with that version, or train the experiment again.",
        )


class HistoryWriter:
    """Writes frames of the watched cases."""

    def __init__(self, folder: Path) -> None:
        self._root = zarr.open_group(str(folder / HISTORY), mode="a")

    def next_index(self, role: Role) -> int:
        """Return the number for the next frame of a role."""
        return 1 + max((int(k) for k in _frames(self._root, role)), default=-1)

    def write(self, snapshot: WatchedSnapshot, attempt: int) -> None:
        """Write one frame: prediction, probabilities and region maps of a watched case."""
        name = f"{snapshot.role}/{snapshot.index:06d}"
        if name in self._root:
            del self._root[name]
        group = self._root.create_group(name)
        _store(group, "prediction", snapshot.prediction)
        if snapshot.probabilities is not None:
            _store(group, "probabilities", snapshot.probabilities)
        attributes: dict[str, Any] = {
            "case": snapshot.case,
            "step": snapshot.step,
            "attempt": attempt,
            "loss": None if np.isnan(snapshot.loss) else snapshot.loss,
            "class_names": list(snapshot.class_names),
            "affine": snapshot.affine.tolist(),
            "badge": snapshot.badge,
        }
        if snapshot.regions is not None and snapshot.regions_affine is not None:
            for key, values in snapshot.regions.values.items():
                _store(group, f"regions_{key}", values)
            attributes["edges"] = [list(e) for e in snapshot.regions.edges]
            attributes["regions_affine"] = snapshot.regions_affine.tolist()
        group.attrs.update({**attributes, "complete": True})


def _store(group: zarr.Group, name: str, array: NDArray[Any]) -> None:
    # one chunk a frame: a frame is read whole, and one file is quicker than a shard of many
    stored = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=array.shape)
    stored[...] = array


def _frames(root: zarr.Group, role: Role) -> list[str]:
    if role not in root:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a frame being written or deleted by another process
        return sorted(k for k in root[role].group_keys() if k.isdigit())


@dataclass(frozen=True)
class HistoryFrame:
    """One frame of a watched case; `load` reads its arrays."""

    role: Role
    index: int
    step: int
    attempt: int
    _group: zarr.Group

    def load(self) -> WatchedSnapshot:
        """Read the frame; `truth` is left None, since the label is the data set's."""
        attrs = self._group.attrs.asdict()
        regions, affine = None, None
        if "edges" in attrs:
            keys = [k for k in self._group.array_keys() if k.startswith("regions_")]
            regions = RegionReport(
                {k.removeprefix("regions_"): np.asarray(self._group[k]) for k in keys},
                tuple(tuple(e) for e in attrs["edges"]),
            )
            affine = np.asarray(attrs["regions_affine"])
        loss = attrs.get("loss")
        return WatchedSnapshot(
            case=attrs["case"],
            role=self.role,
            step=self.step,
            index=self.index,
            class_names=tuple(attrs["class_names"]),
            affine=np.asarray(attrs["affine"]),
            prediction=np.asarray(self._group["prediction"]),
            probabilities=(
                np.asarray(self._group["probabilities"]) if "probabilities" in self._group else None
            ),
            regions=regions,
            regions_affine=affine,
            loss=float("nan") if loss is None else float(loss),
            badge=attrs.get("badge", ""),
        )


class RunRecord:
    """What a run has written to its folder; it can be read while the run is still writing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def experiment(self) -> Experiment:
        """The effective experiment, its live changes in `changes`."""
        return Experiment.from_yaml(self.folder / EXPERIMENT)

    def events(self) -> list[Event]:
        """Return the events in order, without steps that a later attempt repeated."""
        return drop_superseded(read_events(self.folder))

    @property
    def state(self) -> RecordedState:
        """The last recorded state; "interrupted" where a run was going on and nobody trains it any more."""
        state: RunState = "idle"
        for event in read_events(self.folder):
            if isinstance(event, (RunFinished, StateChanged)):
                state = event.state
        return "interrupted" if state in ACTIVE_STATES and self.holder is None else state

    @property
    def holder(self) -> Holder | None:
        """The process that trains the run now, as far as can be known; None where nobody does."""
        return holder_of(self.folder)

    @property
    def metrics(self) -> pd.DataFrame:
        """`metrics.csv` as a table: one row per validation, case and class; empty before the first."""
        path = self.folder / METRICS
        return pd.read_csv(path) if path.exists() else pd.DataFrame()

    def scores(self, split: Role = "test") -> tuple[SplitScores, ...]:
        """Return what `segexplorer evaluate RUN --split` recorded of a split, the oldest scoring first.

        Raises
        ------
        DataError
            When a record is damaged.
        """
        return recorded_scores(self.folder, split)

    def watched(self, role: Role) -> Sequence[HistoryFrame]:
        """Return the complete frames of a role in order of steps, superseded ones dropped."""
        store = self.folder / HISTORY
        if not store.exists():
            return []
        root = zarr.open_group(str(store), mode="r")
        frames = []
        for key in _frames(root, role):
            group = root[f"{role}/{key}"]
            attrs = group.attrs.asdict()
            if attrs.get("complete"):
                frames.append(HistoryFrame(role, int(key), int(attrs["step"]), int(attrs["attempt"]), group))
        kept: list[HistoryFrame] = []
        for frame in frames:
            kept = [f for f in kept if f.step < frame.step or f.attempt == frame.attempt]
            kept.append(frame)
        return kept


def read_events(folder: Path) -> list[Event]:
    """Return every event of the log in order of writing; torn lines are left out."""
    path = folder / EVENTS
    if not path.exists():
        return []
    events = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                events.append(from_json(line))
            except (ValueError, TypeError):
                continue  # the last line of a killed process
    return events


def drop_superseded(events: Sequence[Event]) -> list[Event]:
    """Drop events of earlier attempts about steps that a later attempt repeated."""
    begins: dict[int, int] = {}
    for event in events:
        begins.setdefault(event.attempt, event.step)
    limits = {a: min((s for b, s in begins.items() if b > a), default=None) for a in begins}
    kept: dict[Any, Event] = {}
    for number, event in enumerate(events):
        limit = limits[event.attempt]
        if limit is not None and event.step > limit:
            continue
        # the end of an epoch may be recorded twice: an attempt stopped during a validation repeats it
        once = isinstance(event, (StepDone, EpochDone, ValidationDone))
        key: Any = (type(event), event.step) if once else number
        kept.pop(key, None)
        kept[key] = event
    return list(kept.values())


def open_run(folder: str | Path) -> RunRecord:
    """Open a run folder.

    Raises
    ------
    DataError
        When the folder is not a run folder, or was written by an older version.
    """
    path = Path(folder)
    require_run_folder(path)
    return RunRecord(path)
