"""The matrix of an experiment file: settings that take several values each, expanded to one experiment per mix.

```yaml
matrix:
  loss: [dice, {kind: tversky, alpha: 0.3, beta: 0.7}]
  network: [unet, dynunet]
  seed: [0, 1, 2]
  folds: 5              # validation on each fifth of the patients in turn
```
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import SpecError, did_you_mean
from segexplorer.core.spec import replace_values
from segexplorer.data.case import CaseRef
from segexplorer.data.splits import assign_roles
from segexplorer.training.experiment import MATRIX, Experiment, read_yaml

FOLDS = "folds"
LARGEST = 1000
"""Experiments that one file may hold."""
LONGEST_WORD = 120
"""Characters of a folder's name for one value; a file system takes 255 in all."""


@dataclass(frozen=True)
class Point:
    """One experiment of a matrix; its name is that of its run folder."""

    name: str
    experiment: Experiment


def expand(
    file: Path,
    settings: Mapping[str, Any] | None = None,
    assignment: Path | None = None,
    *,
    keep: bool = True,
) -> list[Point]:
    """Return the experiments of a file, in the order of its matrix, the last axis fastest.

    Parameters
    ----------
    settings
        As for `Experiment.from_yaml`; they hold for every experiment.
    assignment
        Where the folds are kept: read if it is there, else written.
    keep
        False: look only, write nothing.

    Raises
    ------
    SpecError
        When the matrix names an unknown setting or none of several values, or a mix is not allowed.
    """
    base = Experiment.from_yaml(file, settings)
    axes = _axes(read_yaml(file).get(MATRIX, {}), file.name)
    count = int(np.prod([len(values) for values in axes.values()])) if axes else 1
    if count > LARGEST:
        raise SpecError(f"{file.name} holds {count} experiments.", f"At most {LARGEST} fit into one study.")
    folds = axes.get(FOLDS, [])
    data_axes = [path for path in axes if path.partition(".")[0] in ("data", "split")]
    if folds and data_axes:
        raise SpecError(
            f"matrix.folds of {file.name} cannot go with matrix.{data_axes[0]}: folds are of one set of cases.",
            f"Write a file for each value of {data_axes[0]}.",
        )
    held_out = fold_cases(base, len(folds), assignment, keep=keep) if folds else []
    validating = _validating_by_data(base) if folds else []
    frozen: dict[str, dict[str, Any]] = {}  # by the data of a mix, for listing cases takes time
    points: list[Point] = []
    for mix in itertools.product(*axes.values()):
        chosen = dict(zip(axes, mix, strict=True))
        changes = {path: value for path, value in chosen.items() if path != FOLDS}
        if folds or "seed" in axes:
            data = {path: chosen[path] for path in data_axes}
            if str(data) not in frozen:
                frozen[str(data)] = _frozen_split(replace_values(base, data))
            changes |= frozen[str(data)]
        if FOLDS in chosen:
            held = held_out[chosen[FOLDS]]
            changes["split.validation"] = held
            # every other case trains, also one that the data set keeps for validation
            changes["split.train"] = tuple(case for case in validating if case not in held)
        name = "_".join(_word(path, value) for path, value in chosen.items()) or file.stem
        taken = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", p.name) is not None for p in points)
        points.append(Point(name if not taken else f"{name}-{taken + 1}", replace_values(base, changes)))
    return points


def _axes(matrix: Any, name: str) -> dict[str, list[Any]]:
    if not isinstance(matrix, dict):
        raise SpecError(f"The matrix of {name} is no mapping.", "Write e.g. matrix: {seed: [0, 1, 2]}.")
    axes: dict[str, list[Any]] = {}
    for path, values in matrix.items():
        if path == FOLDS:
            if not isinstance(values, int) or isinstance(values, bool) or values < 2:
                raise SpecError(
                    f"matrix.folds of {name} is {values!r}.", "Give a whole number of at least 2."
                )
            axes[path] = list(range(values))
            continue
        first = str(path).partition(".")[0]
        if first not in Experiment.model_fields:
            known = [FOLDS, *Experiment.model_fields]
            raise SpecError(f"An experiment has no setting {path!r} to vary.", did_you_mean(first, known))
        if not isinstance(values, list) or not values:
            raise SpecError(f"matrix.{path} of {name} is no list.", f"Write {path}: [first, second].")
        axes[str(path)] = values
    return axes


