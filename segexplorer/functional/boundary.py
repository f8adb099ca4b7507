"""Distances to boundaries, in mm: Euclidean transforms of masks, their signed form, and border voxels.

The distance of a voxel is that of its centre to the nearest centre of the opposite phase.
All maps are made on the CPU and have no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

Spacing = Sequence[float] | None


def unsigned_distance(mask: np.ndarray, spacing: Spacing = None) -> np.ndarray:
    """Return float64 distances to the opposite phase in both phases; zeros where there is one phase only.

    Parameters
    ----------
    mask
        (*spatial) bool.
    spacing
        mm per axis, 1 where None.
    """
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    distances: np.ndarray = _depths(mask, spacing) + _depths(~mask, spacing)
    return distances


def signed_distance(mask: np.ndarray, spacing: Spacing = None) -> np.ndarray:
    """Return +d outside and -(d - step) inside, step the smallest spacing; zeros where there is one phase only.

    As in Kervadec 2019, arXiv:1812.07032, the object's own border voxels have the value 0.
    """
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    step = 1.0 if spacing is None else float(min(spacing))
    distances: np.ndarray = _depths(~mask, spacing) - (_depths(mask, spacing) - step) * mask
    return distances


def _depths(mask: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return float64 distances of a mask's voxels to the nearest off voxel, of which there is one; 0 off the mask.

    It is enough to look at the box of the mask, grown by one voxel: an off voxel beyond it, moved to the nearest
    voxel of the grown box, stays off and comes no farther from any voxel of the mask.
    """
    box = tuple(_extent(mask, axis) for axis in range(mask.ndim))
    part = mask[box]
    # scipy's own distances of all axes at once take most of its time; the same numbers, axis by axis, a third
    nearest = ndimage.distance_transform_edt(
        part, sampling=spacing, return_distances=False, return_indices=True
    )
    squares = np.zeros(part.shape)
    for axis, indices in enumerate(nearest):
        own = np.arange(part.shape[axis], dtype=indices.dtype)
        indices -= own.reshape([-1 if a == axis else 1 for a in range(part.ndim)])
        steps = indices * (1.0 if spacing is None else float(spacing[axis]))
        squares += np.square(steps, out=steps)
    found = np.zeros(mask.shape)
    np.sqrt(squares, out=found[box])
    return found


def _extent(mask: np.ndarray, axis: int) -> slice:
    """Return the range of a mask along an axis, with one voxel more at both ends."""
    places = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
    return slice(max(int(places[0]) - 1, 0), int(places[-1]) + 2)


def maps(
    masks: Tensor, distance: Callable[[np.ndarray, Spacing], np.ndarray], spacing: np.ndarray | None = None
) -> Tensor:
    """Return the distance of every mask, as (B, C, *spatial) in float64 on the masks' device.

    Parameters
    ----------
    masks
        (B, C, *spatial) bool.
    spacing
        (B, D) in mm, or None.
    """
    arrays = masks.cpu().numpy()
    found = [
        np.stack([distance(mask, None if spacing is None else spacing[b].tolist()) for mask in sample])
        for b, sample in enumerate(arrays)
    ]
    return torch.from_numpy(np.stack(found)).to(masks.device)


def border_count(masks: Tensor) -> Tensor:
    """Return (C,) numbers of object voxels with a face neighbour outside; the volume's edge is outside.

    Parameters
    ----------
    masks
        (B, C, *spatial) bool.
    """
    whole = masks.clone()
    for axis in range(2, masks.ndim):
        size = masks.shape[axis]
        for start in (0, size - 1):
            whole.select(axis, start).fill_(False)
        if size > 2:
            middle = whole.narrow(axis, 1, size - 2)
            middle &= masks.narrow(axis, 0, size - 2)
            middle &= masks.narrow(axis, 2, size - 2)
    return (masks & ~whole).flatten(2).sum((0, 2))


def border_of_labels(labels: Tensor, classes: int) -> Tensor:
    """Return (C,) numbers of voxels of each class with a face neighbour of another; the volume's edge is another.

    Parameters
    ----------
    labels
        (B, *spatial) class indices; those from `classes` on belong to no class.
    """
    border = torch.zeros_like(labels, dtype=torch.bool)
    for axis in range(1, labels.ndim):
        size = labels.shape[axis]
        for edge in (0, size - 1):
            border.select(axis, edge).fill_(True)
        differs = labels.narrow(axis, 0, size - 1) != labels.narrow(axis, 1, size - 1)
        border.narrow(axis, 0, size - 1).logical_or_(differs)
        border.narrow(axis, 1, size - 1).logical_or_(differs)
    if labels.device.type != "cpu":
        return counted_on_device(labels, border, classes)
    found = labels[border]
    return torch.bincount(found[found < classes].long(), minlength=classes)


def counted_on_device(labels: Tensor, where: Tensor, classes: int) -> Tensor:
    """Return (C,) voxels of each class, neither indexing by a mask nor by `bincount`, which wait for the device."""
    counted = torch.where(where & (labels < classes), labels, classes).flatten().long()
    counts = counted.new_zeros(classes + 1)
    return counts.scatter_add_(0, counted, torch.ones_like(counted))[:classes]


def nearness(labels: Tensor, spacing: np.ndarray | None = None) -> Tensor:
    """Return (B, *spatial) weights: 1 beside another class, 0 at the largest distance within the own class.

    A class that is one layer thin has 1 throughout, a sample of one class 0.
    """
    arrays = labels.cpu().numpy()
    mm = [None if spacing is None else spacing[b].tolist() for b in range(len(arrays))]
    found = [nearness_of(sample, own) for sample, own in zip(arrays, mm, strict=True)]
    return torch.from_numpy(np.stack(found)).to(labels.device)


def nearness_of(labels: np.ndarray, spacing: Spacing = None) -> np.ndarray:
    """Return the nearness of one sample's labels (*spatial), float64."""
    found = np.zeros(labels.shape)
    present = np.unique(labels)
    for value in present if len(present) > 1 else ():
        mask = labels == value
        inside = ndimage.distance_transform_edt(mask, sampling=spacing)[mask]
        span = inside.max() - (1.0 if spacing is None else min(spacing))
        found[mask] = np.clip((inside.max() - inside) / span, 0, 1) if span > 1e-9 else 1.0
    return found
