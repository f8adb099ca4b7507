"""Centreline Dice (clDice): whether the centreline of each mask runs within the other one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segexplorer.metrics.base import StructureMetric, registry
from segexplorer.metrics.detection import components

if TYPE_CHECKING:
    from segexplorer.metrics.structure import Structure


def centreline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the centreline of a mask by thinning (Zhang and Suen 1984 in 2D, Lee et al. 1994 in 3D).

    The thinning in 3D deletes some small components whole, e.g. cubes of 2 voxels; those are their own centreline.
    """
    from skimage.morphology import skeletonize

    if not mask.any():
        return np.zeros_like(mask)
    # a row of voxels is thinned as a picture of one row
    line = np.asarray(skeletonize(mask[:, None] if mask.ndim == 1 else mask), bool).reshape(mask.shape)
    numbered, sizes = components(mask)
    kept = np.zeros(len(sizes) + 1, bool)
    kept[numbered[line]] = True
    kept[0] = True  # the background
    return line if kept.all() else line | ~kept[numbered]


def centreline_dice(structure: Structure) -> float:
    """Harmonic mean of topology precision and topology sensitivity (Shit et al. 2021, eq. 1 to 3).

    Topology precision is the share of the prediction's centreline inside the truth; topology sensitivity is the
    share of the truth's centreline inside the prediction. NaN where a mask has no centreline.
    """
    masks, lines = structure.masks, structure.skeletons
    lengths = [int(line.sum()) for line in lines]
    if not all(lengths):
        return math.nan
    precision = int((lines[0] & masks[1]).sum()) / lengths[0]
    sensitivity = int((lines[1] & masks[0]).sum()) / lengths[1]
    both = precision + sensitivity
    return 2 * precision * sensitivity / both if both else 0.0


registry.register(
    StructureMetric(
        name="cldice",
        display_name="Centreline Dice (clDice)",
        short_name="clDice",
        definition="harmonic mean of |S(P) in T| / |S(P)| and |S(T) in P| / |S(T)|",
        formula=r"\frac{2\,T_{prec}\,T_{sens}}{T_{prec} + T_{sens}},\quad T_{prec} = \frac{|S_P \cap T|}{|S_P|},"
        r"\quad T_{sens} = \frac{|S_T \cap P|}{|S_T|}",
        missed=0.0,
        spurious=0.0,
        absent=math.nan,
        function=centreline_dice,
        note="S is the centreline by thinning. Voxels of centrelines are counted, not mm; blind to the radius.",
        reference="Shit et al. 2021, doi:10.1109/CVPR46437.2021.01629",
        default=False,
        tasks={"vessels": "Whether the tree is connected: a gap of one voxel is seen, which Dice ignores."},
        pitfalls=("empty references", "resolution"),
    )
)
