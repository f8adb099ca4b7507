"""One case of somebody's results, opened to be looked at: its classes on one grid, probabilities, explanation.

`open_result` gives prediction and truth as class indices, as the window, the error list and 3D Slicer take them.
`OpenedResult.probabilities` and `OpenedResult.explanation` are there where the program kept its probabilities
(.npz of nnU-Net): with them the decision can be moved and any loss be asked, without a training of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, did_you_mean
from segexplorer.data.case import CaseRef, ClassMap, Source, integer_labels
from segexplorer.data.grid import aligned
from segexplorer.data.results.base import ResultCase, ResultListing
from segexplorer.data.results.probabilities import read_probabilities, read_region_probabilities
from segexplorer.data.volume import Volume, value_counts
from segexplorer.training.label_pairs import (
    Classes,
    EncodedPair,
    encode_pair,
    open_label_source,
    overlap,
)
from segexplorer.training.result_scores import comparable_sources, with_class_values
from segexplorer.training.snapshots import WatchedSnapshot

if TYPE_CHECKING:
    from segexplorer.training.explanation import Explanation, LossLike

ELSEWHERE = "predicted elsewhere"
"""Said of every such prediction: nobody here knows what its network was trained on."""
NO_PROBABILITIES = (
    "This prediction has no probabilities.",
    "nnU-Net keeps them with nnUNetv2_predict --save_probabilities, or with --npz when it trains.",
)


@dataclass(frozen=True)
class OpenedResult:
    """A predicted case on one grid.

    Attributes
    ----------
    snapshot
        Prediction and truth as label indices, with the names of the classes, which overlap where the folder's do
        (regions); the truth is None without a label.
    grid
        The volume whose grid they are on: the truth, or without one the prediction.
    source
        What the result folder says of the case.
    values
        Label values of each class in the prediction; empty where the folder does not name them.
    regions
        Label values of each region whose probabilities the folder keeps, in their order; empty where it keeps those
        of single label values.
    notes
        What was done to bring prediction and truth together.
    """

    snapshot: WatchedSnapshot
    grid: Volume
    source: ResultCase
    values: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def has_probabilities(self) -> bool:
        """Whether an archive of probabilities lies beside the prediction."""
        return self.source.probabilities is not None

    def probabilities(self) -> NDArray[np.float32]:
        """Return (1 + classes, i, j, k) probabilities on the grid of the snapshot, background first; slow.

        Of classes that overlap, each has its own (a sigmoid), and the background what the likeliest one leaves.

        Raises
        ------
        DataError
            When there are none, or they do not belong to the prediction.
        """
        path, prediction = self.source.probabilities, self.source.prediction
        if path is None:
            raise DataError(*NO_PROBABILITIES)
        if not self.values:
            raise DataError(
                "The results do not name their classes, so it is not known whose probabilities these are.",
                "Name them, e.g. --classes '{liver: 1}', or put dataset.json beside the predictions.",
            )
        opened = open_label_source(prediction)
        classes = np.zeros((len(self.snapshot.class_names), *opened.shape), np.float32)
        if self.regions:
            channels = read_region_probabilities(path, opened, tuple(self.regions.values()))
            of_region = {frozenset(v): c for v, c in zip(self.regions.values(), channels, strict=True)}
            for own, name in zip(classes, self.snapshot.class_names, strict=True):
                channel = of_region.get(frozenset(self.values.get(name, ())))
                if channel is None:
                    raise DataError(
                        f"The probabilities are those of {', '.join(self.regions)}, not of {name}.",
                        "Choose among these classes.",
                    )
                own += channel
        else:
            channels = read_probabilities(path, opened)
            for own, name in zip(classes, self.snapshot.class_names, strict=True):
                for value in self.values.get(name, ()):
                    if 0 < value < len(channels):
                        own += channels[value]
        return self._with_background(self._placed(classes, opened))

    def _with_background(self, classes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (1 + classes, ...): the background has what the classes leave, or the likeliest that overlaps."""
        taken = classes.max(axis=0) if self.snapshot.scheme.overlapping else classes.sum(axis=0)
        return np.concatenate([np.maximum(0.0, 1.0 - taken)[np.newaxis], classes])

    def _placed(self, classes: NDArray[np.float32], opened: Volume) -> NDArray[np.float32]:
        """Return probabilities of the prediction's own grid on that of the snapshot, 0 beyond it."""
        if opened.shape == self.grid.shape and np.allclose(opened.affine, self.grid.affine):
            return classes
        moved = [
            aligned(
                Volume.from_array(channel, affine=opened.affine), self.grid, label=True, resample=True
            ).array
            for channel in classes
        ]
        return np.stack([np.asarray(channel, np.float32) for channel in moved])

    def explanation(self, loss: LossLike = "cross_entropy") -> Explanation:
        """Return what a loss asks for at every voxel of this case; see `segexplorer.explain`.

        Raises
        ------
        DataError
            When there is no label, or there are no probabilities.
        """
        from segexplorer.training.explanation import explain_arrays

        truth = self.snapshot.truth
        if truth is None:
            raise DataError(
                f"{self.snapshot.case} has no label, so no loss can be asked about it.",
                "Open the results with the folder of the labels.",
            )
        made = explain_arrays(
            truth,
            probabilities=self.probabilities(),
            loss=loss,
            class_names=self.snapshot.class_names,
            affine=self.snapshot.affine,
            scheme=self.snapshot.scheme,
        )
        return replace(made, case=self.snapshot.case, badge=self.snapshot.badge)


