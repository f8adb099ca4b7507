"""What stands in the way of training, found before it starts and told with a remedy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segexplorer.core.errors import DataError
from segexplorer.core.types import Role
from segexplorer.data.case import Case, CaseRef, ClassMap, whole_numbers
from segexplorer.data.geometry import compare
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
    problems: list[Problem] = []
    first = case.images[0]
    for channel, image in enumerate(case.images):
        problems += _image(case.id, image)
        problems += [Problem("note", "geometry", note, "", case.id) for note in image.provenance.notes]
        if channel and not (verdict := compare(first, image)).same:
            text = f"Image {channel + 1} lies on another grid than image 1: {verdict.text}."
            problems.append(
                Problem("error", "channel_grid", text, "Resample all images to one grid.", case.id)
            )
    if case.label is None:
        text = "It has no label."
        return [*problems, Problem("note", "no_label", text, "It can be predicted, not trained on.", case.id)]
    verdict = compare(first, case.label)
    if not verdict.same:
        code = "shape" if verdict.kind == "shape" else "grid"
        text = f"Image and label lie on different grids: {verdict.text}."
        remedy = "Choose the label that belongs to the image, or resample it onto the image's grid (nearest)."
        problems.append(Problem("error", code, text, remedy, case.id))
    return problems + _label(case.id, case.label, classes)


def _image(case: str, image: Volume) -> list[Problem]:
    array = image.array
    if 1 in array.shape:
        text = f"The image is a single slice ({' × '.join(map(str, array.shape))} voxels)."
        return [
            Problem("error", "two_dimensional", text, "Stack the slices of the series to a volume.", case)
        ]
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
        present = {int(v) for v in np.unique(whole_numbers(np.asarray(label.array)))}
    except DataError as error:
        return [Problem("error", "not_labels", error.message, error.remedy, case)]
    if present <= {0}:
        remedy = "Leave the case out, or choose its right label; it can only teach background."
        return [Problem("warning", "empty_label", "The label marks nothing.", remedy, case)]
    if classes is None:
        return []
    named = {v for group in classes.values for v in group}
    if present <= {0, 255} and named == {1}:
        (name,) = classes.names
        remedy = f"Take 255 as 1: set data.classes to {{{name}: 255}}."
        return [Problem("error", "mask_255", "The mask holds 0 and 255, not 0 and 1.", remedy, case)]
    problems = []
    unnamed = sorted(present - named - {0})
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
        text = f"Classes that do not occur: {', '.join(absent)}."
        problems.append(Problem("note", "absent_class", text, "They are left out of its scores.", case))
    return problems


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
        if case.label is not None and not (verdict := compare(image, case.label)).same:
            text = f"Image and label lie on different grids: {verdict.text}."
            remedy = (
                "Choose the label that belongs to the image, or resample it onto the image's grid (nearest)."
            )
            problems.append(
                Problem("error", "shape" if verdict.kind == "shape" else "grid", text, remedy, ref.id)
            )
        if not ref.identity:  # what has one differs by it, and its voxels may take time to make
            alike.setdefault((image.shape, image.spacing), []).append((ref, image))
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
        label = ref.open().label
        try:
            present |= set() if label is None else {int(v) for v in np.unique(whole_numbers(label.array))}
        except DataError as error:
            return [Problem("error", "not_labels", error.message, error.remedy, ref.id)]
        if present & named:
            return []
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
            digest = hashlib.sha256(np.ascontiguousarray(image.array).data).digest()
        except DataError as error:
            problems.append(Problem("error", "unreadable", error.message, error.remedy, ref.id))
            continue
        problems += _image(ref.id, image)
        other = seen.setdefault(digest, ref.id)
        if other == ref.id:
            continue
        ours, theirs = roles.get(ref.id), roles.get(other)
        if ours != theirs:
            text = f"Its image is the same as that of {other}, but one is for {theirs}, the other for {ours}."
            remedy = "Leave one out; otherwise the scores flatter."
            problems.append(Problem("error", "duplicate", text, remedy, ref.id))
        else:
            text = f"Its image is the same as that of {other}."
            problems.append(Problem("warning", "duplicate", text, "Leave one out.", ref.id))
    return problems
