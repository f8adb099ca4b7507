"""Sinks: where a run's events go beside its own folder's log, e.g. TensorBoard.

An experiment lists them under `sinks`. Each kind is a file here, or comes from another package by entry point;
`docs/how-to/add-a-sink.md` shows both. What every run writes without being asked is in `record`.
"""

from __future__ import annotations

from segexplorer.core.plugins import discover
from segexplorer.training.sinks.base import AnySink, Attempt, Sink, SinkSpec, registry

discover(__name__, __path__)

names = registry.names
spec = registry.spec

__all__ = ["AnySink", "Attempt", "Sink", "SinkSpec", "names", "registry", "spec"]
