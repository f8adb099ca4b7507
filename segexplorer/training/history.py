"""The record of a run: events, metrics and the watched cases through time; opens without torch.

`history.zarr/<role>/<index>` is one group per frame, complete once its `complete` attribute is set, so that a
reader in another process, or after a kill, never sees half a frame.
"""

from __future__ import annotations

import contextlib
import io
import json
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
    Notice,
    RegionReport,
    Role,
    RunFinished,
    RunState,
    StateChanged,
    StepDone,
    ValidationDone,
)
from segexplorer.core.printable import printable
from segexplorer.core.regions import MapRegions
from segexplorer.core.untrusted_files import open_regular, read_bytes, require_inside, with_checksum
from segexplorer.training.experiment import Experiment
from segexplorer.training.ownership import Holder, holder_of
from segexplorer.training.run_files import (
    COPY_AGAIN,
    EXPERIMENT,
    FORMAT,
    HISTORY,
    LIMITS,
    METRICS,
    RUN,
    read_log,
    require_run_folder,
)
from segexplorer.training.scores import SplitScores, recorded_scores
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.stored_frames import (
    MAX_MAP,
    REGION_IDS,
    REGION_MAP,
    REGIONS,
    FrameFacts,
    GroupHeader,
    array_names,
    frame_name,
    frame_names,
    read_array,
    read_frame_facts,
    read_group,
    require_fitting,
)

RecordedState = RunState | Literal["interrupted"]
"""State of a run folder. A run is interrupted when its process died, or has shown no sign of life for minutes."""


def write_format(folder: Path) -> None:
    """Write the format number into a new run folder."""
    atomic_write(folder / RUN, json.dumps(with_checksum({"format": FORMAT})).encode())


