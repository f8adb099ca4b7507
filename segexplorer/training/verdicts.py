"""Verdicts on errors: what a reader says of an error of a prediction, kept in a file beside it.

`verdicts.json` is the one file of a run folder that others than the owner of the run may write: readers judge
errors while another process trains. It therefore has a lock of its own (`verdicts.lock`, of the operating system,
so it is free once its process has died), is written whole, and is never touched by training. A verdict remembers
some of the error's voxels, by which it finds the error again at another step. Beside the predictions of other
programs the file is called `segexplorer-verdicts.json`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal

from filelock import Timeout
from pydantic import Field, StringConstraints

from segexplorer.core.atomic_files import atomic_write, translate_disk_errors
from segexplorer.core.errors import DataError, RunHeldError
from segexplorer.core.events import Count, Role
from segexplorer.core.file_locks import take_lock
from segexplorer.core.untrusted_files import require_inside, with_checksum
from segexplorer.training.run_files import Name, RunFile, Sha256, read_run_file, require_run_folder

VERDICTS, LOCK = "verdicts.json", "verdicts.lock"
RESULT_VERDICTS = "segexplorer-verdicts.json"
"""The file beside predictions that are in no run folder."""
MOST_SAMPLES = 512
"""Most voxels that a verdict remembers of its error."""
PATIENCE_S = 10.0
"""How long a writer waits for another one, which needs some milliseconds."""

ErrorKind = Literal["missed_object", "spurious_object", "too_little", "too_much", "wrong_organ"]
Family = Literal["missing", "extra"]
"""Whether the voxels of an error have its class in the truth, or in the prediction only."""
Judgement = Literal["true_error", "label_error", "unclear"]
JUDGEMENTS: dict[Judgement, str] = {
    "true_error": "true error",
    "label_error": "label error",
    "unclear": "unclear",
}
"""What can be said of an error, and what it is called."""


class Verdict(RunFile):
    """What was said of one error.

    Attributes
    ----------
    id
        Its own, random.
    case, role
        Whose error it is, and of which split the case is.
    family, class_name
        Missing or extra voxels of which class.
    kind
        The kind of the error when it was judged.
    judgement
        None while nothing was said but a note, or that it was looked at.
    done
        Whether the error is ticked off.
    note
        Free text.
    step, when
        Optimiser steps of the prediction that was judged, and when, in seconds since the epoch (UTC).
    volume_ml, depth_mm, place
        The error in figures and words.
    shape, voxels, samples
        Shape of the case's grid, voxels of the error, and some of them as indices into the flattened grid.
    corrected, corrected_sha256
        Name of the new version of the label that was painted because of it, and the checksum of that file.
    """

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] = Field(
        default_factory=lambda: uuid.uuid4().hex
    )
    case: Name
    role: Role
    family: Family
    class_name: Name
    kind: Name = ""
    judgement: Judgement | None = None
    done: bool = False
    note: Name = ""
    step: Count = 0
    when: Annotated[float, Field(ge=0, lt=2.0**40)] = Field(default_factory=time.time)
    volume_ml: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    depth_mm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    place: Name = ""
    shape: tuple[Count, Count, Count]
    voxels: Count
    samples: Annotated[list[Count], Field(max_length=MOST_SAMPLES)] = Field(default_factory=list)
    corrected: Name = ""
    corrected_sha256: Sha256 | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is said any more."""
        return self.judgement is None and not (self.done or self.note or self.corrected)


class VerdictFile(RunFile):
    """`verdicts.json`."""

    verdicts: Annotated[list[Verdict], Field(max_length=100_000)] = Field(default_factory=list)


def read_verdicts(folder: Path, name: str = VERDICTS) -> tuple[Verdict, ...]:
    """Return the verdicts of a run folder, in the order in which they were given; empty where there are none.

    Parameters
    ----------
    name
        Of the file: `RESULT_VERDICTS` in a folder of predictions that is no run.

    Raises
    ------
    DataError
        When the file is damaged.
    """
    found = read_run_file(folder, name, VerdictFile)
    return () if found is None else tuple(found.verdicts)


def read_verdict_file(path: Path) -> tuple[Verdict, ...]:
    """Return the verdicts of a file by itself, e.g. a copy of another reader's.

    Raises
    ------
    DataError
        When it is not there or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path} is neither a run folder nor a file.", f"Name a run, or its {VERDICTS}.")
    found = read_run_file(path.parent, path.name, VerdictFile)
    return () if found is None else tuple(found.verdicts)


def keep_verdict(folder: Path, verdict: Verdict) -> tuple[Verdict, ...]:
    """Keep one verdict; see `keep_verdicts`."""
    return keep_verdicts(folder, [verdict])


def keep_verdicts(folder: Path, said: Iterable[Verdict], name: str = VERDICTS) -> tuple[Verdict, ...]:
    """Add verdicts, or replace those with their ids; one that says nothing is removed. Return all that are there.

    Safe beside the process that trains the run and beside other readers.

    Parameters
    ----------
    name
        Of the file, as of `read_verdicts`.

    Raises
    ------
    DataError
        When the folder is not a run folder but should be one, or the file is damaged: then nothing is written.
    RunHeldError
        When another process does not give the file free.
    DiskError
        When the folder cannot be written to.
    """

    newest = {verdict.id: verdict for verdict in said}

    def change(verdicts: tuple[Verdict, ...]) -> list[Verdict]:
        known = {verdict.id: verdict for verdict in verdicts}
        return [verdict for verdict in (known | newest).values() if not verdict.empty]

    return _rewrite(folder, name, change)


def _rewrite(
    folder: Path, name: str, change: Callable[[tuple[Verdict, ...]], Iterable[Verdict]]
) -> tuple[Verdict, ...]:
    if name == VERDICTS:
        require_run_folder(folder)
    lock = (folder / name).with_suffix(Path(LOCK).suffix)
    if lock.is_symlink():
        require_inside(lock, folder)
    with translate_disk_errors(lock):
        try:
            held = take_lock(lock, PATIENCE_S)
        except Timeout as error:
            raise RunHeldError(
                f"Another process is writing {name} of {folder.name}.", "Try again in a moment."
            ) from error
    try:
        verdicts = tuple(change(read_verdicts(folder, name)))
        write_verdicts(folder, verdicts, name)
    finally:
        if held is not None:
            held.release()
    return verdicts


def write_verdicts(folder: Path, verdicts: Iterable[Verdict], name: str = VERDICTS) -> None:
    """Write the file whole, into a folder that nobody else writes to."""
    plain = VerdictFile(verdicts=list(verdicts)).model_dump(mode="json")
    atomic_write(folder / name, json.dumps(with_checksum(plain)).encode())
