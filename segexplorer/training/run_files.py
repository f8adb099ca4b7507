"""Reading a run folder: one loader for all of its text files, each with a declared form and size.

A run folder may come from anybody. What is read here is a regular file inside the folder, no larger than its kind
can be, of the declared types, with texts that can be shown; everything else ends in one sentence. Files that are
replaced whole carry a checksum of their content (`core.untrusted_files`). It finds damage, not malice.

To read a further file of JSON, derive a model from `RunFile` and call `read_run_file`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from segexplorer.core.errors import DataError, shorten
from segexplorer.core.events import Count, Role
from segexplorer.core.untrusted_files import read_bytes, read_json, require_inside

RUN, EXPERIMENT, PROVENANCE = "run.json", "experiment.yaml", "provenance.json"
EVENTS, METRICS, CHECKPOINTS, HISTORY = "events.jsonl", "metrics.csv", "checkpoints", "history.zarr"
INDEX = "events.index"
"""What is in the event log, in columns; see `training.event_index`."""
KEPT = "kept"
"""In the folder of checkpoints: which of them are kept although no pointer names them."""
FLIGHT = "flight"
"""Folder of what the flight recorder kept; see `training.flight_recorder`."""
STATUS = "status.json"
"""Where the run is, in a few numbers; see `training.run_status`."""
FORMAT = 2
"""The format of run folders that is written and read now. Format 1 had no `run.json`; its settings, events and loss
states have other names."""

KiB, MiB, GiB = 2**10, 2**20, 2**30
LIMITS = {
    RUN: 64 * KiB,
    STATUS: 256 * KiB,
    EXPERIMENT: 4 * MiB,
    PROVENANCE: 32 * MiB,
    METRICS: 256 * MiB,
    EVENTS: GiB,
    INDEX: GiB,
    "meta.json": 16 * MiB,
    "zarr.json": MiB,
    "last": KiB,
    "previous": KiB,
    "best": KiB,
    KEPT: MiB,
}
"""Largest size of each file, by name. A run of 1000 epochs with 250 steps writes about 110 MiB of events."""
OTHER_LIMIT = 16 * MiB
"""Largest size of a file of JSON that is not in `LIMITS`."""
MAX_LINE = 64 * MiB
"""Longest line of the event log: a validation of some ten thousand classes in cases."""
MAX_TENSORS = 64 * GiB
"""Largest file of weights or of an optimiser's state."""
COPY_AGAIN = "Copy the whole run folder again."

Name = Annotated[str, StringConstraints(max_length=4096)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

Millimetres = Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)]
Voxels = Annotated[int, Field(ge=0, le=8192)]


class RunFile(BaseModel):
    """Base of the typed models; what a later version adds is kept as it is."""

    model_config = ConfigDict(frozen=True, extra="allow")
    # pydantic's own annotation is not the dict that it asks for while TYPE_CHECKING is set, as Sphinx does
    __pydantic_extra__: dict[str, Any] = Field(init=False)


class FormatFile(RunFile):
    """`run.json`."""

    format: Count


class AttemptFacts(RunFile):
    """What one attempt ran on, an entry of `provenance.json`; versions, device and the like are kept beside it.

    Attributes
    ----------
    roles, data
        Case -> its role; case -> hash of its files. None where the attempt did not get so far.
    """

    attempt: Count
    versions: dict[Name, Name] = {}
    platform: Name = ""
    precision: Name = ""
    seed: int | None = None
    roles: dict[Name, Role] | None = None
    data: dict[Name, Name] | None = None


class PositionFacts(RunFile):
    """Where training was at a checkpoint."""

    epoch: Count = 1
    index: Count = 0
    step: Count = 0


class SumsFacts(RunFile):
    """Sums over the epoch in hand at a checkpoint."""

    samples: Count = 0
    loss: float = 0.0
    values: dict[Name, float] = {}
    weights: dict[Name, float] = {}


