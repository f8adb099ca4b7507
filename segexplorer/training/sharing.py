"""Pack a run for others: what was done and what came out of it, without names, paths or voxels.

Each file of the archive is built anew (`training.deidentification`); only the tensors of checkpoints are
copied. Other files of the run folder are never copied.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, get_args

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, SpecError, shorten
from segexplorer.core.events import Role, ValidationDone
from segexplorer.core.untrusted_files import sha256_of, with_checksum, with_checksum_comment
from segexplorer.training.checkpoint import AVERAGE, META, WEIGHTS, Pointer, open_checkpoint
from segexplorer.training.deidentification import (
    Pseudonyms,
    deidentify_events,
    deidentify_experiment,
    deidentify_meta,
    deidentify_provenance,
    deidentify_verdict,
    identifying_part,
    own_badges,
    own_sentence,
    paths_in,
)
from segexplorer.training.history import HistoryWriter, RunRecord, open_run, write_format
from segexplorer.training.recorded import RECORDED, RecordedRun
from segexplorer.training.run_files import (
    COPY_AGAIN,
    EXPERIMENT,
    MAX_TENSORS,
    PROVENANCE,
    read_pointer,
    read_provenance,
)
from segexplorer.training.sinks.record import EventLog, MetricsTable
from segexplorer.training.step_columns import events_of
from segexplorer.training.verdicts import VERDICTS, read_verdicts, write_verdicts

INSIDE = "run"
"""Folder in the archive; the run's own name may identify somebody."""
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every file in the archive, the earliest that a zip can hold."""


@dataclass(frozen=True)
class Shared:
    """What was packed, for people to check before they send it.

    Attributes
    ----------
    path
        The archive.
    files
        Names in it.
    cases
        How many cases were numbered.
    classes
        Names of the classes, the only words of the user's in the archive.
    """

    path: Path
    files: tuple[str, ...]
    cases: int
    classes: tuple[str, ...]


def share_run(
    folder: str | Path,
    output: Path,
    *,
    weights: bool = True,
    predictions: bool = False,
    number_classes: bool = False,
    notes: bool = False,
    overwrite: bool = False,
) -> Shared:
    """Pack a run folder.

    Parameters
    ----------
    output
        The zip archive to write; it appears only once it is complete.
    weights
        Whether to include the network of the checkpoints `best` and `last`, so that others can predict with it.
    predictions
        Whether to include the history: predictions, probabilities and region maps of the two watched cases. These
        voxels have the shape of a patient.
    number_classes
        Whether classes get numbers as well.
    notes
        Whether to include the notes of verdicts on errors, which are free text.
    overwrite
        Whether to replace an archive of that name.

    Raises
    ------
    DataError
        When the folder is not a run folder, or the name of a class may identify somebody.
    SpecError
        When the output does not end in .zip, or exists.
    """
    if output.suffix.lower() != ".zip":
        raise SpecError(f"{output} is not the name of a zip archive.", "Choose a name that ends with .zip.")
    if output.exists() and not overwrite:
        raise SpecError(f"{output} already exists.", "Choose another file name, or add --overwrite.")
    record = open_run(folder)
    names = Pseudonyms(number_classes)
    with tempfile.TemporaryDirectory(prefix="segexplorer-share-") as place:
        copy = Path(place) / INSIDE
        copy.mkdir()
        _write_record(record, copy, names)
        if weights:
            _copy_checkpoints(record.folder / "checkpoints", copy / "checkpoints", names)
        if predictions:
            _write_history(record, copy, names)
        _write_verdicts(record, copy, names, notes=notes, voxels=predictions)
        _refuse_identifying_classes(record, names)
        (copy / "README.txt").write_text(
            _readme(names, copy, weights=weights, predictions=predictions, notes=notes)
        )
        files = _pack(copy, output)
    return Shared(output, files, len(names.cases), tuple(names.classes.values()))


def _write_record(record: RunRecord, copy: Path, names: Pseudonyms) -> None:
    """Write experiment, provenance, events and metrics."""
    attempts = _attempts(record)
    for attempt in attempts:
        for case in attempt.get("roles") or {}:
            names.case(case)
    experiment = record.experiment
    plain = deidentify_experiment(experiment, names).to_yaml()
    (copy / EXPERIMENT).write_text(with_checksum_comment(plain), encoding="utf-8")
    write_format(copy)
    if record.recorded is not None:  # what it says are words of the user's
        own = RecordedRun(trainer="another program")
        (copy / RECORDED).write_text(json.dumps(with_checksum(own.model_dump())))
    facts = [with_checksum(entry) for entry in deidentify_provenance(attempts, names)]
    (copy / PROVENANCE).write_text(json.dumps(facts, indent=1))
    foreign = record.recorded is not None
    log = EventLog(copy)
    copies = deidentify_events(record.events(), experiment, names, recorded=foreign)
    for event in copies:
        log.write(event)
    log.close()
    validations = events_of(copies, ValidationDone)
    if validations:
        MetricsTable(copy, validations[:-1]).write(validations[-1])


def _attempts(record: RunRecord) -> list[dict[str, Any]]:
    return [attempt.model_dump(exclude_unset=True) for attempt in read_provenance(record.folder)]


def _copy_checkpoints(source: Path, target: Path, names: Pseudonyms) -> None:
    """Copy the weights of `best` and `last`, without the optimiser's state, which only training further needs.

    Of a file of tensors, the tensors and their names are copied: these are names of layers, which code declares.
    Such a file has a place for texts besides, which is not copied.
    """
    pointers: tuple[Pointer, ...] = ("best", "last")
    for pointer in pointers:
        if read_pointer(source, pointer) is None:
            continue
        checkpoint, _ = open_checkpoint(source, pointer)
        folder = target / (own_sentence(checkpoint.folder.name) or f"step_{checkpoint.step}")
        if not folder.exists():
            folder.mkdir(parents=True)
            kept = [name for name in (WEIGHTS, AVERAGE) if name in checkpoint.meta["sha256"]]
            for name in kept:
                _copy_tensors(checkpoint.folder / name, folder / name)
            sums = {name: sha256_of(folder / name, MAX_TENSORS) for name in kept}
            meta = {**deidentify_meta(checkpoint.meta, names), "sha256": sums}
            (folder / META).write_text(json.dumps(with_checksum(meta), indent=1))
        (target / pointer).write_text(f"{folder.name}\n")


def _copy_tensors(source: Path, target: Path) -> None:
    """Write the tensors of a file anew, without its metadata.

    Raises
    ------
    DataError
        When it is damaged, or a tensor has a name that no layer has.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    try:
        tensors = load_file(source)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise DataError(f"{source.name} of {source.parent.name} is damaged.", COPY_AGAIN) from error
    for name in tensors:
        if not re.fullmatch(r"[A-Za-z0-9_.]{1,300}", name, re.ASCII):
            raise DataError(
                f"{source.name} of {source.parent.name} holds a tensor called {shorten(name)}, as no layer is.",
                "Share the run with --no-weights.",
            )
    save_file(tensors, target, {"format": "pt"})


