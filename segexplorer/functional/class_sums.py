"""Declarations of sums per class, or per class and box, of functions of p and g (`functional.sweep`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segexplorer.functional.regions import Divided
from segexplorer.functional.sweep import FEW, Dense, Slab, Sums, Total

RUN = 512
"""Voxels of one product of matrices, which adds up one after the other and not in pairs."""


def _product(at: Slab) -> Tensor:
    """Return (C, C) sums of p of one class (column) over the own voxels of another (row)."""
    own, p = at.own, at.kept_p
    runs = p.shape[1] // RUN
    end = runs * RUN
    found = own[:, end:] @ p[:, end:].T
    if runs:
        left = own[:, :end].unflatten(1, (runs, RUN)).transpose(0, 1)  # type: ignore[no-untyped-call]
        right = p[:, :end].unflatten(1, (runs, RUN)).permute(1, 2, 0)  # type: ignore[no-untyped-call]
        found += torch.bmm(left, right).sum(0)
    return found


def _cells(at: Slab, boxes: Divided) -> tuple[Tensor, Tensor]:
    """Return where each voxel's class and region are among (C, R) numbers, and (n,) ones where it has both."""
    numbers = torch.arange(1, boxes.count + 1, dtype=at.p.dtype, device=at.p.device).unsqueeze(0)
    region = boxes.paint_slab(numbers, at.sample, at.start, at.stop)[0]
    counted = region.gt(0).to(at.p.dtype)
    places = (region - 1).clamp_(min=0).long().add_(at.class_of, alpha=boxes.count)
    return places, counted if at.keep is None else counted.mul_(at.keep)


def _total(of: Dense, values: Tensor, boxes: Divided | None) -> Tensor:
    kept = of.kept(values)
    return kept.flatten(2).sum(-1) if boxes is None else boxes.sum(kept)