class HistoryWriter:
    """Writes frames of the watched cases."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if (folder / HISTORY).exists():
            require_inside(folder / HISTORY, folder)
            read_group(folder, HISTORY, GroupHeader)
        self._root = zarr.open_group(str(folder / HISTORY), mode="a", zarr_format=3, use_consolidated=False)

    def next_index(self, role: Role) -> int:
        """Return the number for the next frame of a role."""
        return 1 + max(map(int, frame_names(self._folder, role)), default=-1)

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
        if _can_keep(snapshot.regions) and snapshot.regions_affine is not None:
            assert snapshot.regions is not None
            for key, values in snapshot.regions.values.items():
                _store(group, f"{REGIONS}{key}", values)
            divided = snapshot.regions.regions
            if isinstance(divided, MapRegions):
                _store(group, REGION_MAP, divided.labels)
                _store(group, REGION_IDS, divided.ids)
            else:
                attributes["edges"] = [list(e) for e in snapshot.regions.edges]
            attributes["regions_affine"] = snapshot.regions_affine.tolist()
            attributes["regions_scope"] = snapshot.regions.scope
        group.attrs.update({**attributes, "complete": True})


def _can_keep(report: RegionReport | None) -> bool:
    """Whether there are regions whose map, where they need one, is not larger than what is read again."""
    return report is not None and not (
        isinstance(report.regions, MapRegions) and report.regions.labels.size > MAX_MAP
    )


def _store(group: zarr.Group, name: str, array: NDArray[Any]) -> None:
    # one chunk a frame: a frame is read whole, and one file is quicker than a shard of many
    stored = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=array.shape)
    stored[...] = array


# ---- frames, as they may come from anybody


@dataclass(frozen=True)
class HistoryFrame:
    """One frame of a watched case; `load` reads its arrays."""

    role: Role
    index: int
    step: int
    attempt: int
    run: Path
    facts: FrameFacts

    def load(self) -> WatchedSnapshot:
        """Read the frame; `truth` is left None, since the label is the data set's.

        Raises
        ------
        DataError
            When it is damaged, or its arrays do not fit one another.
        """
        facts, name = self.facts, frame_name(self.role, self.index)
        names = array_names(self.run, name)
        kept = "probabilities" in names
        probabilities = read_array(self.run, f"{name}/probabilities") if kept else None
        regions, affine = None, None
        mapped = REGION_MAP in names and REGION_IDS in names
        if facts.regions_affine is not None and (mapped or facts.edges is not None):
            values = {
                key.removeprefix(REGIONS): read_array(self.run, f"{name}/{key}")
                for key in names
                if key.startswith(REGIONS)
            }
            if facts.edges is not None:
                regions = RegionReport(values, tuple(map(tuple, facts.edges)), scope=facts.regions_scope)
            else:
                places = (read_array(self.run, f"{name}/{part}") for part in (REGION_MAP, REGION_IDS))
                regions = RegionReport.of(values, MapRegions(*places), facts.regions_scope)
            affine = np.asarray(facts.regions_affine, np.float64)
        snapshot = WatchedSnapshot(
            case=facts.case,
            role=self.role,
            step=self.step,
            index=self.index,
            class_names=tuple(facts.class_names),
            affine=np.asarray(facts.affine, np.float64),
            prediction=read_array(self.run, f"{name}/prediction"),
            probabilities=probabilities,
            regions=regions,
            regions_affine=affine,
            loss=float("nan") if facts.loss is None else facts.loss,
            badge=facts.badge,
        )
        require_fitting(snapshot, name)
        return snapshot


class RunRecord:
    """What a run has written to its folder; it can be read while the run is still writing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def experiment(self) -> Experiment:
        """The effective experiment, its live changes in `changes`."""
        return read_experiment(self.folder)

    def events(self) -> list[Event]:
        """Return the events in order, without steps that a later attempt repeated."""
        return drop_superseded(read_events(self.folder))

    def notices(self) -> list[Notice]:
        """Return what `events` left out: damaged lines, and a last line that a killed process did not finish."""
        return read_log(self.folder).notices()

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
        """`metrics.csv` as a table: one row per validation, case and class; empty before the first.

        Raises
        ------
        DataError
            When it is damaged.
        """
        try:
            content = read_bytes(self.folder / METRICS, LIMITS[METRICS], within=self.folder)
        except FileNotFoundError:
            return pd.DataFrame()
        try:
            table = pd.read_csv(io.BytesIO(content))
        except (ValueError, OverflowError) as error:
            raise DataError(f"{METRICS} is damaged: it is not a table.", COPY_AGAIN) from error
        table.columns = table.columns.map(lambda name: printable(str(name)))
        for name, column in table.items():
            if not pd.api.types.is_numeric_dtype(column):
                table[name] = column.map(lambda value: printable(value) if isinstance(value, str) else value)
        return table

    def scores(self, split: Role = "test") -> tuple[SplitScores, ...]:
        """Return what `segexplorer evaluate RUN --split` recorded of a split, the oldest scoring first.

        Raises
        ------
        DataError
            When a record is damaged.
        """
        return recorded_scores(self.folder, split)

    def watched(self, role: Role) -> Sequence[HistoryFrame]:
        """Return the complete frames of a role in order of steps, superseded ones dropped.

        Raises
        ------
        DataError
            When the history is damaged, or stored in another way than segexplorer stores it.
        """
        frames: list[HistoryFrame] = []
        for key in frame_names(self.folder, role):
            facts = read_frame_facts(self.folder, role, key)
            if facts is not None:
                frames.append(HistoryFrame(role, int(key), facts.step, facts.attempt, self.folder, facts))
        kept: list[HistoryFrame] = []
        for frame in frames:  # a later attempt repeats the steps after the one that it resumed from
            while kept and kept[-1].step >= frame.step and kept[-1].attempt != frame.attempt:
                kept.pop()
            kept.append(frame)
        return kept


def read_experiment(folder: Path) -> Experiment:
    """Return the experiment of a run folder, live changes in `changes`.

    Raises
    ------
    DataError, SpecError
        When its file is not a regular file of the folder, or no valid experiment.
    """
    # opened once beforehand, since a pipe or a device under this name would keep its reader waiting
    with contextlib.suppress(FileNotFoundError):
        open_regular(folder / EXPERIMENT, LIMITS[EXPERIMENT], within=folder).close()
    return Experiment.from_yaml(folder / EXPERIMENT)


def read_events(folder: Path) -> list[Event]:
    """Return every event of the log in order of writing; torn lines are left out (see `RunRecord.notices`)."""
    return read_log(folder).events


def drop_superseded(events: Sequence[Event]) -> list[Event]:
    """Drop events of earlier attempts about steps that a later attempt repeated."""
    begins: dict[int, int] = {}
    for event in events:
        begins.setdefault(event.attempt, event.step)
    limits: dict[int, int | None] = {}
    lowest: int | None = None
    for attempt in sorted(begins, reverse=True):
        limits[attempt] = lowest
        lowest = begins[attempt] if lowest is None else min(lowest, begins[attempt])
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
