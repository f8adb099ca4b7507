"""One file of a run for others: what was done and what came out of it, without names, paths or voxels.

What goes in is built anew (`training.nameless`); then every text of it is searched for the names that were replaced
and the paths that were left out, and where one is still there nothing is written.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from segexplorer.core.atomic_files import translate_disk_errors
from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import Role, ValidationDone
from segexplorer.training.checkpoint import AVERAGE, META, WEIGHTS, Pointer, open_checkpoint, read_pointer
from segexplorer.training.copied_texts import copied_texts
from segexplorer.training.deidentification import (
    Names,
    nameless_events,
    nameless_experiment,
    nameless_meta,
    nameless_provenance,
)
from segexplorer.training.history import HISTORY, HistoryWriter, RunRecord, open_run
from segexplorer.training.identifiers import Identifiers
from segexplorer.training.sinks.record import EXPERIMENT, PROVENANCE, EventLog, MetricsTable
from segexplorer.training.vocabulary import machine_words, network_words, vocabulary

INSIDE = "run"
"""Folder in the archive; the run's own name may say too much."""
LONG_AGO = (1980, 1, 1, 0, 0, 0)


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
        The words of the user's that are in it.
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
    overwrite: bool = False,
) -> Shared:
    """Pack a run folder.

    Parameters
    ----------
    output
        The zip archive to write; whole or not there.
    weights
        Whether the network of the checkpoints `best` and `last` goes in, so that others can predict with it.
    predictions
        Whether the history goes in: predictions, probabilities and region maps of the two watched cases. They are
        voxels in the shape of a patient.
    number_classes
        Whether classes get numbers, too.
    overwrite
        Whether an archive of that name is replaced.

    Raises
    ------
    DataError
        When the folder is no run folder, or a class is called like a case, a person or a path.
    SpecError
        When the output is no name for an archive, or exists.
    """
    if output.suffix.lower() != ".zip":
        raise SpecError(f"{output} is no name for an archive.", "Let it end with .zip")
    if output.exists() and not overwrite:
        raise SpecError(f"{output} exists already.", "Name another file, or add --overwrite.")
    record = open_run(folder)
    names = Names(number_classes)
    with tempfile.TemporaryDirectory(prefix="segexplorer-share-") as place:
        copy = Path(place) / INSIDE
        copy.mkdir()
        _write_record(record, copy, names)
        if weights:
            _copy_checkpoints(record.folder / "checkpoints", copy / "checkpoints", names)
        if predictions:
            _write_history(record, copy, names)
        _refuse_names(copy, record, names)
        (copy / "README.txt").write_text(_readme(names, weights=weights, predictions=predictions))
        files = _pack(copy, output)
    return Shared(output, files, len(names.cases), tuple(names.classes.values()))


def _write_record(record: RunRecord, copy: Path, names: Names) -> None:
    """Write experiment, provenance, events and metrics."""
    attempts = _attempts(record)
    for attempt in attempts:
        for case in attempt.get("roles", {}):
            names.case(case)
    experiment = record.experiment
    nameless_experiment(experiment, names).save(copy / EXPERIMENT)
    (copy / PROVENANCE).write_text(json.dumps(nameless_provenance(attempts, names), indent=1))
    log, copies = EventLog(copy), list(nameless_events(record.events(), experiment, names))
    for event in copies:
        log.write(event)
    log.close()
    validations = [e for e in copies if isinstance(e, ValidationDone)]
    if validations:
        MetricsTable(copy, validations[:-1]).write(validations[-1])


def _attempts(record: RunRecord) -> list[dict[str, Any]]:
    provenance = record.folder / PROVENANCE
    return json.loads(provenance.read_text(encoding="utf-8")) if provenance.exists() else []


