"""A data set at a glance: the facts of every case, and what only shows when all are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.types import Role
from segexplorer.data.case import Case, CaseRef, ClassMap, whole_numbers
from segexplorer.data.checks import Problem, check_case, check_grids, duplicate, voxel_digest
from segexplorer.data.counting import value_counts
from segexplorer.data.geometry import canonical_grid, spacing

FEW = 6
"""With fewer cases nothing is called an outlier."""
_FAR = 6.0
"""How many robust standard deviations (1.4826 median absolute deviations) from the median an outlier lies."""
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
        Class -> ml marked; "ignored" stands for what counts nowhere.
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
    """Look at every case, and compare them.

    Parameters
    ----------
    voxels
        Whether voxels are read; without them only headers are compared.
    looked
        Called with each case's facts as they come in, for a progress bar.

    Returns
    -------
    The facts in the order of `refs`, and the problems that concern several cases.
    """
    known = roles or {}
    rows: list[CaseFacts] = []
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        for facts in pool.map(
            lambda ref: look(ref, classes, known.get(ref.id, ref.role), voxels=voxels), refs
        ):
            rows.append(facts)
            looked(facts)
    return rows, [*duplicates(rows), *outliers(rows)]


def look(ref: CaseRef, classes: ClassMap, role: Role | None = None, *, voxels: bool = True) -> CaseFacts:
    """Return the facts of one case; what cannot be read is a problem of it."""
    try:
        case = ref.open()
        return _facts(case, classes, role, voxels=voxels)
    except DataError as error:
        message = error.message.removeprefix(f"{ref.id}: ")
        problem = Problem("error", "unreadable", message, error.remedy, ref.id)
        return CaseFacts(ref.id, role, labelled=ref.label is not None, problems=(problem,))


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
    """Return class -> ml and unnamed value -> voxels; nothing where the label is none (which is told elsewhere)."""
    if case.label is None:
        return {}, {}
    try:
        counts = value_counts(whole_numbers(np.asarray(case.label.array)))
    except DataError:  # check_case tells it
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
    what = "99 % of its voxels lie below {0:.4g}; the median of the others is {1:.4g}."
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
