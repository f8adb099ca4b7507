"""The loss as nnU-Net calls it: on outputs of one or several resolutions, with the terms kept for the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from segexplorer.data.case import IGNORED
from segexplorer.functional.inputs import LossContext
from segexplorer.losses.base import LossSpec, losses_in
from segexplorer.losses.module import Loss

Terms = Mapping[str, tuple[float, float]]
"""Name -> (value, weight)."""


def needs_full_resolution(loss: LossSpec) -> bool:
    """Whether a loss counts regions or distances, which coarser resolutions do not have."""
    return any(part.regional or part.requires for part in losses_in(loss))


class SupervisedLoss(nn.Module):
    """One of our losses on nnU-Net's outputs.

    Parameters
    ----------
    loss
        The loss.
    weights
        Of the resolutions, the full one first; None: there is only one.
    ignore_label
        Label of voxels that do not count. Of regions, their last channel marks these voxels.
    regions
        Whether classes overlap: the target has a channel per region, and the loss is `losses.multi_label`.
    spacing
        Voxel size of the training grid in mm, in the order of the axes.
    """

    def __init__(
        self,
        loss: Loss,
        weights: Sequence[float] | None,
        *,
        ignore_label: int | None,
        spacing: Sequence[float],
        regions: bool = False,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.weights = None if weights is None else tuple(map(float, weights))
        self.ignore_label, self.spacing = ignore_label, tuple(map(float, spacing))
        self.regions = regions
        self.epoch: int | None = None
        self._parts: list[tuple[float, Mapping[str, tuple[Tensor, Tensor | float]]]] = []

    def forward(self, output: Any, target: Any) -> Tensor:
        """Return the weighted sum over the resolutions, as nnU-Net's own wrapper does."""
        outputs, targets = _listed(output), _listed(target)
        weights = self.weights or (1.0,) * len(outputs)
        total = outputs[0].new_zeros((), dtype=torch.float32)
        self._parts = []
        for weight, logits, labels in zip(weights, outputs, targets, strict=True):
            if weight == 0:
                continue
            coarser = [n / m for n, m in zip(outputs[0].shape[2:], logits.shape[2:], strict=True)]
            context = LossContext(
                spacing=[[s * c for s, c in zip(self.spacing, coarser, strict=True)]] * len(logits),
                ignore_index=IGNORED if self.regions else self.ignore_label,
                epoch=self.epoch,
            )
            found = self.loss.evaluate(logits, self._labels(labels), context)
            total = total + weight * found.value
            self._parts.append((weight, found.terms))
        return total

    def _labels(self, target: Tensor) -> Tensor:
        """Return integers: class indices, or 0, 1 and the ignored label for each region."""
        labels = target.long()
        if not self.regions or self.ignore_label is None:
            return labels
        return labels[:, :-1].masked_fill(labels[:, -1:] == 1, IGNORED)

    def terms(self) -> Terms:
        """Return the terms of the last batch: means over the resolutions with their weights."""
        names = list(self._parts[0][1]) if self._parts else []
        flat = [self._parts[i][1][name][j] for name in names for i in range(len(self._parts)) for j in (0, 1)]
        numbers = iter(_numbers(flat))
        found: dict[str, tuple[float, float]] = {}
        for name in names:
            pairs = [(weight, next(numbers), next(numbers)) for weight, _ in self._parts]
            value = sum(weight * v for weight, v, _ in pairs)
            product = sum(weight * v * k for weight, v, k in pairs)
            found[name] = (value, product / value if value else pairs[0][2])
        return found


class OwnTerms:
    """The terms of nnU-Net's own compound losses, read by hooks as they are computed.

    Parameters
    ----------
    loss
        What nnU-Net's trainer built.
    """

    NAMES: ClassVar = {"dc": ("dice", "weight_dice"), "ce": ("cross_entropy", "weight_ce")}
    """Attribute of nnU-Net's compound -> name of the term, attribute with its weight."""

    def __init__(self, loss: nn.Module) -> None:
        weights = getattr(loss, "weight_factors", None)
        compound: Any = loss if weights is None else loss.loss
        self._levels = [1.0] if weights is None else [w for w in weights if w != 0]
        self._seen: dict[str, list[Tensor]] = {}
        self._weights: dict[str, float] = {}
        for attribute, (name, weight) in self.NAMES.items():
            part = getattr(compound, attribute, None)
            if isinstance(part, nn.Module):
                self._weights[name] = float(getattr(compound, weight, 1.0))
                self._seen[name] = []
                part.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def seen(module: nn.Module, inputs: Any, output: Tensor) -> None:
            values = self._seen[name]
            if len(values) == len(self._levels):
                values.clear()  # of the batch before
            values.append(output.detach())

        return seen

    def terms(self) -> Terms:
        """Return the terms of the last batch; none where nnU-Net's loss has other parts."""
        if any(len(values) != len(self._levels) for values in self._seen.values()):
            return {}
        numbers = iter(_numbers([v for values in self._seen.values() for v in values]))
        return {
            name: (sum(level * next(numbers) for level in self._levels), self._weights[name])
            for name in self._seen
        }


def _listed(given: Any) -> list[Tensor]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _numbers(given: Sequence[Tensor | float]) -> list[float]:
    """Return numbers of scalars; those on a device are fetched together, since each fetch waits for it."""
    tensors = [g.detach().double().reshape(()) for g in given if isinstance(g, Tensor)]
    fetched = iter(torch.stack(tensors).tolist() if tensors else [])
    return [next(fetched) if isinstance(g, Tensor) else float(g) for g in given]
