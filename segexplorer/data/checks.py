"""What could spoil a training, found before it starts and reported with a remedy.

`check_case` looks at one case, `check_dataset` at the headers of all and at images that occur twice. `survey`
reads every voxel, collects the facts of each case, and compares them to find outliers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from segexplorer.core.errors import DataError
from segexplorer.core.events import Role
from segexplorer.data.case import (
    Case,
    CaseRef,
    ClassMap,
    case_identity,
    integer_labels,
    label_values,
    newest_change,
    newest_change_of,
    source_identity,
)
from segexplorer.data.geometry import canonical_grid, compare, spacing
from segexplorer.data.grid import APART, share_text, touch
from segexplorer.data.remembered import Looked, nobody_looks, remembered
from segexplorer.data.sources import PLACES, contrasts
from segexplorer.data.volume import Volume, value_counts

# ---- problems

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Problem:
    """One thing the user should know. `code` is stable for programs; `case` is empty for the whole data set.

    `class_name` and `evidence`, the numbers that the message rests on, are there where it is about one class.
    """

    severity: Severity
    code: str
    message: str
    remedy: str = ""
    case: str = ""
    class_name: str = ""
    evidence: Mapping[str, float] = field(default_factory=dict, compare=False)


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
    """Check the headers of a case: that there is a label, and that all volumes have the same grid."""
    first = case.images[0]
    notes = dict.fromkeys(note for image in case.images for note in image.provenance.notes)
    if case.label is not None:
        notes.update(dict.fromkeys(case.label.provenance.notes))
    problems = [Problem("note", "geometry", note, "", case.id) for note in notes]
    for channel, image in enumerate(case.images[1:], start=2):
        if not (verdict := compare(first, image)).same:
            text = f"Image {channel} has another grid than image 1: {verdict.text}."
            problems.append(
                Problem("error", "channel_grid", text, "Resample all images to one grid.", case.id)
            )
    if case.label is None:
        text = "It has no label."
        return [*problems, Problem("note", "no_label", text, "It can be predicted, not trained on.", case.id)]
    if not (verdict := compare(first, case.label)).same:
        code = "shape" if first.shape != case.label.shape else "grid"
        text = f"Image and label have different grids: {verdict.text}."
        problems.append(Problem("error", code, text, _remedy(first, case.label), case.id))
    return problems


def _remedy(image: Volume, label: Volume) -> str:
    if not touch(image, label):
        return APART
    return (
        f"The label covers {share_text(image, label)} of the image. If it belongs to it, set data.resample: true, "
        "which brings it onto the image's grid by world position (nearest voxel)."
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
        present = set(value_counts(integer_labels(np.asarray(label.array))))
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
        fate = "become background" if classes.other_labels == "background" else "are ignored"
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
    """Warn when a label would contrast far more with its surroundings with rows or slices reversed.

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
"""Least contrast of a reversed label, and how many times more it must be than that of the label as stored."""


def check_dataset(
    refs: Sequence[CaseRef],
    roles: Mapping[str, Role],
    classes: ClassMap,
    looked: Looked = nobody_looks,
) -> list[Problem]:
    """Check what concerns several cases, and the headers of each: grids, labels, one image in two splits.

    Voxels are read only of images whose headers are equal, and of training labels until one holds a class.

    Parameters
    ----------
    looked
        Called after every case.
    """
    problems: list[Problem] = []
    alike: dict[tuple[object, ...], list[tuple[CaseRef, Volume]]] = {}
    for done, ref in enumerate(refs):
        looked("reading headers", done, len(refs))
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
            problems += _duplicates(group, roles, looked)
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


def _duplicates(
    group: Sequence[tuple[CaseRef, Volume]], roles: Mapping[str, Role], looked: Looked
) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[bytes, str] = {}
    for done, (ref, image) in enumerate(group):
        looked("comparing images", done, len(group))
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


def _first_look(ref: CaseRef, image: Volume) -> tuple[bytes, list[Problem]]:
    """Return the digest of a case's first image and what is wrong with it; remembered until the file changes."""
    source = ref.images[0]

    def look() -> list[Any]:
        facts = [[p.severity, p.code, p.message, p.remedy] for p in _image(ref.id, image)]
        return [voxel_digest(image.array).hex(), facts]

    digest, facts = remembered(
        f"first look, {ref.series}",
        lambda: source_identity(source),
        look,
        newest=lambda: newest_change(source),
    )
    return bytes.fromhex(digest), [Problem(s, code, text, remedy, ref.id) for s, code, text, remedy in facts]


# ---- all cases at a glance

FEW = 6
"""With fewer cases nothing is called an outlier."""
_FAR = 6.0
"""How many robust standard deviations (1.4826 median absolute deviations) from the median an outlier is."""
_SAMPLES = 200_000
_THREADS = 2
"""Cases in memory at once; reading a packed file leaves the interpreter free for the next."""


