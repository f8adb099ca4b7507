"""The training losses of paper 004, by name: each adds a term to the one before."""

from __future__ import annotations

from segexplorer.losses.base import LossSpec, registry
from segexplorer.losses.compound import Term, WeightedSum
from segexplorer.losses.cross_entropy import CrossEntropy
from segexplorer.losses.dice import Dice
from segexplorer.losses.region import AdaptiveRegionTversky, RegionDice

GROUP = "Paper 004"
NOTE = "Lambda and the reduction of the cross entropy are not given in the paper: 1 and the voxel mean here."


def _sum(*losses: LossSpec) -> WeightedSum:
    return WeightedSum(terms=tuple(Term(loss=loss) for loss in losses))


_BASE = (Dice(squared=True, eps=1e-7), CrossEntropy())
registry.register_preset(
    "paper004_baseline", "Paper 004: squared Dice + cross entropy", _sum(*_BASE), group=GROUP, note=NOTE
)
registry.register_preset(
    "paper004_region", "Paper 004: with region Dice", _sum(*_BASE, RegionDice()), group=GROUP, note=NOTE
)
registry.register_preset(
    "paper004_adaptive_region",
    "Paper 004: with adaptive region Tversky",
    _sum(*_BASE, AdaptiveRegionTversky()),
    group=GROUP,
    note=NOTE,
)
