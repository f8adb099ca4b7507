"""The run folder: made once, never overwritten, opened again to resume; every write goes through here.

```
run.json          the format of the folder
experiment.yaml   what was planned (absolute paths), with the live changes so far
provenance.json   per attempt: versions, device, threads, precision, seed, data hashes
events.jsonl      every event            metrics.csv   per validation, case and class
history.zarr      the watched cases      checkpoints/  see training.checkpoint
scores/           of a split, on request; see training.scores
```
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from segexplorer.core.atomic_files import atomic_write, translate_disk_errors
from segexplorer.core.errors import DataError
from segexplorer.core.events import Event, Role, ValidationDone
from segexplorer.core.untrusted_files import with_checksum_comment
from segexplorer.training.checkpoint import Checkpoint, open_checkpoint
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import (
    HistoryWriter,
    drop_superseded,
    read_events,
    read_experiment,
    write_format,
)
from segexplorer.training.run_files import EXPERIMENT, require_run_folder
from segexplorer.training.sinks.record import EventLog, MetricsTable, write_provenance
from segexplorer.training.snapshots import WatchedSnapshot

DEFAULT_PARENT = "segexplorer-runs"


def fresh_folder(experiment: Experiment, parent: Path | None = None) -> Path:
    """Return a path that does not exist yet: `<parent>/<time>-<loss>`, parent `./segexplorer-runs` by default."""
    base = parent if parent is not None else Path.cwd() / DEFAULT_PARENT
    kind = getattr(experiment.loss, "kind", "loss")
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{experiment.name or kind}".replace("/", "-").replace(" ", "-")
    candidate, count = base / name, 1
    while candidate.exists():
        count += 1
        candidate = base / f"{name}-{count}"
    return candidate


class RunFolder:
    """One run's folder. Use `create` or `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log: EventLog | None = None
        self._table: MetricsTable | None = None
        self._history: HistoryWriter | None = None

    @classmethod
    def create(cls, experiment: Experiment, path: Path | None = None) -> Self:
        """Make a new run folder with its experiment file.

        Raises
        ------
        DataError
            When the folder already exists and is not empty.
        TrainingError
            When it cannot be written.
        """
        target = path if path is not None else fresh_folder(experiment)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise DataError(
                f"{target} already exists, and runs are never overwritten.",
                "Choose another output folder, or continue that run with --resume.",
            )
        with translate_disk_errors(target):
            target.mkdir(parents=True, exist_ok=True)
        write_format(target)
        created = cls(target)
        created.save_experiment(experiment)
        return created

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

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints and their pointers."""
        return self.path / "checkpoints"

    def experiment(self) -> Experiment:
        """Return the planned experiment with its changes."""
        return read_experiment(self.path)

    def save_experiment(self, experiment: Experiment) -> None:
        """Replace `experiment.yaml`."""
        atomic_write(self.path / EXPERIMENT, with_checksum_comment(experiment.to_yaml()).encode())

    def attempts(self) -> int:
        """Return how many attempts there were."""
        return max((e.attempt for e in read_events(self.path)), default=0)

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
        """Write an event to the log and, where it is a validation, to the metrics table."""
        if self._log is None:
            before = drop_superseded(read_events(self.path))
            kept = [e for e in before if isinstance(e, ValidationDone) and e.step <= event.step]
            self._log, self._table = EventLog(self.path), MetricsTable(self.path, kept)
        assert self._table is not None
        self._log.write(event)
        self._table.write(event)

    def earlier_events(self, attempt: int) -> list[Event]:
        """Return the events of the attempts before one, without steps that were done again."""
        return [e for e in drop_superseded(read_events(self.path)) if e.attempt < attempt]

    def next_frame(self, role: Role) -> int:
        """Return the number of the next history frame of a role."""
        return self._open_history().next_index(role)

    def write_frame(self, snapshot: WatchedSnapshot, attempt: int) -> None:
        """Add a frame to the history."""
        with translate_disk_errors(self.path / "history.zarr"):
            self._open_history().write(snapshot, attempt)

    def _open_history(self) -> HistoryWriter:
        if self._history is None:
            self._history = HistoryWriter(self.path)
        return self._history

    def write_provenance(self, attempt: int, facts: Mapping[str, Any]) -> None:
        """Record what an attempt runs on."""
        write_provenance(self.path, attempt, facts)

    def write_text(self, name: str, text: str) -> None:
        """Write a small text file of the run atomically."""
        atomic_write(self.path / name, text.encode())

    def close(self) -> None:
        """Close the log; the next write opens it again."""
        if self._log is not None:
            log, self._log = self._log, None
            log.close()
