"""Logits and target of one evaluation, checked once, and all quantities that the terms of a loss share.

`LossInputs` computes softmax, one-hot truth, cross entropies and overlaps when they are first asked for, and keeps
them: the terms of a compound share them. Ignored voxels count as zero in all sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segexplorer.core.errors import LossInputError
from segexplorer.core.regions import PatchRegions
from segexplorer.functional.class_sums import SquaredErrors, class_sums
from segexplorer.functional.overlap import Overlap, overlap_hard, overlap_soft, squared_volumes
from segexplorer.functional.regions import BatchRegions, Boxes, Divided, anchored
from segexplorer.functional.softmax import softmax_and_log_true


def pair(inputs: LossInputs) -> tuple[Tensor, Tensor]:
    """Return p and g, each (B, C, *spatial) in the precision of the logits, zero on ignored voxels."""
    if inputs.keep is None:
        return inputs.probs, inputs.truth
    kept = inputs.keep.unsqueeze(1)
    return inputs.probs * kept, inputs.truth * kept


def spacing_of(inputs: LossInputs) -> np.ndarray | None:
    """Return the context's (B, D) spacing in mm as an array, or None."""
    given = inputs.context.spacing
    if given is None:
        return None
    found = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    return np.broadcast_to(found, (inputs.logits.shape[0], len(inputs.spatial)))


