"""A data set with corrected labels, as a new version: nothing of the old one is changed, and what was done is kept.

`relabel` writes a folder with the corrected labels, an experiment that trains on all cases of a run with them, and
`relabelled.json`, which says of each label what it was before. The experiment starts from the weights of the run
and keeps its split, so that what was held out stays held out.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

import segexplorer
from segexplorer.core.atomic_files import atomic_write, translate_disk_errors
from segexplorer.core.errors import DataError, SpecError, did_you_mean
from segexplorer.core.events import Count
from segexplorer.core.spec import replace_values
from segexplorer.core.untrusted_files import with_checksum
from segexplorer.data.case import Case, CaseRef, ClassMap, Source
from segexplorer.data.datasets.lists import Pairs
from segexplorer.data.io import save_volume
from segexplorer.data.label_versions import next_version, versions_folder
from segexplorer.data.results.base import labels_in
from segexplorer.data.volume import Volume
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from segexplorer.training.recorded import require_own
from segexplorer.training.run_files import EXPERIMENT, Name, RunFile, Sha256, read_provenance
from segexplorer.training.verdicts import read_verdicts

RELABELLED = "relabelled.json"
LABELS, IMAGES = "labels", "images"
FINER = 0.1
"""Factor on the learning rate of the run: its weights are near a minimum already."""
SHORTER = 4
"""A fourth of the epochs of the run are trained, unless told otherwise."""


class RelabelledCase(RunFile):
    """One corrected label.

    Attributes
    ----------
    case
        Whose label it is.
    label
        Its file in the new version.
    before_sha256, after_sha256
        Of the file that it replaces (None where that label has no file) and of the new one.
    changed_voxels, added_ml, removed_ml
        How much was changed, on the grid of the image, by class.
    """

    case: Name
    label: Name
    before_sha256: Sha256 | None = None
    after_sha256: Sha256
    changed_voxels: Count
    added_ml: dict[Name, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    removed_ml: dict[Name, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)


class RelabelledFile(RunFile):
    """`relabelled.json`: which labels differ from those of a run, and when they were put together."""

    run: Name
    run_experiment_sha256: Sha256
    version: Name
    when: Annotated[float, Field(ge=0)]
    cases: list[RelabelledCase]


@dataclass(frozen=True)
class Relabelled:
    """What was written.

    Attributes
    ----------
    folder, experiment
        The new version, and the file that trains on it.
    cases
        The labels that differ.
    unchanged
        Cases whose label was given and is the old one.
    """

    folder: Path
    experiment: Path
    cases: tuple[RelabelledCase, ...]
    unchanged: tuple[str, ...]


def corrected_labels(run: Path, place: str = "") -> dict[str, Source]:
    """Return case -> corrected label: those in a folder or a pattern with {case}, else those that readers painted.

    A label that a reader painted is named by a verdict with its checksum, and lies beside the one it corrects.

    Raises
    ------
    DataError
        When there is none.
    """
    if place:
        return labels_in(place)
    refs = {ref.id: ref for ref in open_run(run).experiment.data.cases()}
    found: dict[str, Source] = {}
    for verdict in read_verdicts(run):
        if not verdict.corrected or verdict.case not in refs:
            continue
        label = refs[verdict.case].label
        beside = [versions_folder(label), label.parent] if isinstance(label, Path) else []
        name = Path(verdict.corrected).name
        for path in (folder / name for folder in (*beside, run / LABELS)):
            if path.is_file() and verdict.corrected_sha256 in (None, _sha256(path)):
                found[verdict.case] = path
    if not found:
        raise DataError(
            f"No verdict of {run.name} names a corrected label that is here.",
            "Correct labels in the tab Inspect, or name their folder: --labels DIR.",
        )
    return found


def relabel(
    run: Path,
    corrected: Mapping[str, Source],
    output: Path,
    *,
    epochs: int | None = None,
    learning_rate: float | None = None,
    on_case: Callable[[str, int, int], None] | None = None,
) -> Relabelled:
    """Write a new version of the data set of a run, and an experiment that goes on from its weights.

    Parameters
    ----------
    corrected
        Case -> label; other cases keep theirs.
    output
        A folder that is not there yet, or is empty.
    epochs, learning_rate
        Of the experiment; None: a fourth of the run's epochs, and a tenth of its learning rate.
    on_case
        Called with a case, and how many of how many it is.

    Raises
    ------
    DataError
        When a case is not in the data set, a label does not fit its image or holds unknown values, none differs
        from the old one, or the folder is not empty.
    SpecError
        When another program trained the run.
    """
    require_own(run)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"{output} exists already and is not empty.", "Name another folder.")
    record = open_run(run)
    experiment = record.experiment
    data = experiment.data
    refs = {ref.id: ref for ref in data.cases()}
    for case in corrected:
        if case not in refs:
            raise DataError(f"The data set of {run.name} has no case {case}.", did_you_mean(case, list(refs)))
    classes = data.class_map()
    with translate_disk_errors(output):
        (output / LABELS).mkdir(parents=True, exist_ok=True)
    changed: list[RelabelledCase] = []
    unchanged: list[str] = []
    for number, (case, source) in enumerate(sorted(corrected.items()), start=1):
        if on_case is not None:
            on_case(case, number, len(corrected))
        found = _correct(refs[case], source, classes, output)
        if found is None:
            unchanged.append(case)
        else:
            changed.append(found)
    if not changed:
        raise DataError(
            "None of these labels differs from the one that the run was trained with.",
            "Save the corrected labels first.",
        )
    new = {one.case: (output / one.label).absolute() for one in changed}
    pairs = _pairs(refs, new, _roles(run), output)
    made = fine_tuning(experiment, run, data_with(experiment, pairs), epochs, learning_rate)
    atomic_write(output / EXPERIMENT, made.to_yaml().encode())
    about = RelabelledFile(
        run=run.name,
        run_experiment_sha256=_sha256(run / EXPERIMENT),
        version=segexplorer.__version__,
        when=time.time(),
        cases=changed,
    )
    text = json.dumps(with_checksum(about.model_dump(mode="json")), indent=1)
    atomic_write(output / RELABELLED, text.encode())
    return Relabelled(output, output / EXPERIMENT, tuple(changed), tuple(unchanged))


def fine_tuning(
    experiment: Experiment, run: Path, data: Pairs, epochs: int | None, learning_rate: float | None
) -> Experiment:
    """Return an experiment that starts from the weights of a run, shorter and with smaller steps."""
    optimiser: Any = experiment.optimiser
    if epochs is not None and epochs < 1:
        raise SpecError(f"{epochs} epochs are none.", "Give at least 1.")
    return replace_values(
        experiment,
        {
            "data": data,
            "changes": (),
            "network_weights.path": str(run.absolute()),
            "schedule.epochs": epochs or max(1, math.ceil(experiment.schedule.epochs / SHORTER)),
            "optimiser.learning_rate": learning_rate or FINER * optimiser.learning_rate,
        },
    )


def data_with(experiment: Experiment, pairs: list[dict[str, Any]]) -> Pairs:
    """Return the listed cases as a data set with the classes of an experiment."""
    data = experiment.data
    return Pairs.of(
        {
            "kind": "pairs",
            "pairs": pairs,
            "classes": {name: list(values) for name, values in data.class_values().items()},
            "overlapping": data.overlapping,
            "other_labels": data.other_labels,
            "resample": data.resample,
            "series": data.series,
        }
    )


def _correct(ref: CaseRef, source: Source, classes: ClassMap, output: Path) -> RelabelledCase | None:
    """Write the corrected label of a case on the grid of its image; None where it is the old one."""
    before = ref.open().label
    opened: Case = CaseRef(
        ref.id, ref.images, source, ref.patient, ref.role, "", ref.resample, ref.series
    ).open()
    label, image = opened.label, opened.images[0]
    assert label is not None
    if label.shape != image.shape or not np.allclose(label.affine, image.affine, atol=1e-3):
        raise DataError(
            f"The corrected label of {ref.id} is not on the grid of its image.",
            "segexplorer regrid LABEL --like IMAGE -o OUT brings it there.",
        )
    if unknown := classes.unnamed(np.asarray(label.array)):
        named = (f"{n} {list(v)}" for n, v in zip(classes.names, classes.values, strict=True))
        raise DataError(
            f"The corrected label of {ref.id} holds {unknown[0]}, which is no class of the run.",
            f"Its classes: {', '.join(named)}.",
        )
    after = classes.encode(np.asarray(label.array))
    earlier = np.zeros_like(after) if before is None else classes.encode(np.asarray(before.array))
    count = int((after != earlier).sum())
    if count == 0 and before is not None:
        return None
    path = next_version(Path(f"{_safe(ref.id)}.nii.gz"), output / LABELS)
    save_volume(label, path, integer=True)
    mask = classes.scheme.mask
    ml = {
        index: (
            int((mask(after, index) & ~mask(earlier, index)).sum()) * label.voxel_ml,
            int((~mask(after, index) & mask(earlier, index)).sum()) * label.voxel_ml,
        )
        for index in range(1, len(classes.names) + 1)
    }
    return RelabelledCase(
        case=ref.id,
        label=f"{LABELS}/{path.name}",
        before_sha256=_sha256(ref.label) if isinstance(ref.label, Path) and ref.label.is_file() else None,
        after_sha256=_sha256(path),
        changed_voxels=count,
        added_ml={classes.names[i - 1]: round(added, 6) for i, (added, _) in ml.items() if added},
        removed_ml={classes.names[i - 1]: round(removed, 6) for i, (_, removed) in ml.items() if removed},
    )


def _pairs(
    refs: Mapping[str, CaseRef], new: Mapping[str, Path], roles: Mapping[str, str], output: Path
) -> list[dict[str, Any]]:
    """Return every case with files; what has none is written into the folder."""
    made = []
    for case, ref in refs.items():
        images = [_file(source, case, IMAGES, number, output) for number, source in enumerate(ref.images)]
        label = new.get(case) or (None if ref.label is None else _file(ref.label, case, LABELS, 0, output))
        pair: dict[str, Any] = {"case": case, "image": str(images[0])}
        if len(images) > 1:
            pair["further"] = [{"image": str(path)} for path in images[1:]]
        if label is not None:
            pair["label"] = str(label)
        if role := roles.get(case) or ref.role:
            pair["role"] = role
        if ref.patient and ref.patient != case:
            pair["patient"] = ref.patient
        made.append(pair)
    return made


def _file(source: Source, case: str, folder: str, number: int, output: Path) -> Path:
    if isinstance(source, Path):
        return source.absolute()
    with translate_disk_errors(output):
        (output / folder).mkdir(exist_ok=True)
    label = folder == LABELS
    volume = source if isinstance(source, Volume) else source.open(label=label)
    path = output / folder / f"{_safe(case)}{f'_{number:04d}' if not label else ''}.nii.gz"
    return save_volume(volume, path, integer=label).absolute()


def _roles(run: Path) -> Mapping[str, str]:
    """Return what each case was used for in the run, from its last attempt that says so."""
    for facts in reversed(read_provenance(run)):
        if facts.roles:
            return dict(facts.roles)
    return {}


def _safe(case: str) -> str:
    return re.sub(r"[^\w.-]", "_", case)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
