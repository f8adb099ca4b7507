"""The pull of a loss: what it asks for at every voxel, which is minus its gradient.

Two spaces are of interest. With respect to the *logits*, the pull is what reaches the network's last layer. With
respect to the *probabilities* ("before softmax", as the gradient travels), it is what the formula of the loss
itself asks for: that of the Dice loss has exactly two values per class, whereas its pull on the logits vanishes
where the network is confidently wrong, because the derivative of the softmax does.

Probabilities of one voxel add up to 1, so a gradient with respect to them is known up to a constant per voxel. What
is reported is free of it: the derivative along moving probability from the background to a class.

Kervadec and de Bruijne 2023, "On the dice loss gradient and the ways to mimic it", arXiv 2304.04319, show gradients
of overlap losses as images.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from segexplorer.core.errors import LossInputError
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.functional.inputs import LossContext
from segexplorer.losses.module import Loss
from segexplorer.losses.streamed import PART_BYTES, StreamedLoss, StreamedOverlappingLoss

Space = Literal["logits", "probabilities"]
"""With respect to what a pull is taken."""


@dataclass(frozen=True)
class Pull:
    """What a loss asks for at every voxel of one sample.

    Attributes
    ----------
    value
        The loss.
    total
        (C, *spatial) float32; positive where the loss gets smaller with more of a class.
    terms
        Term -> its part of `total`, with its weight; for compounds, and where asked for. They add up to `total`.
    space
        With respect to what it was taken. For probabilities, channel 0 is 0: the background is what probability is
        taken from.
    """

    value: float
    total: NDArray[np.float32]
    terms: Mapping[str, NDArray[np.float32]]
    space: Space


@dataclass(frozen=True)
class Shares:
    """Where the pull on a class is, as shares of the sum of its absolute values; NaN where there is no pull.

    `boundary` is what lies within one voxel of the border of the true class, on either side of it; `inside` and
    `elsewhere` are the rest of the true class, and everything else.
    """

    inside: float
    boundary: float
    elsewhere: float

    def sentence(self) -> str:
        """Return them as one line: "inside 23 % | boundary 41 % | elsewhere 36 %"."""
        if not np.isfinite(self.inside):
            return "no pull on this class"
        parts = zip(
            ("inside", "boundary", "elsewhere"), (self.inside, self.boundary, self.elsewhere), strict=True
        )
        return " | ".join(f"{name} {value:.0%}".replace("%", " %") for name, value in parts)


def pull(
    loss: Loss,
    logits: Tensor,
    target: Tensor,
    context: LossContext | None = None,
    *,
    space: Space = "logits",
    terms: bool = False,
    sample: int | None = None,
) -> Pull:
    """Return the pull of a loss on one sample.

    Parameters
    ----------
    loss
        Any loss of the catalogue; its state (adaptive weights) is read and not changed.
    logits
        (1, C, *spatial), or a whole batch (B, C, *spatial) of which one sample is looked at. The logarithms of
        probabilities serve as well.
    target
        (B, 1, *spatial) labels, or a (B, C, *spatial) soft target.
    context
        What the loss may know beyond these.
    space
        "logits", or "probabilities": along moving probability from the background to a class.
    terms
        Whether the terms of a compound are returned one by one; each costs another pass.
    sample
        Which sample of a batch; the loss is that of the batch. None: there is but one.

    Raises
    ------
    LossInputError
        When there are several samples and none of them is chosen, or the loss refuses logits or target.
    """
    if sample is None and len(logits) != 1:
        raise LossInputError(
            f"A pull is of one sample, not of {len(logits)}.",
            "Give the samples one by one, or say which one of the batch.",
        )
    place = sample or 0
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
        if target.is_floating_point():
            target = torch.cat([1 - target, target], 1)
    # a gradient divided by a probability needs more than float32 where that is tiny
    wide = torch.float64 if space == "probabilities" else torch.float32
    leaf = logits.detach().to(wide if logits.dtype != torch.float64 else torch.float64).requires_grad_(True)
    was_training = loss.training
    loss.eval()
    try:
        with torch.enable_grad(), torch.autocast(leaf.device.type, enabled=False):
            output = loss.evaluate(leaf, target, context)
            total = _field(output.value, leaf, space, loss.scheme, place)
            parts: dict[str, NDArray[np.float32]] = {}
            if terms and loss.spec.compound_terms():
                parts = _term_fields(loss, leaf, target, context, space, place)
    finally:
        loss.train(was_training)
    return Pull(float(output.value.detach()), total, parts, space)


def _term_fields(
    loss: Loss, leaf: Tensor, target: Tensor, context: LossContext | None, space: Space, sample: int
) -> dict[str, NDArray[np.float32]]:
    """Return the weighted pull of each term of a compound; the weights do not depend on the logits."""
    found: dict[str, NDArray[np.float32]] = {}
    named = zip(loss.spec.compound_terms(), loss.term_weights(), strict=True)
    for place, (term, weight) in enumerate(named):
        output = loss.evaluate_part(place, leaf, target, context)
        found[term.name] = _field(output.value, leaf, space, loss.scheme, sample) * np.float32(weight)
    return found


def _field(
    value: Tensor, leaf: Tensor, space: Space, scheme: LabelScheme, sample: int
) -> NDArray[np.float32]:
    """Return (C, *spatial) minus the derivative of a loss; zeros where it does not depend on the logits."""
    if not value.requires_grad:
        return np.zeros(tuple(leaf.shape[1:]), np.float32)
    (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True, materialize_grads=True)
    return _asked(gradient[sample], leaf.detach()[sample], space, scheme)


def pull_of_part(
    streamed: StreamedLoss | StreamedOverlappingLoss,
    start: Sequence[int],
    logits: Tensor,
    *,
    space: Space = "logits",
) -> NDArray[np.float32]:
    """Return the pull of the loss of a whole case on a part of it, (C, *shape): that of `pull`, from sums alone.

    Parameters
    ----------
    streamed
        Was given every voxel, and has its slopes (`StreamedLoss.differentiate`).
    start, logits
        The part: its first voxel, and (1, C, *shape).
    """
    leaf = logits.double() if space == "probabilities" else logits.float()
    gradient = streamed.gradient(start, leaf)
    return _asked(gradient[0], leaf[0], space, streamed.loss.scheme)


class PullInParts:
    """The pull of a loss on a case that takes seconds: slices that are wanted first, then the rest, slab by slab.

    Parameters
    ----------
    streamed
        Was given every voxel.
    logits
        (C, x, y, z) float32.
    weight
        What the pull is multiplied by, for a term of a compound.
    """

    def __init__(
        self,
        streamed: StreamedLoss | StreamedOverlappingLoss,
        logits: NDArray[np.float32],
        *,
        space: Space = "logits",
        weight: float = 1.0,
    ) -> None:
        self._streamed, self._logits, self._space = streamed, logits, space
        self._weight = np.float32(weight)
        self._value = float(streamed.differentiate())
        self._total: NDArray[np.float32] | None = None
        self._ready = 0

    @property
    def done(self) -> float:
        """Share of the case whose pull is there, from 0 to 1."""
        return float(self._ready / self._logits.shape[1])

    def on_slice(self, axis: int, index: int) -> NDArray[np.float32]:
        """Return the (C, *shape) pull on one slice of x, y or z."""
        place: list[Any] = [slice(None)] * 4
        place[axis + 1] = index
        if self._total is not None and axis == 0 and index < self._ready:
            found: NDArray[np.float32] = self._total[tuple(place)]
            return found
        place[axis + 1] = slice(index, index + 1)
        return np.asarray(np.squeeze(self._of(tuple(place)), axis + 1))

    def advance(self, seconds: float) -> None:
        """Go on with the rest for about so long."""
        if self._total is None:
            self._total = np.empty(self._logits.shape, np.float32)
        step = max(1, PART_BYTES // (4 * self._logits[:, :1].size))
        begun = time.perf_counter()
        while self.done < 1:
            place = slice(None), slice(self._ready, self._ready + step)
            self._total[place] = self._of(place)
            self._ready = min(self._ready + step, self._logits.shape[1])
            if time.perf_counter() - begun >= seconds:
                return

    def whole(self) -> Pull:
        """Return the pull, once all of it is there."""
        assert self._total is not None and self.done == 1
        return Pull(self._value, self._total, {}, self._space)

    def _of(self, place: tuple[slice, ...]) -> NDArray[np.float32]:
        start = [part.start or 0 for part in (*place, slice(None), slice(None))[1:4]]
        logits = torch.from_numpy(np.ascontiguousarray(self._logits[place])[np.newaxis])
        found = pull_of_part(self._streamed, start, logits, space=self._space)
        return found if self._weight == 1 else found * self._weight


def _asked(gradient: Tensor, logits: Tensor, space: Space, scheme: LabelScheme) -> NDArray[np.float32]:
    """Return (C, *spatial) minus a gradient in logits, or what it is before the softmax."""
    asked = -gradient
    if space == "probabilities" and scheme.overlapping:
        # dL/ds = p (1 - p) dL/dp, of each class by itself
        p = scheme.probabilities(logits)
        asked = asked / (p * (1 - p)).clamp_min(torch.finfo(logits.dtype).tiny)
        asked[0] = 0
    elif space == "probabilities":
        # dL/dz_k = p_k (g_k - sum_j p_j g_j): divided by p_k, and without what all classes share
        per_probability = asked / torch.softmax(logits, 0).clamp_min(torch.finfo(logits.dtype).tiny)
        asked = per_probability - per_probability[:1]
    return np.ascontiguousarray(asked.float().cpu().numpy())


TOTAL = "total"
"""Name of the sum of all terms among their gradients."""


def gradient_norms(
    loss: Loss, logits: Tensor, target: Tensor, context: LossContext | None = None
) -> dict[str, Tensor]:
    """Return how strongly each term of a loss pulls on the logits: the norm of its gradient, with its weight.

    Nothing is changed, and logits and loss may be those of a training step: the gradient is taken of a copy.

    Parameters
    ----------
    logits, target, context
        A batch, as the loss itself takes it.

    Returns
    -------
    dict
        Term, as `LossOutput.terms` names it -> Euclidean norm, a scalar on the logits' device; and `TOTAL`, the
        norm of the sum, which is smaller than the sum of the norms where terms pull in different directions. A term
        that does not depend on the logits has 0.
    """
    leaf = logits.detach().to(torch.promote_types(logits.dtype, torch.float32)).requires_grad_(True)
    with torch.enable_grad():
        output = loss.evaluate(leaf, target, context)
        parts = output.parts or dict.fromkeys(output.terms, output.value)
        total = torch.zeros_like(leaf)
        found: dict[str, Tensor] = {}
        for name, part in parts.items():
            if part.requires_grad:
                (gradient,) = torch.autograd.grad(
                    part, leaf, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                total += gradient
                found[name] = _norm(gradient)
            else:
                found[name] = leaf.new_zeros(())
    return {**found, TOTAL: _norm(total)}


def _norm(gradient: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(gradient.float())
    return norm


def normalised(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a field whose absolute values have the mean 1, so that those of two losses can be compared.

    A field that is zero everywhere stays as it is. Sums are float64, since volumes are large.
    """
    mean = float(np.abs(field).mean(dtype=np.float64))
    return field if mean == 0 else np.asarray(field / mean, np.float32)


