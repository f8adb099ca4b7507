"""The regional FP-FN balance of one class: as colours over the anatomy, as a sentence, and as a histogram.

Alpha weighs false positives and beta false negatives. Their sum is constant in every region loss, so one
diverging colour scale shows both: from missed (blue) to extra (vermillion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core import colours
from segexplorer.core.errors import DataError
from segexplorer.core.events import RegionReport
from segexplorer.core.regions import BoxRegions, Regions

Quantity = Literal["balance", "alpha", "beta"]
TITLES: dict[Quantity, str] = {
    "balance": "FP-FN balance",
    "alpha": "penalty for false positives (alpha)",
    "beta": "penalty for false negatives (beta)",
}
FAINTEST = 0.25
"""Opacity of the smallest error volume that is shown at all."""


@dataclass(frozen=True)
class RegionPicture:
    """One class's regions, ready to be painted.

    Attributes
    ----------
    values
        (n1, n2, n3) float32, one number per box, or (R,) per region of any shape; NaN where nothing is shown.
    opacity
        As `values`, from 0 to 1, by error volume; 0 where nothing is shown.
    limits
        Values at the ends of the colour map.
    colour_map
        (255, 4) colours from the lower limit to the upper.
    regions
        Where the regions are, as in `RegionReport`.
    full_ml
        Error volume of a region drawn fully opaque, ml.
    """

    quantity: Quantity
    values: NDArray[np.float32]
    opacity: NDArray[np.float32]
    limits: tuple[float, float]
    colour_map: NDArray[np.float32]
    regions: Regions
    full_ml: float

    def paint(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return values and opacity as voxels; regions are filled, never interpolated."""
        opacity = self.regions.paint(self.opacity.ravel())
        return self.regions.paint(self.values.ravel()), np.nan_to_num(opacity, copy=False)

    def box_colours(self) -> NDArray[np.float32]:
        """Return (n1, n2, n3, 4) or (R, 4) colours, 0 to 1, with opacity in the last channel."""
        low, high = self.limits
        shown = np.isfinite(self.values)
        position = (np.where(shown, self.values, low) - low) / (high - low)
        n = len(self.colour_map)
        index = np.clip(np.rint(position * (n - 1)), 0, n - 1).astype(np.intp)
        result = self.colour_map[index]
        result[..., 3] = self.opacity
        return result

    def rgba(self) -> NDArray[np.float32]:
        """Return the colours as voxels, (*spatial, 4)."""
        channels = self.regions.paint(np.ascontiguousarray(self.box_colours().reshape(-1, 4).T))
        return np.nan_to_num(np.moveaxis(channels, 0, -1), copy=False)


def region_picture(
    report: RegionReport,
    class_index: int,
    voxel_ml: float,
    *,
    quantity: Quantity = "balance",
    threshold_ml: float = 0.0,
    full_ml: float | None = None,
) -> RegionPicture:
    """Make the picture of one class.

    Parameters
    ----------
    report
        Region numbers of a volume or patch, `fp` and `fn` in voxels.
    class_index
        Row of the report, 0 = background.
    voxel_ml
        Volume of a voxel of the report's grid, ml.
    quantity
        "balance" is (fp - fn) / (fp + fn), from -1 (all missed) to 1 (all extra).
    threshold_ml
        Boxes whose error volume (fp + fn) is below it are not shown; nor are those without any error or that
        the loss skips (NaN).
    full_ml
        Error volume drawn fully opaque; None takes the 95th percentile of the boxes shown.

    Raises
    ------
    DataError
        When the report has no such class or does not carry what the quantity needs.
    """
    fp, fn = _row(report, "fp", class_index), _row(report, "fn", class_index)
    error_ml = (fp + fn) * voxel_ml
    values = _balance(fp, fn) if quantity == "balance" else _row(report, quantity, class_index)
    shown = np.isfinite(values) & np.isfinite(error_ml) & (error_ml > 0) & (error_ml >= threshold_ml)
    full = (
        full_ml if full_ml is not None else (float(np.percentile(error_ml[shown], 95)) if shown.any() else 0)
    )
    relative = np.clip(error_ml / full, 0, 1) if full > 0 else np.ones_like(error_ml)
    opacity = np.where(shown, FAINTEST + (1 - FAINTEST) * relative, 0)
    limits = (-1.0, 1.0) if quantity == "balance" else _penalty_limits(report, class_index)
    return RegionPicture(
        quantity=quantity,
        values=np.where(shown, values, np.nan).astype(np.float32).reshape(report.counts),
        opacity=opacity.astype(np.float32).reshape(report.counts),
        limits=limits,
        # a high beta means much was missed: blue must stay the colour of missed
        colour_map=colours.diverging(flipped=quantity == "beta"),
        regions=report.regions,
        full_ml=full,
    )


