"""What a data set is like, measured: sizes, voxel sizes, intensities, classes and lesions of its cases.

Headers of all cases are opened; voxels are read of some dozens of labelled cases, spread evenly, until
`MOST_VOXELS` were read. What cannot be read is a problem of its case, and the others go on. From these facts
`training.proposal` chooses settings, after the idea of a data set's fingerprint in Isensee et al. 2021 (nnU-Net).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data import geometry
from segexplorer.data.case import (
    Case,
    CaseRef,
    ClassMap,
    case_identity,
    newest_change_of,
    present_values,
)
from segexplorer.data.checks import Problem, check_case, check_grids
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.data.remembered import remembered
from segexplorer.data.volume import Modality

MOST_CASES = 40
"""Labelled cases whose voxels are read."""
MOST_VOXELS = 2 * 10**9
"""Voxels of images after which no further case is read, once `FEWEST_CASES` were."""
FEWEST_CASES = 4
SAMPLES = 10_000
"""Foreground intensities kept of each image, spread evenly."""
MOST_COMPONENT_CLASSES = 24
"""With more classes than this, components are not counted: lesions do not come in so many kinds."""
SAME_SPACING = 0.02
"""Relative difference up to which voxel sizes count as equal."""

Triple = tuple[float, float, float]
Looked = Callable[[str, int, int], object]
"""Called with what is being read ("headers" or "voxels"), how many are through, and of how many."""


# ---- what is measured


@dataclass(frozen=True)
class CaseShape:
    """A case by its header alone, in the closest-canonical order (x, y, z).

    Attributes
    ----------
    shape, spacing
        Voxels, and mm.
    channels
        Images.
    labelled
        Whether it can be trained on.
    """

    case: str
    patient: str
    shape: tuple[int, int, int]
    spacing: Triple
    channels: int
    labelled: bool


@dataclass(frozen=True)
class ClassFacts:
    """One class over the cases whose voxels were read.

    Attributes
    ----------
    cases
        In how many of them it occurs.
    share
        Of all voxels that count, over all cases read.
    volume_ml
        Median over the cases in which it occurs.
    components
        Median number of connected parts (26 neighbours) in those cases; None where they were not counted.
    small_mm3
        Volume that a tenth of all its parts fall below; None where they were not counted.
    """

    name: str
    cases: int
    share: float
    volume_ml: float
    components: float | None = None
    small_mm3: float | None = None


@dataclass(frozen=True)
class ChannelFacts:
    """The intensities of one image of every case.

    Attributes
    ----------
    modality
        That of most cases: as the files say, or guessed from values.
    foreground
        Percentiles 0.5, 50 and 99.5 of the voxels that belong to some class.
    lowest, highest
        Over the cases read.
    """

    modality: Modality
    foreground: Triple
    lowest: float
    highest: float


@dataclass(frozen=True)
class Fingerprint:
    """What a data set is like.

    Attributes
    ----------
    dataset
        The data set, as it was listed.
    cases
        All cases that can be read, by their headers.
    refs
        The same cases by name, to be opened.
    left_out, incomplete
        Names of the cases that cannot be used, and of those among them that lack a file.
    problems
        Why, and what else is amiss.
    classes
        The classes and their label values, "ignore" among them where there is one.
    channels
        One entry for each image of a case.
    class_facts
        In the order of the classes.
    read
        Cases whose voxels were read.
    nonzero
        Median share of an image that the box around its non-zero voxels takes.
    turned
        Classes that another class mirrors, e.g. ("left_kidney", "right_kidney"), per axis x, y, z.
    """

    dataset: DatasetSpec
    cases: tuple[CaseShape, ...]
    refs: Mapping[str, CaseRef]
    left_out: tuple[str, ...]
    incomplete: tuple[str, ...]
    problems: tuple[Problem, ...]
    classes: Mapping[str, tuple[int, ...]]
    channels: tuple[ChannelFacts, ...]
    class_facts: tuple[ClassFacts, ...]
    read: int
    nonzero: float
    turned: tuple[tuple[str, str] | None, tuple[str, str] | None, tuple[str, str] | None]

    @property
    def labelled(self) -> tuple[CaseShape, ...]:
        """The cases that can be trained on."""
        return tuple(case for case in self.cases if case.labelled)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients of labelled cases, each once."""
        return tuple(dict.fromkeys(case.patient for case in self.labelled))

    @property
    def shapes(self) -> NDArray[np.int64]:
        """(N, 3) voxels of the labelled cases."""
        return np.asarray([case.shape for case in self.labelled], np.int64)

    @property
    def spacings(self) -> NDArray[np.float64]:
        """(N, 3) mm of the labelled cases."""
        return np.asarray([case.spacing for case in self.labelled], np.float64)

    @property
    def median_shape(self) -> tuple[int, int, int]:
        """Median number of voxels along each axis."""
        x, y, z = (int(n) for n in np.median(self.shapes, axis=0))
        return x, y, z

    @property
    def median_spacing(self) -> Triple:
        """Median voxel size along each axis, mm."""
        x, y, z = (float(s) for s in np.median(self.spacings, axis=0))
        return x, y, z

    @property
    def one_spacing(self) -> bool:
        """Whether all cases have the same voxel size."""
        return bool(np.allclose(self.spacings, self.median_spacing, rtol=SAME_SPACING))

    @property
    def names(self) -> tuple[str, ...]:
        """Foreground classes."""
        return tuple(facts.name for facts in self.class_facts)

    def facts(self) -> dict[str, str]:
        """Return title -> text of what matters, for people."""
        shapes, spacings = self.shapes, self.spacings
        unlabelled = len(self.cases) - len(self.labelled)
        found = {
            "Cases": f"{len(self.labelled)} with a label, of {_plural(len(self.patients), 'patient')}"
            + (f"; {unlabelled} without" if unlabelled else "")
            + (f"; {len(self.left_out)} left out" if self.left_out else ""),
            "Voxels": _range_text(shapes, "{:.0f}"),
            "Spacing": f"{_range_text(spacings, '{:.3g}')} mm",
            "Images": ", ".join(channel.modality for channel in self.channels)
            + f" ({_plural(len(self.channels), 'channel')}), "
            + "; ".join(f"{c.lowest:.4g} .. {c.highest:.4g}" for c in self.channels),
        }
        shown = self.class_facts[:6]
        rest = len(self.class_facts) - len(shown)
        found["Classes"] = ", ".join(f"{c.name} ({100 * c.share:.2g} %)" for c in shown) + (
            f" and {rest} more" if rest else ""
        )
        return found


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _range_text(numbers: NDArray[Any], form: str) -> str:
    """Return "35 x 51 x 35" (medians), with the range of each axis where it varies."""
    middle = " x ".join(form.format(n) for n in np.median(numbers, axis=0))
    low, high = numbers.min(axis=0), numbers.max(axis=0)
    if np.allclose(low, high, rtol=1e-3):
        return middle
    spread = ", ".join(
        f"{form.format(a)} to {form.format(b)}" if form.format(a) != form.format(b) else form.format(a)
        for a, b in zip(low, high, strict=True)
    )
    return f"{middle} at the median ({spread})"


