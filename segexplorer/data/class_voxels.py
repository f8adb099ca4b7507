"""The voxels of each class as training will see them: after cropping and resampling, in training and in validation.

A lesion of one voxel vanishes at a coarser spacing, and a class that no training case holds is never learned; both
are said before anything is trained. What was counted is remembered until the files change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from segexplorer.core.events import Role
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data.case import CaseRef, ClassMap, case_identity, newest_change_of
from segexplorer.data.checks import Problem, voxel_digest
from segexplorer.data.remembered import Looked, nobody_looks, remembered
from segexplorer.data.transforms.preprocessing import FittedPreprocessing

ENOUGH = 48
"""Cases of a role that are counted before training; `segexplorer check` counts all."""
_THREADS = 2
_PROSE = {"train": "training", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class ClassVoxels:
    """How many voxels of each class a case has.

    Attributes
    ----------
    stored, prepared
        Voxels of background and of class 1, 2, ... in the file, and on the training grid.
    ignored
        Voxels on the training grid that count nowhere.
    digest
        Equal for labels that are equal voxel for voxel; empty where nothing is marked.
    """

    case: str
    stored: tuple[int, ...]
    prepared: tuple[int, ...]
    ignored: int
    counted: int
    digest: bytes

    @property
    def annotated(self) -> float:
        """Share of the voxels on the training grid that count."""
        total = self.counted + self.ignored
        return self.counted / total if total else 1.0


def count_classes(ref: CaseRef, fitted: FittedPreprocessing, classes: ClassMap) -> ClassVoxels | None:
    """Return the voxels of a case's classes; None where it has no label.

    Raises
    ------
    DataError
        When its files cannot be read or do not fit together.
    """
    if ref.label is None:
        return None

    def count() -> dict[str, Any]:
        case = ref.open()
        assert case.label is not None
        encoded = classes.encode(np.asarray(case.label.array))
        stored = np.bincount(encoded.ravel(), minlength=256)
        prepared = np.bincount(fitted.prepared_label(case, classes).ravel(), minlength=256)
        wanted = len(classes.names)
        marked = bool(stored[1:IGNORED].sum())
        digest = voxel_digest(encoded) + str(encoded.shape).encode() if marked else b""
        return {
            "stored": classes.scheme.class_counts(stored, wanted).tolist(),
            "prepared": classes.scheme.class_counts(prepared, wanted).tolist(),
            "ignored": int(prepared[IGNORED]),
            "counted": int(prepared[:IGNORED].sum()),
            "digest": digest.hex(),
        }

    question = f"voxels of classes, {ref.resample}, {ref.series}, {fitted.plain()}, {classes.plain()}"
    found = remembered(
        question,
        lambda: _identity(ref),
        count,
        newest=lambda: newest_change_of(ref),
    )
    digest = bytes.fromhex(found["digest"])
    return ClassVoxels(
        ref.id,
        tuple(found["stored"]),
        tuple(found["prepared"]),
        found["ignored"],
        found["counted"],
        digest,
    )


def _identity(ref: CaseRef) -> list[object]:
    """Return what changes when a case does: sizes, times and inodes of its files, or its fingerprint."""
    return case_identity(ref) or [ref.fingerprint()]


def class_problems(
    refs: Mapping[str, CaseRef],
    roles: Mapping[str, Role],
    fitted: FittedPreprocessing,
    classes: ClassMap,
    *,
    all_cases: bool = False,
    looked: Looked = nobody_looks,
) -> list[Problem]:
    """Return what keeps classes from being learned or validated, and cases that are in two splits.

    Parameters
    ----------
    all_cases
        Whether every case is counted; else some dozens of each role, spread evenly.
    looked
        Called after every case.

    Raises
    ------
    DataError
        When a case cannot be read.
    """
    # a data set that makes its cases knows what they hold, and making them takes time
    counted_ids = [i for i in roles if all_cases or not refs[i].identity]
    chosen = {role: _spread([i for i in counted_ids if roles[i] == role], all_cases) for role in _PROSE}
    order = [case for cases in chosen.values() for case in cases]
    found: dict[str, ClassVoxels] = {}
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        try:
            counted = pool.map(lambda case: count_classes(refs[case], fitted, classes), order)
            for done, count in enumerate(counted, start=1):
                looked("counting classes", done, len(order))
                if count is not None:
                    found[count.case] = count
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    training = [found[case] for case in chosen["train"] if case in found]
    validating = [found[case] for case in chosen["validation"] if case in found]
    problems: list[Problem] = []
    if training:
        problems += _unlearnable(training, validating, classes)
        problems += _sparse(training)
    return [*problems, *_twins(found, roles), *_subjects(refs, roles)]


def _spread(cases: Sequence[str], all_cases: bool) -> list[str]:
    if all_cases or len(cases) <= ENOUGH:
        return list(cases)
    return [cases[i] for i in np.linspace(0, len(cases) - 1, ENOUGH).round().astype(int)]


def _unlearnable(
    training: Sequence[ClassVoxels], validating: Sequence[ClassVoxels], classes: ClassMap
) -> list[Problem]:
    problems: list[Problem] = []
    lost: list[str] = []
    for index, name in enumerate(classes.names, start=1):
        stored = sum(count.stored[index] for count in training)
        kept = [count for count in training if count.prepared[index]]
        marked = [count for count in training if count.stored[index]]
        elsewhere = sum(count.stored[index] for count in validating)
        of_class = partial(Problem, class_name=name, evidence=_evidence(index, training))
        if stored and not kept:
            lost.append(name)
            text = (
                f"Nothing of the class {name} is left in any training case after resampling and cropping "
                f"({stored} voxel{'s' if stored > 1 else ''} before)."
            )
            remedy = "Set a finer preprocessing.spacing, crop less, or leave the class out."
            problems.append(of_class("warning", "class_vanishes", text, remedy))
        elif stored and len(kept) < len(marked):
            gone = [count.case for count in marked if count not in kept]
            some = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
            text = (
                f"Resampling loses the class {name} in {len(gone)} of {len(marked)} training cases ({some})."
            )
            problems.append(of_class("warning", "class_vanishes", text, "Set a finer preprocessing.spacing."))
        elif not stored and elsewhere:
            lost.append(name)
            text = f"The class {name} is in validation cases only, so it cannot be learned."
            remedy = "Move one of these cases to training (split.train), or leave the class out."
            problems.append(of_class("warning", "class_untrained", text, remedy))
        elif not stored:
            lost.append(name)
            text = f"No training case holds the class {name}."
            problems.append(
                of_class("warning", "class_untrained", text, "Leave it out, or correct data.classes.")
            )
        elif validating and not elsewhere:
            text = f"No validation case holds the class {name}, so its scores say nothing about finding it."
            remedy = "Move one of its cases to validation (split.validation)."
            problems.append(of_class("note", "class_unvalidated", text, remedy))
        elif validating and not any(count.prepared[index] for count in validating):
            text = f"Nothing of the class {name} is left in any validation case on the training grid."
            remedy = "It is scored on the original grid, where it cannot be predicted; set a finer spacing."
            problems.append(of_class("warning", "class_vanishes", text, remedy))
    if len(lost) == len(classes.names) and any(problem.code == "class_vanishes" for problem in problems):
        text = (
            "No class is left in any training case after resampling and cropping: there is nothing to learn."
        )
        return [Problem("error", "no_class", text, "Set a finer preprocessing.spacing, or crop less.")]
    return problems


def _evidence(index: int, training: Sequence[ClassVoxels]) -> dict[str, float]:
    """Return the numbers behind what is said of a class."""
    return {
        "voxels in the files": sum(count.stored[index] for count in training),
        "voxels on the training grid": sum(count.prepared[index] for count in training),
        "training cases with it": sum(count.stored[index] > 0 for count in training),
        "training cases that keep it": sum(count.prepared[index] > 0 for count in training),
    }


def _sparse(training: Sequence[ClassVoxels]) -> list[Problem]:
    shares = [count.annotated for count in training]
    if min(shares) == 0:
        empty = next(count.case for count in training if count.annotated == 0)
        text = "None of its voxels count: all are ignored."
        return [
            Problem(
                "warning", "sparse", text, "Leave the case out (split.excluded), or correct its label.", empty
            )
        ]
    if min(shares) == 1:
        return []
    text = (
        f"Of the training voxels {100 * float(np.mean(shares)):.2g} % are annotated "
        f"(from {100 * min(shares):.2g} to {100 * max(shares):.2g} % by case); "
        "patches are placed on annotated ones."
    )
    return [Problem("note", "sparse", text)]


def _twins(found: Mapping[str, ClassVoxels], roles: Mapping[str, Role]) -> list[Problem]:
    """Return a warning for cases of different roles whose labels are equal voxel for voxel."""
    seen: dict[bytes, str] = {}
    problems = []
    for case, count in found.items():
        if not count.digest:
            continue
        other = seen.setdefault(count.digest, case)
        if roles[other] != roles[case]:
            text = (
                f"Its label is the same as that of {other}, but one is for {_PROSE[roles[other]]}, "
                f"the other for {_PROSE[roles[case]]}."
            )
            remedy = (
                "Is it one patient? Keep both on one side, or leave one out; otherwise the scores flatter."
            )
            problems.append(Problem("warning", "same_label", text, remedy, case))
    return problems


_SUBJECT = re.compile(r"(?:^|[_/\-. ])(sub-[A-Za-z0-9]+)")


def _subjects(refs: Mapping[str, CaseRef], roles: Mapping[str, Role]) -> list[Problem]:
    """Return a warning for a subject by the naming of BIDS (sub-01) that is in two roles."""
    first: dict[str, str] = {}
    said: set[str] = set()
    problems = []
    for case, role in roles.items():
        named = _SUBJECT.search(case) or _SUBJECT.search(str(refs[case].patient))
        if named is None:
            continue
        other = first.setdefault(named[1], case)
        if roles[other] != role and named[1] not in said:
            said.add(named[1])
            text = f"Its name and that of {other} are of one subject, {named[1]}, but they are in different splits."
            remedy = (
                "Set the data set's patient pattern to (sub-[A-Za-z0-9]+), so that its cases stay together."
            )
            problems.append(Problem("warning", "same_subject", text, remedy, case))
    return problems
