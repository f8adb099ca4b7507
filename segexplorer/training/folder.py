"""The run folder: made once, never overwritten, opened again to resume; every write goes through here.

```
run.json          the format of the folder
owner.json        which process trains it, while one does; see training.ownership
experiment.yaml   what was planned (absolute paths), with the live changes so far
provenance.json   per attempt: versions, device, threads, precision, seed, data hashes
events.jsonl      every event            metrics.csv   per validation, case and class
status.json       where the run is; see training.run_status
history.zarr      the watched cases      checkpoints/  see training.checkpoint
scores/           of a split, on request; see training.scores
flight/           the last steps before a failure; see training.flight_recorder
```
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from segexplorer.core.atomic_files import atomic_write, translate_disk_errors
from segexplorer.core.errors import DataError, RunHeldError, SegExplorerError
from segexplorer.core.events import Event, Notice, Role, ValidationDone
from segexplorer.core.untrusted_files import with_checksum_comment
from segexplorer.training.checkpoint import Checkpoint, open_checkpoint
from segexplorer.training.event_log import drop_superseded, read_events, read_log
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import (
    HistoryWriter,
    read_experiment,
    write_format,
)
from segexplorer.training.ownership import Lease, holder_of, in_use, is_owner_file
from segexplorer.training.run_files import EXPERIMENT, RUN, require_run_folder
from segexplorer.training.run_status import StatusWriter
from segexplorer.training.sinks.record import EventLog, MetricsTable, write_provenance
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.training.step_columns import RecordedEvents, events_of, stretches, until

DEFAULT_PARENT = "segexplorer-runs"
_BEFORE = {RUN}
"""What is written into a new folder before the experiment makes it a run folder."""


def _names(experiment: Experiment) -> Iterator[str]:
    """Yield names for the folder of a new run: `<time>-<loss>`, then the same with a number."""
    kind = getattr(experiment.loss, "kind", "loss")
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{experiment.name or kind}".replace("/", "-").replace(" ", "-")
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


class RunFolder:
    """One run's folder. Use `create` or `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log: EventLog | None = None
        self._table: MetricsTable | None = None
        self._status: StatusWriter | None = None
        self._history: HistoryWriter | None = None
        self._lease: Lease | None = None

    @classmethod
    def create(cls, experiment: Experiment, path: Path | None = None, *, parent: Path | None = None) -> Self:
        """Make a new run folder with its experiment file; of several processes that try the same, one succeeds.

        Parameters
        ----------
        path
            The folder, new or empty; by default `<parent>/<time>-<loss>`, with a number where that exists.
        parent
            `./segexplorer-runs` by default.

        Raises
        ------
        DataError
            When the folder already exists and is not empty.
        RunHeldError
            When another process is making it.
        DiskError
            When it cannot be written.
        """
        if path is not None:
            if not path.exists():
                with translate_disk_errors(path):
                    path.mkdir(parents=True, exist_ok=True)
            return cls._fill(path, experiment)
        base = parent if parent is not None else Path.cwd() / DEFAULT_PARENT
        for name in _names(experiment):
            with translate_disk_errors(base / name):
                base.mkdir(parents=True, exist_ok=True)
                try:
                    (base / name).mkdir()
                except FileExistsError:
                    continue
            try:
                return cls._fill(base / name, experiment)
            except (
                DataError,
                RunHeldError,
            ):  # another process was told to use just this folder, and was quicker
                continue
        raise AssertionError("the names never end")

    @classmethod
    def _fill(cls, path: Path, experiment: Experiment) -> Self:
        """Make a run folder of an empty one. Whoever has the lease does it; the experiment is written last."""
        _require_unused(path)
        made = cls(path)
        with made.held():
            _require_unused(path)  # who had the lease before may have made a run of it
            write_format(path)
            made.save_experiment(experiment)
        return made

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open an existing run folder.

        Raises
        ------
        DataError
            When it is not a run folder, or was written by an older version.
        """
        require_run_folder(Path(path))
        return cls(Path(path))

    # ---- ownership

    def hold(self) -> Lease:
        """Take the lease of the folder, or return it where this object has it already.

        What a predecessor has left of a checkpoint half written is removed, if it has certainly died.

        Raises
        ------
        RunHeldError
            When another process has it, or another run of this one.
        """
        if self._lease is None:
            self._lease = Lease.take(self.path)
            for token in self._lease.died:
                for part in self.checkpoints.glob(f".step_*.{token}.tmp"):
                    shutil.rmtree(part, ignore_errors=True)
        return self._lease

    @property
    def lease(self) -> Lease | None:
        """The lease that this object has."""
        return self._lease

    def release(self) -> None:
        """Close the log and give the lease back; safe to call without it."""
        lease, self._lease = self._lease, None
        try:
            self.close()
        finally:
            if lease is not None:
                lease.release()

    @contextmanager
    def held(self) -> Iterator[Lease]:
        """Hold the lease for the duration."""
        before = self._lease
        try:
            yield self.hold()
        finally:
            if before is None:
                self.release()

    def require_ownership(self) -> None:
        """Make sure that this process may write now; every writer calls it first.

        Raises
        ------
        RunHeldError
            When this object does not have the lease and another process has.
        OwnershipLostError, FolderGoneError
            When it has lost the lease or the folder.
        """
        if self._lease is not None:
            self._lease.check()
        elif (holder := holder_of(self.path)) is not None:
            raise in_use(self.path, holder)

    def discard(self) -> None:
        """Remove the folder of a run in which nothing was trained yet, unless another process uses it."""
        try:
            with self.held() as lease:
                if self.checkpoints.exists():
                    return
                self.close()
                lease.check()
                shutil.rmtree(self.path, ignore_errors=True)
        except SegExplorerError:
            return

    # ---- contents

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints and their pointers."""
        return self.path / "checkpoints"

    def experiment(self) -> Experiment:
        """Return the planned experiment with its changes."""
        return read_experiment(self.path)

    def save_experiment(self, experiment: Experiment) -> None:
        """Replace `experiment.yaml`."""
        self.require_ownership()
        atomic_write(self.path / EXPERIMENT, with_checksum_comment(experiment.to_yaml()).encode())

    def notices(self) -> list[Notice]:
        """Return what is left out of the event log: damaged lines, and the last one where a kill broke it off."""
        return read_log(self.path).notices()

    def attempts(self) -> int:
        """Return how many attempts there were."""
        return max((piece.attempt for piece in stretches(read_events(self.path))), default=0)

    def saved_step(self) -> int:
        """Return the step of the checkpoint from which the run would resume, 0 without one."""
        checkpoint, _ = self.last_checkpoint()
        return checkpoint.step if checkpoint is not None else 0

    def last_checkpoint(self) -> tuple[Checkpoint | None, str]:
        """Return the checkpoint to resume from (None before the first), and a sentence if an older one was taken.

        Raises
        ------
        DataError
            When there are checkpoints but all are damaged.
        """
        if not os.path.lexists(self.checkpoints / "last"):
            return None, ""
        return open_checkpoint(self.checkpoints, "last")

    def write(self, event: Event) -> None:
        """Write an event to the log, to the status, and, where it is a validation, to the metrics table."""
        self.require_ownership()
        if self._log is None:
            before = drop_superseded(read_events(self.path))
            kept = until(before, lambda _: event.step)
            self._log = EventLog(self.path)
            self._table = MetricsTable(self.path, events_of(kept, ValidationDone))
            self._status = StatusWriter(self.path, kept)
        assert self._table is not None and self._status is not None
        self._log.write(event)
        self._table.write(event)
        self._status.write(event)

    def earlier_events(self, attempt: int) -> Sequence[Event]:
        """Return the events of the attempts before one, without steps that were done again."""
        kept = (p for p in stretches(drop_superseded(read_events(self.path))) if p.attempt < attempt)
        return RecordedEvents(kept)

    def next_frame(self, role: Role) -> int:
        """Return the number of the next history frame of a role."""
        return self._open_history().next_index(role)

    def write_frame(self, snapshot: WatchedSnapshot, attempt: int, logits_mb: float = math.inf) -> None:
        """Add a frame to the history; `logits_mb` as `HistoryWriter.write` takes it."""
        self.require_ownership()
        with translate_disk_errors(self.path / "history.zarr"):
            self._open_history().write(snapshot, attempt, logits_mb)

    def _open_history(self) -> HistoryWriter:
        if self._history is None:
            self._history = HistoryWriter(self.path)
        return self._history

    def write_provenance(self, attempt: int, facts: Mapping[str, Any]) -> None:
        """Record what an attempt runs on."""
        self.require_ownership()
        write_provenance(self.path, attempt, facts)

    def write_text(self, name: str, text: str) -> None:
        """Write a small text file of the run atomically."""
        self.require_ownership()
        atomic_write(self.path / name, text.encode())

    def write_part(self, name: str, content: bytes) -> None:
        """Write a file of the run atomically, e.g. "flight/failed.json"; its folder is made."""
        self.require_ownership()
        with translate_disk_errors(self.path / name):
            (self.path / name).parent.mkdir(exist_ok=True)
        atomic_write(self.path / name, content)

    def close(self) -> None:
        """Close the log; the next write opens it again."""
        if self._log is not None:
            log, self._log = self._log, None
            log.close()


def _require_unused(path: Path) -> None:
    """Check that a folder is empty, apart from what the making of a run may have left that was killed.

    Raises
    ------
    DataError
        When there is something else in it, or it is a file.
    """
    if path.is_dir() and all(
        is_owner_file(f) or f.name in _BEFORE or f.suffix == ".part" for f in path.iterdir()
    ):
        return
    raise DataError(
        f"{path} already exists, and runs are never overwritten.",
        "Choose another output folder, or open that run and go on with it (segexplorer train --resume).",
    )
