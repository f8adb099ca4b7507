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

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from segexplorer.core.errors import LossInputError, SpecError
from segexplorer.core.label_scheme import IGNORED, LabelScheme
from segexplorer.core.spec import replace_values, walk
from segexplorer.functional.inputs import LossContext, LossInputs
from segexplorer.functional.regions import BatchRegions, anchored
from segexplorer.losses.base import LossOutput, LossSpec, RegionMap, losses_in, partitions_in
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
            As for `Loss`; distance maps have a channel for each class.

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
        return self._combined(self, logits, target, context, self.spec.ignore_index)

    def evaluate_part(
        self, place: int, logits: Tensor, target: Tensor, context: LossContext | None = None
    ) -> LossOutput:
        """Return what `evaluate` does, of one of the parts alone, without its weight."""
        return self._combined(self.losses()[place], logits, target, context, self.spec.ignore_index)

    def _combined(
        self, loss: Loss, logits: Tensor, target: Tensor, context: LossContext | None, ignored: int | None
    ) -> LossOutput:
        """Return the output of this loss, or of a part of it, over all classes."""
        if target.is_floating_point():
            hard = bool(((target == 0) | (target == 1)).all())
            target = target.long() if hard else target  # hard labels, which every loss takes
        else:
            target = target.long()
        context = self._with_regions(context, logits)
        found = []
        for place in range(logits.shape[1]):
            own, known = slice(place, place + 1), context_of_class(context, place)
            with torch.autocast(logits.device.type, enabled=False):
                inputs = LossInputs(logits[:, own], target[:, own], known, ignored)
                found.append(replace(loss.compute(inputs), extremes=inputs.extremes))
        return combined(found)

    def _with_regions(self, context: LossContext | None, logits: Tensor) -> LossContext | None:
        """Return the context with the regions that the patches see of their volumes, the same for all classes."""
        if context is None or context.origin is None or context.volume_shape is None:
            return context
        regions = dict(context.regions or {})
        for partition in partitions_in(self.spec):
            if partition not in regions and not partition.follows_truth:
                place = context.origin, context.volume_shape
                found = anchored(partition, *place, logits.shape[2:], logits.device)
                if isinstance(found, BatchRegions):
                    regions[partition] = found
        return replace(context, regions=regions or None)

    def update(self, spec: LossSpec) -> None:
        """Take over changed parameters, as `Loss.update`."""
        require_multi_label(spec)
        super().update(without_background(spec))


