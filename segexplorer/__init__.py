"""See what a segmentation loss does inside the volume while it trains.

The public names are loaded when they are first used: importing the package loads neither torch nor a toolkit.

>>> import segexplorer
>>> segexplorer.losses.create("tversky", alpha=0.3, beta=0.7)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segexplorer import losses as losses
    from segexplorer import metrics as metrics
    from segexplorer import networks as networks
    from segexplorer.data import datasets as datasets
    from segexplorer.data.io import open_volume as open_volume
    from segexplorer.data.io import save_volume as save_volume
    from segexplorer.frontends.viewing import view as view
    from segexplorer.scripting import error_map as error_map
    from segexplorer.scripting import evaluate as evaluate
    from segexplorer.scripting import lesions as lesions
    from segexplorer.scripting import open_case as open_case
    from segexplorer.scripting import open_dataset as open_dataset
    from segexplorer.scripting import predict as predict
    from segexplorer.scripting import score_split as score_split
    from segexplorer.scripting import train as train
    from segexplorer.session import Session as Session
    from segexplorer.training.experiment import Experiment as Experiment
    from segexplorer.training.history import open_run as open_run
    from segexplorer.training.run import Run as Run

__version__ = "0.1.0"

_HOMES = {
    "Experiment": "segexplorer.training.experiment",
    "Run": "segexplorer.training.run",
    "Session": "segexplorer.session",
    "error_map": "segexplorer.scripting",
    "evaluate": "segexplorer.scripting",
    "lesions": "segexplorer.scripting",
    "open_case": "segexplorer.scripting",
    "open_dataset": "segexplorer.scripting",
    "open_run": "segexplorer.training.history",
    "open_volume": "segexplorer.data.io",
    "predict": "segexplorer.scripting",
    "save_volume": "segexplorer.data.io",
    "score_split": "segexplorer.scripting",
    "train": "segexplorer.scripting",
    "view": "segexplorer.frontends.viewing",
}
_REGISTRIES = {
    "datasets": "segexplorer.data.datasets",
    "losses": "segexplorer.losses",
    "metrics": "segexplorer.metrics",
    "networks": "segexplorer.networks",
}

__all__ = [
    "Experiment",
    "Run",
    "Session",
    "datasets",
    "error_map",
    "evaluate",
    "lesions",
    "losses",
    "metrics",
    "networks",
    "open_case",
    "open_dataset",
    "open_run",
    "open_volume",
    "predict",
    "save_volume",
    "score_split",
    "train",
    "view",
]


def __getattr__(name: str) -> Any:
    if name in _REGISTRIES:
        return importlib.import_module(_REGISTRIES[name])
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
