"""One source of overlap: soft TP, FP, FN per class, over the whole sample or per box.

TP = sum p g, FP = sum p (1-g), FN = sum (1-p) g, each summed directly: the difference
G - TP would lose small regional errors to cancellation. With integer labels no one-hot volume is made: whole
samples go slab by slab, boxes a class at a time, and the backward pass is written by hand, one masked fill:
dL/dp = (dTP - dFN) on the class's own voxels, dFP elsewhere, + 2 p dQ.
Labels are compared as bytes, straight into a float mask, which multiplies: int64, bool masks and `torch.where` each
cost some ten times as much on a CPU. What is compiled takes the same sums by plain operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segexplorer.functional.class_sums import choose, class_sums, narrow
from segexplorer.functional.regions import Divided


@dataclass(frozen=True)
class Overlap:
    """Soft counts in voxels, each (B, C), or (B, C, R) per box.

    Attributes
    ----------
    tp, fp, fn
        Soft true positives, false positives, false negatives.
    truth
        Volume of the class in the target; no gradient.
    predicted_square, truth_square
        Sums of p^2 and g^2, for squared denominators; `predicted_square` is None unless asked for.
    product
        Sum of p g. Equals `tp` for hard labels; for soft ones `tp` is the sum of min(p, g), so that a
        prediction equal to its soft target is perfect.
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor
    truth: Tensor
    predicted_square: Tensor | None
    truth_square: Tensor
    product: Tensor

    @property
    def predicted(self) -> Tensor:
        """Predicted volume, sum of p."""
        return self.tp + self.fp

    def over_batch(self) -> Overlap:
        """Return the counts summed over the batch, with a batch axis of 1."""
        return self._summed(lambda counts: counts.sum(0, keepdim=True))

    def over_boxes(self) -> Overlap:
        """Return the counts of whole samples from those of their boxes."""
        return self._summed(lambda counts: counts.sum(-1))

    def _summed(self, summed: Callable[[Tensor], Tensor]) -> Overlap:
        square = None if self.predicted_square is None else summed(self.predicted_square)
        return Overlap(
            summed(self.tp),
            summed(self.fp),
            summed(self.fn),
            summed(self.truth),
            square,
            summed(self.truth_square),
            summed(self.product),
        )


def overlap_hard(
    probs: Tensor, labels: Tensor, keep: Tensor | None, boxes: Divided | None, squared: bool
) -> Overlap:
    """Return the overlap with class indices.

    Parameters
    ----------
    probs
        (B, C, *spatial).
    labels
        (B, *spatial) integers; values on voxels outside `keep` do not matter.
    keep
        (B, *spatial) bool, or None for all voxels.
    """
    if torch.compiler.is_compiling():
        tp, fp, fn, q, truth = _forward(probs, labels, keep, boxes, squared)
    elif boxes is None:
        tp, fp, fn, truth, *squares = class_sums(probs, labels, keep, _Counts(squared))
        truth, q = truth.detach(), squares[0] if squared else truth
    else:
        tp, fp, fn, q, truth = _HardBoxes.apply(  # type: ignore[no-untyped-call]
            probs, labels, keep, boxes, squared
        )
    return Overlap(tp, fp, fn, truth, q if squared else None, truth, tp)


def overlap_soft(
    probs: Tensor, target: Tensor, keep: Tensor | None, boxes: Divided | None, squared: bool
) -> Overlap:
    """Return the overlap with a soft target (B, C, *spatial); TP = sum min(p, g), so that p = g is perfect."""
    if keep is not None:
        probs, target = probs * keep.unsqueeze(1), target * keep.unsqueeze(1)
    low = torch.minimum(probs, target)
    q = _total(probs * probs, boxes) if squared else None
    return Overlap(
        tp=_total(low, boxes),
        fp=_total(probs - low, boxes),
        fn=_total(target - low, boxes),
        truth=_total(target, boxes),
        predicted_square=q,
        truth_square=_total(target * target, boxes),
        product=_total(probs * target, boxes),
    )


def squared_volumes(probs: Tensor, labels: Tensor | None, keep: Tensor | None) -> Tensor:
    """Return the sum of p^2 per sample and class, (B, C)."""
    if torch.compiler.is_compiling() or labels is None:
        return (probs * probs if keep is None else probs * probs * keep.unsqueeze(1)).flatten(2).sum(-1)
    return class_sums(probs, labels, keep, _Squares())[0]


