"""The numbers of an event by name, for loggers that draw a curve of each."""

from __future__ import annotations

import math
from typing import Any

from segexplorer.core.events import EpochDone, Event, StepDone, ValidationDone
from segexplorer.metrics.summary import summarise


def scalars(event: Event) -> dict[str, float]:
    """Return name -> number; empty for events without numbers.

    "train/..." of a step, "epoch/..." of an epoch, "validation/..." of a validation, with the mean of each metric
    over the cases of a class. What is not finite is left out: a metric without a meaning is a gap in a curve.
    """
    match event:
        case StepDone():
            group, found = "train", {**_of_terms(event), "learning_rate": event.learning_rate}
            found |= {f"weights/{name}": weight for name, (_, weight) in event.terms.items()}
            found["gradient_norm"] = event.gradient_norm
            found |= {f"term_gradients/{name}": norm for name, norm in event.term_gradients.items()}
            found |= {f"references/{name}": value for name, value in event.references.items()}
        case EpochDone():
            group, found = "epoch", _of_terms(event)
            found |= {f"adaptive/{name}": value for name, value in event.adaptive.items()}
        case ValidationDone():
            group, found = "validation", {"loss": event.loss, "mean_dice": event.mean_dice}
            for class_name, summary in summarise(event.scores).per_class.items():
                found |= {f"{metric}/{class_name}": mean for metric, mean in summary.mean.items()}
        case _:
            return {}
    return {f"{group}/{name}": value for name, value in found.items() if math.isfinite(value)}


def _of_terms(event: StepDone | EpochDone) -> dict[str, Any]:
    return {"loss": event.loss, **{f"terms/{name}": value for name, (value, _) in event.terms.items()}}