class ClassFacts(RunFile):
    """Classes as `ClassMap.plain` writes them."""

    names: Annotated[list[Name], Field(min_length=1, max_length=254)]
    values: list[Annotated[list[int], Field(min_length=1)]]
    other_labels: Literal["background", "ignored"]
    ignored: list[int] = []
    overlapping: bool = False

    @model_validator(mode="after")
    def _one_group_each(self) -> Self:
        if len(self.names) != len(self.values):
            raise ValueError("names and values differ in number")
        return self


class PreprocessingFacts(RunFile):
    """Fitted preprocessing as `FittedPreprocessing.plain` writes it; its rules are validated by their registry."""

    intensities: Annotated[list[Any], Field(min_length=1, max_length=1000)]
    numbers: list[dict[Name, Annotated[float, Field(allow_inf_nan=False)]]]
    spacing: tuple[Millimetres, Millimetres, Millimetres] | None = None
    resize: tuple[Voxels, Voxels, Voxels] | None = None
    difference: bool = False
    crop: dict[Name, Any] = {}


class CheckpointMeta(RunFile):
    """`meta.json` of a checkpoint. Only `step` and the checksums are always there."""

    step: Count
    sha256: dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.(safetensors|pt)$")], Sha256
    ]
    position: PositionFacts | None = None
    sums: SumsFacts | None = None
    best: float | None = None
    experiment: dict[str, Any] | None = None
    classes: ClassFacts | None = None
    preprocessing: PreprocessingFacts | None = None
    channels: Annotated[int, Field(ge=1, le=1000)] | None = None
    patch: Annotated[list[Annotated[int, Field(ge=1, le=8192)]], Field(min_length=3, max_length=3)] | None = (
        None
    )
    badges: list[Name] = []


Model = TypeVar("Model", bound=RunFile)


# ---- the folder


def require_run_folder(folder: Path) -> None:
    """Check that a folder holds a run in the present format, and that none of its parts leads elsewhere.

    Raises
    ------
    DataError
        When it is not a run folder, or was written by an older or newer version.
    """
    if not (folder / EXPERIMENT).is_file():
        raise DataError(f"{folder} is not a run folder.", f"Choose a folder that contains {EXPERIMENT}.")
    for part in (RUN, EXPERIMENT, PROVENANCE, STATUS, EVENTS, INDEX, METRICS, CHECKPOINTS, HISTORY, FLIGHT):
        _require_part(folder, part, is_folder=part in (CHECKPOINTS, HISTORY, FLIGHT))
    written = read_run_file(folder, RUN, FormatFile)
    found = written.format if written is not None else 1
    if found > FORMAT:
        raise DataError(
            f"The run folder {folder} was written by a newer version of segexplorer (format {found}; this version "
            f"reads format {FORMAT}).",
            "Install the newest version of segexplorer.",
        )
    if found < FORMAT:
        raise DataError(
            f"The run folder {folder} was written by an older version of segexplorer (format {found}, not "
            f"{FORMAT}).",
            "Open it with that version, or train the experiment again.",
        )


def _require_part(folder: Path, name: str, *, is_folder: bool) -> None:
    """Check that a part of a run folder, if it is there, is what it should be: writers would follow a link, too.

    Raises
    ------
    DataError
        Naming the part.
    """
    path = folder / name
    if not os.path.lexists(path):
        return
    if path.is_symlink():
        with contextlib.suppress(FileNotFoundError):
            require_inside(path, folder)
    if not (path.is_dir() if is_folder else path.is_file()):
        what = "a folder" if is_folder else "a regular file"
        raise DataError(f"{name} in {folder.name} is not {what}.", COPY_AGAIN)


def read_run_file(folder: Path, name: str, model: type[Model]) -> Model | None:
    """Return a JSON file of a run folder as its model, None where there is none.

    Parameters
    ----------
    name
        Its path in the folder, e.g. "run.json" or "checkpoints/step_10/meta.json".

    Raises
    ------
    DataError
        When it is not a regular file of the folder, too large, damaged, or holds something else than declared.
    """
    found = _document(folder, name)
    return None if found is None else parsed(found, model, name)


