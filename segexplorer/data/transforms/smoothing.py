"""Smoothing before an image is sampled more coarsely, so that fine detail does not fold into false structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FROM_FACTOR = 1.5
"""Coarsening of an axis above which it is smoothed; below, linear interpolation blurs enough by itself."""
_FWHM = 2 * np.sqrt(2 * np.log(2))  # full width at half maximum of a Gaussian, in standard deviations


def before_downsampling(
    image: NDArray[Any], spacing: Sequence[float], target: Sequence[float]
) -> NDArray[Any]:
    """Return an image (x, y, z) smoothed along the axes that become more than `FROM_FACTOR` times coarser.

    The Gaussian widens a voxel's point spread from a width of one voxel to that of the coarse voxel, f:
    sigma = sqrt(f^2 - 1) / (2 sqrt(2 ln 2)) voxels (Cardoso et al. 2015, scale factor point spread function
    matching).

    Parameters
    ----------
    spacing, target
        mm along x, y, z, now and after.
    """
    factors = np.asarray(target, float) / np.asarray(spacing, float)
    widths = np.where(factors > FROM_FACTOR, np.sqrt(np.maximum(factors**2 - 1, 0)) / _FWHM, 0.0)
    if not widths.any():
        return image
    return np.asarray(ndimage.gaussian_filter(image.astype(np.float32), widths, mode="nearest"))
