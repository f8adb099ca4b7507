"""Whether the classes of a data set overlap: what its description says, and what its labels hold.

Labels with a mask for each class, in files or in the volumes of one file, may give a voxel to several classes. Some
cases are read, and every two masks compared. Neighbours that were drawn by hand share a few voxels of their border;
a tumour in an organ, or a core in a whole, shares a good part of the smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.case import CaseRef
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.data.formats.voxels import SeveralVolumesError
from segexplorer.data.io import open_volume
from segexplorer.data.sources import MOST_TOGETHER, Structures, one_hot_masks, sums_with, without_background

CASES = 4
"""Labelled cases that are read, spread evenly."""
SHARED = 0.1
"""Part of the smaller of two classes, at the median of the cases, in the other one from which on they overlap."""


@dataclass(frozen=True)
class Overlap:
    """What was found.

    Attributes
    ----------
    reason
        A sentence; empty where classes exclude each other, as far as is known.
    settings
        Of the data set, which make its classes overlap.
    problem
        Where classes overlap and cannot be trained so.
    """

    reason: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    problem: Problem | None = None


def find_overlap(dataset: DatasetSpec, *, stopped: Callable[[], bool] = lambda: False) -> Overlap:
    """Return whether classes overlap that were taken to exclude each other; slow where labels are masks.

    Classes that were chosen, and a data set that says so itself, are left as they are.

    Parameters
    ----------
    stopped
        Called between two cases; once it returns True, nothing more is read.
    """
    if dataset.overlapping or dataset.classes:
        return Overlap()
    if declared := dataset.declared_overlap():
        return Overlap(declared, {"overlapping": True})
    labelled = [ref for ref in dataset.examine().cases if ref.label is not None]
    places = np.linspace(0, len(labelled) - 1, min(CASES, len(labelled))).round().astype(int)
    read: list[Mapping[str, NDArray[np.intp]]] = []
    for place in places:
        if stopped():
            break
        masks = _masks(labelled[place])
        if masks is None:  # a label map: a voxel has one value
            return Overlap()
        read.append(masks)
    pair = _largest(read)
    if pair is None:
        return Overlap()
    small, large, share = pair
    names = list(dict.fromkeys(name for masks in read for name in masks))
    within = "is within" if share > 0.995 else f"lies to {100 * share:.0f} % in"
    reason = f"{small} {within} {large} (median of {len(read)} cases), so a voxel may be of several classes."
    if len(names) > MOST_TOGETHER:
        text = f"{small} {within} {large}; of {len(names)} classes the later one wins there."
        remedy = (
            f"To train both whole, name at most {MOST_TOGETHER} structures (data.order) and set "
            "data.overlapping: true."
        )
        return Overlap(problem=Problem("warning", "overlap", text, remedy))
    if isinstance(labelled[0].label, Structures):
        return Overlap(reason, {"overlapping": True})
    named = _names(dataset, len(names))
    values = {name: list(sums_with(2**place, len(named))) for place, name in enumerate(named)}
    return Overlap(
        f"{reason} Values of the label are sums of 1, 2, 4 ... for its volumes.",
        {"overlapping": True, "classes": values},
    )


def shared_by_classes(classes: Mapping[str, int | Sequence[int]]) -> str:
    """Return the sentence that says why classes overlap whose label values are given; empty where they do not."""
    owner: dict[int, str] = {}
    for name, given in classes.items():
        for value in (given,) if isinstance(given, int) else given:
            if value in owner:
                return f"{owner[value]} and {name} share the label value {value}."
            owner[value] = name
    return ""


def _masks(ref: CaseRef) -> dict[str, NDArray[np.intp]] | None:
    """Return class -> the flat places of its voxels; None where the label is one map, or cannot be read."""
    label = ref.label
    try:
        if isinstance(label, Structures):
            if len({value for value, _, _ in label.parts}) < len(label.parts):
                return None  # several masks of one thing
            shapes: set[tuple[int, ...]] = set()
            found: dict[str, NDArray[np.intp]] = {}
            for _, name, path in label.parts:
                mask = np.asarray(open_volume(path, label=True).array)
                shapes.add(mask.shape)
                found[name] = np.flatnonzero(mask > 0)
            return found if len(shapes) == 1 else None
        if isinstance(label, Path):
            try:
                open_volume(label, label=True)
            except SeveralVolumesError as error:
                if len(error.counts) != 1:
                    return None
                parts = [open_volume(label, label=True, select=n) for n in range(error.counts[0])]
                masks = without_background(list(one_hot_masks(parts, label.name)))
                return {f"class {n}": np.flatnonzero(mask) for n, mask in enumerate(masks, start=1)}
    except DataError:
        return None
    return None


def _largest(read: Sequence[Mapping[str, NDArray[np.intp]]]) -> tuple[str, str, float] | None:
    """Return the smaller and the larger of the two classes that share most, and which part of the smaller one."""
    shares: dict[tuple[str, str], list[float]] = {}
    sizes: dict[str, int] = {}
    for masks in read:
        for name, places in masks.items():
            sizes[name] = sizes.get(name, 0) + len(places)
        everything = np.concatenate([*masks.values(), np.zeros(0, np.intp)])
        at, counts = np.unique(everything, return_counts=True)
        double = at[counts > 1]
        own = {name: np.intersect1d(places, double) for name, places in masks.items()} if len(double) else {}
        for one, other in combinations(sorted(masks), 2):
            least = min(len(masks[one]), len(masks[other]))
            if least:
                both = len(np.intersect1d(own[one], own[other])) if own else 0
                shares.setdefault((one, other), []).append(both / least)
    medians = {pair: float(np.median(found)) for pair, found in shares.items()}
    pair = max(medians, key=lambda p: medians[p], default=None)
    if pair is None or medians[pair] < SHARED:
        return None
    small, large = sorted(pair, key=lambda name: sizes[name])
    return small, large, medians[pair]


def _names(dataset: DatasetSpec, count: int) -> tuple[str, ...]:
    """Return names for the volumes of a label: those of its values, where there is one for each volume."""
    try:
        named = dataset.named_values()
    except DataError:
        named = {}
    one_each = sorted((values[0], name) for name, values in named.items() if len(values) == 1)
    if len(one_each) == count and not any(name == f"label {value}" for value, name in one_each):
        return tuple(name for _, name in one_each)
    return tuple(f"class {number}" for number in range(1, count + 1))
