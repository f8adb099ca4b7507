"""What a loss is worth for predictions that need no network: the lines that a curve of it is compared with.

A loss has no scale of its own. Whether 0.6 is good depends on the classes of the patch: a Dice loss of 0.6 may be
what predicting the background everywhere gives, or what a perfect prediction gives where many patches lack a class.
The references are therefore computed with the loss itself, on the labels of the very batch that it was computed on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from segexplorer.core.errors import LossInputError
from segexplorer.core.events import Reference
from segexplorer.core.label_scheme import IGNORED
from segexplorer.functional.inputs import LossContext
from segexplorer.functional.softmax import with_background
from segexplorer.functional.transfer import sent
from segexplorer.losses.base import LossSpec
from segexplorer.losses.module import Loss
from segexplorer.losses.multilabel import OverlappingLoss

CERTAIN = 30.0
"""Logit of the class of a perfect prediction: the others have a probability of 1e-13."""
SURE = 0.99
"""Probability of the background where it is predicted everywhere. A logarithm makes the value depend on it: with
certainty, the cross entropy of a missed voxel would be what the limit of the number format makes of it."""


def reference_values(
    loss: Loss, target: Tensor, classes: int, context: LossContext | None = None, *, seed: int = 0
) -> dict[Reference, Tensor]:
    """Return what a loss is for predictions that need no network.

    Parameters
    ----------
    loss
        With whatever has adapted in it; it is not changed.
    target
        (B, 1, *spatial) labels; what is no class index is ignored, as in training.
    classes
        Channels, background included.
    seed
        Of the random prediction.

    Returns
    -------
    dict
        Scalars on the target's device. "perfect": the truth, with certainty. "all background": background
        everywhere, with a probability of 99 %. "class frequencies": at every voxel the share that each class has in
        the batch, which is the best constant prediction for a cross entropy. "random": normally distributed logits,
        independent at every voxel.
    """
    with torch.inference_mode():
        found: dict[Reference, Tensor] = {}
        for name, make in _MAKERS.items():
            logits = make(loss, target, classes, seed)
            found[name] = loss.evaluate(logits, target, context).value
        return found


def _perfect(loss: Loss, target: Tensor, classes: int, seed: int) -> Tensor:
    if isinstance(loss, OverlappingLoss):
        there = loss.multi_hot(target) == 1
        perfect: Tensor = with_background(torch.where(there, CERTAIN, -CERTAIN))
        return perfect
    return torch.cat([(target == c).float() for c in range(classes)], 1) * CERTAIN


def _background(loss: Loss, target: Tensor, classes: int, seed: int) -> Tensor:
    if loss.scheme.overlapping:
        return _odds(target, sent(torch.full((classes - 1,), 1 - SURE), target.device))
    return _constant(target, [SURE, *((1 - SURE) / (classes - 1),) * (classes - 1)])


def _frequencies(loss: Loss, target: Tensor, classes: int, seed: int) -> Tensor:
    if isinstance(loss, OverlappingLoss):
        hot = loss.multi_hot(target).movedim(1, 0).flatten(1)
        there = torch.stack([(own == 1).sum() for own in hot]).double()
        return _odds(target, (there / (hot[0] != IGNORED).sum().clamp(min=1)).clamp(1e-6, 1 - 1e-6))
    counts = torch.stack([(target == c).sum() for c in range(classes)]).double()
    # a class that is absent keeps a share too small to matter, since its logarithm has to be finite
    shares = (counts / counts.sum().clamp(min=1)).clamp(min=1e-6)
    return _spread(target, shares.log().float())


def _constant(target: Tensor, shares: list[float]) -> Tensor:
    return _spread(target, sent(torch.tensor([math.log(share) for share in shares]), target.device))


def _spread(target: Tensor, logits: Tensor) -> Tensor:
    shape = (len(target), len(logits), *target.shape[2:])
    return logits.view(1, -1, *(1,) * (target.ndim - 2)).expand(shape).contiguous()


def _odds(target: Tensor, shares: Tensor) -> Tensor:
    """Return the logits of overlapping classes that have these probabilities everywhere."""
    odds = torch.logit(shares).float()
    return _spread(target, torch.cat([torch.zeros_like(odds[:1]), odds]))


def _random(loss: Loss, target: Tensor, classes: int, seed: int) -> Tensor:
    # a generator of its own: the one of training is left as it is, so that dropout draws what it would have drawn
    own = torch.Generator().manual_seed(seed)
    drawn = torch.randn((len(target), classes, *target.shape[2:]), generator=own)
    return sent(drawn, target.device)


_MAKERS: Mapping[Reference, Callable[[Loss, Tensor, int, int], Tensor]] = {
    "perfect": _perfect,
    "all background": _background,
    "class frequencies": _frequencies,
    "random": _random,
}

_EDGE = 8
"""Voxels along each axis of the made-up patch on which the reduction of a loss is found out."""


def adds_up(spec: LossSpec, classes: int = 2) -> bool | None:
    """Whether a loss is a sum over voxels rather than a mean or a ratio: twice the voxels, twice the value.

    A sum has other values on whole volumes than on patches, and beside a mean it outweighs it by the number of
    voxels. Found out by computing the loss on a patch, and on two copies of it side by side.

    Returns
    -------
    bool or None
        None where the loss cannot be computed on made-up voxels.
    """
    own = torch.Generator().manual_seed(0)
    space = (_EDGE,) * 3
    labels = (torch.rand((1, 1, *space), generator=own) * classes).long()
    logits = torch.randn((1, classes, *space), generator=own)
    values = []
    for copies in (1, 2):
        repeated = (1, 1, copies, 1, 1)
        maps = {name: torch.ones(1, classes, copies * _EDGE, *space[1:]) for name in spec.needs()}
        context = LossContext(distance_maps=maps or None, spacing=[[1.0] * 3], epoch=0)
        try:
            with torch.inference_mode():
                output = spec.build().evaluate(logits.repeat(repeated), labels.repeat(repeated), context)
        except LossInputError:
            return None
        values.append(float(output.value))
    one, two = values
    if not (math.isfinite(one) and math.isfinite(two)) or one == 0:
        return None
    # a mean stays within a few percent (smoothing, boxes at the seam), a sum doubles
    return abs(two / one - 2) < abs(two / one - 1)