def parsed(found: Any, model: type[Model], name: str) -> Model:
    """Return a document as its model.

    Raises
    ------
    DataError
        Naming the first field that is missing or holds something else.
    """
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(shorten(str(part)) for part in first["loc"][:4])
        what = f" ({place}: {shorten(first['msg'], 100)})" if place else ""
        raise DataError(f"{name} is damaged{what}.", COPY_AGAIN) from error


def read_provenance(folder: Path) -> list[AttemptFacts]:
    """Return what each attempt ran on, in order; empty before the first.

    Raises
    ------
    DataError
        As `read_run_file`.
    """
    found = _document(folder, PROVENANCE)
    if found is None:
        return []
    if not isinstance(found, list):
        raise DataError(f"{PROVENANCE} is damaged: it is not a list of attempts.", COPY_AGAIN)
    return [parsed(entry, AttemptFacts, PROVENANCE) for entry in found]


def _document(folder: Path, name: str) -> Any:
    path = folder / name
    try:
        return read_json(path, LIMITS.get(path.name, OTHER_LIMIT), within=folder)
    except FileNotFoundError:
        return None


def read_pointer(root: Path, pointer: str) -> str | None:
    """Return the folder name that a pointer file in `root` ("checkpoints") holds; None if missing or damaged."""
    try:
        content = read_bytes(root / pointer, LIMITS[pointer], within=root)
    except FileNotFoundError:
        return None
    name = content.decode("ascii", "replace").strip()
    return name if _CHECKPOINT.fullmatch(name) else None


_CHECKPOINT = re.compile(r"step_\d{1,16}(\.\d{1,9})?", re.ASCII)


def read_kept(root: Path) -> dict[str, int]:
    """Return the checkpoints in `root` ("checkpoints") that are kept for forks, with the number of each.

    Lines of the file `kept` that say something else, or name what is not there, are left out.
    """
    try:
        content = read_bytes(root / KEPT, LIMITS[KEPT], within=root)
    except FileNotFoundError:
        return {}
    found: dict[str, int] = {}
    for line in content.decode("ascii", "replace").splitlines():
        name, _, number = line.partition(" ")
        if (
            _CHECKPOINT.fullmatch(name)
            and re.fullmatch(r"\d{1,9}", number, re.ASCII)
            and (root / name).is_dir()
        ):
            found[name] = int(number)
    return found


def checkpoint_names(root: Path) -> list[str]:
    """Return the names of all checkpoints in `root` ("checkpoints"), whole or not, in the order of their steps."""
    if not root.is_dir():
        return []
    names = [p.name for p in root.iterdir() if _CHECKPOINT.fullmatch(p.name)]
    return sorted(names, key=lambda name: tuple(map(int, name.removeprefix("step_").split("."))))


# ---- what a checkpoint promises


def checkpoint_meta(root: Path, name: str) -> dict[str, Any]:
    """Return the verified `meta.json` of a checkpoint in `root` ("checkpoints") as plain data.

    Raises
    ------
    DataError
        When it is missing, damaged, or holds something else.
    """
    found = _document(root, f"{name}/meta.json")
    if not isinstance(found, dict):
        raise DataError(f"meta.json of {name} is missing or damaged.", COPY_AGAIN)
    parsed(found, CheckpointMeta, f"meta.json of {name}")
    return found


def require_keys(meta: Mapping[str, Any], keys: tuple[str, ...], name: str) -> None:
    """Check that a checkpoint holds what is needed of it.

    Raises
    ------
    DataError
        Naming what is missing.
    """
    missing = [key for key in keys if meta.get(key) is None]
    if missing:
        raise DataError(f"meta.json of {name} is damaged: it lacks {', '.join(missing)}.", COPY_AGAIN)
