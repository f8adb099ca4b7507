"""What is imported and asked before the dock can be used; runs in a worker while the window shows "Loading"."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from segexplorer.core import plugins
from segexplorer.core.plugins import PluginReport

HEAVY = (
    "torch",
    "monai.networks.nets",
    "monai.inferers",
    "segexplorer.losses",
    "segexplorer.networks",
    "segexplorer.training.plan",
    "segexplorer.training.engine",
)
"""Slow to import; torch and MONAI first."""


@dataclass(frozen=True)
class Machine:
    """What the window says of this machine.

    Attributes
    ----------
    device
        The device that "auto" takes, by name.
    remedy
        The command that makes an idle NVIDIA GPU usable; "" where there is nothing to cure.
    plugins
        What became of every plug-in.
    """

    device: str
    remedy: str
    plugins: tuple[PluginReport, ...] = ()

    @property
    def plugin_failures(self) -> tuple[str, ...]:
        """A sentence for every plug-in that could not be imported."""
        return tuple(
            f"The plug-in {report.name} ({report.package} {report.version}) was not loaded: {report.error}"
            for report in self.plugins
            if report.error
        )


def load() -> Machine:
    """Import what is slow and look at the machine; not on the main thread."""
    for name in HEAVY:
        importlib.import_module(name)
    reports = plugins.load()
    compute = importlib.import_module("segexplorer.training.compute")
    runtime = compute.resolve_compute(compute.Compute(), window=True)
    return Machine(device=runtime.device_name, remedy=compute.gpu_remedy(), plugins=reports)