@dataclass(frozen=True)
class CaseFacts:
    """What is known of a case.

    Attributes
    ----------
    shape, spacing, orientation
        Of its first image, in the file's own index order; spacing in mm.
    intensities
        (lowest, highest) of each image; empty when voxels were not read.
    typical
        (median, 99th percentile) of the first image, without NaN.
    volumes_ml
        Class -> ml marked; "ignored" for voxels that count nowhere.
    other_values
        Label value that no class names -> voxels.
    digest
        Equal for cases whose images are equal voxel for voxel.
    """

    case: str
    role: Role | None = None
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    orientation: str = ""
    extent: tuple[float, ...] = ()
    modality: str = ""
    intensities: tuple[tuple[float, float], ...] = ()
    typical: tuple[float, float] | None = None
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    other_values: Mapping[int, int] = field(default_factory=dict)
    labelled: bool = False
    digest: bytes = b""
    problems: tuple[Problem, ...] = ()


def survey(
    refs: Sequence[CaseRef],
    classes: ClassMap,
    roles: Mapping[str, Role] | None = None,
    *,
    voxels: bool = True,
    looked: Callable[[CaseFacts], object] = lambda facts: None,
) -> tuple[list[CaseFacts], list[Problem]]:
    """Look at every case, and compare them. What voxels showed is remembered until a file of their case changes.

    Parameters
    ----------
    voxels
        Whether voxels are read; without them only headers are compared.
    looked
        Called with each case's facts as they come in, for a progress bar. What it raises ends the reading.

    Returns
    -------
    The facts in the order of `refs`, and the problems that concern several cases.
    """
    known = roles or {}
    rows: list[CaseFacts] = []
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        try:
            for facts in pool.map(
                lambda ref: look(ref, classes, known.get(ref.id, ref.role), voxels=voxels), refs
            ):
                rows.append(facts)
                looked(facts)
        except BaseException:  # also of whoever asks to stop: cases that wait are not read any more
            pool.shutdown(cancel_futures=True)
            raise
    return rows, [*duplicates(rows), *outliers(rows)]


def look(ref: CaseRef, classes: ClassMap, role: Role | None = None, *, voxels: bool = True) -> CaseFacts:
    """Return the facts of one case; what cannot be read is a problem of it."""
    try:
        if not voxels:
            return _facts(ref.open(), classes, role, voxels=False)
        return _remembered_facts(ref, classes, role)
    except DataError as error:
        message = error.message.removeprefix(f"{ref.id}: ")
        problem = Problem("error", "unreadable", message, error.remedy, ref.id)
        return CaseFacts(ref.id, role, labelled=ref.label is not None, problems=(problem,))


def _remembered_facts(ref: CaseRef, classes: ClassMap, role: Role | None) -> CaseFacts:
    """Return the facts of a case, its voxels among them, without its name where they are kept."""

    def find() -> Any:
        facts = _facts(ref.open(), classes, None, voxels=True)
        nameless = tuple(replace(problem, case="") for problem in facts.problems)
        plain = _adapter().dump_python(replace(facts, case="", digest=b"", problems=nameless), mode="json")
        return {**plain, "digest": facts.digest.hex()}

    question = f"facts of a case, {ref.resample}, {ref.series}, {classes.plain()}"
    found = remembered(question, lambda: case_identity(ref), find, newest=lambda: newest_change_of(ref))
    facts = _adapter().validate_python({**found, "digest": b""})
    problems = tuple(replace(problem, case=ref.id) for problem in facts.problems)
    return replace(facts, case=ref.id, role=role, digest=bytes.fromhex(found["digest"]), problems=problems)


@cache
def _adapter() -> TypeAdapter[CaseFacts]:
    return TypeAdapter(CaseFacts)


def _facts(case: Case, classes: ClassMap, role: Role | None, *, voxels: bool) -> CaseFacts:
    image = case.images[0]
    grid = canonical_grid(image.shape, image.affine)
    extent = tuple(float(n * s) for n, s in zip(grid.shape, spacing(grid.affine), strict=True))
    header: dict[str, Any] = {
        "role": role,
        "shape": image.shape,
        "spacing": image.spacing,
        "orientation": image.orientation,
        "extent": extent,
        "labelled": case.label is not None,
    }
    if not voxels:
        return CaseFacts(case.id, **header, problems=tuple(check_grids(case)))
    problems = check_case(case, classes)
    volumes, others = _volumes(case, classes)
    return CaseFacts(
        case.id,
        **header,
        modality=image.modality,
        intensities=tuple(_range(volume.array) for volume in case.images),
        typical=_typical(image.array),
        volumes_ml=volumes,
        other_values=others,
        digest=b"".join(voxel_digest(volume.array) for volume in case.images),
        problems=tuple(problems),
    )


