"""Cross entropies: declarations of sums of what the probability of each voxel's true class costs.

Each is a sum per true class, (B, C), so that weights of classes are factors of a few numbers, whatever they depend
on. In order: cross entropy and focal cross entropy, whose slope in log p is written by hand; powers of cross
entropy; the same logarithm of all classes, for label smoothing; the two-sided cross entropy of classes against the
rest, which weighs false negatives against false positives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segexplorer.functional.inputs import LossInputs
from segexplorer.functional.softmax import log_complements
from segexplorer.functional.sweep import Dense, Slab, Sums, Total, VoxelFactor


def _factored(values: Tensor, at: Slab, factor: VoxelFactor | None) -> Tensor:
    return values if factor is None else values.mul_(at.factors(factor))


def _plain(of: Dense, values: Tensor, factor: VoxelFactor | None) -> tuple[Tensor]:
    """Return sums of (B, C, *spatial) values by true class."""
    shares = of.truth if factor is None else of.truth * factor.values.unsqueeze(1)
    return (of.total(values * shares),)


@dataclass(frozen=True)
class FocalCosts(Sums):
    """Sums by true class of -(1 - p)^gamma log p; gamma 0 is cross entropy.

    Attributes
    ----------
    gamma
        Not below 0.
    background_only
        Whether foreground classes go without the factor (asymmetric unified focal loss).
    factor
        Weights of the voxels, or None.
    """

    gamma: float = 0.0
    background_only: bool = False
    factor: VoxelFactor | None = None

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """Add costs up, class by class."""
        if self.gamma == 0 and self.factor is None:
            into[0].add(at.by_class(at.log_true).neg_())
            return
        if self.gamma == 0:
            value = torch.neg(at.log_true, out=at.row())
        else:
            value = focal(at, self.gamma)
            if self.background_only:
                value = value.sub_(at.cost).mul_(at.belonging(0)).add_(at.cost)
        into[0].add(at.by_class(_factored(value, at, self.factor)))

    def pull(self, at: Slab, slopes: Sequence[Tensor]) -> None:
        """The slope in log p times that of the class's sum."""
        scale = at.number_of_class(slopes[0])
        if self.gamma == 0:
            slope = scale.neg_()
        else:
            slope = focal_slope(at, self.gamma)
            if self.background_only:
                slope = slope.add_(1).mul_(at.belonging(0)).sub_(1)
            slope = slope.mul_(scale)
        at.pull_log_true(_factored(slope, at, self.factor))

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Add the products up."""
        costs = -of.logs
        if self.gamma != 0:
            # 1 - p is taken from the logarithm, and kept off 0, where a power below 1 has no slope
            costs = costs * (-torch.expm1(of.logs)).clamp(min=1e-30) ** self.gamma
        if self.background_only:
            costs = torch.cat([costs[:, :1], -of.logs[:, 1:]], 1)
        return _plain(of, costs, self.factor)


def _power(at: Slab, base: Tensor, gamma: float) -> Tensor:
    """Return base^gamma in memory of its own.

    torch's own power takes twice as long as a logarithm and a power of 2, and six times as long as a root.
    """
    out = at.row()
    if gamma == 1:
        return out.copy_(base)
    if gamma == 2:
        return torch.mul(base, base, out=out)
    if gamma == 0.5:
        return torch.sqrt(base, out=out)
    if gamma == 0.75:
        return torch.sqrt(base, out=out).mul_(out.sqrt())
    return torch.log2(base, out=out).mul_(gamma).exp2_()


def focal(at: Slab, gamma: float) -> Tensor:
    """Return (n,) -(1 - p)^gamma log p of each voxel's own class, gamma above 0."""
    base = torch.clamp(at.rest, min=1e-30, out=at.row())  # as in the slope
    return _power(at, base, gamma).mul_(at.cost)


def focal_slope(at: Slab, gamma: float) -> Tensor:
    """Return the slope of `focal` in log p, for which d(1 - p) = -p dlog p.

    (1 - p)^gamma (gamma p log p / (1 - p) - 1), where the last quotient is the cost over the odds.
    """
    base = torch.clamp(at.rest, min=1e-30, out=at.row())  # the slope of a power below 1 is infinite at 0
    part = torch.div(at.cost, base, out=at.row()).mul_(at.true).mul_(-gamma).sub_(1)
    return part.mul_(_power(at, base, gamma))


