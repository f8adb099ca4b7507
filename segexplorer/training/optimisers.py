"""Optimisers as specs: Adam, AdamW and SGD with Nesterov momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec

if TYPE_CHECKING:
    import torch

_MEANING_OF_DECAY = "Pulls the weights towards zero; more of it gives smoother, less overfitted networks."


class OptimiserSpec(Spec):
    """What every optimiser has: a learning rate, weight decay and a limit on the gradient's norm."""

    learning_rate: float = parameter(
        1e-3,
        title="Learning rate",
        description="Size of a step, before the schedule scales it.",
        scale="log",
        typical=(1e-6, 1),
        gt=0,
        le=10,
        live=True,
    )
    weight_decay: float = parameter(
        0.0,
        title="Weight decay",
        description=_MEANING_OF_DECAY,
        scale="log",
        typical=(1e-6, 0.1),
        ge=0,
        le=1,
        live=True,
        advanced=True,
    )
    gradient_clip: float | None = parameter(
        12.0,
        title="Gradient clipping",
        description="Largest allowed norm of the whole gradient; larger gradients are scaled down to it. "
        "None: no limit.",
        scale="log",
        typical=(0.1, 100),
        gt=0,
        live=True,
        advanced=True,
    )

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the torch optimiser over parameter groups, each with `params` and perhaps its own `lr`."""
        raise NotImplementedError  # pragma: no cover  every kind has its own

    def hyperparameters(self) -> dict[str, Any]:
        """Return what is written into every torch parameter group when a setting changes during a run."""
        return {"weight_decay": self.weight_decay}


registry: Registry[OptimiserSpec] = Registry("optimisers", OptimiserSpec, "optimiser")
AnyOptimiser = Annotated[OptimiserSpec, registry.late_bound]


class _AdamFamily(OptimiserSpec):
    beta1: float = parameter(
        0.9, title="Beta 1", description="Memory of the mean gradient.", ge=0, lt=1, advanced=True
    )
    beta2: float = parameter(
        0.999, title="Beta 2", description="Memory of the squared gradient.", ge=0, lt=1, advanced=True
    )


@registry.register
class Adam(_AdamFamily):
    """Adam (Kingma and Ba 2015), weight decay added to the gradient."""

    display_name: ClassVar[str] = "Adam"
    kind: Literal["adam"] = "adam"

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adam(
            groups, lr=self.learning_rate, betas=(self.beta1, self.beta2), weight_decay=self.weight_decay
        )


@registry.register
class AdamW(_AdamFamily):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    display_name: ClassVar[str] = "AdamW"
    kind: Literal["adamw"] = "adamw"
    weight_decay: float = parameter(
        0.01,
        title="Weight decay",
        description=_MEANING_OF_DECAY,
        scale="log",
        typical=(1e-6, 0.1),
        ge=0,
        le=1,
        live=True,
        advanced=True,
    )

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW(
            groups, lr=self.learning_rate, betas=(self.beta1, self.beta2), weight_decay=self.weight_decay
        )


@registry.register
class SGD(OptimiserSpec):
    """Stochastic gradient descent with (Nesterov) momentum, as nnU-Net and Yeung 2022 use it."""

    display_name: ClassVar[str] = "SGD with momentum"
    kind: Literal["sgd"] = "sgd"
    learning_rate: float = parameter(
        1e-2,
        title="Learning rate",
        description="Size of a step, before the schedule scales it.",
        scale="log",
        typical=(1e-6, 1),
        gt=0,
        le=10,
        live=True,
    )
    momentum: float = parameter(
        0.99, title="Momentum", description="Share of the previous step that is kept.", ge=0, lt=1, live=True
    )
    nesterov: bool = parameter(
        True, title="Nesterov", description="Look ahead along the momentum; needs a momentum.", advanced=True
    )
    weight_decay: float = parameter(
        3e-5,
        title="Weight decay",
        description=_MEANING_OF_DECAY,
        scale="log",
        typical=(1e-6, 0.1),
        ge=0,
        le=1,
        live=True,
        advanced=True,
    )

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(
            groups,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov and self.momentum > 0,
            weight_decay=self.weight_decay,
        )

    def hyperparameters(self) -> dict[str, Any]:
        return {"weight_decay": self.weight_decay, "momentum": self.momentum}
