"""What every run writes beside its checkpoints, sinks or not: the event log, the metrics table, provenance."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from segexplorer.core.atomic_files import atomic_write, translate_disk_errors
from segexplorer.core.events import Event, Progress, ValidationDone, to_json
from segexplorer.core.untrusted_files import with_checksum
from segexplorer.training.event_index import EventIndex
from segexplorer.training.host import job_id, this_host
from segexplorer.training.run_files import EVENTS, METRICS, PROVENANCE, read_provenance


class EventLog:
    """Appends events to `events.jsonl`, one flushed line each, so that a kill costs at most a torn last line.

    Its index (`training.event_index`) is kept up beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / EVENTS
        with translate_disk_errors(self.path):
            self._file: IO[bytes] = _open_for_append(self.path)
        self._index = EventIndex(folder)

    def write(self, event: Event) -> None:
        """Append an event; `Progress` is for eyes only and not kept."""
        if isinstance(event, Progress):
            return
        line = to_json(event).encode() + b"\n"
        with translate_disk_errors(self.path):
            self._file.write(line)
            self._file.flush()
        self._index.add(line)

    def close(self) -> None:
        """Sync and close."""
        self._index.close()
        with translate_disk_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def _open_for_append(path: Path) -> IO[bytes]:
    """Open for appending, a torn last line of a killed run closed off first."""
    file = path.open("a+b")
    if file.tell():
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
            file.flush()
    return file


class MetricsTable:
    """Keeps `metrics.csv`: one row per validation, case and class; rows of superseded steps are dropped."""

    def __init__(self, folder: Path, earlier: Iterable[ValidationDone] = ()) -> None:
        self.path = folder / METRICS
        self._rows: list[dict[str, Any]] = []
        for event in earlier:
            self._rows += _rows(event)

    def write(self, event: Event) -> None:
        """Add a validation's scores and replace the file; other events are not for this table."""
        if isinstance(event, ValidationDone):
            self._rows = [*(r for r in self._rows if r["step"] < event.step), *_rows(event)]
            atomic_write(self.path, _csv(self._rows).encode())


def _rows(event: ValidationDone) -> list[dict[str, Any]]:
    return [
        {
            "attempt": event.attempt,
            "epoch": event.epoch,
            "step": event.step,
            "case": score.case,
            "class": score.class_name,
            "role": score.role,
            "state": score.state,
            **score.metrics,
            "false_positive_ml": score.false_positive_ml,
            "false_negative_ml": score.false_negative_ml,
            "truth_ml": score.truth_ml,
            "badge": score.badge,
        }
        for score in event.scores
    ]


def metrics_text(validations: Iterable[ValidationDone]) -> str:
    """Return what `metrics.csv` holds after these validations, in order."""
    rows: list[dict[str, Any]] = []
    for event in validations:
        rows = [*(r for r in rows if r["step"] < event.step), *_rows(event)]
    return _csv(rows) if rows else ""


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_provenance(folder: Path, attempt: int, facts: Mapping[str, Any]) -> None:
    """Add what an attempt ran on to `provenance.json`: versions, machine, host, job, and the given facts."""
    path = folder / PROVENANCE
    attempts = [a.model_dump(exclude_unset=True) for a in read_provenance(folder)]
    entry = {
        "attempt": attempt,
        "versions": {"python": platform.python_version(), **package_versions((*COMPUTING, "napari"))},
        "platform": f"{platform.system()} {platform.machine()}",
        "host": this_host().name,
        "job": job_id(),
        **facts,
    }
    kept = [a for a in attempts if a["attempt"] != attempt]
    entries = [with_checksum(a) for a in (*kept, entry)]
    atomic_write(path, json.dumps(entries, indent=1).encode())


COMPUTING = ("segexplorer", "torch", "monai", "numpy", "scipy", "nibabel")
"""Packages whose version may change a number of a run."""


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return package -> installed version, "not installed" where it is not."""
    return {name: _version(name) for name in names}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