class OverlappingLoss(MultiLabelLoss):
    """A loss of overlapping classes in our own training, whose labels are a label map of their combinations.

    It takes what every other loss takes: logits (B, 1 + C, *spatial), whose first channel, the background's, is not
    looked at, and labels (B, 1, *spatial). Its maps have a row for each of these channels.

    Parameters
    ----------
    spec
        The loss, as of `MultiLabelLoss`.
    scheme
        Which classes each label stands for.
    """

    def __init__(self, spec: LossSpec, scheme: LabelScheme) -> None:
        super().__init__(spec)
        self.scheme = scheme
        self._tables: dict[torch.device, Tensor] = {}

    def evaluate(self, logits: Tensor, target: Tensor, context: LossContext | None = None) -> LossOutput:
        """Return value, terms and region maps, the maps with an empty row for the background.

        Raises
        ------
        LossInputError
            When the shapes do not fit, or the labels stand for nothing.
        """
        own, context = self._opened(logits, target, context)
        return with_background(self._combined(self, logits[:, 1:], own, context, IGNORED))

    def evaluate_part(
        self, place: int, logits: Tensor, target: Tensor, context: LossContext | None = None
    ) -> LossOutput:
        """Return what `evaluate` does, of one of the parts alone, without its weight."""
        own, context = self._opened(logits, target, context)
        found = self._combined(self.losses()[place], logits[:, 1:], own, context, IGNORED)
        return with_background(found)

    def _opened(
        self, logits: Tensor, target: Tensor, context: LossContext | None
    ) -> tuple[Tensor, LossContext | None]:
        """Return the target class by class, and what is known of each."""
        expected = (len(logits), 1, *logits.shape[2:])
        if target.is_floating_point() or tuple(target.shape) != expected:
            raise LossInputError(
                f"The labels have shape {tuple(target.shape)} and type {target.dtype}.",
                f"Give integers of shape {expected}.",
            )
        if logits.shape[1] != self.scheme.classes + 1:
            raise LossInputError(
                f"The logits have {logits.shape[1]} channels for {self.scheme.classes} overlapping classes.",
                "Give one for the background and one per class.",
            )
        ignored = self.ignored(context)
        own = self.multi_hot(target, ignored, checked=context is not None and context.labels_checked)
        if context is None:
            return own, None
        maps = context.distance_maps
        of_classes = None if maps is None else {name: given[:, 1:] for name, given in maps.items()}
        return own, replace(context, distance_maps=of_classes)

    def ignored(self, context: LossContext | None) -> int | None:
        """Return the label that does not count."""
        given = self.spec.ignore_index
        return given if given is not None or context is None else context.ignore_index

    def multi_hot(self, labels: Tensor, ignored: int | None = IGNORED, *, checked: bool = False) -> Tensor:
        """Return (B, C, *spatial) uint8, 1 where a voxel is of a class, and 255 where it does not count.

        Parameters
        ----------
        labels
            (B, 1, *spatial).
        ignored
            The label that does not count.
        checked
            Whether labels are known to stand for something, so that nothing waits for their device.

        Raises
        ------
        LossInputError
            When another label stands for no classes.
        """
        if labels.device not in self._tables:
            table = torch.from_numpy(self.scheme.table[:, 1:].T.astype("uint8")).to(labels.device)
            self._tables[labels.device] = table.contiguous()
        kept = labels if ignored is None else torch.where(labels == ignored, 0, labels)
        known = self.scheme.indices(self.scheme.classes)
        low, high = (0, 0) if checked else torch.stack(torch.aminmax(kept)).tolist()
        if high >= known or low < 0:
            raise LossInputError(
                f"The target holds label {low if low < 0 else high}; labels of these overlapping classes go "
                f"from 0 to {known - 1}.",
                "Encode the labels with the experiment's classes, or set ignore_index to that label.",
            )
        hot = self._tables[labels.device][:, kept[:, 0].long()].movedim(0, 1)
        return hot if ignored is None else torch.where(labels == ignored, hot.new_tensor(IGNORED), hot)


def build_loss(spec: LossSpec, scheme: LabelScheme) -> Loss:
    """Return a loss as training uses it: as it is, or in its sigmoid form where classes overlap.

    Raises
    ------
    SpecError
        When classes overlap and the loss has no form for that.
    """
    return OverlappingLoss(spec, scheme) if scheme.overlapping else spec.build()


def context_of_class(context: LossContext | None, place: int) -> LossContext | None:
    """Return what is known of one class as of two: of what is not the class, and of the class.

    Distance maps have a channel for each class. Where a map has one per class, what is not the class gets the
    opposite distances; losses look at it only if the background is included, which it is not here.
    """
    if context is None or context.distance_maps is None:
        return context
    maps = {
        name: map_of_class(name, given[:, place : place + 1]) for name, given in context.distance_maps.items()
    }
    return replace(context, distance_maps=maps)


def map_of_class(name: str, own: Tensor) -> Tensor:
    """Return the distance map of two classes, (B, 2, *spatial), from that of one; nearness has one channel."""
    return own if name == "nearness" else torch.cat([-own, own], 1)


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


def combined(found: Sequence[LossOutput]) -> LossOutput:
    """Return the output of all classes, from that of each alone: means, and the maps of each class."""
    value = torch.stack([output.value for output in found]).mean()
    terms = {name: _mean([output.terms[name] for output in found]) for name in found[0].terms}
    parts = {name: torch.stack([output.parts[name] for output in found]).mean() for name in found[0].parts}
    extremes = [output.extremes for output in found if output.extremes is not None]
    return LossOutput(value, terms, _maps(found), parts, torch.stack(extremes) if extremes else None)


def with_background(output: LossOutput) -> LossOutput:
    """Return an output whose maps have a row for the background too, of which nothing is known."""
    maps = {
        name: RegionMap(pad(of.values, (0, 0, 1, 0), value=math.nan), of.regions)
        for name, of in output.maps.items()
    }
    return replace(output, maps=maps)


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