def _copy_checkpoints(source: Path, target: Path, names: Names) -> None:
    """Copy the weights of `best` and `last`; the state of the optimiser is for going on, which needs the data."""
    pointers: tuple[Pointer, ...] = ("best", "last")
    for pointer in pointers:
        if read_pointer(source, pointer) is None:
            continue
        checkpoint, _ = open_checkpoint(source, pointer)
        folder = target / checkpoint.folder.name
        if not folder.exists():
            folder.mkdir(parents=True)
            kept = [name for name in (WEIGHTS, AVERAGE) if (checkpoint.folder / name).exists()]
            for name in kept:
                shutil.copyfile(checkpoint.folder / name, folder / name)
            sums = {name: checkpoint.meta["sha256"][name] for name in kept}
            meta = {**nameless_meta(checkpoint.meta, names), "sha256": sums}
            (folder / META).write_text(json.dumps(meta, indent=1))
        (target / pointer).write_text(f"{folder.name}\n")


def _write_history(record: RunRecord, copy: Path, names: Names) -> None:
    writer = HistoryWriter(copy)
    for role in get_args(Role):
        for frame in record.watched(role):
            shown = frame.load()
            nameless = replace(
                shown,
                case=names.case(shown.case),
                class_names=tuple(map(names.class_, shown.class_names)),
                badge=names.badges(shown.badge),
            )
            writer.write(nameless, frame.attempt)


# ---- the second look


def _refuse_names(copy: Path, record: RunRecord, names: Names) -> None:
    """Look for what may name somebody in the names of classes and in every text of the copy.

    Raises
    ------
    DataError
        Naming what was found and where.
    """
    classes = list(names.classes.values())
    identifiers = Identifiers.of(
        record.experiment,
        record.folder,
        cases=names.cases,
        dropped=names.dropped,
        classes=classes,
        ours=vocabulary() | machine_words(_attempts(record)),
    )
    for name in classes:
        if why := identifiers.in_class(name):
            raise DataError(
                f"The class {name!r} may name somebody: {why}.",
                "Add --number-classes, which calls it class_1, class_2 ...; nothing was written.",
            )
    for file, text in copied_texts(copy):
        inside = file.relative_to(copy)
        for found, origin in identifiers.in_text(text):
            if file.suffix == ".safetensors" and found in _network_words(copy, record):
                continue
            raise DataError(
                f"{inside.as_posix()} of the copy would hold {found!r}, {origin.what}.",
                f"Nothing was written. {origin.remedy}{_LEAVE_OUT.get(inside.parts[0], '')}",
            )


_LEAVE_OUT = {
    "checkpoints": " Or leave the weights out: --no-weights.",
    HISTORY: " Or share it without --predictions.",
}


def _network_words(copy: Path, record: RunRecord) -> set[str]:
    """Return the words in the names of the weights of the run's network."""
    metas = [json.loads(path.read_text(encoding="utf-8")) for path in copy.glob(f"checkpoints/*/{META}")]
    shapes = {(meta["channels"], len(meta["classes"]["names"])) for meta in metas}
    return {word for shape in shapes for word in network_words(record.experiment, *shape)}


def _pack(copy: Path, output: Path) -> tuple[str, ...]:
    """Write the archive, without times and owners; return the names of its files."""
    part = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}.part")
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    with translate_disk_errors(output.absolute()):
        try:
            with zipfile.ZipFile(part, "x", zipfile.ZIP_DEFLATED) as archive:
                for file in files:
                    head = zipfile.ZipInfo(f"{INSIDE}/{file.relative_to(copy).as_posix()}", LONG_AGO)
                    head.compress_type, head.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                    with file.open("rb") as source, archive.open(head, "w", force_zip64=True) as target:
                        shutil.copyfileobj(source, target)
            os.replace(part, output)  # noqa: PTH105
        finally:
            part.unlink(missing_ok=True)
    return tuple(f"{INSIDE}/{file.relative_to(copy).as_posix()}" for file in files)


def _readme(names: Names, *, weights: bool, predictions: bool) -> str:
    """Return what whoever unpacks the archive should know."""
    held = [
        "the settings (experiment.yaml)",
        "versions, device, seed, split, a hash of every case",
    ]
    held += ["every step and validation (events.jsonl)", "the scores (metrics.csv)"]
    held += ["the network's weights"] * weights + [
        "predictions of the watched cases (history.zarr)"
    ] * predictions
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