def _write_history(record: RunRecord, copy: Path, names: Pseudonyms) -> None:
    writer = HistoryWriter(copy)
    for role in get_args(Role):
        for frame in record.watched(role):
            shown = frame.load()
            copied = replace(
                shown,
                case=names.case(shown.case),
                class_names=tuple(map(names.class_, shown.class_names)),
                badge=own_badges(shown.badge),
            )
            writer.write(copied, frame.attempt)


def _write_verdicts(record: RunRecord, copy: Path, names: Pseudonyms, *, notes: bool, voxels: bool) -> None:
    """Write what readers said of errors; their notes and the voxels of the errors only where that is wanted."""
    kept = [
        deidentify_verdict(verdict, names, note=notes, voxels=voxels)
        for verdict in read_verdicts(record.folder)
    ]
    if kept:
        write_verdicts(copy, kept)


def _refuse_identifying_classes(record: RunRecord, names: Pseudonyms) -> None:
    """Refuse a class whose name may identify somebody.

    Raises
    ------
    DataError
        Saying which class, and why.
    """
    folders = [*paths_in(record.experiment), str(record.folder.resolve())]
    for name in names.classes.values() if not names.number_classes else ():
        if why := identifying_part(name, names.cases, folders):
            raise DataError(
                f"The class {name!r} may identify somebody: {why}.",
                "Add --number-classes, which calls it class_1, class_2 and so on; nothing was written.",
            )


def _pack(copy: Path, output: Path) -> tuple[str, ...]:
    """Write the archive, without times and owners; return the names of its files."""
    files = sorted(path for path in copy.rglob("*") if path.is_file())

    def write(packed: IO[bytes]) -> None:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                head = zipfile.ZipInfo(f"{INSIDE}/{file.relative_to(copy).as_posix()}", ZIP_EPOCH)
                head.compress_type, head.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                with file.open("rb") as source, archive.open(head, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target)

    atomic_write(output.absolute(), write)
    return tuple(f"{INSIDE}/{file.relative_to(copy).as_posix()}" for file in files)


# ---- unpacking an archive of somebody else's

MAX_MEMBERS = 500_000
"""Most files in an archive: a run with all predictions has about ten files for each of its frames."""
MAX_UNPACKED = 64 * 2**30
"""Most bytes that an archive may unpack to."""
MAX_RATIO = 1032
"""The highest ratio that deflate reaches; a member that claims more is a bomb."""
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    KeyError,
    struct.error,
)
"""What reading a damaged archive raises."""


