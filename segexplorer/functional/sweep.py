"""Sums over voxels of functions of the softmax: one pass over the logits, whatever is asked for, and one back.

Most losses are small functions of a few sums: overlaps of classes or boxes, cross entropies of the true
class. A `Sums` declares some of them: what a slab of voxels adds, and how the slopes of a loss in the sums
become slopes at the voxels. `sweep` goes through the logits once, in slabs that stay in the processor's
cache, computes the softmax of each and lets every declaration add to its sums. What a loss makes of the sums
is left to autograd. The way back is a second sweep: softmax once more, and each slab of the gradient is
written where it belongs. So nothing is kept between the two but logits and labels, and nothing of the logits'
size is made but the gradient.

In order: the declaration (`Sums`), what it sees (`Slab`, and `Dense` for the plain way), the buffers, the sweep.

The plain way (`plain_sums`) is the same sums by differentiable operations on whole maps: for soft targets, for
compilers, and for second derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from segexplorer.functional.regions import Divided

FEW = 6
"""Classes up to which maps of their own voxels are faster than looking up the class of each voxel."""
CACHED = 1 << 17
"""Numbers in a buffer of a slab on a CPU: half a MB of float32. Smaller ones cost more calls than they save."""
RESIDENT = 1 << 22
"""The same elsewhere: 16 MB, several of which fit the second-level cache of a large GPU."""


class Sums:
    """Some sums over the voxels of a sample. Kinds are frozen dataclasses: equal ones are summed once.

    Sums are kept in float64: thousands of slabs one after the other would lose digits in float32.
    """

    boxes: Divided | None = None
    """Regions by which is summed, where it is; slabs are whole planes or rows then."""

    def within(self, boxes: Divided) -> Sums:
        """Return the same sums by other regions."""
        return replace(cast(Any, self), boxes=boxes)  # type: ignore[no-any-return]

    def shapes(self, classes: int) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of what is added up for one sample; by default one number per class."""
        return ((classes,),)

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """Add what the kept voxels of a slab contribute."""
        raise NotImplementedError  # pragma: no cover  every kind has its own

    def found(self, totals: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the sums of one sample from what was added up."""
        return totals

    def prepared(self, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return what `pull` needs in every slab of a sample, from the slopes of the loss in the sample's sums."""
        return grads

    def pull(self, at: Slab, slopes: Sequence[Tensor]) -> None:
        """Add slopes to the slab (`Slab.pull_*`), from what was prepared."""

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Return the sums of all samples, (B, ...), by differentiable operations; of soft targets, too."""
        raise NotImplementedError  # pragma: no cover  every kind has its own


@dataclass(frozen=True, eq=False)
class VoxelFactor:
    """Weights of voxels, (B, *spatial), without gradient; the same object is the same weights."""

    values: Tensor


class Total:
    """A sum over slabs, in float64; parts are added up many at a time: a call costs more than its numbers."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._sum = torch.zeros(shape, dtype=torch.float64, device=device)
        self._parts = list[Tensor]()

    def add(self, part: Tensor) -> None:
        """Take what one slab has, in memory of its own."""
        self._parts.append(part)
        if len(self._parts) == 64:
            self._fold()

    def _fold(self) -> None:
        if self._parts:
            self._sum += torch.stack(self._parts).sum(0, dtype=torch.float64)
            self._parts.clear()

    @property
    def tensor(self) -> Tensor:
        """The sum, to be added to in place, or to be read."""
        self._fold()
        return self._sum


class Buffers:
    """Memory of one slab after the other: each gets the same, from the start, so that it stays in the cache."""

    def __init__(self, classes: int, dtype: torch.dtype, device: torch.device) -> None:
        self.classes, self.dtype, self.device = classes, dtype, device
        self.voxels = 0
        self._memory: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._shaped: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._taken = [0, 0]

    def begin(self, voxels: int) -> None:
        """Give out all memory anew, for a slab of that many voxels."""
        if voxels != self.voxels:
            self._shaped = ([], [])
        self.voxels, self._taken = voxels, [0, 0]

    def row(self) -> Tensor:
        """Return (n,) unset numbers."""
        return self._take(0, (self.voxels,))

    def matrix(self) -> Tensor:
        """Return (C, n) unset numbers."""
        return self._take(1, (self.classes, self.voxels))

    def _take(self, kind: int, shape: tuple[int, ...]) -> Tensor:
        place, shaped = self._taken[kind], self._shaped[kind]
        self._taken[kind] = place + 1
        if place == len(shaped):  # views are made once for all slabs of a size
            size, memory = math.prod(shape), self._memory[kind]
            if place == len(memory) or len(memory[place]) < size:
                memory[place:] = [torch.empty(size, dtype=self.dtype, device=self.device)]
            shaped.append(memory[place][:size].view(shape))
        return shaped[place]


class Slab:
    """n voxels of a sample: probabilities and memberships (C, n), what sums derive from them, and their slopes.

    On ignored voxels memberships are 0 and probabilities are what they are; `kept_p` is 0 there.
    """

    def __init__(
        self, voxels: Voxels, sample: int, start: int, z: Tensor, labels: Tensor, buffers: Buffers
    ) -> None:
        buffers.begin(len(labels))
        self.voxels, self.sample, self.start, self.stop = voxels, sample, start, start + len(labels)
        self.row, self.matrix = buffers.row, buffers.matrix
        self.z = z
        self.keep: Tensor | None = None
        """(n,) ones, 0 on ignored voxels; None where all count."""
        if voxels.ignored is not None:
            self.keep = torch.ne(labels, voxels.ignored, out=self.row())
        self.looked_up = voxels.looked_up
        """Whether a voxel's class is looked up, and no map is made of the voxels of each class."""
        self._labels = labels
        self._own: Tensor | None = None
        self._class_of: Tensor | None = None
        self._places: Tensor | None = None
        self.p = self._softmax()
        """(C, n) probabilities."""
        self._others: Tensor | None = None
        self._kept_p: Tensor | None = None
        self._hit: Tensor | None = None
        self._true: Tensor | None = None
        self._rest: Tensor | None = None
        self._log_true: Tensor | None = None
        self._cost: Tensor | None = None
        self._in_p: Tensor | None = None
        self._in_logits: Tensor | None = None
        self._in_log_true: Tensor | None = None
        self._of_classes: tuple[Tensor, Tensor] | None = None

    def _softmax(self) -> Tensor:
        """Return e^z over its sum; only where logits are far apart is the largest taken off first."""
        z, p = self.z, self.matrix()
        self._top: Tensor | None = None
        self._below: Tensor | None = None
        if z.shape[0] == len(p) and z.dtype == p.dtype and not self.voxels.wide_range:
            torch.exp(z, out=p)
        else:
            if z.shape[0] == len(p):
                p.copy_(z)
            else:  # one sigmoid channel s is the pair (0, s)
                p[0], p[1] = 0, z[0]
            if self.voxels.wide_range:
                self._top = torch.amax(p, 0, out=self.row())
                p.sub_(self._top)
                self._below = self._of_own(p)
            p.exp_()
        self.norm = self.over_classes(p)
        """(n,) sum of e^z, or of e^(z - max) where logits are far apart."""
        return p.div_(self.norm)

    def over_classes(self, values: Tensor) -> Tensor:
        """Return (n,) sums of (C, n) over the classes; on a CPU a product takes half of the time of a sum."""
        if values.device.type == "cpu":
            return torch.mv(values.T, self.voxels.ones, out=self.row())
        return torch.sum(values, 0, out=self.row())

    def _of_own(self, values: Tensor) -> Tensor:
        """Return (n,) of (C, n) what each voxel has for its own class, 0 on ignored voxels."""
        if not self.looked_up:
            return self.over_classes(torch.mul(values, self.own, out=self.matrix()))
        found = torch.index_select(values.view(-1), 0, self.places, out=self.row())
        return found if self.keep is None else found.mul_(self.keep)

    # ---- what sums are made of; kept once made, by hand, since `cached_property` takes a lock

    @property
    def own(self) -> Tensor:
        """(C, n) ones on a class's own voxels."""
        if self._own is None:
            # straight into numbers that multiply: masks do so many times slower
            self._own = torch.eq(self._labels, self.voxels.column, out=self.matrix())
            if self.keep is not None:
                self._own.mul_(self.keep)
        return self._own

    def belonging(self, c: int) -> Tensor:
        """Return (n,) ones on the own voxels of a class."""
        if not self.looked_up:
            return self.own[c]
        found = torch.eq(self._labels, c, out=self.row())
        return found if self.keep is None else found.mul_(self.keep)

    @property
    def class_of(self) -> Tensor:
        """(n,) index of each voxel's class, 0 on ignored voxels."""
        if self._class_of is None:
            self._class_of = self._labels.long()
            if self.keep is not None:
                self._class_of = self._class_of * self.keep.bool()
        return self._class_of

    @property
    def places(self) -> Tensor:
        """(n,) where each voxel's own class is in the numbers of a (C, n) map."""
        if self._places is None:
            self._places = torch.arange(n := len(self._labels)).add_(self.class_of, alpha=n)
        return self._places

    def fill_own(self, values: Tensor, number: float) -> Tensor:
        """Set what each voxel has for its own class in (C, n) to a number; 0 or 1, and values from 0 to 1."""
        if self.looked_up:
            values.view(-1).index_fill_(0, self.places, number)
        elif number:
            torch.maximum(values, self.own, out=values)
        else:
            values.addcmul_(values, self.own, value=-1)
        return values

    def add_to_own(self, values: Tensor, numbers: Tensor) -> Tensor:
        """Add (n,) numbers to what each voxel has for its own class in (C, n)."""
        if self.looked_up:
            return values.scatter_add_(0, self.class_of.unsqueeze(0), numbers.unsqueeze(0))
        return values.addcmul_(self.own, numbers)

    def by_class(self, values: Tensor) -> Tensor:
        """Return (C,) sums of (n,) finite values over the own voxels of each class.

        Of few classes they are added up in pairs: a product of matrices would be faster, and is off by 3e-6 for a
        slab of equal values. Of many, one after the other in float64.
        """
        if not self.looked_up:
            return torch.mul(self.own, values, out=self.matrix()).sum(1)
        wide = values.to(torch.float64)
        if self.keep is not None:
            wide = wide.mul(self.keep)
        return wide.new_zeros(self.voxels.classes).scatter_add_(0, self.class_of, wide)

    @property
    def volumes(self) -> Tensor:
        """(C,) voxels of each class; at most a few thousand at a time, which float32 holds exactly."""
        if not self.looked_up:
            return self.own.sum(1)
        counted = self.p.new_ones(len(self._labels)) if self.keep is None else self.keep
        return counted.new_zeros(self.voxels.classes).scatter_add_(0, self.class_of, counted)

    def number_of_class(self, numbers: Tensor) -> Tensor:
        """Return (n,) the number of each voxel's class, 0 on ignored voxels, from (C,)."""
        if not self.looked_up:
            return torch.mv(self.own.T, numbers, out=self.row())
        found = torch.index_select(numbers, 0, self.class_of, out=self.row())
        return found if self.keep is None else found.mul_(self.keep)

    @property
    def others(self) -> Tensor:
        """(C, n) p outside a class's own voxels, 0 on them; on ignored voxels without a meaning, but finite."""
        if self._others is None:
            if self.looked_up:
                self._others = self.fill_own(self.matrix().copy_(self.p), 0.0)
            else:
                self._others = torch.sub(self.p, self.hit, out=self.matrix())
        return self._others

    @property
    def kept_p(self) -> Tensor:
        """(C, n) probabilities, 0 on ignored voxels."""
        if self._kept_p is None:
            self._kept_p = self.p if self.keep is None else torch.mul(self.p, self.keep, out=self.matrix())
        return self._kept_p

    @property
    def hit(self) -> Tensor:
        """(C, n) p g."""
        if self._hit is None:
            self._hit = torch.mul(self.p, self.own, out=self.matrix())
        return self._hit

    @property
    def true(self) -> Tensor:
        """(n,) p of the own class, 1 on ignored voxels."""
        if self._true is None:
            self._true = self._of_own(self.p) if self.looked_up else self.over_classes(self.hit)
            if self.keep is not None:
                self._true.add_(1 - self.keep)  # in this order: p - 1 + 1 would lose the digits of a small p
        return self._true

    @property
    def rest(self) -> Tensor:
        """(n,) 1 - p of the own class, as the sum of the others: exact near 0; finite on ignored voxels."""
        if self._rest is None:
            self._rest = self.over_classes(self.others)
        return self._rest

    @property
    def log_true(self) -> Tensor:
        """(n,) log p of the own class, exact for any logits, finite on ignored voxels."""
        if self._log_true is None:
            if self._below is None:
                self._log_true = torch.log(self.true, out=self.row())
            else:
                self._log_true = (self._below - self.norm.log()).clamp_(max=0)
        return self._log_true

    @property
    def cost(self) -> Tensor:
        """(n,) -log p of the own class, to the last digit also where p is near 1; finite on ignored voxels.

        From the odds against the class, which are exact at both ends; one logarithm. Where logits are far apart,
        p may be 0: the logarithm is then that of the logits where p < 1/2.
        """
        if self._cost is None:
            if self._below is None:
                odds = torch.div(self.rest, self.true, out=self.row())
                self._cost = torch.log1p(odds, out=odds)
            else:
                near = torch.clamp(self.rest, max=0.5, out=self.row()).neg_().log1p_()
                self._cost = near.add_((self.log_true + math.log(2)).clamp_(max=0)).neg_()
        return self._cost

    @property
    def log_norm(self) -> Tensor:
        """(n,) log of the sum of e^z."""
        return self.norm.log() if self._top is None else self.norm.log().add_(self._top)

    @property
    def logits(self) -> Tensor:
        """(C, n) logits in the precision of the sums, in memory of their own."""
        z, found = self.z, self.matrix()
        if z.shape[0] != len(found):
            found[0], found[1] = 0, z[0]
            return found
        return found.copy_(z)

    def factors(self, factor: VoxelFactor) -> Tensor:
        """Return (n,) weights of the voxels."""
        return factor.values.flatten(1)[self.sample, self.start : self.stop]

    # ---- slopes of the loss; all that are given are added up

    def pull_classes(self, inner: Tensor, outer: Tensor) -> None:
        """Take (C, 1) slopes in p on all voxels (outer), and what they are more on a class's own (inner)."""
        known = self._of_classes
        self._of_classes = (inner, outer) if known is None else (known[0] + inner, known[1] + outer)

    def pull_p(self, slopes: Tensor) -> None:
        """Take (C, n) slopes in p, in memory that the slab may use."""
        self._in_p = slopes if self._in_p is None else self._in_p.add_(slopes)

    def pull_log_true(self, slopes: Tensor) -> None:
        """Take (n,) slopes in the log of the own class's p, in memory that the slab may use."""
        self._in_log_true = slopes if self._in_log_true is None else self._in_log_true.add_(slopes)

    def pull_logits(self, slopes: Tensor) -> None:
        """Take (C, n) slopes in the logits, in memory that the slab may use."""
        self._in_logits = slopes if self._in_logits is None else self._in_logits.add_(slopes)

    def write(self, out: Tensor) -> None:
        """Write the gradient of the logits: p (s - sum p s), s slopes in p; h (g - p), h slopes in log p_true."""
        gradient = self._gradient(out if out.dtype == self.p.dtype and len(out) == len(self.p) else None)
        if gradient is not out:
            out.copy_(gradient if len(out) == len(gradient) else gradient[1:])

    def _gradient(self, out: Tensor | None) -> Tensor:
        h = self._in_log_true
        if self.looked_up and self._in_p is None:
            found = self._gradient_of_classes(out, h)
        elif (slopes := self._slopes_in_p()) is not None:
            mean = self.over_classes(torch.mul(self.p, slopes, out=self.matrix()))
            slopes.sub_(mean if h is None else mean.add_(h))
            found = torch.mul(slopes, self.p, out=slopes if out is None else out)
            if h is not None:
                self.add_to_own(found, h)
        elif h is not None:
            found = torch.sub(self.own, self.p, out=self.matrix())
            found = torch.mul(found, h, out=found if out is None else out)
        else:
            found = self.matrix().zero_() if out is None else out.zero_()
        if self._in_logits is not None:
            found.add_(self._in_logits)
        return found if self.keep is None else found.mul_(self.keep)

    def _gradient_of_classes(self, out: Tensor | None, h: Tensor | None) -> Tensor:
        """Return the gradient where slopes in p are those of classes: one number is added at each voxel's own."""
        found = self.matrix()
        if self._of_classes is not None:
            inner, outer = self._of_classes
            at_own = self.number_of_class(inner.squeeze(1)).mul_(self.true)
            if h is not None:
                at_own.add_(h)
            mean = torch.mv(self.p.T, outer.squeeze(1), out=self.row()).add_(at_own)
            torch.sub(outer, mean, out=found)
            found = torch.mul(found, self.p, out=found if out is None else out)
        elif h is not None:
            at_own = h
            found = torch.mul(self.p, torch.neg(h, out=self.row()), out=found if out is None else out)
        else:
            return found.zero_() if out is None else out.zero_()
        return self.add_to_own(found, at_own)

    def _slopes_in_p(self) -> Tensor | None:
        slopes = self._in_p
        if self._of_classes is not None:
            inner, outer = self._of_classes
            if self.own.device.type == "cpu":  # each column of `own` has a single one: nothing is added up
                of_classes = torch.mm(outer + torch.diag(inner.squeeze(1)), self.own, out=self.matrix())
            else:
                of_classes = torch.mul(self.own, inner, out=self.matrix()).add_(outer)
            slopes = of_classes if slopes is None else slopes.add_(of_classes)
        return slopes


@dataclass(frozen=True)
class Dense:
    """Maps of all voxels, for the plain way: (B, C, *spatial) but for `keep`.

    Attributes
    ----------
    logs, truth
        Log-probabilities, and the target as one-hot or soft classes.
    keep
        (B, *spatial), or None.
    hard
        Whether the target is of class indices.
    """

    logits: Tensor
    logs: Tensor
    probs: Tensor
    truth: Tensor
    keep: Tensor | None
    hard: bool

    def kept(self, values: Tensor) -> Tensor:
        """Return (B, C, *spatial) values, 0 on ignored voxels."""
        return values if self.keep is None else values.where(self.keep.unsqueeze(1), values.new_zeros(()))

    def total(self, values: Tensor) -> Tensor:
        """Return (B, C) sums over kept voxels."""
        return self.kept(values).flatten(2).sum(-1)


@dataclass(frozen=True)
class Voxels:
    """Labels of a batch, and how the sweep walks through its voxels.

    Attributes
    ----------
    labels
        (B, N) whole numbers; on kept voxels from 0 to C - 1.
    spatial
        Shape of the N voxels.
    classes
        C, 2 for a sigmoid channel.
    ignore_index
        Label of voxels that do not count; None where there is none.
    wide_range
        Whether logits are so far apart, or so large, that e^z may leave the numbers of float32.
    dtype
        Of the computation.
    """

    labels: Tensor
    spatial: tuple[int, ...]
    classes: int
    ignore_index: int | None
    wide_range: bool
    dtype: torch.dtype

    @cached_property
    def small(self) -> Tensor:
        """(B, N) labels in as few bytes as they need: bytes are compared many times faster than whole numbers."""
        if self.classes > 255:
            return self.labels
        if self.ignore_index is None or 0 <= self.ignore_index <= 255:
            return self.labels.to(torch.uint8)
        return torch.where(self.labels == self.ignore_index, 255, self.labels).to(torch.uint8)

    @cached_property
    def ignored(self) -> int | None:
        """Value of ignored voxels among `small`."""
        given = self.ignore_index
        return given if given is None or self.small is self.labels or 0 <= given <= 255 else 255

    @cached_property
    def looked_up(self) -> bool:
        """Whether slabs look classes up; on GPUs, sums that are added up in this way differ from call to call."""
        return self.labels.device.type == "cpu" and self.classes > FEW

    @cached_property
    def ones(self) -> Tensor:
        """(C,) ones."""
        return torch.ones(self.classes, dtype=self.dtype, device=self.labels.device)

    @cached_property
    def column(self) -> Tensor:
        """(C, 1) class indices."""
        return torch.arange(self.classes, dtype=self.small.dtype, device=self.labels.device).unsqueeze(1)

    def slabs(self, logits: Tensor, wanted: Sequence[Sums]) -> Iterator[Slab]:
        """Yield all voxels of logits (B, C, N), slab by slab; each slab ends the use of the one before.

        Where boxes are summed, slabs are whole planes, or whole rows of one plane, along the last axes, so that
        they are summed by axes; only a single row may be longer than the cache has room for.
        """
        device = logits.device
        room = max(1, (CACHED if device.type == "cpu" else RESIDENT) // self.classes)
        total = math.prod(self.spatial)
        buffers = Buffers(self.classes, self.dtype, device)
        step, limit = room, total
        if any(one.boxes is not None for one in wanted):
            row, plane = self.spatial[-1], math.prod(self.spatial[-2:])
            step = max(1, room // plane) * plane
            if plane > room:
                step, limit = max(1, room // row) * row, plane
        sizes = [min(step, limit - start) for _ in range(0, total, limit) for start in range(0, limit, step)]
        for sample, (z, labels) in enumerate(zip(logits, self.small, strict=True)):
            start = 0
            for part, own in zip(z.split(sizes, 1), labels.split(sizes), strict=True):
                yield Slab(self, sample, start, part, own, buffers)
                start += len(own)


def sweep(logits: Tensor, voxels: Voxels, wanted: Sequence[Sums]) -> list[tuple[Tensor, ...]]:
    """Return the sums of every declaration, each (B, ...) in float64, with a graph to the logits.

    Parameters
    ----------
    logits
        (B, C, *spatial) of any floating type and any strides; or (B, 1, *spatial) of one sigmoid channel.
    """
    flat = _Sweep.apply(logits, voxels, tuple(wanted))  # type: ignore[no-untyped-call]
    remaining = iter(flat)
    return [tuple(next(remaining) for _ in range(outputs_of(one, voxels.classes))) for one in wanted]


def flattened(logits: Tensor) -> Tensor:
    """Return (B, C, N) logits, a view if at all possible: of channels last, too."""
    try:
        return logits.view(len(logits), logits.shape[1], -1)
    except RuntimeError:
        return logits.flatten(2)


def outputs_of(one: Sums, classes: int) -> int:
    """Return how many sums a declaration gives."""
    return len(one.found([torch.zeros(shape) for shape in one.shapes(classes)]))


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, voxels: Voxels, wanted: tuple[Sums, ...]) -> tuple[Tensor, ...]:
        samples = [
            [[Total(shape, logits.device) for shape in one.shapes(voxels.classes)] for one in wanted]
            for _ in range(len(logits))
        ]
        for at in voxels.slabs(flattened(logits), wanted):
            for one, into in zip(wanted, samples[at.sample], strict=True):
                one.add(at, into)
        ctx.save_for_backward(logits, voxels.labels)
        ctx.voxels, ctx.wanted = voxels, wanted
        ctx.set_materialize_grads(False)
        columns = [
            [
                s
                for one, totals in zip(wanted, sample, strict=True)
                for s in one.found([total.tensor for total in totals])
            ]
            for sample in samples
        ]
        return tuple(torch.stack(column) for column in zip(*columns, strict=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        logits, _ = ctx.saved_tensors  # raises where they were changed since
        voxels, wanted = ctx.voxels, ctx.wanted
        if torch.is_grad_enabled():
            return _differentiable_gradient(logits, voxels, wanted, grads), None, None
        remaining, pulled = iter(grads), list[tuple[Sums, list[Tensor]]]()
        for one in wanted:
            of_sums = [next(remaining) for _ in range(outputs_of(one, voxels.classes))]
            if any(g is not None for g in of_sums):
                pulled.append((one, _filled(one, of_sums, voxels)))
        gradient = torch.empty_like(logits)
        out = flattened(gradient)
        if out.data_ptr() != gradient.data_ptr():  # a copy: the layout has no flat view
            gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
            out = flattened(gradient)
        given = [
            [(one, one.prepared([column[b] for column in columns])) for one, columns in pulled]
            for b in range(len(logits))
        ]
        for at in voxels.slabs(flattened(logits), [one for one, _ in pulled]):
            for one, slopes in given[at.sample]:
                one.pull(at, slopes)
            at.write(out[at.sample, :, at.start : at.stop])
        return gradient, None, None


def _filled(one: Sums, given: Sequence[Tensor | None], voxels: Voxels) -> list[Tensor]:
    """Return the slopes in all sums of a declaration, zeros where the loss does not use one."""
    device, samples = voxels.labels.device, len(voxels.labels)
    empty = one.found([torch.zeros(shape, device=device) for shape in one.shapes(voxels.classes)])
    return [
        (zeros.new_zeros((samples, *zeros.shape)) if g is None else g).to(voxels.dtype)
        for g, zeros in zip(given, empty, strict=True)
    ]


def _differentiable_gradient(
    logits: Tensor, voxels: Voxels, wanted: Sequence[Sums], grads: Sequence[Tensor | None]
) -> Tensor:
    """Return the gradient with a graph of its own, for second derivatives."""
    labels = voxels.labels.view(len(logits), *voxels.spatial)
    keep = None if voxels.ignore_index is None else labels != voxels.ignore_index
    own = labels.long() if keep is None else torch.where(keep, labels, 0).long()
    wide = logits.to(voxels.dtype)
    if wide.shape[1] != voxels.classes:
        wide = torch.cat([torch.zeros_like(wide), wide], 1)
    truth = torch.zeros_like(wide).scatter_(1, own.unsqueeze(1), 1.0)
    sums = [s for found in plain_sums(wide, truth, keep, wanted, hard=True) for s in found]
    known = zip(sums, grads, strict=True)
    pairs = [(s, g.to(s.dtype)) for s, g in known if g is not None and s.requires_grad]
    if not pairs:
        return torch.zeros_like(logits)
    outputs, given = zip(*pairs, strict=True)
    (found,) = torch.autograd.grad(outputs, logits, given, create_graph=True)
    return found


def plain_sums(
    logits: Tensor, truth: Tensor, keep: Tensor | None, wanted: Sequence[Sums], *, hard: bool
) -> list[tuple[Tensor, ...]]:
    """Return the same sums as `sweep` by operations on whole maps, which autograd and compilers know.

    Parameters
    ----------
    truth
        (B, C, *spatial) one-hot or soft classes; values on ignored voxels do not matter.
    """
    logs = torch.log_softmax(logits, 1)
    of = Dense(logits, logs, logs.exp(), truth, keep, hard)
    return [tuple(one.plain(of)) for one in wanted]