@dataclass(frozen=True)
class Volumes(Sums):
    """Voxels of each class in the target, (B, C); without slopes."""

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """Count."""
        into[0].add(at.volumes)

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Add the target up."""
        return (of.total(of.truth.detach()),)


@dataclass(frozen=True)
class Counts(Sums):
    """TP, FP, FN and the truth's volume, each (B, C), or (B, C, R) by boxes; no slopes in the volume.

    None is a difference of sums, which would lose small errors beside large volumes. Of few classes, all are
    entries of one matrix M, the sums of p of one class over the own voxels of another: TP its diagonal, FP the
    rest of a column, FN the rest of a row, for 1 - p is the sum of the others.
    """

    boxes: Divided | None = None

    def shapes(self, classes: int) -> tuple[tuple[int, ...], ...]:
        """Return those of M and the volumes, or of the four sums."""
        if self.boxes is not None:
            return ((classes, self.boxes.count),) * 4
        return ((classes, classes), (classes,)) if classes <= FEW else ((classes,),) * 4

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """Multiply memberships with probabilities."""
        if len(into) == 2:
            into[0].add(_product(at))
            into[1].add(at.volumes)
            return
        if self.boxes is None and at.looked_up:
            others = at.others if at.keep is None else torch.mul(at.others, at.keep, out=at.matrix())
            parts = at.by_class(at.true), others.sum(1), at.by_class(at.rest), at.volumes
            for part, total in zip(parts, into, strict=True):
                total.add(part)
            return
        if at.looked_up:
            self._add_looked_up(at, into)
            return
        rest = torch.sub(at.kept_p, at.hit, out=at.matrix())
        missed = torch.sub(at.own, at.hit, out=at.matrix())
        for values, total in zip((at.hit, rest, missed, at.own), into, strict=True):
            if self.boxes is None:
                total.add(values.sum(1))
            else:
                self.boxes.add_slab(values, at.sample, at.start, total.tensor)

    def _add_looked_up(self, at: Slab, into: Sequence[Total]) -> None:
        """Add up boxes where a voxel's class is looked up: three of the sums have one number of each voxel."""
        assert self.boxes is not None
        places, counted = _cells(at, self.boxes)
        for values, number in ((at.true, 0), (at.rest, 2), (None, 3)):
            total = into[number].tensor
            part = counted if values is None else counted * values
            total.view(-1).scatter_add_(0, places, part.to(total.dtype))
        others = at.others if at.keep is None else torch.mul(at.others, at.keep, out=at.matrix())
        self.boxes.add_slab(others, at.sample, at.start, into[1].tensor)

    def found(self, totals: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the four sums."""
        if len(totals) != 2:
            return totals
        tp = totals[0].diagonal().clone()
        others = totals[0].clone().fill_diagonal_(0)
        return tp, others.sum(0), others.sum(1), totals[1]

    def prepared(self, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        """Slopes in p are those in TP less those in FN on own voxels, those in FP elsewhere."""
        of_tp, of_fp, of_fn, _ = grads
        inner = of_tp - of_fn - of_fp
        return (inner, of_fp) if self.boxes is not None else (inner.unsqueeze(1), of_fp.unsqueeze(1))

    def pull(self, at: Slab, slopes: Sequence[Tensor]) -> None:
        """Take the slopes of classes, or paint those of boxes."""
        if self.boxes is None:
            at.pull_classes(*slopes)
            return
        if at.looked_up:
            places, counted = _cells(at, self.boxes)
            found = at.matrix().copy_(self.boxes.paint_slab(slopes[1], at.sample, at.start, at.stop))
            at.pull_p(at.add_to_own(found, slopes[0].reshape(-1).index_select(0, places).mul_(counted)))
            return
        inner, outer = (self.boxes.paint_slab(s, at.sample, at.start, at.stop) for s in slopes)
        at.pull_p(torch.mul(inner, at.own, out=at.matrix()).add_(outer))

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """With a soft target, TP is the sum of min(p, g), so that a prediction equal to it is perfect."""
        p, g = of.probs, of.truth
        hit = p * g if of.hard else torch.minimum(p, g)
        rest = p * (1 - g) if of.hard else p - hit
        missed = (1 - p) * g if of.hard else g - hit
        return tuple(_total(of, values, self.boxes) for values in (hit, rest, missed, g))


@dataclass(frozen=True)
class Squares(Sums):
    """Sums of p^2, (B, C) or (B, C, R)."""

    boxes: Divided | None = None

    def shapes(self, classes: int) -> tuple[tuple[int, ...], ...]:
        """Return one number per class, or per class and box."""
        return ((classes,),) if self.boxes is None else ((classes, self.boxes.count),)

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """Add the squares up."""
        square = torch.mul(at.kept_p, at.kept_p, out=at.matrix())
        if self.boxes is None:
            into[0].add(square.sum(1))
        else:
            self.boxes.add_slab(square, at.sample, at.start, into[0].tensor)

    def prepared(self, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        """Double the slopes."""
        return (2 * grads[0] if self.boxes is not None else 2 * grads[0].unsqueeze(1),)

    def pull(self, at: Slab, slopes: Sequence[Tensor]) -> None:
        """Slopes are 2 p times those in the sum."""
        if self.boxes is None:
            at.pull_p(torch.mul(at.p, slopes[0], out=at.matrix()))
        else:
            painted = self.boxes.paint_slab(slopes[0], at.sample, at.start, at.stop)
            at.pull_p(torch.mul(painted, at.p, out=at.matrix()))

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Add the squares up."""
        return (_total(of, of.probs * of.probs, self.boxes),)


@dataclass(frozen=True)
class Products(Sums):
    """Sums of p g and of g^2 for soft targets, each (B, C) or (B, C, R); TP and the volume for hard ones."""

    boxes: Divided | None = None

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Add both up."""
        p, g = of.probs, of.truth
        return _total(of, p * g, self.boxes), _total(of, g * g, self.boxes)


@dataclass(frozen=True)
class SquaredErrors(Sums):
    """Sums of (g - p)^2 g and of (g - p)^2 (1 - g), each (B, C)."""

    def shapes(self, classes: int) -> tuple[tuple[int, ...], ...]:
        """Return one number per class, twice."""
        return ((classes,), (classes,))

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """Add up the squares inside and outside."""
        square = torch.sub(at.own, at.kept_p, out=at.matrix()).square_()
        inside = torch.mul(square, at.own, out=at.matrix())
        into[0].add(inside.sum(1))
        into[1].add(square.sub_(inside).sum(1))

    def prepared(self, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        """Double the slopes."""
        inside, outside = (2 * grad.unsqueeze(1) for grad in grads)
        return inside - outside, outside

    def pull(self, at: Slab, slopes: Sequence[Tensor]) -> None:
        """Slopes are 2 (p - g) times those of the side."""
        inner, outer = slopes
        sides = torch.mul(at.own, inner, out=at.matrix()).add_(outer)
        at.pull_p(sides.mul_(torch.sub(at.p, at.own, out=at.matrix())))

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Add up the squares inside and outside."""
        square = (of.truth - of.probs).square()
        return of.total(square * of.truth), of.total(square * (1 - of.truth))


@dataclass(frozen=True)
class ErrorPowers(Sums):
    """Sums of (g (1 - p))^gamma + ((1 - g) p)^gamma, (B, C); a power's slope at 0 is that at 1e-12."""

    gamma: float
    least = 1e-12

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """Add up powers of the error, of which one of both parts is 0 at every voxel."""
        powers = self._errors(at).pow_(self.gamma).add_(self.least**self.gamma)
        into[0].add((powers if at.keep is None else powers.mul_(at.keep)).sum(1))

    def pull(self, at: Slab, slopes: Sequence[Tensor]) -> None:
        """Slopes are gamma |g - p|^(gamma - 1), negative inside, 0 where the error is too small."""
        errors = self._errors(at)
        some = torch.gt(errors, self.least, out=at.matrix())
        found = errors.pow_(self.gamma - 1).mul_(some).mul_(self.gamma * slopes[0].unsqueeze(1))
        at.pull_p(found.mul_(torch.mul(at.own, -2, out=at.matrix()).add_(1)))

    def _errors(self, at: Slab) -> Tensor:
        """Return (C, n) |g - p|: 1 - p inside, p outside."""
        return torch.sub(at.own, at.p, out=at.matrix()).abs_().clamp_(min=self.least)

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Add both powers up."""
        missed = (of.truth * (1 - of.probs)).clamp(min=self.least) ** self.gamma
        surplus = ((1 - of.truth) * of.probs).clamp(min=self.least) ** self.gamma
        return (of.total(missed + surplus),)


@dataclass(frozen=True)
class Confusions(Sums):
    """Soft confusion matrix (B, C, C): the sum of p of one class (column) over the own voxels of another (row)."""

    def shapes(self, classes: int) -> tuple[tuple[int, ...], ...]:
        """Return that of the matrix."""
        return ((classes, classes),)

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """Multiply memberships with probabilities."""
        into[0].add(_product(at))

    def pull(self, at: Slab, slopes: Sequence[Tensor]) -> None:
        """A voxel's slopes are the row of its class."""
        at.pull_p(torch.mm(slopes[0].T, at.own, out=at.matrix()))

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Multiply target with probabilities."""
        return (torch.einsum("ban,bcn->bac", of.kept(of.truth).flatten(2), of.probs.flatten(2)),)
