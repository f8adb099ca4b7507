"""Sums over the voxels of each sample and class of functions of p and g, for targets of class indices.

The volume is worked on in slabs that stay in the processor's cache. The membership of voxels in a class is made
slab by slab too, so that besides the gradient no map of the logits' size is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SLAB = 1 << 15
"""Voxels at a time on a CPU."""


def slabs(volume: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield (sample, range of voxels) over a (B, ..., N) tensor; whole samples off the CPU and for compilers."""
    voxels = volume.shape[-1]
    whole = volume.device.type != "cpu" or torch.compiler.is_compiling()
    width = max(voxels, 1) if whole else SLAB
    for sample in range(volume.shape[0]):
        for start in range(0, voxels, width):
            yield sample, slice(start, start + width)


def narrow(labels: Tensor, classes: int) -> Tensor:
    """Return class indices in as few bytes as they need; comparing bytes is many times faster."""
    return labels.to(torch.uint8) if classes <= 256 else labels


def membership(labels: Tensor, like: Tensor) -> Tensor:
    """Return (C, n) ones where (n,) narrowed labels are the class, zeros elsewhere; C and type of `like`."""
    classes = torch.arange(like.shape[1], dtype=labels.dtype, device=labels.device).unsqueeze(1)
    found = torch.empty((len(classes), len(labels)), dtype=like.dtype, device=like.device)
    return torch.eq(labels.unsqueeze(0), classes, out=found)


class ClassSums(Protocol):
    """Some sums at a time; p and g are (C, n), both 0 on ignored voxels."""

    keeps_probs: bool
    """Whether the slopes depend on p."""

    def sums(self, p: Tensor, own: Tensor) -> Sequence[Tensor]:
        """Return what is to be added up, each (C, n)."""

    def slopes(self, p: Tensor | None, own: Tensor, grads: Sequence[Tensor], out: Tensor) -> None:
        """Write (C, n) slopes in p, from the (C, 1) slopes of a loss in each sum."""


def class_sums(probs: Tensor, labels: Tensor, keep: Tensor | None, rule: ClassSums) -> tuple[Tensor, ...]:
    """Return the sums, each (B, C).

    Parameters
    ----------
    probs
        (B, C, *spatial).
    labels
        (B, *spatial) class indices; values on voxels outside `keep` do not matter.
    keep
        (B, *spatial) bool, or None for all voxels.
    """
    found: tuple[Tensor, ...] = _Sums.apply(probs, labels, keep, rule)  # type: ignore[no-untyped-call]
    return found


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, probs: Tensor, labels: Tensor, keep: Tensor | None, rule: ClassSums
    ) -> tuple[Tensor, ...]:
        p, y = probs.flatten(2), narrow(labels, probs.shape[1]).flatten(1)
        kept = None if keep is None else keep.flatten(1)
        rows: list[list[list[Tensor]]] = [[] for _ in range(len(p))]
        for b, part in slabs(p):
            here, own = p[b, :, part], membership(y[b, part], p)
            if kept is not None:
                here, own = here * kept[b, part], own.mul_(kept[b, part])
            rows[b].append([values.sum(1) for values in rule.sums(here, own)])
        columns = [[torch.stack(part).sum(0) for part in zip(*row, strict=True)] for row in rows]
        ctx.save_for_backward(probs if rule.keeps_probs else None, y, kept)
        ctx.rule, ctx.shape = rule, probs.shape
        return tuple(torch.stack(column) for column in zip(*columns, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        probs, y, kept = ctx.saved_tensors
        result = grads[0].new_empty(ctx.shape)
        found, p = result.flatten(2), None if probs is None else probs.flatten(2)
        columns = [[grad[b].unsqueeze(1) for grad in grads] for b in range(len(found))]
        for b, part in slabs(found):
            own = membership(y[b, part], found)
            out = found[b, :, part]
            ctx.rule.slopes(None if p is None else p[b, :, part], own, columns[b], out)
            if kept is not None:
                out.mul_(kept[b, part])
        return result, None, None, None


class SquaredErrors:
    """Sums of (1 - p)^2 over a class's own voxels, and of p^2 over all others."""

    keeps_probs = True

    def sums(self, p: Tensor, own: Tensor) -> Sequence[Tensor]:
        """Return the squares inside and outside."""
        square = (own - p).square_()
        inside = square * own
        return inside, square.sub_(inside)

    def slopes(self, p: Tensor | None, own: Tensor, grads: Sequence[Tensor], out: Tensor) -> None:
        """Write 2 (p - g) times the slope of the side."""
        assert p is not None
        inside, outside = grads
        choose(own, 2 * inside, 2 * outside, out).mul_(p - own)


def choose(own: Tensor, inside: Tensor, outside: Tensor, out: Tensor) -> Tensor:
    """Write (C, 1) values inside a class and outside of it; `torch.where` costs several times as much."""
    return torch.mul(own, inside - outside, out=out).add_(outside)