def shares(field: NDArray[np.float32], true: NDArray[np.bool_]) -> Shares:
    """Return where the pull on a class is.

    Parameters
    ----------
    field
        (*spatial) pull on the class.
    true
        (*spatial) where the class is in truth.
    """
    total = float(np.abs(field).sum(dtype=np.float64))
    if total == 0:
        return Shares(float("nan"), float("nan"), float("nan"))
    box = _around(true)
    strength, own = np.abs(field[box]), true[box]
    # beyond the volume's edge the structure goes on: a cut surface is no border of the truth
    core = ndimage.binary_erosion(own, border_value=1)
    reach = ndimage.binary_dilation(own)
    inside = float(strength[core].sum(dtype=np.float64)) / total
    within = float(strength[reach].sum(dtype=np.float64)) / total
    return Shares(inside, max(0.0, within - inside), max(0.0, 1 - within))


def _around(true: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the box of what is true with a margin of one voxel, so that no time is spent on the rest."""
    axes = range(true.ndim)
    filled = [np.flatnonzero(true.any(axis=tuple(a for a in axes if a != axis))) for axis in axes]
    return tuple(slice(max(0, at[0] - 1), at[-1] + 2) if len(at) else slice(0, 0) for at in filled)


def log_odds(
    logits: NDArray[np.floating], class_index: int, scheme: LabelScheme = EXCLUSIVE
) -> NDArray[np.float32]:
    """Return (*spatial) log(p / (1 - p)) of a class, from (C, *spatial) logits, also where p rounds to 0 or 1.

    Of overlapping classes it is the logit itself; their background has the opposite of the largest of them.
    """
    wide = np.asarray(logits, np.float32)
    if scheme.overlapping:
        own = wide - wide[:1]
        return np.asarray(own[class_index] if class_index else -own[1:].max(axis=0), np.float32)
    others = np.delete(wide, class_index, axis=0)
    top = others.max(axis=0)
    rest = top + np.log(np.exp(others - top).sum(axis=0))
    return np.asarray(wide[class_index] - rest, np.float32)
