"""How a class's error volume spreads over the FP-FN balances of its regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.types import RegionReport
from segexplorer.viewmodels import colours
from segexplorer.viewmodels.maps import region_picture

BINS = 20


@dataclass(frozen=True)
class BalanceHistogram:
    """Error volume by balance.

    Attributes
    ----------
    class_name
        Whose errors.
    edges
        (BINS + 1,) balances from -1 (all missed) to 1 (all extra).
    error_ml
        (BINS,) soft error volume of the regions in each bin, ml.
    regions
        Number of regions with error.
    """

    class_name: str
    edges: NDArray[np.float64]
    error_ml: NDArray[np.float64]
    regions: int

    @property
    def colours(self) -> NDArray[np.float32]:
        """(BINS, 4) colours of the bins, as in the picture over the anatomy."""
        return colours.diverging(BINS)


def balance_histogram(
    report: RegionReport, class_index: int, voxel_ml: float, class_name: str
) -> BalanceHistogram:
    """Sum the error volume of one class's regions by their balance (FP - FN) / (FP + FN).

    Weighing by volume keeps the many regions with next to no error from hiding the few that matter.

    Parameters
    ----------
    class_index
        Row of the report, 0 = background.
    voxel_ml
        Volume of a voxel of the report's grid, ml.

    Raises
    ------
    DataError
        When the report has no such class, or tells no errors.
    """
    balance = region_picture(report, class_index, voxel_ml).values.ravel()
    error = (report.values["fp"][class_index] + report.values["fn"][class_index]) * voxel_ml
    shown = np.isfinite(balance)
    sums, edges = np.histogram(balance[shown], bins=BINS, range=(-1, 1), weights=error[shown])
    return BalanceHistogram(class_name, edges, sums, int(shown.sum()))