def open_result(
    listing: ResultListing,
    case: str,
    *,
    classes: Classes | None = None,
    names: Sequence[str] = (),
    resample: bool = False,
) -> OpenedResult:
    """Open a case of a result folder; slow, for a worker.

    Parameters
    ----------
    listing
        What the folder holds.
    case
        Id of the case.
    classes
        Class name -> label values, where they are not those of the folder.
    names
        Classes that the case shall have in this order, so that class 2 is the same one in every case; others that
        occur come after them.
    resample
        Whether a prediction on another lattice is resampled onto the truth's.

    Raises
    ------
    DataError
        When there is no such case, a file cannot be read, or the grids do not fit.
    """
    found = find_case(listing, case)
    given = classes or listing.classes or {}
    overlapping = overlap(given)
    shown = {name: _values(given[name]) for name in dict.fromkeys([*names, *given]) if name in given} or None
    if found.truth is None:
        pair = _alone(with_class_values(found.prediction, shown), shown, overlapping)
    else:
        prediction, truth = comparable_sources(found.prediction, found.truth, shown)
        pair = encode_pair(
            prediction, truth, shown, resample=resample, ignored=listing.ignored, overlapping=overlapping
        )
    order = list(pair.names if overlapping else dict.fromkeys([*names, *pair.names]))
    if len(order) >= 255:
        raise DataError(f"{len(order)} classes are too many to show.", "Choose some with --classes.")
    table = np.arange(256, dtype=np.uint8)
    for index, name in enumerate(pair.names, start=1):
        table[index] = order.index(name) + 1
    same = tuple(order[: len(pair.names)]) == pair.names
    snapshot = WatchedSnapshot(
        case=found.id,
        role="test",
        step=0,
        index=0,
        class_names=tuple(order),
        affine=np.asarray(pair.grid.affine, np.float64),
        prediction=pair.prediction if same else table[pair.prediction],
        truth=None if found.truth is None else pair.truth if same else table[pair.truth],
        badge=", ".join(part for part in (ELSEWHERE, found.badge) if part),
        scheme=pair.scheme,
    )
    regions = {n: _values(v) for n, v in listing.classes.items()} if overlap(listing.classes) else {}
    return OpenedResult(snapshot, pair.grid, found, shown or {}, pair.notes, regions)


def find_case(listing: ResultListing, case: str) -> ResultCase:
    """Return a case of a listing by its id.

    Raises
    ------
    DataError
        When there is none.
    """
    for found in listing.cases:
        if found.id == case:
            return found
    raise DataError(f"There is no case {case}.", did_you_mean(case, [c.id for c in listing.cases]))


def image_of_result(listing: ResultListing, case: str) -> CaseRef | None:
    """Return the first image of a case, without its label, which may be on another grid; None without image."""
    found = find_case(listing, case)
    return CaseRef(found.id, found.images[:1]) if found.images else None


def _alone(
    prediction: Source, classes: Mapping[str, tuple[int, ...]] | None, overlapping: bool
) -> EncodedPair:
    """Return a prediction without truth."""
    opened = open_label_source(prediction)
    array = integer_labels(np.asarray(opened.array))
    if classes is None:
        known = opened.label_names
        present = [value for value in value_counts(array) if value > 0]
        classes = {known.get(value, f"label {value}"): (value,) for value in present}
    empty = np.zeros(array.shape, np.uint8)
    if not classes:
        return EncodedPair((), empty, empty, opened)
    mapping = ClassMap.from_classes(classes, overlapping=overlapping)
    return EncodedPair(mapping.names, mapping.encode(array), empty, opened, scheme=mapping.scheme)


def _values(given: int | Sequence[int]) -> tuple[int, ...]:
    return (given,) if isinstance(given, int) else tuple(given)
