"""Logits and target of one evaluation, checked once, and all quantities that the terms of a loss share.

`LossInputs` computes sums over voxels, softmax and one-hot truth when they are first asked for, and keeps
them: the terms of a compound share them. A loss that needs sums alone (`LossInputs.sums`, `overlap`) holds no
map of the logits' size. Ignored voxels count as zero in all sums.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segexplorer.core.errors import LossInputError
from segexplorer.core.regions import PatchRegions
from segexplorer.functional.boundary import border_count, border_of_labels
from segexplorer.functional.class_sums import Counts, Products, SquaredErrors, Squares, Volumes
from segexplorer.functional.overlap import Overlap
from segexplorer.functional.regions import BatchRegions, Boxes, Divided, anchored
from segexplorer.functional.softmax import softmax_and_log_true
from segexplorer.functional.sweep import Sums, VoxelFactor, Voxels, plain_sums, sweep
from segexplorer.functional.transfer import sent


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
    return np.broadcast_to(found, (len(inputs.given), len(inputs.spatial)))


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
    labels_checked
        Whether the caller knows that all labels are in range, and looks at the logits' extremes itself
        (`LossOutput.extremes`): then nothing waits for the device that computes the loss.
    """

    distance_maps: Mapping[str, Tensor] | None = None
    voxel_weights: Tensor | None = None
    spacing: Any = None
    origin: Any = None
    volume_shape: Any = None
    epoch: int | None = None
    ignore_index: int | None = 255
    regions: Mapping[Any, BatchRegions] | None = None
    labels_checked: bool = False


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
        self.given: Tensor = logits
        """Logits as they came."""
        self.dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        """Of the computation."""
        self.context = context or LossContext()
        self.soft: Tensor | None = None
        self.target: Tensor | None = None
        """(B, *spatial) class indices as they came; None for soft targets."""
        self.ignore_index: int | None = None
        """Label of voxels that do not count, where there may be such."""
        self.wide_range = True
        """Whether a probability may be too small for its logarithm; False where the logits' range rules it out."""
        self.extremes: Tensor | None = None
        """(2,) least and greatest logit, not looked at yet; None where they were."""
        self.made_probs: Tensor | None = None
        self._sums: dict[Sums, tuple[Tensor, ...]] = {}
        self._expected: tuple[Sums, ...] = ()
        self._regions: dict[Any, Divided] = {}
        if soft:
            wide = target.to(self.dtype)
            self.soft = torch.cat([1 - wide, wide], 1) if logits.shape[1] == 1 else wide
        else:
            self.target = target[:, 0].to(torch.uint8) if target.dtype == torch.bool else target[:, 0]
            self.ignore_index = ignore_index
        if not torch.compiler.is_compiling():
            self._check_values()

    def _check_values(self) -> None:
        """Refuse values that make no sense, with one pass over each input and one wait for the device."""
        checked = self.soft if self.soft is not None else self.target
        assert checked is not None
        if self.given.numel() == 0:
            raise LossInputError(f"The logits are empty: shape {tuple(self.given.shape)}.")
        if self.context.labels_checked and self.soft is None:
            self.extremes = torch.stack(torch.aminmax(self.given.detach()))
            return
        kept = self.keep
        if kept is not None:
            checked = torch.where(kept, checked, 0)
        low, high = torch.aminmax(checked)
        z_low, z_high = torch.aminmax(self.given.detach())  # NaN and infinity both show in the extremes
        found = [low, high, z_low, z_high]
        if kept is not None:
            found.append(kept.all())
        numbers = torch.stack([x.double() for x in found]).tolist()
        if numbers[4:] == [1.0]:
            self.ignore_index = self.__dict__["keep"] = None  # nothing is ignored: what follows need not look
        largest = max(abs(numbers[2]), abs(numbers[3])) if numbers[2] == numbers[2] else numbers[2]
        self.wide_range = numbers[3] - numbers[2] > SAFE_RANGE or largest > SAFE_RANGE
        if not all(abs(x) < LARGEST_LOGIT for x in numbers[2:4]):
            raise extreme_logits()
        if self.soft is not None and not (numbers[0] >= 0 and numbers[1] <= 1):
            raise LossInputError(
                f"The soft target has values from {numbers[0]:g} to {numbers[1]:g}.",
                "Give probabilities from 0 to 1, or labels as integers.",
            )
        if self.target is not None and not (numbers[0] >= 0 and numbers[1] < self.classes):
            bad = numbers[0] if numbers[0] < 0 else numbers[1]
            raise LossInputError(
                f"The target holds label {bad:.0f}; with {self.classes} classes labels go "
                f"from 0 to {self.classes - 1}.",
                "Give the logits as many channels as classes, or set ignore_index to that label.",
            )

    @cached_property
    def keep(self) -> Tensor | None:
        """(B, *spatial) whether a voxel counts; None where all do."""
        return None if self.target is None or self.ignore_index is None else self.target != self.ignore_index

    @cached_property
    def labels(self) -> Tensor | None:
        """(B, *spatial) class indices, 0 on ignored voxels; None for soft targets."""
        if self.target is None:
            return None
        known = self.target if self.keep is None else torch.where(self.keep, self.target, 0)
        return known.long()

    @cached_property
    def logits(self) -> Tensor:
        """(B, C, *spatial) in the precision of the computation; one sigmoid channel s is the pair (0, s)."""
        wide = self.given.to(self.dtype).contiguous()
        return torch.cat([torch.zeros_like(wide), wide], 1) if wide.shape[1] == 1 else wide

    def tensor(self, values: Any) -> Tensor:
        """Return numbers as a tensor beside the logits, in the precision of the computation."""
        if isinstance(values, float):
            return torch.full((), values, dtype=self.dtype, device=self.given.device)
        return sent(torch.tensor(values, dtype=self.dtype), self.given.device)

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return max(2, self.given.shape[1])

    @property
    def spatial(self) -> tuple[int, ...]:
        """Spatial shape in voxels."""
        return tuple(self.given.shape[2:])

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
        """(B, *spatial) -sum_c g_c log p_c of each voxel, 0 on ignored ones; their sums need less memory."""
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
        return self.exact_volumes.to(self.dtype)

    @cached_property
    def exact_volumes(self) -> Tensor:
        """(B, C) kept voxels of each class in the target, float64; for differences of large volumes."""
        if self.soft is not None:
            kept = self.kept_only(self.soft.movedim(1, 0)).movedim(0, 1)
            return kept.flatten(2).sum(-1, dtype=torch.float64)
        if torch.compiler.is_compiling():
            # counted in integers: a float32 counter stays at 2^24, since 16777216 + 1 rounds back to 16777216
            assert self.labels is not None
            counts = torch.zeros(len(self.labels), self.classes, dtype=torch.int64, device=self.given.device)
            labels = self.labels.flatten(1)
            ones = labels.new_ones(1).expand_as(labels) if self.keep is None else self.keep.flatten(1).long()
            return counts.scatter_add_(1, labels, ones).double()
        counted = Counts() in self._sums or Counts() in self._expected
        return self._found(Counts())[3].detach() if counted else self._found(Volumes())[0].detach()

    def total(self, summed: Callable[[LossInputs], Tensor]) -> Tensor:
        """Return a sum over voxels that no `Sums` declares; a loss whose sums are all taken by `sums` or this way
        needs no whole case in memory.

        Parameters
        ----------
        summed
            Adds something up over the voxels of the inputs that it is given: the sum over a volume must be that of
            its parts, however it is cut. It may use `kept`, `volumes` and `exact_volumes` of the inputs from which
            it is asked, which are those of the whole volume, but no other number of theirs.
        """
        return summed(self)

    def kept_only(self, voxels: Tensor) -> Tensor:
        """Return (..., B, *spatial) values with 0 on ignored voxels."""
        return voxels if self.keep is None else voxels.where(self.keep, voxels.new_zeros(()))

    @cached_property
    def kept(self) -> Tensor:
        """Number of kept voxels, at least 1, as a scalar tensor."""
        if self.keep is None:
            return self.tensor(float(self.given[:, 0].numel()))
        return self.keep.sum().clamp(min=1).to(self.dtype)

    @cached_property
    def kept_of_samples(self) -> Tensor:
        """(B, 1) kept voxels of each sample, float64."""
        if self.keep is None:
            shape, every = (len(self.given), 1), float(np.prod(self.spatial))
            return torch.full(shape, every, dtype=torch.float64, device=self.given.device)
        return self.keep.flatten(1).sum(1, keepdim=True).double()

    @cached_property
    def border_volumes(self) -> Tensor:
        """(C,) voxels of each class in the target, over the batch, that have a face neighbour outside of it.

        The edge of the volume is outside; ignored voxels belong to no class. Of a soft target, what is above 1/2.
        """
        if self.labels is None or torch.compiler.is_compiling():
            return border_count(pair(self)[1].detach() > 0.5)
        labels = self.labels if self.keep is None else torch.where(self.keep, self.labels, self.classes)
        return border_of_labels(labels, self.classes)

    @property
    def squared_errors(self) -> tuple[Tensor, Tensor]:
        """(B, C) sums of (g - p)^2 g and of (g - p)^2 (1 - g) over kept voxels."""
        inside, outside = self.sums(SquaredErrors())
        return inside, outside

    @cached_property
    def voxel_factor(self) -> VoxelFactor | None:
        """The context's weights of voxels; None where all count alike."""
        given = self.context.voxel_weights
        return None if given is None else VoxelFactor(given[:, 0].to(self.dtype))

    # ---- sums, all of one pass

    def expect(self, *wanted: Sums) -> None:
        """Announce what will be asked for: the first that is asked takes the pass over the logits for all."""
        self._expected = tuple(dict.fromkeys((*self._expected, *wanted)))

    def sums(self, asked: Sums) -> tuple[Tensor, ...]:
        """Return sums over the kept voxels of each sample, (B, ...), with their graph; of soft targets, too."""
        return tuple(found.to(self.dtype) for found in self._found(asked))

    def _found(self, asked: Sums) -> tuple[Tensor, ...]:
        if asked not in self._sums:
            wanted = [one for one in dict.fromkeys((*self._expected, asked)) if one not in self._sums]
            # Here the sums of a batch are final, and nothing has been made of them. Where a batch is spread over
            # devices, this is the place to add them up over the devices, with `kept`, before a loss is computed.
            self._sums.update(zip(wanted, self._summed(wanted), strict=True))
        return self._sums[asked]

    def _summed(self, wanted: list[Sums]) -> list[tuple[Tensor, ...]]:
        if self.target is None or torch.compiler.is_compiling():
            return plain_sums(self.logits, self.truth, self.keep, wanted, hard=self.soft is None)
        # a compiler at work would trace the slabs of a caller that it gave up, one by one
        swept = torch.compiler.disable(sweep) if "torch._dynamo" in sys.modules else sweep  # type: ignore[no-untyped-call]
        return swept(self.given, self._voxels, wanted)

    @cached_property
    def _voxels(self) -> Voxels:
        labels = self.target
        assert labels is not None
        return Voxels(
            labels=labels.reshape(len(labels), -1),
            spatial=self.spatial,
            classes=self.classes,
            ignore_index=self.ignore_index,
            wide_range=self.wide_range,
            dtype=self.dtype,
        )

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
            if given.shape != self.spatial or len(given.samples) != len(self.given):
                raise LossInputError(
                    f"The context's regions are of {len(given.samples)} samples of {given.shape} voxels, "
                    f"the logits of {len(self.given)} of {self.spatial}."
                )
            return given
        if partition.follows_truth:
            return self._divided_by_truth(partition)
        if context.origin is not None and context.volume_shape is not None:
            place = (context.origin, context.volume_shape)
            return anchored(partition, *place, self.spatial, self.given.device)
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
        return BatchRegions(samples, self.given.device)

    def overlap(self, boxes: Divided | None = None, *, squared: bool = False) -> Overlap:
        """Return the overlap of all classes, per sample or per region; terms that ask the same share one."""
        tp, fp, fn, truth = self.sums(Counts(boxes))
        truth = truth.detach()
        product, truth_square = (tp, truth) if self.soft is None else self.sums(Products(boxes))
        square = self.sums(Squares(boxes))[0] if squared else None
        return Overlap(tp, fp, fn, truth, square, truth_square, product)


def extreme_logits() -> LossInputError:
    """Return the error of logits that are not finite, or near the end of float32."""
    return LossInputError(
        f"The logits hold NaN, infinite values or values beyond {LARGEST_LOGIT:g}.",
        "Lower the learning rate, or look at the input.",
    )


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
