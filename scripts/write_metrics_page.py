"""Write docs/metrics.md from what the metrics declare and do: `python scripts/write_metrics_page.py`."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segexplorer import metrics
from segexplorer.metrics.metric import Metric

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"

# ruff: noqa: E501  (tables)
INTRODUCTION = """# The metrics

*Written by `python scripts/write_metrics_page.py` from the metrics' own declarations; a test holds it to them.*

Every metric is of one class in one case, on the whole volume in the case's own grid, at its own spacing. A voxel of
class a that is predicted as class b is a false negative of a and a false positive of b. Voxels whose truth is 255
count nowhere. `segexplorer evaluate PREDICTION TRUTH` prints them, `segexplorer describe metrics NAME` explains one,
`segexplorer.evaluate(prediction, truth)` returns them, and every validation of a run writes them to `metrics.csv`.

Signs: TP, FP, FN, TN are voxels. P and T are the surfaces of prediction and truth; d(P, T) is the list of distances in
mm from every border voxel of the prediction to the nearest border voxel of the truth, centre to centre, and d(T, P) the
other way round. A border voxel has a neighbour across a face that is off the mask or off the image; in a volume of one
slice, across an edge within the slice. P95 is the 95th percentile with linear interpolation (numpy's default).
"""

STATES = """A structure is *scored* when it is in truth and prediction, *missed* when it is only in the truth, *spurious* when it is
only in the prediction, *absent* when it is in neither. Every mean is over the cases where the metric has a value, an
absent structure enters no mean, and the numbers of missed and spurious structures stand beside. A dash is NaN: there
the metric has no meaning. The table is computed, with one voxel for a structure and the image's diagonal as such."""

SPREAD = """## Over cases

`evaluate` prints, and `--spread-csv` writes, per class and metric:

| column | what it is |
|---|---|
| n | cases where the metric has a value |
| missed, spurious | cases where the structure is only in the truth, only in the prediction |
| mean, 95 % CI | of the cases' values; bootstrap over cases, 9999 resamples, seed 0: BCa (Efron 1987, doi:10.1080/01621459.1987.10478410) from 8 cases on, percentile with 6 or 7, none with fewer (a bootstrap of 2 to 5 cases covers the mean in 50 to 85 % of all samples); with 6 to 20 cases it is still somewhat too narrow (87 to 92 %) |
| CV | coefficient of variation: sample standard deviation (n - 1) over the mean |
| Q1, median, Q3 | quartiles, linearly interpolated |
| best, worst | the case and its value; a case that missed a structure or invented one is never the best by the distances of its other structures while another case found all |

`mean of classes` is over each case's own mean of its classes. `Mean foreground Dice` is over (case, class) pairs, as in
validation: a missed or spurious structure counts 0, an absent one not at all.
"""

CHOICE = """## Which HD95?

One name stands for several definitions. Here each has a name of its own:

| who | the definition | here |
|---|---|---|
| MONAI `compute_hausdorff_distance(percentile=95)` | larger of the two directed 95th percentiles | `hd95` |
| medpy 0.5 `hd95` | 95th percentile of both lists together | `hd95_pooled` |
| Chen 2023, eq. 13 ("HD95") | mean of the two directed 95th percentiles | `hd95_mean` |
| MONAI `compute_average_surface_distance(symmetric=True)`, medpy 0.5 `assd` | mean of both lists together | `assd` |
| MONAI `compute_average_surface_distance()`, medpy `asd` | mean of the prediction's list alone | `asd` |
| Chen 2023, eq. 12 ("ASD") | mean of the two directed means | `assd_mean` |
| MONAI `compute_hausdorff_distance()`, medpy `hd` | largest distance of either list | `hd` |
| SimpleITK `GetHausdorffDistance` | from mask to mask: what lies inside the other mask is at 0 mm | `hd`, except that walls of holes count there only |
| SimpleITK `GetAverageHausdorffDistance` | over all voxels of the masks, most of them 0, not over borders | none: it shrinks as structures grow |
| Perera 2025 (HD, ASD) | not defined in the paper | `hd`; `asd`, `assd` or `assd_mean` |

Why the means say "found": a missed structure has no distance, so leaving it out of a mean makes HD95 *better* when hard
structures are missed. Read `hd95` with the two counts beside it, or take `hd95_penalised`, where a missed or spurious
structure counts the diagonal of the image. In the window's plots the means that leave structures out are crossed.
"""

TESTED = """## What they are tested against

Counts by hand and sets of voxels; MONAI's confusion matrix metrics, Dice, IoU, Hausdorff and
average surface distances; scipy's distance transform and directed Hausdorff distance; SimpleITK's label overlap measures
and Hausdorff distance; all pairs of border voxels by brute force: with anisotropic spacing, several classes, noise, holes,
single slices (`tests/metrics`).
"""


def page() -> str:
    """Return the page's text."""
    parts = [INTRODUCTION, *_table(), *_edge_cases(), CHOICE, *_example(), SPREAD, *_entries(), TESTED]
    return "\n".join(parts)


def _table() -> Iterator[str]:
    yield "| name | what it is | definition | unit | better | reported in |"
    yield "|---|---|---|---|---|---|"
    for name, m in metrics.ALL_METRICS.items():
        papers = ", ".join(m.papers) or "–"
        yield f"| [`{name}`](#{name}) | {m.display_name} | {m.definition} | {m.unit or '–'} | {m.better} | {papers} |"
    yield ""


def _edge_cases() -> Iterator[str]:
    yield "## Missed, spurious, absent\n"
    yield STATES + "\n"
    here, there, nowhere = _mask((2, 2, 2)), _mask((7, 7, 7)), _mask()
    cases = {
        "perfect": (here, here),
        "beside it": (here, there),
        "missed": (nowhere, here),
        "spurious": (here, nowhere),
        "absent": (nowhere, nowhere),
    }
    yield "| name | " + " | ".join(cases) + " |"
    yield "|---" * (len(cases) + 1) + "|"
    scored = [metrics.score_case(p, t, ("x",), (1.0, 1.0, 1.0), surfaces=True)[0] for p, t in cases.values()]
    for name, metric in metrics.ALL_METRICS.items():
        cells = [_value(score.metrics[name], metric) for score in scored]
        yield f"| `{name}` | " + " | ".join(cells) + " |"
    yield "\nAbsent structures have specificity and accuracy, and enter no mean of them either.\n"


def _example() -> Iterator[str]:
    """One pair of shapes under every definition."""
    axes = np.ogrid[:40, :80, :80]
    spacing = (2.5, 1.0, 1.0)

    def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[np.uint8]:
        inside = sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radii, strict=True)) <= 1
        return np.asarray(inside, np.uint8)

    truth, found = ellipsoid((20, 40, 40), (10, 26, 20)), ellipsoid((20, 41, 39), (9, 25, 20))
    found |= ellipsoid((20, 64, 40), (4, 12, 8))
    (score,) = metrics.score_case(found, truth, ("x",), spacing, surfaces=True)
    told = ", ".join(
        f"`{name}` {score.metrics[name]:.2f}"
        for name in ("hd95", "hd95_pooled", "hd95_mean", "assd", "assd_mean", "asd", "hd")
    )
    yield (
        "One pair of shapes, an ellipsoid of 5 x 5 x 4 cm and the same a little off with a leak of 1 cm, in mm by each "
        f"definition: {told}. Figures of two papers, or of two packages, compare only under one definition.\n"
    )


def _mask(voxel: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    volume = np.zeros((10, 10, 10), np.uint8)
    if voxel is not None:
        volume[voxel] = 1
    return volume


def _value(value: float, metric: Metric) -> str:
    if math.isnan(value):
        return "–"
    if metric.unit and math.isclose(value, math.sqrt(3) * 10):
        return "diagonal"
    return f"{value:.3g}" + (f" {metric.unit}" if metric.unit and value else "")


def _entries() -> Iterator[str]:
    yield "## One by one\n"
    for name, metric in metrics.ALL_METRICS.items():
        yield f"### {name}\n"
        yield f"**{metric.title}.** {metric.note}".rstrip() + "\n"
        yield f"$${metric.formula}$$\n"
        yield f"* Reference: {metric.reference}"
        if metric.papers:
            yield f"* Reported in: {', '.join(metric.papers)}"
        yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE} holds {len(metrics.ALL_METRICS)} metrics.\n")