def _row(report: RegionReport, name: str, class_index: int) -> NDArray[np.float64]:
    if name not in report.values:
        raise DataError(
            f"The loss reports no {name} per region.", f"It reports {', '.join(report.values) or 'nothing'}."
        )
    rows = report.values[name]
    if not 0 <= class_index < len(rows):
        raise DataError(f"The report has {len(rows)} classes, counted from 0; there is no {class_index}.")
    row: NDArray[np.float64] = rows[class_index].astype(np.float64)
    return row


def _balance(fp: NDArray[np.float64], fn: NDArray[np.float64]) -> NDArray[np.float64]:
    total = fp + fn
    balance: NDArray[np.float64] = np.full_like(total, np.nan)
    np.divide(fp - fn, total, out=balance, where=total > 0)
    return balance


def _penalty_limits(report: RegionReport, class_index: int) -> tuple[float, float]:
    """Limits for alpha or beta: symmetric about equal penalties, wide enough for every box of both."""
    both = np.concatenate([_row(report, name, class_index) for name in ("alpha", "beta")])
    both = both[np.isfinite(both)]
    if not both.size:
        return 0.0, 1.0
    middle = float(both.min() + both.max()) / 2
    reach = max(float(both.max()) - middle, 1e-3)
    return middle - reach, middle + reach


def box_at(edges: Sequence[Sequence[int]], voxel: Sequence[float]) -> int | None:
    """Return the flat index of the box that a voxel is in, the last axis running fastest; None outside."""
    return BoxRegions.of(edges).region_at(_whole(voxel))


def _whole(voxel: Sequence[float]) -> tuple[int, ...]:
    """Return the voxel that a position is in; centres are whole numbers."""
    return tuple(int(np.floor(position + 0.5)) for position in voxel)


def read_out(report: RegionReport, class_index: int, voxel: Sequence[float], voxel_ml: float) -> str:
    """Return the sentence for the region under the cursor; empty outside all regions.

    Parameters
    ----------
    voxel
        Position in voxels of the report's grid; voxel centres are whole numbers.
    """
    box = report.regions.region_at(_whole(voxel))
    if box is None:
        return ""
    fp, fn = (float(_row(report, name, class_index)[box]) for name in ("fp", "fn"))
    if not np.isfinite([fp, fn]).all():
        return "the loss skips this class here"
    text = f"{millilitres(fp * voxel_ml)} extra, {millilitres(fn * voxel_ml)} missed"
    if {"alpha", "beta"} <= report.values.keys():
        alpha, beta = (float(_row(report, name, class_index)[box]) for name in ("alpha", "beta"))
        if np.isfinite([alpha, beta]).all():
            return f"{text}: FP penalty {_short(alpha)}, FN {_short(beta)}"
        return f"{text}: the loss skips this class here"
    return text


def millilitres(volume: float) -> str:
    """Return a volume with a sensible number of digits: "0.02 ml", "3.1 ml", "41 ml"."""
    digits = 0 if volume >= 10 else 1 if volume >= 0.1 or volume == 0 else 2
    return f"{volume:.{digits}f} ml"


def _short(value: float) -> str:
    """Two decimals, without the zero before the point."""
    text = f"{value:.2f}"
    return text[1:] if text.startswith("0.") else text


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
    scope
        What was measured, as `RegionReport.scope`.
    """

    class_name: str
    edges: NDArray[np.float64]
    error_ml: NDArray[np.float64]
    regions: int
    scope: str = ""

    @property
    def colours(self) -> NDArray[np.float32]:
        """(BINS, 4) colours of the bins, as in the picture over the anatomy."""
        return colours.diverging(BINS)


def balance_histogram(
    report: RegionReport, class_index: int, voxel_ml: float, class_name: str
) -> BalanceHistogram:
    """Sum the error volume of one class's regions by their balance (FP - FN) / (FP + FN).

    Weighting by volume keeps the many regions with next to no error from hiding the few that matter.

    Parameters
    ----------
    class_index
        Row of the report, 0 = background.
    voxel_ml
        Volume of a voxel of the report's grid, ml.

    Raises
    ------
    DataError
        When the report has no such class, or reports no errors.
    """
    balance = region_picture(report, class_index, voxel_ml).values.ravel()
    # numpy adds up the weights of a histogram in their own type
    error = (_row(report, "fp", class_index) + _row(report, "fn", class_index)) * voxel_ml
    shown = np.isfinite(balance)
    sums, edges = np.histogram(balance[shown], bins=BINS, range=(-1, 1), weights=error[shown])
    return BalanceHistogram(class_name, edges, sums, int(shown.sum()), report.scope)