def _range(array: NDArray[Any]) -> tuple[float, float]:
    if array.dtype.kind != "f":
        return float(array.min()), float(array.max())
    finite = array[np.isfinite(array)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)


def _typical(array: NDArray[Any]) -> tuple[float, float] | None:
    flat = array.ravel(order="K")
    sample = flat[:: max(1, flat.size // _SAMPLES)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return None
    middle, high = np.percentile(sample, (50, 99))
    return float(middle), float(high)


def _volumes(case: Case, classes: ClassMap) -> tuple[dict[str, float], dict[int, int]]:
    """Return class -> ml and unnamed value -> voxels; empty where `check_case` reports that it is no label."""
    if case.label is None:
        return {}, {}
    try:
        counts = value_counts(integer_labels(np.asarray(case.label.array)))
    except DataError:  # check_case reports it
        return {}, {}
    if classes.reads_255_as_1(counts):
        counts = {1: counts[255]}
    ml = case.label.voxel_ml
    groups = dict(zip(classes.names, classes.values, strict=True))
    if classes.ignored:
        groups["ignored"] = classes.ignored
    volumes = {name: ml * sum(counts.get(value, 0) for value in group) for name, group in groups.items()}
    named = {value for group in groups.values() for value in group} | {0}
    return volumes, {value: count for value, count in counts.items() if value not in named}


def duplicates(rows: Iterable[CaseFacts]) -> list[Problem]:
    """Return a problem for every case whose images are equal, voxel for voxel, to those of an earlier one."""
    seen: dict[tuple[object, ...], CaseFacts] = {}
    problems = []
    for row in rows:
        if not row.digest:
            continue
        first = seen.setdefault((row.shape, row.digest), row)
        if first is not row:
            roles = {r.case: r.role for r in (row, first) if r.role is not None}
            problems.append(duplicate(row.case, first.case, roles))
    return problems


def outliers(rows: Sequence[CaseFacts]) -> list[Problem]:
    """Return a problem for every case far from the others in size, intensity or marked volume.

    Far is more than six robust standard deviations from the median, of logarithms for what is positive by nature;
    differences under a quarter are never far.
    """
    readable = [row for row in rows if row.shape]
    problems: list[Problem] = []
    for axis, name in enumerate(("from left to right", "from back to front", "from feet to head")):
        values = {row.case: row.extent[axis] for row in readable}
        what = f"The image is {{0:.0f}} mm {name}; the median is {{1:.0f}} mm."
        problems += _far(values, what, "size", "Is it cropped, or is its spacing wrong?")
    for axis in range(3):
        values = {row.case: sorted(row.spacing)[axis] for row in readable}
        what = "A voxel side is {0:.3g} mm; the median is {1:.3g} mm."
        problems += _far(values, what, "size", "Is its spacing right? Training resamples it.")
    problems += _intensity_outliers(readable)
    for name in dict.fromkeys(name for row in readable for name in row.volumes_ml):
        values = {r.case: r.volumes_ml[name] for r in readable if r.volumes_ml.get(name, 0) > 0}
        what = f"It has {{0:.3g}} ml of {name}; the median is {{1:.3g}} ml."
        # lesions differ a thousandfold from patient to patient, and rightly so
        problems += _far(values, what, "volume", "Is its label complete, and are its values right?")
    return list({(problem.code, problem.case): problem for problem in reversed(problems)}.values())[::-1]


def _intensity_outliers(rows: Sequence[CaseFacts]) -> list[Problem]:
    """Compare 99th percentiles; those of CT as they are, for HU mean the same everywhere."""
    highs = {row.case: row.typical[1] for row in rows if row.typical is not None}
    if len(highs) < FEW:
        return []
    what = "99 % of its voxels are below {0:.4g}; the median of the others is {1:.4g}."
    remedy = "Is it another sequence, or scaled differently?"
    if sum(row.modality == "CT" for row in rows) * 2 > len(rows):
        other = [row.case for row in rows if row.typical is not None and row.modality != "CT"]
        text = "Its values do not look like Hounsfield units, those of the others do."
        fix = "Was the intercept (often -1024) left out, or the image rescaled?"
        return [Problem("warning", "intensity", text, fix, case) for case in other]
    return _far({case: high for case, high in highs.items() if high > 0}, what, "intensity", remedy)


def _far(values: Mapping[str, float], what: str, code: str, remedy: str) -> list[Problem]:
    """Return a warning for every case far from the median; `values` are positive."""
    if len(values) < FEW:
        return []
    logs = {case: math.log(value) for case, value in values.items() if value > 0}
    middle = float(np.median(list(logs.values())))
    deviation = 1.4826 * float(np.median([abs(log - middle) for log in logs.values()]))
    limit = max(_FAR * deviation, math.log(1.25))
    return [
        Problem("warning", code, what.format(values[case], math.exp(middle)), remedy, case)
        for case, log in logs.items()
        if abs(log - middle) > limit
    ]
