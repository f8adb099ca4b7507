"""What others trained, by kind of folder: `recognise(folder)`, `open_results(folder)`, `names()`, `spec(kind)`."""

from __future__ import annotations

from segexplorer.core.plugins import discover
from segexplorer.data.results.base import (
    ResultCase,
    ResultListing,
    ResultRecognition,
    ResultsSpec,
    registry,
)
from segexplorer.data.results.recognition import open_results, recognise

# Every file of this folder may register kinds, so a new layout is a new file.
discover(__name__, __path__)

names = registry.names
spec = registry.spec

__all__ = [
    "ResultCase",
    "ResultListing",
    "ResultRecognition",
    "ResultsSpec",
    "names",
    "open_results",
    "recognise",
    "registry",
    "spec",
]