TINY = 1e-8
"""Below it, powers are 0 without a slope: that of a root has no bound at 0."""


@dataclass(frozen=True)
class LogPowers(Sums):
    """Sums by true class of (-log p)^gamma, 0 without a slope where the logarithm is above -1e-8."""

    gamma: float

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """Add powers up, class by class."""
        cost = at.row().copy_(at.cost)
        some = torch.gt(cost, TINY, out=at.row())
        into[0].add(at.by_class(cost.clamp_(min=TINY).pow_(self.gamma).mul_(some)))

    def pull(self, at: Slab, slopes: Sequence[Tensor]) -> None:
        """The slope in log p is minus that of the power."""
        cost = at.row().copy_(at.cost)
        some = torch.gt(cost, TINY, out=at.row())
        slope = cost.clamp_(min=TINY).pow_(self.gamma - 1).mul_(some).mul_(-self.gamma)
        at.pull_log_true(slope.mul_(at.number_of_class(slopes[0])))

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Add the products up."""
        cost = -of.logs
        powers = torch.where(cost > TINY, cost.clamp(min=TINY) ** self.gamma, torch.zeros_like(cost))
        return _plain(of, powers, None)


@dataclass(frozen=True)
class AllLogs(Sums):
    """Sums of -log p of each class over all kept voxels, (B, C), for label smoothing."""

    factor: VoxelFactor | None = None

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """From the logits: log p_c = z_c - log sum e^z."""
        logs = at.logits.sub_(at.log_norm)
        for row in (at.keep, None if self.factor is None else at.factors(self.factor)):
            logs = logs if row is None else logs.mul_(row)
        into[0].add(logs.sum(1).neg_())

    def pull(self, at: Slab, slopes: Sequence[Tensor]) -> None:
        """Slopes in the logits are p times the sum of all, less the class's own."""
        found = torch.mul(at.p, slopes[0].sum(), out=at.matrix()).sub_(slopes[0].unsqueeze(1))
        at.pull_logits(found if self.factor is None else found.mul_(at.factors(self.factor)))

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Add the logarithms up."""
        return (of.total(-of.logs if self.factor is None else -of.logs * self.factor.values.unsqueeze(1)),)


def sum_of_others(x: Tensor, *, product: bool = False, out: Tensor | None = None) -> Tensor:
    """Return for each row of (C, n) the sum of all others, in which nothing cancels.

    By running sums, or by a product with ones off the diagonal, which takes half of the time on a CPU.
    """
    if product:
        return torch.mm(x.new_ones((len(x), len(x))).fill_diagonal_(0), x, out=out)
    found, last = torch.empty_like(x), len(x) - 1
    before = [x[0]]  # sums of all up to a row
    for c in range(1, last):
        before.append(torch.add(before[-1], x[c], out=found[last] if c == last - 1 else None))
    after = x[last]
    for c in range(last - 1, 0, -1):
        torch.add(before[c - 1], after, out=found[c])
        after = torch.add(after, x[c], out=found[0] if c == 1 else None)
    if last == 1:
        found[0], found[1] = x[1], x[0]
    return found


def _others(at: Slab, x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return sum_of_others(x)
    return sum_of_others(x, product=True, out=at.matrix())


@dataclass(frozen=True)
class TwoSidedCosts(Sums):
    """Sum over all voxels and the classes from `first` on of -[b g log p + (1-b)(1-g) log(1-p)], (B,).

    From probabilities, where none is tiny. With odds o_c = p_c / (1 - p_c) of the counted classes that a voxel does
    not have: dV/dz_k = b [y counted] (p_k - g_k) + (1-b) p_k ([k counted, k != y] - sum_{c != k} o_c). 1 - p_c and
    the sums without k are sums of the other classes, free of cancellation. Where logits are far apart, logarithms
    are taken from them, and slopes from autograd, slab by slab.

    Attributes
    ----------
    inside
        b.
    first
        0, or 1 to leave out the background.
    """

    inside: float
    first: int = 1

    def shapes(self, classes: int) -> tuple[tuple[int, ...], ...]:
        """Return that of one number."""
        return ((),)

    def add(self, at: Slab, into: Sequence[Total]) -> None:
        """Add up values of voxels."""
        if at.voxels.wide_range:
            into[0].add(self._from_logits(at.logits, at))
            return
        # a class's own voxels have the factor 1, and all others one that is not greater
        factors = at.fill_own(_others(at, at.p), 1.0)
        factors[: self.first] = 1
        if at.looked_up:
            logs = at.over_classes(factors.log_())
        else:  # one logarithm of the product serves few classes, for at most one of its factors is small
            product = factors[self.first]
            for factor in factors[self.first + 1 :]:
                product.mul_(factor)
            logs = product.log_()
        missed = at.log_true if self.first == 0 else at.log_true * (1 - at.belonging(0))
        values = logs.mul_(self.inside - 1).sub_(missed, alpha=self.inside)
        into[0].add((values if at.keep is None else values.mul_(at.keep)).sum())

    def pull(self, at: Slab, slopes: Sequence[Tensor]) -> None:
        """Slopes as above."""
        if at.voxels.wide_range:
            leaf = at.logits.clone().requires_grad_()
            with torch.enable_grad():
                (found,) = torch.autograd.grad(self._from_logits(leaf, at), leaf)
            at.pull_logits(found.mul_(slopes[0]))
            return
        inside, outside, first = slopes[0] * self.inside, slopes[0] * (1 - self.inside), self.first
        odds = torch.div(at.p, _others(at, at.p), out=at.matrix())
        at.fill_own(odds, 0.0)
        odds[:first] = 0
        found = _others(at, odds).mul_(-outside)
        at_own = torch.mul(at.true, -outside, out=at.row()).sub_(inside)
        if first:  # a voxel of the background has no class that is counted
            counted = torch.rsub(at.belonging(0), 1)
            found.add_(torch.mul(counted, inside, out=at.row()))
            at_own.mul_(counted)
        else:
            found.add_(inside)
        found[first:].add_(outside)
        at.pull_logits(at.add_to_own(found.mul_(at.p), at_own))

    def _from_logits(self, z: Tensor, at: Slab) -> Tensor:
        """Return the sum from (C, n) logits of any range."""
        z, own = z.unsqueeze(0), at.own.unsqueeze(0)
        values = self._values(z, torch.log_softmax(z, 1), own)
        return (values if at.keep is None else values * at.keep).sum()

    def _values(self, logits: Tensor, logs: Tensor, truth: Tensor) -> Tensor:
        """Return (B, C - first, *spatial) values."""
        first = self.first
        complements = log_complements(logits, logs)[:, first:]
        logs, truth = logs[:, first:], truth[:, first:]
        return -(self.inside * truth * logs + (1 - self.inside) * (1 - truth) * complements)

    def plain(self, of: Dense) -> Sequence[Tensor]:
        """Take the logarithms from the logits."""
        return (of.kept(self._values(of.logits, of.logs, of.truth)).flatten(1).sum(1),)


def modified_cross_entropy(inputs: LossInputs, positive_weight: float) -> Tensor:
    """Return the mean over kept voxels and foreground classes of -[b g log p + (1-b)(1-g) log(1-p)].

    Parameters
    ----------
    positive_weight
        b: weight of a class's own voxels; all others get one minus it. With two classes this is cross
        entropy with weights (1-b, b).
    """
    asked = modified_costs(inputs, positive_weight)
    (sums,) = inputs.sums(asked)
    if isinstance(asked, FocalCosts):
        return (sums * inputs.tensor([1 - positive_weight, positive_weight])).sum() / inputs.kept
    return sums.sum() / (inputs.kept * (inputs.classes - 1))


def modified_costs(inputs: LossInputs, positive_weight: float) -> Sums:
    """Return what `modified_cross_entropy` asks for."""
    return FocalCosts() if inputs.classes == 2 and inputs.soft is None else TwoSidedCosts(positive_weight)
