"""Losses for classes that overlap: every class has a logit and a sigmoid of its own.

Of a voxel that is tumour, core and enhancing at once, softmax can name one class; a sigmoid per class names all
three (regions in nnU-Net, `sigmoid=True` in MONAI). The loss of such a target is defined here as the **mean over
the classes of the loss of each class alone**, as one sigmoid foreground against the rest:

    L(s, g) = 1/K sum_c L_2((0, s_c), (1 - g_c, g_c)),

L_2 being the loss of two classes whose logits are 0 and s_c. So every loss has a sigmoid form, and each is the same
code that softmax uses. The cross entropy of two classes is the binary cross entropy. There is no background class,
so "not the class" is left out of losses with `include_background`: Dice is that of the classes, as in nnU-Net and
MONAI. A class that is absent from a batch adds what the loss gives for an absent class, and counts in the mean.

>>> loss = losses.multi_label("dice_cross_entropy")  # doctest: +SKIP
>>> loss(logits, target)  # both (B, C, *spatial); the target is 0 or 1 for each class  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from segexplorer.core.errors import LossInputError, SpecError
from segexplorer.core.spec import replace_values, walk
from segexplorer.functional.inputs import LossContext
from segexplorer.losses.base import LossOutput, LossSpec, RegionMap, losses_in
from segexplorer.losses.module import Loss

NOT_THE_CLASS = "include_background"


class MultiLabelLoss(Loss):
    """A loss of overlapping classes: the mean over the classes of the loss of each alone; as `Loss` otherwise.

    Parameters
    ----------
    spec
        The loss; its class weights, where it has some, are two: of "not the class" and of the class.

    Raises
    ------
    SpecError
        When the loss adapts to each class by itself.
    """

    def __init__(self, spec: LossSpec) -> None:
        require_multi_label(spec)
        super().__init__(without_background(spec))

    def evaluate(self, logits: Tensor, target: Tensor, context: LossContext | None = None) -> LossOutput:
        """Return value, terms and region maps: means over the classes, and the maps of each class.

        Parameters
        ----------
        logits
            (B, C, *spatial), one logit per class, no background.
        target
            (B, C, *spatial), bool or 0 and 1, for each class by itself; integers may also be the ignored label,
            for the voxels that do not count for a class. Floats between are soft targets.
        context
            As for `Loss`; distances are computed from the target.

        Raises
        ------
        LossInputError
            When the shapes differ, or the target has other values.
        """
        if logits.ndim < 3 or target.shape != logits.shape:
            raise LossInputError(
                f"The target has shape {tuple(target.shape)}, the logits {tuple(logits.shape)}.",
                "Give both as (B, C, *spatial), one channel per class.",
            )
        own = replace(context, distance_maps=None, regions=None) if context is not None else None
        if target.is_floating_point() and bool(((target == 0) | (target == 1)).all()):
            target = target.to(torch.uint8)  # hard labels, which every loss takes
        found = [
            super(MultiLabelLoss, self).evaluate(
                logits[:, c : c + 1],
                target[:, c : c + 1] if target.is_floating_point() else target[:, c : c + 1].long(),
                own,
            )
            for c in range(logits.shape[1])
        ]
        value = torch.stack([output.value for output in found]).mean()
        terms = {name: _mean([output.terms[name] for output in found]) for name in found[0].terms}
        parts = {
            name: torch.stack([output.parts[name] for output in found]).mean() for name in found[0].parts
        }
        return LossOutput(value, terms, _maps(found), parts)

    def update(self, spec: LossSpec) -> None:
        """Take over changed parameters, as `Loss.update`."""
        require_multi_label(spec)
        super().update(without_background(spec))


def require_multi_label(spec: LossSpec) -> None:
    """Refuse a loss that has no sigmoid form.

    Raises
    ------
    SpecError
        Naming it.
    """
    for part in losses_in(spec):
        if not part.multi_label:
            raise SpecError(
                f"{part.display_name} adapts to each class by itself, so it has no form for overlapping classes.",
                "Choose another loss, or classes that exclude each other.",
            )


def without_background(spec: LossSpec) -> LossSpec:
    """Return the loss with "not the class" left out of it and of the losses inside it, where that is a setting."""
    paths = [path for path, declared, _ in walk(spec) if declared.name == NOT_THE_CLASS]
    return replace_values(spec, dict.fromkeys(paths, False))


def _mean(given: Sequence[tuple[Tensor, Tensor | float]]) -> tuple[Tensor, Tensor | float]:
    """Return the mean of a term over the classes, with the weight that keeps the sum of the terms."""
    value = torch.stack([v for v, _ in given]).mean()
    weights = [w for _, w in given]
    if all(isinstance(w, float | int) and w == weights[0] for w in weights):
        return value, weights[0]
    product = torch.stack([v * w for v, w in given]).mean()
    return value, torch.where(value == 0, torch.as_tensor(weights[0], dtype=value.dtype), product / value)


def _maps(found: Sequence[LossOutput]) -> dict[str, RegionMap]:
    """Return each class's own numbers per region; none where the regions differ from class to class."""
    maps: dict[str, RegionMap] = {}
    for name, first in found[0].maps.items():
        others = [output.maps[name] for output in found]
        if all(other.regions == first.regions for other in others):
            maps[name] = RegionMap(torch.cat([other.values[:, 1:2] for other in others], 1), first.regions)
    return maps
