"""Distance maps of whole volumes, made once per case, kept in two bytes per voxel, and cut with the patches.

A patch's own map would end at the patch: an object cut by its border, or just beyond it, gives other distances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme

SIGNED, UNSIGNED, NEARNESS = "signed distances", "unsigned distances", "nearness"
"""Names of maps, in a loss's `requires` and in `LossContext.distance_maps`."""

MAPS = (SIGNED, UNSIGNED, NEARNESS)
_STEPS = {SIGNED: 64.0, UNSIGNED: 64.0, NEARNESS: 2.0**14}
"""Steps per mm, or per 1: distances reach 512 mm in steps of 1/64 mm."""


def stored_map(
    name: str,
    labels: NDArray[np.uint8],
    classes: int,
    spacing: Sequence[float],
    scheme: LabelScheme = EXCLUSIVE,
) -> NDArray[np.int16]:
    """Return a map of a whole volume as it is kept.

    Parameters
    ----------
    name
        `SIGNED`, `UNSIGNED` or `NEARNESS`.
    labels
        (x, y, z) label indices; other values (ignored voxels) count as background.
    classes
        Their number, background included.
    spacing
        mm along x, y, z.
    scheme
        What the label indices mean.

    Returns
    -------
    (classes, x, y, z) for distances, zeros for classes that are absent and for the background's unsigned ones;
    (1, x, y, z) for nearness, which classes that overlap have each by itself.
    """
    count, made = class_maps(name, labels, classes, spacing, scheme)
    result = np.zeros((count, *labels.shape), np.int16)
    for channel, found in enumerate(made):
        if found is not None:
            result[channel] = found
    return result


def class_maps(
    name: str,
    labels: NDArray[np.uint8],
    classes: int,
    spacing: Sequence[float],
    scheme: LabelScheme = EXCLUSIVE,
) -> tuple[int, Iterator[NDArray[np.int16] | None]]:
    """Return how many channels a map has, and its channels one after the other; None for one of zeros."""
    from segexplorer.functional.boundary import nearness_of, signed_distance, unsigned_distance

    known = np.where(labels < scheme.indices(classes - 1), labels, 0)
    if name == NEARNESS and not scheme.overlapping:
        found = nearness_of(known, list(spacing))
        return 1, iter([np.round(found * _STEPS[name]).astype(np.int16)])
    distance: Callable[..., NDArray[np.float64]] = {
        SIGNED: signed_distance,
        UNSIGNED: unsigned_distance,
        NEARNESS: nearness_of,
    }[name]
    present = scheme.class_counts(np.bincount(known.ravel(), minlength=256), classes - 1) > 0

    def channels() -> Iterator[NDArray[np.int16] | None]:
        for c in range(classes):
            if not present[c] or (c == 0 and name != SIGNED):
                yield None
                continue
            steps = distance(scheme.mask(known, c), list(spacing)) * _STEPS[name]
            yield np.clip(np.round(steps), -32767, 32767).astype(np.int16)

    return classes, channels()


def channels_of(name: str, classes: int, scheme: LabelScheme = EXCLUSIVE) -> int:
    """Return how many channels a map has."""
    return 1 if name == NEARNESS and not scheme.overlapping else classes


def as_numbers(name: str, stored: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return a map, or a piece of it, in mm (nearness: 0 to 1)."""
    return np.asarray(stored, np.float32) / np.float32(_STEPS[name])