# ---- measuring


def take_fingerprint(
    dataset: DatasetSpec,
    *,
    looked: Looked = lambda what, done, total: None,
    stopped: Callable[[], bool] = lambda: False,
    most_cases: int = MOST_CASES,
) -> Fingerprint:
    """Measure a data set.

    Parameters
    ----------
    looked
        Called as cases are read, for a progress bar.
    stopped
        Called between two cases; once it returns True, a `DataError` says that it was stopped.
    most_cases
        Labelled cases whose voxels are read at most.

    Raises
    ------
    DataError
        When no case with a label can be read, or no label holds a class.
    """
    listing = dataset.examine()
    problems = [p for p in listing.problems if p.severity == "error"]
    left_out = {p.case: None for p in problems if p.case}
    cases: dict[str, CaseShape] = {}
    for done, ref in enumerate(listing.cases, start=1):
        _go_on(stopped)
        shape, amiss = _header(ref)
        looked("headers", done, len(listing.cases))
        problems += amiss
        if shape is None:
            left_out[ref.id] = None
        else:
            cases[ref.id] = shape
    wrong = _other_channels(list(cases.values()))
    for problem in wrong:
        left_out[problem.case] = None
        del cases[problem.case]
    problems += wrong
    refs = {ref.id: ref for ref in listing.cases if ref.id in cases}
    _require_labels(cases, problems, len(listing.cases))
    classes = _classes(dataset, [ref for ref in refs.values() if ref.label is not None])
    mapping = ClassMap.from_classes(classes, dataset.other_labels, overlapping=dataset.overlapping)
    looks, amiss = _looks(
        [refs[i] for i, case in cases.items() if case.labelled], mapping, most_cases, looked, stopped
    )
    problems += amiss
    for problem in amiss:
        left_out[problem.case] = None
        cases.pop(problem.case, None)
        refs.pop(problem.case, None)
    _require_labels(cases, problems, len(listing.cases))
    return Fingerprint(
        dataset=dataset,
        cases=tuple(cases.values()),
        refs=refs,
        left_out=tuple(left_out),
        incomplete=tuple(name for name in left_out if name not in {ref.id for ref in listing.cases}),
        problems=tuple(problems),
        classes=classes,
        channels=_channels(looks),
        class_facts=_class_facts(mapping.names, looks),
        read=len(looks),
        nonzero=float(np.median([look.nonzero for look in looks])),
        turned=mirrored_classes(mapping.names),
    )


