"""A prediction that the user has in layers: an image, a label and probabilities become results of one case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data.case import CaseRef
from segexplorer.data.geometry import compare
from segexplorer.data.volume import Volume
from segexplorer.training.explanation import Explanation, explain_arrays
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.reality import Results

OF_LAYERS = "layers"
"""Key of results that come from layers."""


def results_of_layers(
    name: str,
    label: Volume,
    probabilities: Sequence[Volume],
    image: Volume | None = None,
    names: Mapping[int, str] | None = None,
) -> Results:
    """Return the results of one case, whose loss can be asked about; slow, for a worker.

    Parameters
    ----------
    name
        How the case is called.
    label
        Class indices 0, 1, ..., with 255 for voxels that do not count; or as many other values as there are
        foreground classes, which are taken in their order.
    probabilities
        One volume per class with the background first, or one alone: that of a single foreground class. Floats from
        0 to 1, or whole numbers up to 255, which stands for 1.
    image
        What is shown under it.
    names
        Label value -> name of its class.

    Raises
    ------
    DataError
        When they are on different grids, or the values are no probabilities or do not fit the label.
    """
    if not probabilities:
        raise DataError("There are no probabilities.", "Choose an image layer that holds them.")
    for what, volume in (("probabilities", probabilities[0]), ("image", image)):
        found = None if volume is None else compare(label, volume)
        if found is not None and not found.same:
            raise DataError(
                f"The label and the {what} are not on one grid: {found.text}.",
                "Bring them onto one grid first: segexplorer regrid.",
            )
    given = _probabilities([np.asarray(volume.array) for volume in probabilities])
    truth, classes = _truth(np.asarray(label.array), len(given), names or {})
    prediction = given.argmax(0).astype(np.uint8)
    affine = np.asarray(label.affine, np.float64)
    snapshot = WatchedSnapshot(
        case=name,
        role="test",
        step=0,
        index=0,
        class_names=classes,
        affine=affine,
        prediction=prediction,
        truth=truth,
        badge="layers of the viewer",
    )

    def explain(_: str) -> Explanation:
        made = explain_arrays(truth, probabilities=given, class_names=classes, affine=affine)
        return replace(made, case=name, badge=snapshot.badge)

    ref = CaseRef(name, (image if image is not None else label,), label)
    return Results(
        f"{OF_LAYERS}: {name}",
        (name,),
        classes,
        lambda _: snapshot,
        lambda _: ref,
        title=name,
        explain=explain,
    )


def _probabilities(given: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """Return (C, x, y, z) probabilities with the background first: floats, or uint8 with 255 for 1."""
    stack = np.stack(given)
    whole = np.issubdtype(stack.dtype, np.integer)
    low, high = float(stack.min()), float(stack.max())
    limit = 255.0 if whole and high > 1 else 1.0
    if not np.isfinite((low, high)).all() or low < 0 or high > limit * (1 + 1e-3):
        raise DataError(
            f"The values go from {low:.3g} to {high:.3g}, so they are no probabilities.",
            "Choose a layer with values from 0 to 1, or from 0 to 255.",
        )
    stack = stack.astype(np.uint8) if limit == 255 else np.clip(stack.astype(np.float32), 0, 1)
    if len(stack) > 1:
        return stack
    rest = 255 - stack if limit == 255 else 1 - stack
    both: NDArray[np.generic] = np.concatenate([rest, stack])
    return both


def _truth(
    values: NDArray[np.generic], count: int, names: Mapping[int, str]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return (x, y, z) class indices, and the names of the foreground classes."""
    present = [int(value) for value in np.unique(values) if value not in (0, IGNORED)]
    own = list(range(1, count))
    if set(present) <= set(own):
        chosen = own
    elif len(present) == count - 1:
        chosen = present
    else:
        shown = ", ".join(map(str, present[:8]))
        raise DataError(
            f"The label has the values {shown}, and there are probabilities of {count - 1} foreground classes.",
            f"Give a label with values from 0 to {count - 1}.",
        )
    truth = np.zeros(values.shape, np.uint8)
    truth[values == IGNORED] = IGNORED
    for index, value in enumerate(chosen, 1):
        truth[values == value] = index
    return truth, tuple(names.get(value, f"class {value}") for value in chosen)