class _Counts:
    """TP, FP, FN, the truth's volume, and the sum of p^2 where squares are wanted."""

    def __init__(self, squared: bool) -> None:
        self.keeps_probs = squared

    def sums(self, p: Tensor, own: Tensor) -> Sequence[Tensor]:
        hit = p * own
        counts = (hit, p - hit, own - hit, own)
        return (*counts, p * p) if self.keeps_probs else counts

    def slopes(self, p: Tensor | None, own: Tensor, grads: Sequence[Tensor], out: Tensor) -> None:
        of_tp, of_fp, of_fn, _, *of_square = grads
        choose(own, of_tp - of_fn, of_fp, out)
        if p is not None:
            out.addcmul_(p, of_square[0], value=2)


class _Squares:
    """The sum of p^2."""

    keeps_probs = True

    def sums(self, p: Tensor, own: Tensor) -> Sequence[Tensor]:
        return (p * p,)

    def slopes(self, p: Tensor | None, own: Tensor, grads: Sequence[Tensor], out: Tensor) -> None:
        assert p is not None
        torch.mul(p, 2 * grads[0], out=out)


def _total(volume: Tensor, boxes: Divided | None) -> Tensor:
    return volume.flatten(2).sum(-1) if boxes is None else boxes.sum(volume)


def _forward(
    probs: Tensor, labels: Tensor, keep: Tensor | None, boxes: Divided | None, squared: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    columns: list[list[Tensor]] = [[] for _ in range(5)]
    kept = None if keep is None else keep.unsqueeze(1).to(probs.dtype)
    for c in range(probs.shape[1]):
        p = probs[:, c : c + 1]
        mask = (labels == c).unsqueeze(1).to(probs.dtype)
        if kept is not None:
            p, mask = p * kept, mask * kept
        hit = p * mask
        parts = [hit, p - hit, mask - hit, p * p if squared else None, mask]
        for column, part in zip(columns, parts, strict=True):
            if part is not None:
                column.append(_total(part, boxes))
    columns[3] = columns[3] or [torch.zeros_like(columns[0][0])] * probs.shape[1]
    tp, fp, fn, q, truth = (torch.cat(column, 1) for column in columns)
    return tp, fp, fn, q, truth


class _HardBoxes(torch.autograd.Function):
    """`_forward` of boxes in reused buffers, and its backward pass as one masked fill per class."""

    @staticmethod
    def forward(
        ctx: Any, probs: Tensor, labels: Tensor, keep: Tensor | None, boxes: Divided, squared: bool
    ) -> tuple[Tensor, ...]:
        classes = probs.shape[1]
        small = narrow(labels, classes)
        kept = None if keep is None else keep.to(probs.dtype)
        mask, part = torch.empty_like(probs[:, 0]), torch.empty_like(probs[:, 0])
        rows: list[list[Tensor]] = []
        for c in range(classes):
            p = probs[:, c] if kept is None else probs[:, c] * kept
            torch.eq(small, c, out=mask)
            if kept is not None:
                mask.mul_(kept)
            row = [boxes.sum(mask)]
            torch.mul(p, mask, out=part)
            row.append(boxes.sum(part))
            row.append(boxes.sum(mask.sub_(part)))
            row.append(boxes.sum(torch.sub(p, part, out=part)))
            row.append(boxes.sum(torch.mul(p, p, out=part)) if squared else torch.zeros_like(row[0]))
            rows.append(row)
        truth, tp, fn, fp, q = (torch.stack(column, 1) for column in zip(*rows, strict=True))
        # p itself is needed for the gradient of p^2 only; otherwise labels are enough
        ctx.save_for_backward(probs if squared else None, small, keep)
        ctx.boxes, ctx.squared, ctx.shape = boxes, squared, probs.shape
        ctx.mark_non_differentiable(truth)
        return tp, fp, fn, q, truth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        probs, labels, keep = ctx.saved_tensors
        g_tp, g_fp, g_fn, g_q, _ = grads
        inside, outside = g_tp - g_fn, g_fp
        kept = None if keep is None else keep.to(g_tp.dtype)
        result = g_tp.new_empty(ctx.shape)
        mask = torch.empty_like(result[:, 0])
        for c in range(ctx.shape[1]):
            filled = result[:, c]
            torch.eq(labels, c, out=mask)
            torch.mul(mask, ctx.boxes.paint(inside[:, c]), out=filled)
            filled.addcmul_(mask.neg_().add_(1), ctx.boxes.paint(outside[:, c]))
            if ctx.squared:
                filled.addcmul_(probs[:, c], ctx.boxes.paint(g_q[:, c]), value=2)
            if kept is not None:
                filled.mul_(kept)
        return result, None, None, None, None