@contextmanager
def unpacked_run(path: str | Path) -> Iterator[Path]:
    """Yield a run folder: the folder itself, or what an archive that `share_run` packed holds, while it is needed.

    Raises
    ------
    DataError
        When it is an archive that `share_run` has not packed, or a damaged one; see `unpack_run`.
    """
    source = Path(path)
    if not (source.suffix.lower() == ".zip" and source.is_file()):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="segexplorer-shared-") as place:
        unpack_run(source, Path(place))
        yield Path(place) / INSIDE


def unpack_run(archive: Path, target: Path) -> None:
    """Unpack an archive that `share_run` packed into an empty folder; nothing is written outside of it.

    Raises
    ------
    DataError
        When it is damaged, encrypted or a bomb, holds anything but plain files of one run folder, or points out of
        the folder.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            members = packed.infolist()
            _require_harmless(members, archive.name)
            for member in members:
                file = target.joinpath(*PurePosixPath(member.filename).parts)
                file.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as inside, file.open("xb") as out:
                    _copy(inside, out, member.file_size, archive.name)
    except DataError:
        raise
    except (*_BROKEN, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(
            f"{archive.name} is not a whole zip archive.", "Get it again from its owner."
        ) from error


def _require_harmless(members: Sequence[zipfile.ZipInfo], name: str) -> None:
    """Check the table of contents before anything is unpacked; see `unpack_run`."""
    if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > MAX_UNPACKED:
        raise DataError(f"{name} holds more than a shared run can hold.", _ASK_AGAIN)
    seen: set[str] = set()
    for member in members:
        parts = PurePosixPath(member.filename).parts
        plain = re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+", member.filename, re.ASCII)
        if not plain or parts[0] != INSIDE or any(part.strip(".") == "" for part in parts):
            raise DataError(f"{name} is no run that `segexplorer share` packed.", "Choose another archive.")
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise DataError(f"{name} holds something that is no file.", _ASK_AGAIN)
        if member.flag_bits & 1:
            raise DataError(f"{name} is encrypted.", "Unpack it with its password and open the folder.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{name} is packed in a way that `segexplorer share` does not use.", _ASK_AGAIN)
        if member.file_size > MAX_RATIO * max(1, member.compress_size):
            raise DataError(
                f"{name} holds a file that claims to unpack to much more than it can.", _ASK_AGAIN
            )
        if member.filename.lower() in seen:
            raise DataError(f"{name} holds a file twice.", _ASK_AGAIN)
        seen.add(member.filename.lower())
    if f"{INSIDE}/{EXPERIMENT}" not in seen:
        raise DataError(f"{name} is no run that `segexplorer share` packed.", "Choose another archive.")


_ASK_AGAIN = "Do not use it if you do not know where it comes from."


def _copy(source: IO[bytes], target: IO[bytes], size: int, name: str) -> None:
    """Copy a member, whose end is where the table of contents says; `zipfile` compares the checksum there."""
    left = size
    while block := source.read(min(2**20, left + 1)):
        left -= len(block)
        if left < 0:
            break
        target.write(block)
    if left:
        raise DataError(f"{name} holds a file of another size than it claims.", _ASK_AGAIN)


def _readme(names: Pseudonyms, copy: Path, *, weights: bool, predictions: bool, notes: bool) -> str:
    """Return what whoever unpacks the archive should know about it."""
    held = [
        "the settings (experiment.yaml)",
        "versions, device, seed, split, a hash of every case",
    ]
    held += ["every step and validation (events.jsonl)", "the scores (metrics.csv)"]
    held += ["the network's weights"] * weights + [
        "predictions of the watched cases (history.zarr)"
    ] * predictions
    if (copy / VERDICTS).exists():
        held.append(f"verdicts on errors{' with their notes' if notes else ''} ({VERDICTS})")
    left = [
        "images and labels",
        "paths",
        "names of cases, which are numbered",
        "warnings and messages",
        "dates",
    ]
    left += [] if weights else ["weights"]
    left += [] if predictions else ["predictions"]
    return (
        "A training run of segexplorer, packed by `segexplorer share`. For research and teaching.\n\n"
        f"In it: {'; '.join(held)}.\n"
        f"Left out: {'; '.join(left)}.\n"
        f"Classes: {', '.join(names.classes.values())}.\n\n"
        "segexplorer replay run                      shows it as it went\n"
        "segexplorer compare run ANOTHER_RUN         compares it case by case\n"
        + ("segexplorer predict run IMAGE -o OUT        segments an image with it\n" if weights else "")
    )
