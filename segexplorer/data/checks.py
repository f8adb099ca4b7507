"""What stands in the way of training, found before it starts and told with a remedy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.types import Role
from segexplorer.data.case import Case, CaseRef, ClassMap, whole_numbers
from segexplorer.data.counting import value_counts
from segexplorer.data.geometry import compare
from segexplorer.data.label_values import file_identity, label_values
from segexplorer.data.sources import PLACES, contrasts
from segexplorer.data.verdict import overlap_fraction
from segexplorer.data.volume import Volume

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Problem:
    """One thing the user should know. `code` is stable for programs; `case` is empty for the whole data set."""

    severity: Severity
    code: str
    message: str
    remedy: str = ""
    case: str = ""


def check_case(case: Case, classes: ClassMap | None) -> list[Problem]:
    """Check one case, voxels included.

    Parameters
    ----------
    classes
        The chosen classes; None looks at the volumes alone.
    """
    problems = check_grids(case)
    for image in case.images:
        problems += _image(case.id, image)
    if case.label is None:
        return problems
    problems += _label(case.id, case.label, classes)
    if not any(problem.severity == "error" for problem in problems):
        problems += _turned_over(case.id, case.images[0], case.label)
    return problems


def check_grids(case: Case) -> list[Problem]:
    """Check what the headers of a case tell: that there is a label, and that everything lies on one grid."""
    first = case.images[0]
    notes = dict.fromkeys(note for image in case.images for note in image.provenance.notes)
    if case.label is not None:
        notes.update(dict.fromkeys(case.label.provenance.notes))
    problems = [Problem("note", "geometry", note, "", case.id) for note in notes]
    for channel, image in enumerate(case.images[1:], start=2):
        if not (verdict := compare(first, image)).same:
            text = f"Image {channel} lies on another grid than image 1: {verdict.text}."
            problems.append(
                Problem("error", "channel_grid", text, "Resample all images to one grid.", case.id)
            )
    if case.label is None:
        text = "It has no label."
        return [*problems, Problem("note", "no_label", text, "It can be predicted, not trained on.", case.id)]
    if not (verdict := compare(first, case.label)).same:
        code = "shape" if verdict.kind == "shape" else "grid"
        text = f"Image and label lie on different grids: {verdict.text}."
        problems.append(Problem("error", code, text, _remedy(first, case.label), case.id))
    return problems


def _remedy(image: Volume, label: Volume) -> str:
    covered = overlap_fraction(image, label)
    if covered == 0:
        return "They do not touch anywhere: one of them belongs to something else."
    return (
        f"The label covers {100 * covered:.0f} % of the image. If it belongs to it, set data.resample: true, which "
        "brings it onto the image's grid by world position (nearest voxel)."
    )


def _image(case: str, image: Volume) -> list[Problem]:
    array = image.array
    bad = 0 if array.dtype.kind != "f" else int(array.size - np.isfinite(array).sum())
    if bad:
        remedy = "Replace them, e.g. by the background value."
        return [Problem("error", "not_finite", f"{bad} voxels are NaN or infinite.", remedy, case)]
    if array.min() == array.max():
        return [
            Problem(
                "warning", "constant", "Every voxel of the image is equal.", "Is it the right file?", case
            )
        ]
    return []


def _label(case: str, label: Volume, classes: ClassMap | None) -> list[Problem]:
    try:
        present = set(value_counts(whole_numbers(np.asarray(label.array))))
    except DataError as error:
        return [Problem("error", "not_labels", error.message, error.remedy, case)]
    if present <= {0}:
        remedy = (
            "Right where there is nothing to find, and it only teaches background; else choose another label."
        )
        return [Problem("warning", "empty_label", "The label marks nothing.", remedy, case)]
    if classes is None or not classes.names:
        return []
    named = {v for group in classes.values for v in group}
    if classes.reads_255_as_1(present):
        (name,) = classes.names
        text = f"The mask holds 0 and 255; 255 is read as 1, {name}."
        remedy = f"Predictions hold 1; to have 255, set data.classes to {{{name}: 255}}."
        return [Problem("note", "mask_255", text, remedy, case)]
    problems = []
    unnamed = sorted(present - named - set(classes.ignored) - {0})
    if unnamed:
        some = ", ".join(map(str, unnamed[:8])) + (" ..." if len(unnamed) > 8 else "")
        fate = "become background" if classes.unselected == "background" else "are ignored"
        text = f"Label values that no class names {fate}: {some}."
        problems.append(
            Problem("note", "unnamed_values", text, "Name them in data.classes to learn them.", case)
        )
    absent = [n for n, group in zip(classes.names, classes.values, strict=True) if not present & set(group)]
    if len(absent) == len(classes.names):
        remedy = (
            f"Its label holds {', '.join(map(str, sorted(present - {0})))}; set data.classes accordingly."
        )
        problems.append(Problem("warning", "no_class", "None of the chosen classes occurs.", remedy, case))
    elif absent:
        some = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
        text = f"Classes that do not occur: {some}."
        problems.append(Problem("note", "absent_class", text, "They are left out of its scores.", case))
    return problems


def _turned_over(case: str, image: Volume, label: Volume) -> list[Problem]:
    """Warn when a label would stand out far more from its surroundings with rows or slices turned over.

    A known fault of labels that were written without a header.
    """
    if label.shape != image.shape or min(image.shape) < 2:
        return []
    fits = contrasts(image.array, np.asarray(label.array))
    best = max(PLACES, key=lambda place: fits[place])
    if fits[best] < _CLEAR or fits[best] < _TIMES * fits["stored"]:
        return []
    text = f"The label seems to be turned over along {best}: it fits the image much better that way."
    return [Problem("warning", "turned_over", text, "Look at it; turn it over and write it again.", case)]


_CLEAR, _TIMES = 0.5, 5.0
"""A turned label must stand out that much, and that many times more than it does as stored."""


def check_dataset(refs: Sequence[CaseRef], roles: Mapping[str, Role], classes: ClassMap) -> list[Problem]:
    """Check what concerns several cases, and the headers of each: grids, labels, one image in two splits.

    Voxels are read only of images whose headers are equal, and of training labels until one holds a class.
    """
    problems: list[Problem] = []
    alike: dict[tuple[object, ...], list[tuple[CaseRef, Volume]]] = {}
    for ref in refs:
        try:
            case = ref.open()
        except DataError as error:
            problems.append(Problem("error", "unreadable", error.message, error.remedy, ref.id))
            continue
        image = case.images[0]
        if ref.label is None and roles.get(ref.id) in ("train", "validation"):
            remedy = "Add its label, or leave it out."
            problems.append(Problem("error", "no_label", "It has no label.", remedy, ref.id))
        problems += [problem for problem in check_grids(case) if problem.severity != "note"]
        if not ref.identity:  # what has one differs by it, and its voxels may take time to make
            alike.setdefault((image.shape, image.affine.tobytes()), []).append((ref, image))
    for group in alike.values():
        if len(group) > 1:
            problems += _duplicates(group, roles)
    if not any(problem.severity == "error" for problem in problems):
        problems += _nothing_to_learn([ref for ref in refs if roles.get(ref.id) == "train"], classes)
    return problems


def _nothing_to_learn(training: Sequence[CaseRef], classes: ClassMap) -> list[Problem]:
    """Read training labels until one holds a chosen class; an error when none does."""
    named = {value for group in classes.values for value in group}
    present: set[int] = set()
    for ref in training:
        if ref.identity:  # its data set makes the labels and knows what they hold
            return []
        try:
            found = label_values(ref)
        except DataError as error:
            return [Problem("error", "not_labels", error.message, error.remedy, ref.id)]
        if found & named or classes.reads_255_as_1(found):
            return []
        present |= found
    if not training:
        return []
    text = f"No training label holds any of the chosen classes ({', '.join(classes.names)})."
    held = ", ".join(map(str, sorted(present - {0})[:8]))
    remedy = (
        f"The labels hold {held}; set data.classes accordingly."
        if held
        else "Choose labels that mark something."
    )
    return [Problem("error", "no_class", text, remedy)]


def _duplicates(group: Sequence[tuple[CaseRef, Volume]], roles: Mapping[str, Role]) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[bytes, str] = {}
    for ref, image in group:
        try:
            digest, found = _first_look(ref, image)
        except DataError as error:
            problems.append(Problem("error", "unreadable", error.message, error.remedy, ref.id))
            continue
        problems += found
        other = seen.setdefault(digest, ref.id)
        if other != ref.id:
            problems.append(duplicate(ref.id, other, roles))
    return problems


def duplicate(case: str, other: str, roles: Mapping[str, Role]) -> Problem:
    """Return the problem that two cases have one image: an error when they have different roles."""
    ours, theirs = roles.get(case), roles.get(other)
    if ours != theirs:
        text = f"Its image is the same as that of {other}, but one is for {theirs}, the other for {ours}."
        return Problem("error", "duplicate", text, "Leave one out; otherwise the scores flatter.", case)
    return Problem(
        "warning", "duplicate", f"Its image is the same as that of {other}.", "Leave one out.", case
    )


def voxel_digest(array: NDArray[Any]) -> bytes:
    """Return a hash of voxels: equal for equal values in equal order, whatever the file looks like."""
    # files keep the first axis fastest, so that most arrays are not copied
    return hashlib.blake2b(array.ravel(order="F").data, digest_size=16).digest()


_looks: dict[tuple[object, ...], tuple[bytes, list[Problem]]] = {}


def _first_look(ref: CaseRef, image: Volume) -> tuple[bytes, list[Problem]]:
    """Return the digest of a case's first image and what is wrong with it; an unchanged file is remembered."""
    key = file_identity(ref.images[0])
    if key is not None and key in _looks:
        digest, problems = _looks[key]
        return digest, [replace(problem, case=ref.id) for problem in problems]
    look = voxel_digest(image.array), _image(ref.id, image)
    if key is not None:
        _looks[key] = look
    return look