def mean_over(losses: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the losses that are counted; 0 with a live graph where none is."""
    weights = counted.to(losses.dtype)
    return (losses * weights).sum() / weights.sum().clamp(min=1)


SAFE_RANGE = 60.0
"""Logits that differ by no more give no probability below e^-60 / C, whose logarithm is still exact in float32."""
LARGEST_LOGIT = 1e30
"""Below it, the sum of the voxels' cross entropies stays finite in float32."""


@dataclass(frozen=True)
class LossContext:
    """What a loss may know beyond logits and target; each part may be None.

    Attributes
    ----------
    distance_maps
        Name -> (B, C, *spatial) signed distances in mm, made on the whole volume.
    voxel_weights
        (B, 1, *spatial) weights of voxels in the cross entropy.
    spacing, origin, volume_shape
        (B, D): mm; voxel index of the patch in its volume; that volume's shape. Where both of the latter are given,
        regional losses divide the volumes and not the patches, which must have been cut out as they are.
    regions
        Partition -> the regions of the volumes that each patch sees; for patches that were mirrored, rotated or
        deformed, and for partitions that follow the truth of the whole volume.
    epoch
        Counted from 1.
    ignore_index
        Label of voxels without truth in this library's batches (padding among them); a loss's own
        `ignore_index` takes its place where set.
    """

    distance_maps: Mapping[str, Tensor] | None = None
    voxel_weights: Tensor | None = None
    spacing: Any = None
    origin: Any = None
    volume_shape: Any = None
    epoch: int | None = None
    ignore_index: int | None = 255
    regions: Mapping[Any, BatchRegions] | None = None


class LossInputs:
    """Shared quantities of one evaluation, each computed at most once.

    Parameters
    ----------
    logits
        (B, C, *spatial), 1 to 3 spatial axes. C = 1 is one sigmoid foreground, taken as two channels (0, s).
        Half precision is computed in float32; float64 stays.
    target
        Integer labels (B, 1, *spatial), or a soft target (B, C, *spatial) of floats.
    ignore_index
        Label of voxels that do not count.

    Raises
    ------
    LossInputError
        Naming the offender: shapes, labels out of range, values that are not finite.
    """

    def __init__(
        self,
        logits: Tensor,
        target: Tensor,
        context: LossContext | None = None,
        ignore_index: int | None = None,
    ) -> None:
        for name, given in (("logits", logits), ("target", target)):
            if not isinstance(given, Tensor):
                raise LossInputError(f"The {name} is a {type(given).__name__}, not a tensor.")
        soft = target.is_floating_point()
        _check_shapes(logits, target, soft)
        _check_weights(context, logits)
        if ignore_index is None and context is not None:
            ignore_index = context.ignore_index
        wide = (logits if logits.dtype == torch.float64 else logits.float()).contiguous()
        one = wide.shape[1] == 1
        self.logits: Tensor = torch.cat([torch.zeros_like(wide), wide], 1) if one else wide
        self.context = context or LossContext()
        self.keep: Tensor | None = None
        self.labels: Tensor | None = None
        self.soft: Tensor | None = None
        self.made_probs: Tensor | None = None
        """Probabilities, once something made them."""
        self.wide_range = True
        """Whether a probability may be too small for its logarithm; False where the logits' range rules it out."""
        self._overlaps: dict[Any, Overlap] = {}
        self._regions: dict[Any, Divided] = {}
        if soft:
            given = target.to(self.logits.dtype)
            self.soft = torch.cat([1 - given, given], 1) if one else given
        else:
            labels = target[:, 0].long()
            if ignore_index is not None:
                kept = labels != ignore_index
                self.keep = kept
                labels = torch.where(kept, labels, 0)
            self.labels = labels
        if not torch.compiler.is_compiling():
            self._check_values()

    def _check_values(self) -> None:
        """Refuse values that make no sense, with one pass over each input and one wait for the device."""
        checked = self.soft if self.soft is not None else self.labels
        assert checked is not None
        if self.logits.numel() == 0:
            raise LossInputError(f"The logits are empty: shape {tuple(self.logits.shape)}.")
        low, high = torch.aminmax(checked)
        z_low, z_high = torch.aminmax(self.logits.detach())  # NaN and infinity both show in the extremes
        found = [low, high, z_low, z_high]
        if self.keep is not None:
            found.append(self.keep.all())
        numbers = torch.stack([x.double() for x in found]).tolist()
        if numbers[4:] == [1.0]:
            self.keep = None  # nothing is ignored: what follows need not look
        self.wide_range = numbers[3] - numbers[2] > SAFE_RANGE
        if not all(abs(x) < LARGEST_LOGIT for x in numbers[2:]):
            raise LossInputError(
                f"The logits hold NaN, infinite values or values beyond {LARGEST_LOGIT:g}.",
                "Lower the learning rate, or look at the input.",
            )
        if self.soft is not None and not (numbers[0] >= 0 and numbers[1] <= 1):
            raise LossInputError(
                f"The soft target has values from {numbers[0]:g} to {numbers[1]:g}.",
                "Give probabilities from 0 to 1, or labels as integers.",
            )
        if self.labels is not None and not (numbers[0] >= 0 and numbers[1] < self.classes):
            bad = numbers[0] if numbers[0] < 0 else numbers[1]
            raise LossInputError(
                f"The target holds label {bad:.0f}; with {self.classes} classes labels go "
                f"from 0 to {self.classes - 1}.",
                "Give the logits as many channels as classes, or set ignore_index to that label.",
            )

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return self.logits.shape[1]

    @property
    def spatial(self) -> tuple[int, ...]:
        """Spatial shape in voxels."""
        return tuple(self.logits.shape[2:])

    @cached_property
    def log_probs(self) -> Tensor:
        """(B, C, *spatial) log-probabilities."""
        return torch.log_softmax(self.logits, 1)

    @property
    def probs(self) -> Tensor:
        """(B, C, *spatial) probabilities."""
        if self.made_probs is None:
            self.made_probs = torch.softmax(self.logits, 1)
        return self.made_probs

    @cached_property
    def cross_entropies(self) -> Tensor:
        """(B, *spatial) -sum_c g_c log p_c of each voxel, 0 on ignored ones.

        Where only their sum is wanted, `functional.entropies.focal_sum` needs less memory.
        """
        if self.labels is not None:
            probs, logs = softmax_and_log_true(self.logits, self.labels, wide_range=self.wide_range)
            if self.made_probs is None:
                self.made_probs = probs
            found = -logs
        else:
            assert self.soft is not None
            found = -(self.soft * self.log_probs).sum(1)
        return self.kept_only(found)

    @cached_property
    def truth(self) -> Tensor:
        """(B, C, *spatial) one-hot or soft target; values on ignored voxels do not matter."""
        if self.soft is not None:
            return self.soft
        assert self.labels is not None
        return torch.zeros_like(self.logits).scatter_(1, self.labels.unsqueeze(1), 1.0)

    @cached_property
    def volumes(self) -> Tensor:
        """(B, C) kept voxels of each class in the target, in the type of the logits."""
        return self.exact_volumes.to(self.logits.dtype)

    @cached_property
    def exact_volumes(self) -> Tensor:
        """(B, C) kept voxels of each class in the target, float64; for differences of large volumes."""
        if self.labels is None:
            assert self.soft is not None
            kept = self.kept_only(self.soft.movedim(1, 0)).movedim(0, 1)
            return kept.flatten(2).sum(-1, dtype=torch.float64)
        # counted in integers: a float32 counter stays at 2^24, since 16777216 + 1 rounds back to 16777216
        counts = torch.zeros(len(self.labels), self.classes, dtype=torch.int64, device=self.logits.device)
        labels = self.labels.flatten(1)
        ones = labels.new_ones(1).expand_as(labels) if self.keep is None else self.keep.flatten(1).long()
        return counts.scatter_add_(1, labels, ones).double()

    def kept_only(self, voxels: Tensor) -> Tensor:
        """Return (..., B, *spatial) values with 0 on ignored voxels."""
        return voxels if self.keep is None else voxels.where(self.keep, voxels.new_zeros(()))

    @cached_property
    def kept(self) -> Tensor:
        """Number of kept voxels, at least 1, as a scalar tensor."""
        if self.keep is None:
            return self.logits.new_tensor(float(self.logits[:, 0].numel()))
        return self.keep.sum().clamp(min=1).to(self.logits.dtype)

    @cached_property
    def squared_errors(self) -> tuple[Tensor, Tensor]:
        """(B, C) sums of (g - p)^2 g and of (g - p)^2 (1 - g) over kept voxels."""
        if self.labels is not None and not torch.compiler.is_compiling():
            inside, outside = class_sums(self.probs, self.labels, self.keep, SquaredErrors())
            return inside, outside
        square = self.kept_only((self.truth - self.probs).square().movedim(1, 0)).movedim(0, 1)
        inside = square * self.truth
        return inside.flatten(2).sum(-1), (square - inside).flatten(2).sum(-1)

    def regions(self, partition: Any) -> Divided:
        """Return the regions of a partition in this batch; terms that ask the same share them.

        They are those of the whole volumes where the context knows the volumes, else those of what is given here.

        Raises
        ------
        LossInputError
            When the context's regions have another shape than the logits.
        SpecError
            When the partition does not fit, or needs more than the context knows.
        """
        if partition not in self._regions:
            self._regions[partition] = self._divided(partition)
        return self._regions[partition]

    def _divided(self, partition: Any) -> Divided:
        context = self.context
        if context.regions is not None and partition in context.regions:
            given = context.regions[partition]
            if given.shape != self.spatial or len(given.samples) != len(self.logits):
                raise LossInputError(
                    f"The context's regions are of {len(given.samples)} samples of {given.shape} voxels, "
                    f"the logits of {len(self.logits)} of {self.spatial}."
                )
            return given
        if partition.follows_truth:
            return self._divided_by_truth(partition)
        if context.origin is not None and context.volume_shape is not None:
            place = (context.origin, context.volume_shape)
            return anchored(partition, *place, self.spatial, self.logits.device)
        boxes: Boxes = partition.boxes(self.spatial)
        return boxes

    def _divided_by_truth(self, partition: Any) -> BatchRegions:
        """Divide each sample by its own target, as if it were a whole volume."""
        labels = self.soft.argmax(1) if self.soft is not None else self.labels
        assert labels is not None
        classes = labels if self.keep is None else torch.where(self.keep, labels, 255)
        spacings = spacing_of(self)
        samples = []
        for b, own in enumerate(classes.to(torch.uint8).cpu().numpy()):
            whole = partition.divide(self.spatial, own, None if spacings is None else spacings[b])
            samples.append(PatchRegions(whole, whole))
        return BatchRegions(samples, self.logits.device)

    def overlap(self, boxes: Divided | None = None, *, squared: bool = False) -> Overlap:
        """Return the overlap of all classes, per sample or per region; terms that ask the same share one.

        That of whole samples is added up from regions where some were counted before that cover all voxels.
        """
        for key in ((boxes, True),) if squared else ((boxes, False), (boxes, True)):
            if key in self._overlaps:
                return self._overlaps[key]
        whole = (o for (b, _), o in self._overlaps.items() if b is not None and b.complete)
        regional = next(whole, None)
        if boxes is None and regional is not None:
            found = regional.over_boxes()
            if squared and found.predicted_square is None:
                found = replace(found, predicted_square=squared_volumes(self.probs, self.labels, self.keep))
        elif self.soft is not None:
            found = overlap_soft(self.probs, self.soft, self.keep, boxes, squared)
        else:
            assert self.labels is not None
            found = overlap_hard(self.probs, self.labels, self.keep, boxes, squared)
        self._overlaps[boxes, squared] = found
        return found


def _check_weights(context: LossContext | None, logits: Tensor) -> None:
    if context is None or context.voxel_weights is None:
        return
    given, wanted = tuple(context.voxel_weights.shape), (logits.shape[0], 1, *logits.shape[2:])
    if given != wanted:
        raise LossInputError(f"The voxel weights have shape {given}; they must be {wanted}.")


def _check_shapes(logits: Tensor, target: Tensor, soft: bool) -> None:
    shape, given = tuple(logits.shape), tuple(target.shape)
    if not logits.is_floating_point():
        raise LossInputError(f"The logits are {logits.dtype}, not floating point.")
    if not 3 <= logits.ndim <= 5:
        raise LossInputError(
            f"The logits have shape {shape}.", "Give (B, C, *spatial) with 1 to 3 spatial axes."
        )
    wanted = shape if soft else (shape[0], 1, *shape[2:])
    if given != wanted:
        what = "soft target (floats)" if soft else "target of labels (integers)"
        raise LossInputError(
            f"The {what} has shape {given}; with logits {shape} it must be {wanted}.",
            "Convert labels with .long()." if soft and given[1:2] == (1,) else "",
        )


def regional_errors(
    logits: Tensor, labels: Tensor, boxes: Boxes, ignore_index: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return soft FP and FN volumes per class and box, for a balance map of any loss.

    Parameters
    ----------
    logits
        (B, C, *spatial) logits or log-probabilities.
    labels
        (B, 1, *spatial) class indices.

    Returns
    -------
    tuple of Tensor
        (B, C, R) false positives and false negatives in voxels, detached.
    """
    if tuple(logits.shape[2:]) != boxes.shape:
        raise LossInputError(f"The boxes cover {boxes.shape}, the logits {tuple(logits.shape[2:])}.")
    with torch.no_grad():
        counts = LossInputs(logits, labels, ignore_index=ignore_index).overlap(boxes)
    return counts.fp, counts.fn
