"""Two-sided cross entropy of classes against the rest: false negatives against false positives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segexplorer.functional.context import Scene
from segexplorer.functional.entropy import SMALLEST, log_complements
from segexplorer.functional.focal import focal_sum
from segexplorer.functional.voxel_sums import Slab, sum_of_others, voxel_sum


def modified_cross_entropy(scene: Scene, positive_weight: float) -> Tensor:
    """Return the mean over kept voxels and foreground classes of -[b g log p + (1-b)(1-g) log(1-p)].

    Parameters
    ----------
    positive_weight
        b: weight of a class's own voxels; all others get one minus it. With two classes this is cross
        entropy with weights (1-b, b).
    """
    if scene.labels is not None and scene.classes == 2:
        weights = scene.logits.new_tensor([1 - positive_weight, positive_weight])
        return focal_sum(scene, 0, weights) / scene.kept
    direct = scene.labels is not None and not torch.compiler.is_compiling()
    if direct and (not scene.wide_range or scene.probs.amin() > SMALLEST):
        return voxel_sum(scene, TwoSided(positive_weight)) / (scene.kept * (scene.classes - 1))
    return two_sided(scene, positive_weight, first=1).mean(1).sum() / scene.kept


def two_sided(scene: Scene, inside: float, *, first: int) -> Tensor:
    """Return -[b g log p + (1-b)(1-g) log(1-p)] of the classes from `first` on, (B, C - first, *spatial).

    0 on ignored voxels. From logarithms of the logits: for any logits, for soft targets, for compilers.
    """
    logs, truth = scene.log_probs[:, first:], scene.truth[:, first:]
    complements = log_complements(scene.logits, scene.log_probs)[:, first:]
    found = -(inside * truth * logs + (1 - inside) * (1 - truth) * complements)
    return scene.kept_only(found.movedim(1, 0)).movedim(0, 1)


@dataclass(frozen=True)
class TwoSided:
    """The sum over foreground classes, from probabilities that are not tiny.

    With odds o_c = p_c / (1 - p_c) of the foreground classes that a voxel does not have:
    dV/dz_k = b [y > 0] (p_k - g_k) + (1-b) p_k ([k foreground, k != y] - sum_{c != k} o_c).
    1 - p_c and the sums without k are sums of the other classes, free of cancellation.
    """

    inside: float
    remembers = False

    def values(self, at: Slab, note: Tensor | None) -> Tensor:
        """Return (n,) sums over the foreground classes."""
        # one logarithm of the product: of its factors at most one is small; each a sum of which one part is 0
        own, rest = at.own[1:], sum_of_others(at.p)[1:]
        product = torch.addcmul(own, 1 - own, rest).prod(0)
        missed = at.log_true * (1 - at.own[0])
        return product.log_().mul_(self.inside - 1).sub_(missed, alpha=self.inside)

    def slopes(self, at: Slab, note: Tensor | None) -> Tensor:
        """Return (C, n) slopes in the logits."""
        outside, own = 1 - self.inside, at.own
        odds = at.p / sum_of_others(at.p)
        odds.addcmul_(odds, own, value=-1)[0] = 0
        found = sum_of_others(odds).mul_(-outside).add_(own[0], alpha=-self.inside).add_(self.inside)
        found[1:] += outside
        found[1:].sub_(own[1:], alpha=outside)
        found.mul_(at.p)[1:].sub_(own[1:], alpha=self.inside)
        return found