def fold_cases(
    experiment: Experiment, folds: int, assignment: Path | None = None, *, keep: bool = True
) -> list[tuple[str, ...]]:
    """Return the validating cases of each fold: patients shuffled by the experiment's seed, dealt out in turn.

    Raises
    ------
    SpecError
        When there are fewer patients than folds, or a kept assignment is of other cases.
    """
    cases = experiment.data.cases()
    roles = assign_roles(cases, experiment.split, experiment.seed)
    labelled = [ref for ref in cases if roles.get(ref.id, "test") != "test"]
    if assignment is not None and assignment.exists():
        kept = [tuple(fold) for fold in json.loads(assignment.read_text())]
        if len(kept) != folds or {c for fold in kept for c in fold} != {ref.id for ref in labelled}:
            raise SpecError(
                f"The folds in {assignment} are of other cases or another number.", "Choose another --output."
            )
        return kept
    dealt = _dealt(labelled, folds, experiment.seed)
    if assignment is not None and keep:
        assignment.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(assignment, json.dumps(dealt, indent=1).encode())
    return dealt


def _validating_by_data(experiment: Experiment) -> list[str]:
    """Return the cases that the data set itself wants for validation, and the split does not test or leave out."""
    cases = experiment.data.cases()
    roles = assign_roles(cases, experiment.split, experiment.seed)
    given = {ref.id for ref in cases if ref.role == "validation"}
    return [case for case, role in roles.items() if case in given and role != "test"]


def _frozen_split(experiment: Experiment) -> dict[str, Any]:
    """Return settings that keep the file's own split, so that another seed trains on the same cases."""
    roles = assign_roles(experiment.data.cases(), experiment.split, experiment.seed)
    return {
        "split.validation": tuple(case for case, role in roles.items() if role == "validation"),
        "split.test": tuple(case for case, role in roles.items() if role == "test"),
        "split.test_fraction": 0.0,
    }


def _dealt(refs: Sequence[CaseRef], folds: int, seed: int) -> list[tuple[str, ...]]:
    patients = sorted({ref.patient or ref.id for ref in refs})
    if len(patients) < folds:
        number = "1 patient" if len(patients) == 1 else f"{len(patients)} patients"
        raise SpecError(f"{number} cannot make {folds} folds.", "Lower matrix.folds.")
    order = np.random.default_rng([seed, folds]).permutation(len(patients))
    fold_of = {patients[place]: number % folds for number, place in enumerate(order)}
    ids = [(fold_of[ref.patient or ref.id], ref.id) for ref in refs]
    return [tuple(sorted(case for fold, case in ids if fold == number)) for number in range(folds)]


def _word(path: str, value: Any) -> str:
    """Return a piece of a folder's name: "tversky-alpha0.3", "dice+cross_entropy", "seed1", "fold2"."""
    short = path.rpartition(".")[2].removesuffix("s" if path == FOLDS else "")
    text = (_kinds(value) or short) if isinstance(value, (Mapping, str)) else f"{short}{value}"
    return re.sub(r"[^\w.+-]+", "-", text).strip("-")[:LONGEST_WORD]


def _kinds(value: Any) -> str:
    """Return the kind of a spec with its own settings; of one made of others, those, each so."""
    if not isinstance(value, Mapping):
        return str(value)
    inner = [v for v in value.values() if isinstance(v, list) and any(isinstance(e, Mapping) for e in v)]
    head = value.get("kind", value.get("loss", ""))
    heads = ["+".join(_kinds(entry) for entry in entries) for entries in inner] or [_kinds(head)]
    rest = [
        f"{k}{v}" for k, v in value.items() if k not in ("kind", "loss") and isinstance(v, (int, float, str))
    ]
    return "-".join(filter(None, [*heads, *rest]))
