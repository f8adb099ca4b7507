"""See what a segmentation loss does inside the volume while it trains.

The public names are loaded when they are first used: importing the package loads neither torch nor a toolkit.

>>> import segexplorer
>>> segexplorer.losses.create("tversky", alpha=0.3, beta=0.7)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segexplorer import losses as losses
    from segexplorer import metrics as metrics
    from segexplorer import networks as networks
    from segexplorer.data import datasets as datasets
    from segexplorer.data.io import open_volume as open_volume
    from segexplorer.data.io import save_volume as save_volume
    from segexplorer.frontends.notebook.entry import explore as explore
    from segexplorer.frontends.viewing import view as view
    from segexplorer.scripting import diagnose as diagnose
    from segexplorer.scripting import error_map as error_map
    from segexplorer.scripting import evaluate as evaluate
    from segexplorer.scripting import explain as explain
    from segexplorer.scripting import fork as fork
    from segexplorer.scripting import fork_point as fork_point
    from segexplorer.scripting import lecture_run as lecture_run
    from segexplorer.scripting import lesions as lesions
    from segexplorer.scripting import open_case as open_case
    from segexplorer.scripting import open_dataset as open_dataset
    from segexplorer.scripting import open_race as open_race
    from segexplorer.scripting import predict as predict
    from segexplorer.scripting import race as race
    from segexplorer.scripting import score_split as score_split
    from segexplorer.scripting import train as train
    from segexplorer.scripting import what_was_paid as what_was_paid
    from segexplorer.session import Session as Session
    from segexplorer.training.experiment import Experiment as Experiment
    from segexplorer.training.history import open_run as open_run
    from segexplorer.training.proposal import propose as propose
    from segexplorer.training.recorder import Recorder as Recorder
    from segexplorer.training.run import Run as Run

__version__ = "0.1.0"

_HOMES = {
    "Experiment": "segexplorer.training.experiment",
    "Recorder": "segexplorer.training.recorder",
    "Run": "segexplorer.training.run",
    "Session": "segexplorer.session",
    "diagnose": "segexplorer.scripting",
    "error_map": "segexplorer.scripting",
    "evaluate": "segexplorer.scripting",
    "explain": "segexplorer.scripting",
    "explore": "segexplorer.frontends.notebook",
    "fork": "segexplorer.scripting",
    "fork_point": "segexplorer.scripting",
    "figure": "segexplorer.frontends.report",
    "lecture_run": "segexplorer.scripting",
    "lesions": "segexplorer.scripting",
    "open_case": "segexplorer.scripting",
    "open_dataset": "segexplorer.scripting",
    "open_race": "segexplorer.scripting",
    "open_run": "segexplorer.training.history",
    "open_volume": "segexplorer.data.io",
    "predict": "segexplorer.scripting",
    "propose": "segexplorer.training.proposal",
    "race": "segexplorer.scripting",
    "report": "segexplorer.frontends.report",
    "save_volume": "segexplorer.data.io",
    "score_split": "segexplorer.scripting",
    "train": "segexplorer.scripting",
    "view": "segexplorer.frontends.viewing",
    "what_was_paid": "segexplorer.scripting",
}
_REGISTRIES = {
    "datasets": "segexplorer.data.datasets",
    "losses": "segexplorer.losses",
    "metrics": "segexplorer.metrics",
    "networks": "segexplorer.networks",
}

__all__ = [
    "Experiment",
    "Recorder",
    "Run",
    "Session",
    "datasets",
    "diagnose",
    "error_map",
    "evaluate",
    "explain",
    "explore",
    "figure",
    "fork",
    "fork_point",
    "lecture_run",
    "lesions",
    "losses",
    "metrics",
    "networks",
    "open_case",
    "open_dataset",
    "open_race",
    "open_run",
    "open_volume",
    "predict",
    "propose",
    "race",
    "report",
    "save_volume",
    "score_split",
    "train",
    "view",
    "what_was_paid",
]


def __getattr__(name: str) -> Any:
    if name in _REGISTRIES:
        return importlib.import_module(_REGISTRIES[name])
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _show_in_notebooks() -> None:
    """Where IPython runs, let it show cases, runs and scores as more than a line of text."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    if shell is not None and getattr(shell, "display_formatter", None) is not None:
        importlib.import_module("segexplorer.frontends.notebook.reprs").register(shell)


_show_in_notebooks()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
