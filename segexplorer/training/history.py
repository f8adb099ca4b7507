"""The record of a run: events, metrics and the watched cases through time; opens without torch.

`history.zarr/<role>/<index>` is one group per frame, complete once its `complete` attribute is set, so that a
reader in another process, or after a kill, never sees half a frame.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError
from segexplorer.core.events import (
    Event,
    Notice,
    RegionReport,
    Role,
    StepDone,
)
from segexplorer.core.printable import printable
from segexplorer.core.regions import MapRegions
from segexplorer.core.untrusted_files import open_regular, read_bytes, require_inside, with_checksum
from segexplorer.training.event_log import drop_superseded, read_events, read_log
from segexplorer.training.experiment import Experiment
from segexplorer.training.flight_recorder import Flight, read_flights
from segexplorer.training.ownership import Holder, holder_of
from segexplorer.training.recorded import RecordedRun, recorded_run
from segexplorer.training.run_files import (
    COPY_AGAIN,
    EXPERIMENT,
    FORMAT,
    HISTORY,
    LIMITS,
    METRICS,
    RUN,
    require_run_folder,
)
from segexplorer.training.run_status import RecordedState, RunStatus, read_status
from segexplorer.training.scores import SplitScores, recorded_scores
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.step_columns import StepColumns, stretches
from segexplorer.training.stored_frames import (
    LOGITS,
    MAX_FRAMES,
    MAX_MAP,
    REGION_IDS,
    REGION_MAP,
    REGIONS,
    ArrayHeader,
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


def write_format(folder: Path) -> None:
    """Write the format number into a new run folder."""
    atomic_write(folder / RUN, json.dumps(with_checksum({"format": FORMAT})).encode())


class _OwnStore(LocalStore):  # type: ignore[misc]  # mypy does not see the types of zarr
    """The history of the run that this process owns.

    Nobody else writes into it (`training.ownership`), so nothing has to be created exclusively, for which zarr
    takes hard links: some network drives have none.
    """

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write a value that is not there yet."""
        if not await self.exists(key):
            await self.set(key, value)


