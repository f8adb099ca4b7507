"""One source of overlap: soft TP, FP, FN per class, over the whole sample or per box.

TP = sum p g, FP = sum p (1-g), FN = sum (1-p) g, each summed directly: the difference G - TP would lose small
regional errors to cancellation. `functional.class_sums` declares the sums, `LossInputs.overlap` asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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

        def summed(counts: Tensor) -> Tensor:
            return counts.sum(0, keepdim=True)

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
