"""A loss over a whole case whose logits are never all in memory: it is given them part by part.

`StreamedLoss` asks the loss's own `compute` twice. The first time, before there are any logits, it only notes which
sums the loss takes (`LossInputs.sums`, `total`); what depends on the truth alone, such as
volumes and the weights made of them, is known by then. The parts are then added up, in float64, and the second time
the loss is answered with these sums. So no loss has a second formula for large cases, and losses of plug-ins are
streamed like our own.

A loss that looks at single voxels outside a sum, because it sorts them or follows centre lines, needs all logits at
once: `whole_needed_by` then names it, and the caller has to decide whether they fit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn, cast

import numpy as np
import torch
from torch import Tensor

from segexplorer.core.label_scheme import IGNORED
from segexplorer.core.regions import BoxRegions, PatchRegions, Regions
from segexplorer.functional.boundary import border_of_labels
from segexplorer.functional.inputs import LossContext, LossInputs
from segexplorer.functional.regions import BatchRegions, Boxes
from segexplorer.functional.sweep import Sums
from segexplorer.losses.base import LossOutput, LossSpec, losses_in
from segexplorer.losses.module import Loss
from segexplorer.losses.multilabel import OverlappingLoss, combined, map_of_class, with_background

PART_BYTES = 24 * 2**20
"""Logits that are worked on at a time; what is made of them takes some ten times as much."""


class StreamedLoss:
    """The loss of one case, from its label and from logits that come part by part.

    Parameters
    ----------
    loss
        Any loss; it is put into evaluation mode.
    labels
        (*spatial) class indices, bytes; 255 does not count.
    classes
        Channels of the logits.
    context
        What the loss may know of the whole case: distance maps, regions, spacing.
    boxes
        Also add up the errors in these boxes (`errors`), where the loss has no region maps.
    device
        Of the logits.
    """

    def __init__(
        self,
        loss: Loss,
        labels: Tensor,
        classes: int,
        context: LossContext,
        *,
        boxes: Boxes | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.loss, self.context = loss.eval(), context
        self.whole_needed_by: LossSpec | None = None
        ignored = loss.spec.ignore_index if loss.spec.ignore_index is not None else context.ignore_index
        if loss.scheme.overlapping:  # the labels are those of one class, which know 255 alone
            ignored = IGNORED
        self._ignored = ignored
        self._inputs = StreamedInputs(labels, classes, context, ignored, torch.device(device))
        self.boxes: Boxes | None = None
        try:
            has_maps = bool(self._compute().maps)
        except _AllVoxelsNeeded:
            self._inputs.forget()
            self.whole_needed_by = self._culprit()
            has_maps = False
        if boxes is not None and not has_maps:
            self.boxes = boxes
            self._inputs.overlap(boxes)

    def _compute(self) -> LossOutput:
        with torch.no_grad(), torch.autocast(str(self._inputs.device.type), enabled=False):
            return self.loss.spec.compute(self._inputs, self.loss)

    # ---- the gradient of parts, once every voxel was given

    def know(self, sums: Mapping[Hashable, Tensor]) -> bool:
        """Take sums of this case that another loss has added up; return whether `add` has nothing left to do."""
        return self._inputs.know(sums)

    @property
    def known(self) -> dict[Hashable, Tensor]:
        """Sums of the whole case that another loss of the same classes may take, too (`know`)."""
        return dict(self._inputs.known.items())

    def differentiate(self) -> Tensor:
        """Return the loss, and keep its slopes in the sums for `gradient`."""
        return self._inputs.differentiate(lambda inputs: self.loss.spec.compute(inputs, self.loss).value)

    def gradient(self, start: Sequence[int], logits: Tensor) -> Tensor:
        """Return the (1, C, *shape) gradient of the loss of the whole case in the logits of a part.

        Exact: a voxel has a part in the loss through the sums alone, and these are sums over parts.
        """
        with torch.enable_grad(), torch.autocast(logits.device.type, enabled=False):
            leaf = logits.detach().contiguous().requires_grad_(True)
            (found,) = torch.autograd.grad(
                self._inputs.followed(start, leaf), leaf, allow_unused=True, materialize_grads=True
            )
        return found

    def _culprit(self) -> LossSpec:
        """Return the loss, or the one inside it, that needs all voxels at once."""
        spec = self.loss.spec
        for inner in losses_in(spec):
            if inner.compound_terms():
                continue
            probe = StreamedInputs(
                self._inputs.case, self._inputs.classes, self.context, self._ignored, self._inputs.device
            )
            try:
                with torch.no_grad():
                    inner.compute(probe, inner.build().to(self._inputs.device))
            except _AllVoxelsNeeded:
                return inner
        return spec

    @property
    def nbytes(self) -> int:
        """Bytes of the sums, and of what the loss makes of them at the end."""
        return self._inputs.nbytes

    @property
    def labels_nbytes(self) -> int:
        """Bytes of the labels."""
        return self._inputs.case.nbytes

    def add(self, start: Sequence[int], logits: Tensor) -> None:
        """Take the (1, C, *shape) logits of a part of the case that was not given before.

        Raises
        ------
        LossInputError
            When logits are not finite, or a label is out of range.
        """
        step = max(1, PART_BYTES // (4 * logits[:, :, :1].numel()))
        with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
            for first in range(0, logits.shape[2], step):
                part = _class_by_class(logits[:, :, first : first + step])
                self._inputs.add((start[0] + first, *start[1:]), part)

    def output(self) -> LossOutput:
        """Return value, terms and maps, once every voxel was given."""
        self._inputs.answer()
        return self._compute()

    def errors(self) -> tuple[Tensor, Tensor] | None:
        """Return (1, C, R) soft FP and FN volumes of the boxes; None where the loss has region maps."""
        if self.boxes is None:
            return None
        self._inputs.answer()
        counts = self._inputs.overlap(self.boxes)
        return counts.fp, counts.fn


class StreamedOverlappingLoss:
    """The loss of one case whose classes overlap: that of each class alone, from its own logits.

    Parameters and attributes are those of `StreamedLoss`; the labels are label indices of the loss's scheme.
    """

    def __init__(
        self,
        loss: OverlappingLoss,
        labels: Tensor,
        classes: int,
        context: LossContext,
        *,
        boxes: Boxes | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.loss = loss.eval()
        ignored = loss.ignored(context)
        if ignored is not None and ignored != IGNORED:
            labels = torch.where(labels == ignored, IGNORED, labels)
        self._each = [
            StreamedLoss(
                loss,
                torch.from_numpy(loss.scheme.alone(labels.numpy(), c)),
                2,
                _of_class(context, c),
                boxes=boxes,
                device=device,
            )
            for c in range(1, classes)
        ]
        self.whole_needed_by = self._each[0].whole_needed_by
        self.boxes = self._each[0].boxes

    @property
    def nbytes(self) -> int:
        """Bytes of the sums, and of the labels of each class."""
        return sum(own.nbytes + own.labels_nbytes for own in self._each)

    def add(self, start: Sequence[int], logits: Tensor) -> None:
        """Take the (1, C, *shape) logits of a part of the case that was not given before."""
        for c, own in enumerate(self._each, start=1):
            own.add(start, logits[:, c : c + 1])

    # ---- the gradient of parts, as of `StreamedLoss`; sums are known class by class

    def know(self, sums: Mapping[Hashable, Tensor]) -> bool:
        """Take sums of this case that another loss has added up; return whether `add` has nothing left to do."""
        known = [
            own.know({key[1]: total for key, total in sums.items() if isinstance(key, tuple) and key[0] == c})
            for c, own in enumerate(self._each, start=1)
        ]
        return all(known)

    @property
    def known(self) -> dict[Hashable, Tensor]:
        """Sums of the whole case that another loss of the same classes may take, too (`know`)."""
        return {(c, key): of for c, own in enumerate(self._each, start=1) for key, of in own.known.items()}

    def differentiate(self) -> Tensor:
        """Return the loss, and keep its slopes in the sums for `gradient`."""
        return torch.stack([own.differentiate() for own in self._each]).mean()

    def gradient(self, start: Sequence[int], logits: Tensor) -> Tensor:
        """Return the (1, C, *shape) gradient of the loss of the whole case in the logits of a part.

        That of the background is 0: its channel is not looked at.
        """
        each = [own.gradient(start, logits[:, c : c + 1]) for c, own in enumerate(self._each, start=1)]
        return torch.cat([torch.zeros_like(logits[:, :1]), *(own / len(each) for own in each)], 1)

    def output(self) -> LossOutput:
        """Return value, terms and maps, once every voxel was given."""
        return with_background(combined([own.output() for own in self._each]))

    def errors(self) -> tuple[Tensor, Tensor] | None:
        """Return (1, C, R) soft FP and FN volumes of the boxes, NaN of the background; see `StreamedLoss`."""
        found = [own.errors() for own in self._each]
        if self.boxes is None:
            return None
        pairs = [pair for pair in found if pair is not None]
        nothing = torch.full_like(pairs[0][0][:, :1], torch.nan)
        fp, fn = (torch.cat([nothing, *(pair[side][:, 1:] for pair in pairs)], 1) for side in (0, 1))
        return fp, fn


@dataclass(frozen=True)
class _MapOfClass:
    """A distance map of overlapping classes, of which parts of one class are asked for."""

    name: str
    maps: Any
    channel: int

    def __getitem__(self, place: tuple[slice, ...]) -> Tensor:
        sample, _, *box = place
        return map_of_class(self.name, self.maps[(sample, slice(self.channel, self.channel + 1), *box)])


def _of_class(context: LossContext, c: int) -> LossContext:
    maps = context.distance_maps
    own: Any = None if maps is None else {name: _MapOfClass(name, of, c) for name, of in maps.items()}
    return replace(context, distance_maps=own)


def stream_loss(
    loss: Loss,
    labels: Tensor,
    classes: int,
    context: LossContext,
    *,
    boxes: Boxes | None = None,
    device: torch.device | str = "cpu",
) -> StreamedLoss | StreamedOverlappingLoss:
    """Return what takes the logits of a case part by part; parameters as of `StreamedLoss`."""
    if isinstance(loss, OverlappingLoss):
        return StreamedOverlappingLoss(loss, labels, classes, context, boxes=boxes, device=device)
    return StreamedLoss(loss, labels, classes, context, boxes=boxes, device=device)


def _class_by_class(logits: Tensor) -> Tensor:
    """Return (1, C, *shape) logits contiguous; from channels-last order three times as fast as torch does it."""
    if logits.stride(1) != 1 or not logits.movedim(1, -1).is_contiguous():
        return logits.contiguous()
    rows = logits.movedim(1, -1).reshape(-1, logits.shape[1])
    return rows.t().contiguous().view(logits.shape)


class _AllVoxelsNeeded(Exception):
    """A loss looks at logits or labels outside a sum."""


class _Unseen:
    """In place of a tensor of all voxels: its shape and type are known, its values are not."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = torch.Size(shape), dtype, device
        self.ndim, self.requires_grad = len(self.shape), False
        one = torch.zeros((), dtype=dtype, device=device)
        self.new_tensor, self.new_zeros, self.new_ones = one.new_tensor, one.new_zeros, one.new_ones
        self.new_full = one.new_full

    def __len__(self) -> int:
        return self.shape[0]

    def __getattr__(self, name: str) -> NoReturn:
        raise _AllVoxelsNeeded(name)

    def __getitem__(self, place: Any) -> NoReturn:
        raise _AllVoxelsNeeded

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        raise _AllVoxelsNeeded(getattr(function, "__name__", ""))