class HistoryWriter:
    """Writes frames of the watched cases."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logits: dict[tuple[Role, int], int] | None = None
        if (folder / HISTORY).exists():
            require_inside(folder / HISTORY, folder)
            read_group(folder, HISTORY, GroupHeader)
        store = _OwnStore(folder / HISTORY)
        self._root = zarr.open_group(store, mode="a", zarr_format=3, use_consolidated=False)

    def next_index(self, role: Role) -> int:
        """Return the number for the next frame of a role."""
        return 1 + max(map(int, frame_names(self._folder, role)), default=-1)

    def write(self, snapshot: WatchedSnapshot, attempt: int, logits_mb: float = math.inf) -> None:
        """Write one frame: prediction, probabilities, logits and region maps of a watched case.

        Parameters
        ----------
        logits_mb
            Most that the logits of all frames may take, MB; those of earlier frames are thinned out for it.
        """
        name = f"{snapshot.role}/{snapshot.index:06d}"
        if name in self._root:
            del self._root[name]
        group = self._root.create_group(name)
        _store(group, "prediction", snapshot.prediction)
        if snapshot.probabilities is not None:
            _store(group, "probabilities", snapshot.probabilities)
        chosen = snapshot.probability_classes
        attributes: dict[str, Any] = {
            "case": snapshot.case,
            "step": snapshot.step,
            "attempt": attempt,
            "loss": None if np.isnan(snapshot.loss) else snapshot.loss,
            "class_names": list(snapshot.class_names),
            "overlapping": [list(own) for own in snapshot.scheme.members] or None,
            "affine": snapshot.affine.tolist(),
            "badge": snapshot.badge,
            "loss_state": {key: list(values) for key, values in snapshot.loss_state.items()},
            "probability_classes": None if chosen is None else list(chosen),
        }
        if snapshot.logits is not None and snapshot.logits_affine is not None:
            self._make_room(snapshot.role, snapshot.index, snapshot.logits.nbytes, logits_mb * 10**6)
            _store(group, LOGITS, snapshot.logits)
            attributes["logits_affine"] = snapshot.logits_affine.tolist()
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

    def _make_room(self, role: Role, index: int, nbytes: int, budget: float) -> None:
        """Delete the logits of so many earlier frames that those of one more fit, evenly over the run."""
        if self._logits is None:
            self._logits = self._recorded_logits()
        kept = {place: n for place, n in self._logits.items() if place != (role, index)}
        stride = 1
        while sum(n for (_, i), n in kept.items() if i % stride == 0) + nbytes > budget:
            stride *= 2
            if stride > MAX_FRAMES:  # not even the first frames of both roles fit beside it
                break
        for r, i in list(kept):
            if stride > MAX_FRAMES or i % stride:
                place = self._folder / frame_name(r, i) / LOGITS
                (place / "zarr.json").unlink(
                    missing_ok=True
                )  # first: without it nobody takes it for an array
                shutil.rmtree(place)
                del kept[r, i]
        self._logits = {**kept, (role, index): nbytes}

    def _recorded_logits(self) -> dict[tuple[Role, int], int]:
        """Return (role, frame) -> bytes of its logits, of the frames that have some."""
        found: dict[tuple[Role, int], int] = {}
        for role in get_args(Role):
            for name in frame_names(self._folder, role):
                header = read_group(self._folder, f"{frame_name(role, name)}/{LOGITS}", ArrayHeader)
                if header is not None:
                    found[role, int(name)] = header.nbytes
        return found


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

    def prediction(self) -> NDArray[np.uint8]:
        """Read the predicted classes alone, (i, j, k) in the case's own grid.

        Raises
        ------
        DataError
            When they are damaged.
        """
        name = frame_name(self.role, self.index)
        predicted: NDArray[np.uint8] = read_array(self.run, f"{name}/prediction")
        return predicted

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
            scheme=facts.scheme,
            affine=np.asarray(facts.affine, np.float64),
            prediction=read_array(self.run, f"{name}/prediction"),
            probabilities=probabilities,
            probability_classes=None
            if facts.probability_classes is None
            else tuple(facts.probability_classes),
            logits=self._logits(name) if LOGITS in names else None,
            logits_affine=None
            if facts.logits_affine is None
            else np.asarray(facts.logits_affine, np.float64),
            loss_state={key: tuple(values) for key, values in facts.loss_state.items()},
            regions=regions,
            regions_affine=affine,
            loss=float("nan") if facts.loss is None else facts.loss,
            badge=facts.badge,
        )
        require_fitting(snapshot, name)
        return snapshot

    def _logits(self, name: str) -> NDArray[np.float16] | None:
        """Read the logits; None where the run deletes them meanwhile, to make room for newer ones."""
        try:
            found = read_array(self.run, f"{name}/{LOGITS}")
        except DataError:
            if LOGITS in array_names(self.run, name):
                raise
            return None
        return found if LOGITS in array_names(self.run, name) else None


class RunRecord:
    """What a run has written to its folder; it can be read while the run is still writing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def experiment(self) -> Experiment:
        """The effective experiment, its live changes in `changes`."""
        return read_experiment(self.folder)

    @property
    def recorded(self) -> RecordedRun | None:
        """Who trained it, where that was another program (`segexplorer.Recorder`); None for runs of our own."""
        return recorded_run(self.folder)

    def events(self) -> Sequence[Event]:
        """Return the events in order, without steps that a later attempt repeated.

        Of a long run most steps are columns (`training.step_columns`), which are made events as they are looked at.
        """
        return drop_superseded(read_events(self.folder))

    def notices(self) -> list[Notice]:
        """Return what `events` left out: damaged lines, and a last line that a killed process did not finish."""
        return read_log(self.folder).notices()

    @property
    def state(self) -> RecordedState:
        """The last recorded state; "interrupted" where a run was going on and nobody trains it any more."""
        return self.status.state

    @property
    def status(self) -> RunStatus:
        """Where the run is, from its small status file, without reading the log."""
        return read_status(self.folder)

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

    def flights(self) -> tuple[Flight, ...]:
        """Return what the flight recorder kept: the steps and the batch of an explosion, and of a failure.

        Raises
        ------
        DataError
            When a record is damaged.
        """
        return read_flights(self.folder)

    @property
    def term_gradients(self) -> pd.DataFrame:
        """How strongly each term pulled: a row per measured step, a column per term and for their total."""
        measured = {e.step: e.term_gradients for e in self._measured()}
        return pd.DataFrame.from_dict(measured, orient="index").rename_axis("step")

    @property
    def references(self) -> pd.DataFrame:
        """The loss of each measured batch ("this run") beside what trivial predictions of it are worth."""
        measured = {e.step: {"this run": e.loss, **e.references} for e in self._measured()}
        return pd.DataFrame.from_dict(measured, orient="index").rename_axis("step")

    def _measured(self) -> list[StepDone]:
        found: list[StepDone] = []
        for piece in stretches(self.events()):
            if isinstance(piece, StepColumns):
                found += (piece.event(n) for n in piece.measured()[0].tolist())
            elif isinstance(piece, StepDone):
                found.append(piece)
        return [step for step in found if step.term_gradients]

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
