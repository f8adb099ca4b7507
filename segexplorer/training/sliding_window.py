"""Prediction of whole volumes by sliding windows, one window at a time, so that a run can be stopped between.

Positions and the Gaussian weights are MONAI's (`dense_patch_slices`, `compute_importance_map`); MONAI's own
`sliding_window_inference` does not yield, so the loop over them is here. The result equals theirs up to rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from segexplorer.training.compute import Runtime


def window_slices(shape: Sequence[int], patch: Sequence[int], overlap: float) -> list[tuple[slice, ...]]:
    """Return the windows that cover a volume at least as large as the patch, the last ones moved inwards."""
    from monai.data.utils import dense_patch_slices

    interval = tuple(
        max(1, int(p * (1 - overlap))) if p < s else p for p, s in zip(patch, shape, strict=True)
    )
    slices: list[tuple[slice, ...]] = dense_patch_slices(tuple(shape), tuple(patch), interval)
    return slices


def window_count(shape: Sequence[int], patch: Sequence[int], overlap: float) -> int:
    """Return how many windows cover a volume; one smaller than the patch is padded to it."""
    return len(window_slices([max(n, p) for n, p in zip(shape, patch, strict=True)], patch, overlap))


def predict_logits(
    network: torch.nn.Module,
    image: torch.Tensor,
    *,
    classes: int,
    patch: Sequence[int],
    overlap: float,
    runtime: Runtime,
    mirror: bool = False,
    only: tuple[slice, ...] | None = None,
) -> Generator[tuple[int, int], None, torch.Tensor]:
    """Predict a volume, yielding (windows done, windows in all) after each window.

    Parameters
    ----------
    network
        In evaluation mode, on the runtime's device.
    image
        (1, channels, *spatial) on any device.
    classes
        Number of output channels.
    patch
        Window size in voxels; larger than the volume is padded with the volume's smallest value and cut off.
    overlap
        Fraction by which neighbouring windows overlap, 0 to below 1.
    mirror
        Average over the mirrored windows of every combination of axes.
    only
        Predict only windows that touch this part; elsewhere the result is 0.

    Returns
    -------
    (1, classes, *spatial) float32 logits, on the CPU, Gaussian-weighted means of the windows.
    """
    import torch
    from monai.data.utils import compute_importance_map

    spatial = tuple(image.shape[2:])
    padded, inner = _padded(image, patch)
    windows = window_slices(padded.shape[2:], patch, overlap)
    if only is not None:
        shifted = [slice(o.start + i.start, o.stop + i.start) for o, i in zip(only, inner, strict=True)]
        windows = [w for w in windows if _touches(w, shifted)]
    importance = compute_importance_map(tuple(patch), mode="gaussian", sigma_scale=0.125).clamp_min(1e-3)
    total = torch.zeros((1, classes, *padded.shape[2:]))
    weight = torch.zeros((1, 1, *padded.shape[2:]))
    for done, window in enumerate(windows, start=1):
        at = (slice(None), slice(None), *window)
        with torch.inference_mode():
            logits = _forward(network, runtime.place(padded[at]), runtime, mirror)
        total[at] += logits.float().cpu() * importance
        weight[at] += importance
        yield done, len(windows)
    result = (total / weight.clamp_min(torch.finfo(torch.float32).tiny))[(slice(None), slice(None), *inner)]
    assert tuple(result.shape[2:]) == spatial
    return result


def _touches(window: Sequence[slice], part: Sequence[slice]) -> bool:
    return all(w.start < p.stop and p.start < w.stop for w, p in zip(window, part, strict=True))


def _padded(image: torch.Tensor, patch: Sequence[int]) -> tuple[torch.Tensor, tuple[slice, ...]]:
    from torch.nn.functional import pad

    missing = [max(0, p - s) for p, s in zip(patch, image.shape[2:], strict=True)]
    before = [m // 2 for m in missing]
    inner = tuple(slice(b, b + s) for b, s in zip(before, image.shape[2:], strict=True))
    if not any(missing):
        return image, inner
    widths = [(b, m - b) for b, m in zip(before, missing, strict=True)]
    flat = [w for pair in reversed(widths) for w in pair]
    return pad(image, flat, value=float(image.min())), inner


def _forward(network: torch.nn.Module, window: torch.Tensor, runtime: Runtime, mirror: bool) -> torch.Tensor:
    import torch

    axes = [axis for axis in range(2, window.ndim) if window.shape[axis] > 1]
    flips = [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)] if mirror else [()]
    mean: torch.Tensor | None = None
    for flip in flips:
        with runtime.autocast():
            logits = network(torch.flip(window, flip) if flip else window)
        logits = torch.flip(logits.float(), flip) if flip else logits.float()
        mean = logits if mean is None else mean + logits
    assert mean is not None
    return mean / len(flips)
