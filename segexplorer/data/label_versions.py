"""Corrected labels as new versions: numbered files beside the original, which nothing ever overwrites.

The versions of `labels/liver.nii.gz` are `labels/label_versions/liver_v2.nii.gz`, `_v3` and so on, in a folder of
their own, so that no listing takes them for further cases. Beside each is `liver_v2.json`, its provenance: who made
it, when, from which file with which checksum, and because of what. A version counts once its provenance is there.
A data set uses the newest ones only where its setting `label_versions` asks for them.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from segexplorer.core.atomic_files import atomic_write, translate_disk_errors
from segexplorer.core.errors import DataError
from segexplorer.core.file_locks import take_lock
from segexplorer.core.untrusted_files import read_json, sha256_of, with_checksum
from segexplorer.data.formats.registry import readable_suffixes, suffix_of, writable_suffixes
from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume

FOLDER, LOCK = "label_versions", ".lock"
Which = Literal["original", "newest"]
LARGEST = 16 * 2**30
"""Bytes of a label file, at most."""
_MOST_PROVENANCE = 2**20
_VERSION = re.compile(r"_v(\d{1,6})$")
_OTHER_SUFFIX = ".nii.gz"

_Text = Annotated[str, StringConstraints(max_length=4096)]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class LabelVersion(BaseModel):
    """The provenance of one version.

    Attributes
    ----------
    file, number, sha256
        Name of the file in the folder of the versions, its number, and the checksum of its content.
    parent, parent_sha256
        Name and checksum of the file that was corrected: the original, or an earlier version.
    original
        Name of the file that all versions began with.
    when, by
        Time (UTC, ISO 8601) and the name under which somebody was logged in.
    voxels_changed
        How many voxels have another value than in the parent.
    reason
        Why, in facts and words: case, run, step, kind of error, note.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    file: _Text
    number: Annotated[int, Field(ge=2, lt=10**6)]
    sha256: _Sha256
    parent: _Text
    parent_sha256: _Sha256
    original: _Text
    when: _Text
    by: _Text
    voxels_changed: Annotated[int, Field(ge=0)]
    reason: dict[_Text, _Text] = Field(default_factory=dict)


def versions_folder(label: Path) -> Path:
    """Return where the versions of a label are; of a version, the folder that it is in."""
    return label.parent if label.parent.name == FOLDER else label.parent / FOLDER


def _parts(label: Path, *, version: bool | None = None) -> tuple[str, int, str]:
    """Return a file name without version and suffix, its version (1 for an original), and its suffix.

    Parameters
    ----------
    version
        Whether it is a version; None: what is in a folder of versions.
    """
    version = label.parent.name == FOLDER if version is None else version
    ending = suffix_of(label)
    known = ending in (*readable_suffixes(), *writable_suffixes())
    suffix = label.name[len(label.name) - len(ending) :] if known and ending else label.suffix
    stem = label.name[: len(label.name) - len(suffix)] if suffix else label.name
    found = _VERSION.search(stem) if version else None
    return (stem, 1, suffix) if found is None else (stem[: found.start()], int(found[1]), suffix)


def next_version(label: Path, folder: Path | None = None) -> Path:
    """Return the first free name for a new version of a label, with a suffix that can be written.

    Parameters
    ----------
    folder
        Where it is to be; where the versions of the label are if none is given.

    Raises
    ------
    DataError
        When the label has no name.
    """
    base, _, suffix = _parts(label)
    if not base:
        raise DataError(f"{label} has no name.", "Save the label under a name of your own.")
    if suffix.lower() not in writable_suffixes() or suffix.lower() == ".dcm":  # a SEG refers to its series
        suffix = _OTHER_SUFFIX
    folder = versions_folder(label) if folder is None else folder
    there = folder.glob(f"{_escaped(base)}_v*") if folder.is_dir() else ()
    taken = [_parts(path, version=True)[1] for path in there]
    number = max([1, *taken]) + 1
    return folder / f"{base}_v{number}{suffix}"


def _escaped(base: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", base)


def versions_of(label: Path) -> tuple[LabelVersion, ...]:
    """Return the versions of a label, the oldest first; empty where there are none.

    Only names and provenance are read, not the voxels.

    Raises
    ------
    DataError
        When a provenance is damaged, or the file that it describes is gone.
    """
    folder, (base, _, _) = versions_folder(label), _parts(label)
    if not folder.is_dir():
        return ()
    found = []
    for path in folder.glob(f"{_escaped(base)}_v*.json"):
        if _VERSION.sub("", path.stem) != base:
            continue
        found.append(_read(path, folder))
    return tuple(sorted(found, key=lambda version: version.number))


def _read(path: Path, folder: Path) -> LabelVersion:
    try:
        version = LabelVersion.model_validate(read_json(path, _MOST_PROVENANCE, within=folder))
    except ValidationError as error:
        raise DataError(
            f"{path.name} does not say where the label comes from.", "Move it and its label elsewhere."
        ) from error
    if Path(version.file).name != version.file or not (folder / version.file).is_file():
        raise DataError(
            f"{path.name} is of {Path(version.file).name}, which is not there.",
            "Copy the whole folder again.",
        )
    return version


def newest_version(label: Path) -> tuple[Path, LabelVersion | None]:
    """Return the newest version of a label; the label itself and None where there is none.

    Raises
    ------
    DataError
        As `versions_of`.
    """
    versions = versions_of(label)
    return (versions_folder(label) / versions[-1].file, versions[-1]) if versions else (label, None)


def save_version(
    label: Path,
    corrected: Volume,
    *,
    voxels_changed: int,
    names: Mapping[int, str] | None = None,
    reason: Mapping[str, str] | None = None,
    by: str | None = None,
) -> tuple[Path, LabelVersion]:
    """Save a corrected label as a new version, with its provenance; nothing that is there is touched.

    Parameters
    ----------
    label
        The file that was corrected: an original or a version.
    corrected
        The label as it is to be.
    voxels_changed
        How many of its voxels have another value than before.
    names
        Label value -> name, for formats that have a place for them.
    reason
        Why it was corrected.
    by
        Who did it; the name under which somebody is logged in where none is given.

    Raises
    ------
    DataError
        When the label is not one file, or nothing was changed.
    DiskError
        When the folder of the label cannot be written to.
    """
    if not label.is_file():
        raise DataError(
            f"The label {label.name} is not one file, so it has no versions.",
            "Save it as one file first, and list that one.",
        )
    if voxels_changed == 0:
        raise DataError("No voxel of the label was changed.", "Paint, then save.")
    folder = versions_folder(label)
    with translate_disk_errors(folder):
        folder.mkdir(exist_ok=True)
        with take_lock(folder / LOCK, 60) or contextlib.nullcontext():
            path = next_version(label)
            parent = sha256_of(label, LARGEST)
            save_volume(corrected, path, integer=True, names=names)
            base, _, _ = _parts(label)
            version = LabelVersion(
                file=path.name,
                number=_parts(path)[1],
                sha256=sha256_of(path, LARGEST),
                parent=label.name,
                parent_sha256=parent,
                original=_original(label, base),
                when=datetime.now(UTC).isoformat(timespec="seconds"),
                by=_user() if by is None else by,
                voxels_changed=voxels_changed,
                reason=dict(reason or {}),
            )
            plain = with_checksum(version.model_dump(mode="json"))
            atomic_write(folder / f"{base}_v{version.number}.json", json.dumps(plain, indent=1).encode())
    return path, version


def _original(label: Path, base: str) -> str:
    if label.parent.name != FOLDER:
        return label.name
    return next((version.original for version in versions_of(label)), base)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no entry in the list of users
        return "unknown"
