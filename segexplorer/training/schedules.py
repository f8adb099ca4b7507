"""Learning-rate schedules as specs: a factor on the optimiser's learning rate over the planned epochs.

`epochs` is fixed when a run starts. A run that is extended beyond it continues at the schedule's floor, so an
extension does not jump the learning rate, unless `extension` asks for the whole schedule once more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec


@dataclass
class ScheduleState:
    """What a schedule remembers between epochs; plain numbers, kept in checkpoints."""

    factor: float = 1.0
    best: float = -math.inf
    waited: int = 0


class ScheduleSpec(Spec):
    """How long to train and how the learning rate falls."""

    reads_validation: ClassVar[bool] = False
    epochs: int = parameter(
        50,
        title="Epochs",
        description="How long to train. An epoch is the number of optimiser steps that the plan shows.",
        unit="epochs",
        scale="log",
        typical=(1, 1000),
        ge=1,
        le=100_000,
        resume="extend",
    )
    warmup_steps: int = parameter(
        0,
        title="Warm-up",
        description="The learning rate rises linearly from 0 over these first steps.",
        unit="steps",
        ge=0,
        advanced=True,
    )

    extension: Literal["floor", "fresh"] = parameter(
        "floor",
        title="Extensions",
        description="The learning rate of epochs that a run is extended by. floor: it stays where the schedule "
        "ended; fresh: the whole schedule once more, over the added epochs.",
        live=True,
        advanced=True,
    )

    def factor(self, progress: float, state: ScheduleState) -> float:
        """Return the factor at `progress` (0 at the start, 1 at the planned end; never beyond)."""
        return 1.0

    def epoch_end(self, state: ScheduleState, mean_dice: float | None) -> None:
        """Adapt to the validation's mean foreground Dice (None where the epoch was not validated)."""

    def scale(self, step: int, total: int, state: ScheduleState) -> float:
        """Return the factor for optimiser step `step` (counted from 0) of `total` planned ones."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return warm * self.factor(min(step / max(total, 1), 1.0), state)


registry: Registry[ScheduleSpec] = Registry("schedules", ScheduleSpec, "schedule")
AnySchedule = Annotated[ScheduleSpec, registry.late_bound]

_FLOOR_MEANING = "Smallest factor on the learning rate, at the planned end and for extensions."


@registry.register
class Constant(ScheduleSpec):
    """The learning rate stays as it is."""

    display_name: ClassVar[str] = "Constant"
    kind: Literal["constant"] = "constant"


@registry.register
class Polynomial(ScheduleSpec):
    """(1 - t)^power, as nnU-Net and Yeung 2022 use it (power 0.9)."""

    display_name: ClassVar[str] = "Polynomial decay"
    kind: Literal["polynomial"] = "polynomial"
    power: float = parameter(
        0.9, title="Power", description="1 falls linearly; more falls earlier.", gt=0, le=10
    )
    floor: float = parameter(0.01, title="Floor", description=_FLOOR_MEANING, ge=0, le=1, advanced=True)

    def factor(self, progress: float, state: ScheduleState) -> float:
        return max(self.floor, float((1.0 - progress) ** self.power))


@registry.register
class Cosine(ScheduleSpec):
    """Half a cosine from 1 to the floor."""

    display_name: ClassVar[str] = "Cosine"
    kind: Literal["cosine"] = "cosine"
    floor: float = parameter(0.01, title="Floor", description=_FLOOR_MEANING, ge=0, le=1, advanced=True)

    def factor(self, progress: float, state: ScheduleState) -> float:
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


@registry.register
class Plateau(ScheduleSpec):
    """Falls by a factor when the validation Dice has not risen for some validations (Zhang 2025).

    It reads the validation set, so figures on that set are slightly flattered; the run says so.
    """

    display_name: ClassVar[str] = "Decay on plateau"
    reads_validation: ClassVar[bool] = True
    kind: Literal["plateau"] = "plateau"
    decay: float = parameter(
        0.5, title="Decay", description="Factor on the learning rate at a plateau.", gt=0, lt=1
    )
    patience: int = parameter(
        5,
        title="Patience",
        description="Validations without a new best before it falls.",
        unit="validations",
        ge=1,
    )
    floor: float = parameter(0.01, title="Floor", description=_FLOOR_MEANING, ge=0, le=1, advanced=True)

    def factor(self, progress: float, state: ScheduleState) -> float:
        return state.factor

    def epoch_end(self, state: ScheduleState, mean_dice: float | None) -> None:
        if mean_dice is None or math.isnan(mean_dice):
            return
        if mean_dice > state.best:
            state.best, state.waited = mean_dice, 0
            return
        state.waited += 1
        if state.waited >= self.patience:
            state.factor, state.waited = max(self.floor, state.factor * self.decay), 0