def _refuse(*_: Any) -> NoReturn:
    raise _AllVoxelsNeeded


for _operator in ("add", "sub", "mul", "truediv", "pow", "neg", "eq", "ne", "lt", "gt", "le", "ge", "matmul"):
    for _side in ("", "r"):
        setattr(_Unseen, f"__{_side}{_operator}__", _refuse)


@dataclass
class _Sum:
    """A sum that the loss takes, and what was added up so far, in float64; its declaration, if it has one."""

    summed: Callable[[LossInputs], Tensor]
    total: Tensor
    declared: Sums | None = None
    known: bool = False


@dataclass
class _Field:
    """A number of every voxel that the loss needs at once: 4 bytes each, and not one per class."""

    made: Callable[[LossInputs], Tensor]
    values: Tensor


@dataclass
class _RegionSums:
    """Sums by regions of the whole case: each (C, R) float32, as a region has few voxels."""

    asked: Sums
    whole: Regions
    totals: list[Tensor]

    def add(self, inputs: LossInputs, start: Sequence[int]) -> None:
        for total, (places, part) in zip(self.totals, self.parts(inputs, start), strict=False):
            total.index_add_(1, places, part.to(total.dtype))

    def parts(self, inputs: LossInputs, start: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return (n,) places and (C, n) sums of the regions that a part meets, for each total; [] without any."""
        patch = self.whole.patch(start, inputs.spatial)
        if not len(patch.ids):
            return []
        device = inputs.given.device
        seen = BatchRegions([PatchRegions(patch, self.whole)], device)
        places = torch.from_numpy(np.searchsorted(self.whole.ids, patch.ids)).to(device)
        return [(places, part[0, :, : len(places)]) for part in inputs.sums(self.asked.within(seen))]


class StreamedInputs(LossInputs):
    """Inputs of a whole case that know its label, but its logits only part by part.

    Parameters are those of `StreamedLoss`.
    """

    def __init__(
        self,
        labels: Tensor,
        classes: int,
        context: LossContext,
        ignored: int | None,
        device: torch.device,
    ) -> None:
        # not the constructor of the base, which checks and converts all voxels
        shape = tuple(labels.shape)
        self.case, self.device, self.ignored = labels, device, ignored
        self.context = context
        self.given = self.logits = cast(Tensor, _Unseen((1, classes, *shape), torch.float32, device))
        self.target = self.labels = cast(Tensor, _Unseen((1, *shape), torch.int64, device))
        self.soft = None
        self.dtype = torch.float64
        counts = torch.bincount(labels.flatten(), minlength=classes)
        left_out = int(counts[ignored]) if ignored is not None and 0 <= ignored < len(counts) else 0
        self.keep = torch.ne(labels, cast(int, ignored)).unsqueeze(0) if left_out else None
        self._kept = labels.numel() - left_out
        self._volumes = counts[:classes]
        self.made_probs = None
        self.wide_range = True
        self._regions = {}
        self._asked: list[_Sum | _Field] = []
        self._noted: tuple[Sums, ...] = ()
        self._declared: dict[Sums, tuple[Tensor, ...]] = {}
        self._in_regions: dict[Sums, _RegionSums] = {}
        self._answering: int | None = None
        self._voxel_costs: Tensor | None = None
        self._slopes: list[Tensor] = []

    @property
    def nbytes(self) -> int:
        """Bytes of the sums, and of what a loss makes of those of regions."""
        made = sum(12 * total.nbytes // 4 for own in self._in_regions.values() for total in own.totals)
        fields = sum(3 * asked.values.nbytes for asked in self._asked if isinstance(asked, _Field))
        return made + fields + (0 if self.keep is None else self.keep.nbytes) + PART_BYTES * 10

    # ---- what is known from the truth alone

    @cached_property
    def exact_volumes(self) -> Tensor:
        """(1, C) kept voxels of each class."""
        return self._volumes.double().unsqueeze(0).to(self.device)

    @cached_property
    def kept(self) -> Tensor:
        """Number of kept voxels, at least 1."""
        return self.kept_of_samples[0, 0].clamp(min=1)

    @cached_property
    def kept_of_samples(self) -> Tensor:
        """(1, 1) kept voxels."""
        return torch.tensor([[self._kept]], dtype=torch.float64, device=self.device)

    @cached_property
    def border_volumes(self) -> Tensor:
        """(C,) voxels of each class with a face neighbour outside of it."""
        labels = self.case.unsqueeze(0)
        if self.keep is not None and self.ignored is not None and self.ignored < self.classes:
            labels = labels.where(self.keep, 255)
        return border_of_labels(labels, self.classes).to(self.device)

    # ---- what the loss asks for: noted at first, answered at last

    def total(self, summed: Callable[[LossInputs], Tensor], *, declared: Sums | None = None) -> Tensor:
        """Note a sum, or return what it came to."""
        if self._answering is None:
            found = summed(self._probe)
            self._asked.append(_Sum(summed, torch.zeros_like(found, dtype=torch.float64), declared))
            return torch.zeros_like(found, dtype=torch.float64)
        request = self._asked[self._answering]
        self._answering += 1
        assert isinstance(request, _Sum)
        return request.total

    def _field(self, made: Callable[[LossInputs], Tensor]) -> Tensor:
        if self._answering is None:
            values = torch.zeros((1, *self.spatial))
            self._asked.append(_Field(made, values))
            return values
        request = self._asked[self._answering]
        self._answering += 1
        assert isinstance(request, _Field)
        return request.values.to(self.device)

    @property
    def cross_entropies(self) -> Tensor:
        """(1, *spatial) of each voxel, 0 on ignored ones."""
        if self._voxel_costs is None:
            self._voxel_costs = self._field(lambda part: part.cross_entropies)
        return self._voxel_costs

    def expect(self, *wanted: Sums) -> None:
        """Each part takes them in one pass, once they were asked for."""

    def sums(self, asked: Sums) -> tuple[Tensor, ...]:
        """Note what is asked for, or return what it came to."""
        if asked.boxes is not None:
            return self._of_regions(asked)
        if asked not in self._declared:
            shapes = [found.shape for found in self._probe.sums(asked)]
            if self._answering is None:
                self._noted = (*self._noted, asked)
            flat = self.total(
                lambda part: torch.cat([found.flatten() for found in part.sums(asked)]), declared=asked
            )
            pieces = flat.split([shape.numel() for shape in shapes])  # type: ignore[no-untyped-call]
            found = (piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True))
            self._declared[asked] = tuple(found)
        return self._declared[asked]

    def _of_regions(self, asked: Sums) -> tuple[Tensor, ...]:
        if asked not in self._in_regions:
            boxes = asked.boxes
            assert boxes is not None
            whole = BoxRegions.of(boxes.edges) if isinstance(boxes, Boxes) else boxes.samples[0].patch
            shape = self.classes, len(whole.ids)
            totals = [torch.zeros(shape, device=self.device) for _ in asked.shapes(self.classes)]
            self._in_regions[asked] = _RegionSums(asked, whole, totals)
        return tuple(total.unsqueeze(0) for total in self._in_regions[asked].totals)

    def forget(self) -> None:
        """Forget what was noted."""
        self._asked, self._in_regions, self._noted = [], {}, ()
        self._reset()

    def answer(self) -> None:
        """From now on, return what the sums came to."""
        self._reset()
        self._answering = 0

    def _reset(self) -> None:
        self._declared = {}
        self._voxel_costs = None

    # ---- slopes

    def know(self, sums: Mapping[Hashable, Tensor]) -> bool:
        """See `StreamedLoss.know`."""
        for request in self._asked:
            if isinstance(request, _Sum) and request.declared in sums:
                request.total, request.known = sums[cast(Sums, request.declared)], True
        self._noted = tuple(one for one in self._noted if one not in sums)
        return not self._in_regions and all(isinstance(r, _Sum) and r.known for r in self._asked)

    @property
    def known(self) -> dict[Sums, Tensor]:
        """See `StreamedLoss.known`."""
        sums = (request for request in self._asked if isinstance(request, _Sum))
        return {request.declared: request.total for request in sums if request.declared is not None}

    def differentiate(self, value: Callable[[LossInputs], Tensor]) -> Tensor:
        """Return a function of the sums, and keep its slopes in them."""
        asked = [r.total if isinstance(r, _Sum) else r.values for r in self._asked]
        regions = [total for own in self._in_regions.values() for total in own.totals]
        leaves = [total.detach().requires_grad_(True) for total in (*asked, *regions)]
        self._give(leaves)
        self.answer()
        with torch.enable_grad(), torch.autocast(str(self.device.type), enabled=False):
            found = value(self)
            self._slopes = (
                list(torch.autograd.grad(found, leaves, allow_unused=True, materialize_grads=True))
                if found.requires_grad
                else [torch.zeros_like(leaf) for leaf in leaves]
            )
        self._give([leaf.detach() for leaf in leaves])
        self._noted = tuple(self.known)  # a part takes them all in one pass
        return found.detach()

    def _give(self, totals: Sequence[Tensor]) -> None:
        remaining = iter(totals)
        for request in self._asked:
            if isinstance(request, _Sum):
                request.total = next(remaining)
            else:
                request.values = next(remaining)
        for own in self._in_regions.values():
            own.totals = [next(remaining) for _ in own.totals]

    def followed(self, start: Sequence[int], logits: Tensor) -> Tensor:
        """Return the sums of a part times the slopes in them: its gradient is that of the whole."""
        place = tuple(slice(s, s + n) for s, n in zip(start, logits.shape[2:], strict=True))
        part = self._part(start, logits, self.case[place].to(logits.device)[None, None].long())
        part.expect(*self._noted)
        slopes, found = iter(self._slopes), logits.new_zeros((), dtype=torch.float64)
        for request in self._asked:
            slope = next(slopes)
            if isinstance(request, _Sum):
                found = found + (slope * request.summed(part)).sum()
            else:
                found = found + (slope[0][place] * request.made(part)[0]).sum()
        for own in self._in_regions.values():
            of_regions = [next(slopes) for _ in own.totals]
            for slope, (places, sums) in zip(of_regions, own.parts(part, start), strict=False):
                found = found + (slope[:, places] * sums).sum()
        return found

    # ---- parts

    @cached_property
    def _probe(self) -> LossInputs:
        """One voxel with logits of 0, which shows the shape of a sum."""
        ones = (1,) * len(self.spatial)
        zeros = torch.zeros((1, self.classes, *ones), device=self.device)
        return self._part(
            (0,) * len(ones), zeros, torch.zeros((1, 1, *ones), dtype=torch.int64, device=self.device)
        )

    def add(self, start: Sequence[int], logits: Tensor) -> None:
        """Add up the sums of a part, given its first voxel and its (1, C, *shape) logits."""
        place = tuple(slice(s, s + n) for s, n in zip(start, logits.shape[2:], strict=True))
        labels = self.case[place].to(logits.device)[None, None].long()
        part = self._part(start, logits, labels)
        part.expect(*self._noted)
        for own in self._in_regions.values():
            own.add(part, start)
        for request in self._asked:
            if isinstance(request, _Sum):
                if not request.known:
                    request.total += request.summed(part)
            else:
                request.values[0][place] = request.made(part)[0].to(request.values.device)

    def _part(self, start: Sequence[int], logits: Tensor, labels: Tensor) -> LossInputs:
        place = (
            slice(None),
            slice(None),
            *(slice(s, s + n) for s, n in zip(start, logits.shape[2:], strict=True)),
        )
        context = self.context
        maps, weights = context.distance_maps, context.voxel_weights
        own = replace(
            context,
            distance_maps=None if maps is None else {k: m[place].to(logits.device) for k, m in maps.items()},
            voxel_weights=None if weights is None else weights[place].to(logits.device),
            regions=None,
            origin=None,
            volume_shape=None,
        )
        return LossInputs(logits, labels, own, self.ignored)
