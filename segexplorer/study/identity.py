"""What makes two runs the same experiment, and in which settings two experiments differ."""

from __future__ import annotations

import json
from typing import Any

from segexplorer.core.fields import Parameter, parameters
from segexplorer.core.spec import differences
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.training.experiment import Experiment

REPLICATES = ("name", "seed", "split", "compute")
"""Settings in which the runs of one condition may differ; splits are compared by case."""


def identity(experiment: Experiment) -> str:
    """Return what two runs of one condition have in common, as text.

    Where files lie is no part of it, for the same data lie elsewhere on another computer, and cases are compared by
    name and content; what their labels mean is.
    """
    plain = {k: v for k, v in _merged(experiment).plain().items() if k not in REPLICATES}
    places = _places(experiment.data)
    plain["data"] = {k: v for k, v in plain["data"].items() if k not in places}
    return json.dumps(plain, sort_keys=True)


def settings_apart(one: Experiment, other: Experiment) -> dict[str, tuple[Any, Any]]:
    """Return the dotted paths of the settings of `identity` that differ, with both values."""
    places = {f"data.{name}" for name in _places(one.data)}
    return {
        path: values
        for path, values in differences(_merged(one), _merged(other)).items()
        if path.partition(".")[0] not in REPLICATES and ".".join(path.split(".")[:2]) not in places
    }


def label_values(data: DatasetSpec) -> dict[str, tuple[int, ...]]:
    """Return class -> label values as chosen, a single value as one of several; empty: those of the data set."""
    return {name: (v,) if isinstance(v, int) else tuple(sorted(v)) for name, v in data.classes.items()}


def _merged(experiment: Experiment) -> Experiment:
    """Return the experiment with its classes in one spelling."""
    data = experiment.data.model_copy(update={"classes": label_values(experiment.data)})
    return experiment.model_copy(update={"data": data})


def _places(data: DatasetSpec) -> frozenset[str]:
    """Return the settings that say where files lie: paths, and lists of cases with theirs."""
    return frozenset(p.name for p in parameters(type(data)) if p.path or _holds_paths(p))


def _holds_paths(declared: Parameter) -> bool:
    inner = declared.shape.items[0] if declared.shape.form == "list" else None
    nested = inner.spec if inner is not None and inner.form == "group" else None
    return nested is not None and any(p.path for p in parameters(nested))