def _go_on(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise DataError("Reading the cases was stopped.")


def _header(ref: CaseRef) -> tuple[CaseShape | None, list[Problem]]:
    """Return a case's size, or None with the problem that keeps it from being used."""
    try:
        case = ref.open()
    except DataError as error:
        message = error.message.removeprefix(f"{ref.id}: ")
        return None, [Problem("error", "unreadable", message, error.remedy, ref.id)]
    if errors := [p for p in check_grids(case) if p.severity == "error"]:
        return None, errors
    grid = geometry.canonical_grid(case.images[0].shape, case.images[0].affine)
    x, y, z = grid.shape
    found = CaseShape(
        ref.id,
        ref.patient or ref.id,
        (x, y, z),
        geometry.spacing(grid.affine),
        len(case.images),
        case.label is not None,
    )
    return found, []


def _other_channels(cases: Sequence[CaseShape]) -> list[Problem]:
    """Return a problem for every case whose number of images differs from that of most."""
    if not cases:
        return []
    usual = Counter(case.channels for case in cases).most_common(1)[0][0]
    text = "It has {} image(s), most cases have {}."
    return [
        Problem(
            "error",
            "channels",
            text.format(case.channels, usual),
            "Every case needs the same images in the same order.",
            case.case,
        )
        for case in cases
        if case.channels != usual
    ]


def _require_labels(cases: Mapping[str, CaseShape], problems: Sequence[Problem], listed: int) -> None:
    if any(case.labelled for case in cases.values()):
        return
    if problems:
        first = problems[0]
        text = f"None of the {listed} cases can be trained on. {first.case}: {first.message}"
        raise DataError(text, first.remedy)
    raise DataError(
        f"None of the {listed} cases has a label.",
        "Training needs some: say where they are, e.g. with a list of images and labels (CSV).",
    )


def _classes(dataset: DatasetSpec, labelled: Sequence[CaseRef]) -> dict[str, tuple[int, ...]]:
    """Return the classes that the data set names or its readable labels hold."""
    try:
        return dataset.class_values()
    except DataError:
        # one label of many cannot be read: the others name the classes
        return present_values(labelled, skip=True)


# ---- voxels


@dataclass(frozen=True)
class _Look:
    """What the voxels of one case showed."""

    modalities: tuple[Modality, ...]
    ranges: tuple[tuple[float, float], ...]
    foreground: tuple[NDArray[np.float32], ...]
    counts: NDArray[np.int64]
    voxel_ml: float
    parts: Mapping[int, NDArray[np.int64]] | None
    nonzero: float


def _looks(
    refs: Sequence[CaseRef],
    classes: ClassMap,
    most: int,
    looked: Looked,
    stopped: Callable[[], bool],
) -> tuple[list[_Look], list[Problem]]:
    """Read voxels of labelled cases, spread evenly; cases that turn out unreadable are problems."""
    order = np.linspace(0, len(refs) - 1, min(most, len(refs))).round().astype(int)
    found: list[_Look] = []
    problems: list[Problem] = []
    voxels = 0
    for done, place in enumerate(order, start=1):
        _go_on(stopped)
        if voxels > MOST_VOXELS and len(found) >= FEWEST_CASES:
            break
        ref = refs[place]
        try:
            look, amiss, size = _remembered_look(ref, classes)
            if look is not None:
                found.append(look)
                voxels += size
        except DataError as error:
            message = error.message.removeprefix(f"{ref.id}: ")
            amiss = [Problem("error", "unreadable", message, error.remedy, ref.id)]
        problems += amiss[:1]
        looked("voxels", done, len(order))
    if not found:
        first = problems[0]
        raise DataError(f"No case can be read. {first.case}: {first.message}", first.remedy)
    return found, problems


def _remembered_look(ref: CaseRef, classes: ClassMap) -> tuple[_Look | None, list[Problem], int]:
    """Return what the voxels of a case showed, or what is wrong with it; and how many voxels its images have.

    It is remembered, without the case's name, until one of its files changes.
    """

    def find() -> Any:
        case = ref.open()
        amiss = [p for p in check_case(case, classes) if p.severity == "error"]
        if amiss:
            return {"amiss": [[p.severity, p.code, p.message, p.remedy] for p in amiss]}
        look = _look(case, classes)
        return {
            "amiss": [],
            "size": sum(image.array.size for image in case.images),
            "modalities": look.modalities,
            "ranges": look.ranges,
            "foreground": [values.tolist() for values in look.foreground],
            "counts": look.counts.tolist(),
            "voxel_ml": look.voxel_ml,
            "parts": None
            if look.parts is None
            else [[index, sizes.tolist()] for index, sizes in look.parts.items()],
            "nonzero": look.nonzero,
        }

    question = f"fingerprint, {ref.resample}, {ref.series}, {classes.plain()}"
    seen = remembered(question, lambda: case_identity(ref), find, newest=lambda: newest_change_of(ref))
    if seen["amiss"]:
        amiss = [Problem(s, code, text, remedy, ref.id) for s, code, text, remedy in seen["amiss"]]
        return None, amiss, 0
    parts = seen["parts"]
    look = _Look(
        modalities=tuple(seen["modalities"]),
        ranges=tuple((low, high) for low, high in seen["ranges"]),
        foreground=tuple(np.asarray(values, np.float32) for values in seen["foreground"]),
        counts=np.asarray(seen["counts"], np.int64),
        voxel_ml=seen["voxel_ml"],
        parts=None if parts is None else {index: np.asarray(sizes, np.int64) for index, sizes in parts},
        nonzero=seen["nonzero"],
    )
    return look, [], seen["size"]


def _look(case: Case, classes: ClassMap) -> _Look:
    assert case.label is not None
    indices = classes.encode(np.asarray(case.label.array))
    counts = np.bincount(indices.ravel(order="K"), minlength=256)
    marked = (indices > 0) & (indices != IGNORED)
    foreground = []
    for image in case.images:
        values = image.array[marked]
        values = values[:: max(1, len(values) // SAMPLES)].astype(np.float32)
        foreground.append(values[np.isfinite(values)])
    small = len(classes.names) <= MOST_COMPONENT_CLASSES
    return _Look(
        modalities=tuple(image.modality for image in case.images),
        ranges=tuple(_range(image.array) for image in case.images),
        foreground=tuple(foreground),
        counts=classes.scheme.class_counts(counts, len(classes.names)),
        voxel_ml=case.label.voxel_ml,
        parts=_parts(indices, classes) if small else None,
        nonzero=_box_share([np.asarray(image.array) for image in case.images]),
    )


def _range(array: NDArray[Any]) -> tuple[float, float]:
    return float(np.nanmin(array)), float(np.nanmax(array))


def _parts(indices: NDArray[np.uint8], classes: ClassMap) -> dict[int, NDArray[np.int64]]:
    """Return class index -> voxels of each connected part (26 neighbours), within the box of the class."""
    found: dict[int, NDArray[np.int64]] = {}
    scheme, count = classes.scheme, len(classes.names)
    boxes = ndimage.find_objects(indices, max_label=scheme.indices(count) - 1)
    for index in range(1, count + 1):
        own = [box for at, box in enumerate(boxes, 1) if box and index in scheme.class_indices(at)]
        if own:
            box = tuple(
                slice(min(s.start for s in axis), max(s.stop for s in axis))
                for axis in zip(*own, strict=True)
            )
            parts, _ = ndimage.label(scheme.mask(indices[box], index), np.ones((3, 3, 3), bool))
            found[index] = np.bincount(parts.ravel())[1:]
    return found


def _box_share(images: Sequence[NDArray[Any]]) -> float:
    """Return which share of an image the box around what is not 0 in any of the images takes."""
    ends: list[tuple[int, int]] = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(np.any([(image != 0).any(axis=others) for image in images], axis=0))
        if not len(filled):
            return 1.0
        ends.append((int(filled[0]), int(filled[-1]) + 1))
    return math.prod(end - first for first, end in ends) / images[0].size


def _channels(looks: Sequence[_Look]) -> tuple[ChannelFacts, ...]:
    found = []
    for channel in range(len(looks[0].modalities)):
        modalities = [look.modalities[channel] for look in looks]
        values = np.concatenate([look.foreground[channel] for look in looks])
        low, middle, high = np.percentile(values, (0.5, 50, 99.5)) if len(values) else (0.0, 0.0, 0.0)
        found.append(
            ChannelFacts(
                modality=Counter(sorted(modalities)).most_common(1)[0][0],
                foreground=(float(low), float(middle), float(high)),
                lowest=min(look.ranges[channel][0] for look in looks),
                highest=max(look.ranges[channel][1] for look in looks),
            )
        )
    return tuple(found)


def _class_facts(names: Sequence[str], looks: Sequence[_Look]) -> tuple[ClassFacts, ...]:
    total = sum(int(look.counts.sum()) for look in looks)
    found = []
    for index, name in enumerate(names, start=1):
        having = [look for look in looks if look.counts[index]]
        volumes = [look.counts[index] * look.voxel_ml for look in having]
        counted = [look for look in having if look.parts is not None]
        sizes = [1000 * look.voxel_ml * n for look in counted for n in (look.parts or {}).get(index, ())]
        numbers = [len((look.parts or {}).get(index, ())) for look in counted]
        found.append(
            ClassFacts(
                name=name,
                cases=len(having),
                share=sum(int(look.counts[index]) for look in having) / max(total, 1),
                volume_ml=float(np.median(volumes)) if volumes else 0.0,
                components=float(np.median(numbers)) if numbers else None,
                small_mm3=float(np.percentile(sizes, 10)) if sizes else None,
            )
        )
    return tuple(found)


# ---- classes that are each other's mirror image

_OPPOSITES = (
    (("left", "right"), ("l", "r"), ("lt", "rt"), ("lh", "rh")),
    (("anterior", "posterior"), ("front", "back"), ("ventral", "dorsal")),
    (("superior", "inferior"), ("upper", "lower"), ("cranial", "caudal"), ("head", "tail")),
)
"""Words for the two ends of the axes x, y and z; one letter counts only where it is a word of its own."""


def mirrored_classes(
    names: Sequence[str],
) -> tuple[tuple[str, str] | None, tuple[str, str] | None, tuple[str, str] | None]:
    """Return per axis x, y, z two classes that mirroring along it would exchange, by their names; else None."""
    split = {tuple(_words(name)): name for name in names}

    def pair(words: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
        for one, other in words:
            for parts, name in split.items():
                turned = tuple(other if part == one else part for part in parts)
                if turned != parts and turned in split:
                    return name, split[turned]
        return None

    x, y, z = (pair(words) for words in _OPPOSITES)
    return x, y, z


def _words(name: str) -> list[str]:
    """Return the words of a class's name in lower case: "Parotid_L" gives parotid and l, "KidneyLeft" two too."""
    spaced = "".join(f" {c}" if c.isupper() and before.islower() else c for before, c in _pairs(name))
    return "".join(c if c.isalnum() else " " for c in spaced).lower().split()


def _pairs(name: str) -> list[tuple[str, str]]:
    return list(zip(f" {name}", name, strict=False))
