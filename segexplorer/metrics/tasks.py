"""Which metrics for which task, the pitfalls behind the choice, and published scorers as groups of metrics.

The recommendations are declared with the metrics (`Metric.tasks`, `Metric.pitfalls`). They follow Metrics Reloaded
(Maier-Hein, Reinke et al. 2024, doi:10.1038/s41592-023-02151-z) and the pitfalls that go with it (Reinke et al.
2024, doi:10.1038/s41592-023-02150-0), as far as they concern label volumes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from segexplorer.core.errors import UnknownKindError, did_you_mean
from segexplorer.metrics.base import Metric, registry

METRICS_RELOADED = "Maier-Hein, Reinke et al. 2024, doi:10.1038/s41592-023-02151-z"
PITFALLS_PAPER = "Reinke et al. 2024, doi:10.1038/s41592-023-02150-0"


@dataclass(frozen=True)
class Task:
    """A kind of question that is asked of a segmentation, and how to choose for it."""

    name: str
    title: str
    advice: str


@dataclass(frozen=True)
class Pitfall:
    """A property of the data that misleads some metrics, and what to do about it."""

    name: str
    title: str
    explanation: str


@dataclass(frozen=True)
class Protocol:
    """A published scorer; its metrics carry its name and are computed as its code does."""

    name: str
    title: str
    explanation: str
    reference: str


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            "organs",
            "Organs and other large single structures",
            "Semantic segmentation of structures that are always there. Report an overlap and a measure of the "
            "boundary, and differences of volume where the volume is used. Choose the tolerance of the surface "
            "Dice by what two experts differ by.",
        ),
        Task(
            "lesions",
            "Lesions, metastases and other structures of unknown number",
            "Instance segmentation: whether each lesion was found matters more than how many voxels overlap, and "
            "one large lesion outweighs all others in Dice. State the matching rule, the connectivity and the "
            "smallest lesion, and report by size. Cases without lesions count by their false positives.",
        ),
        Task(
            "vessels",
            "Vessels, airways and other thin trees",
            "The centreline and its connections matter more than the volume. Report the centreline Dice with a "
            "measure of the boundary; Dice alone is decided by the thick branches.",
        ),
    )
}
"""Tasks by name."""

PITFALLS: Mapping[str, Pitfall] = {
    pitfall.name: pitfall
    for pitfall in (
        Pitfall(
            "small structures",
            "Small structures",
            "In a structure of few voxels, one voxel at the boundary changes a ratio of voxels by much. Compare "
            "such values only between structures of one size, and count structures instead.",
        ),
        Pitfall(
            "imbalance",
            "Imbalance",
            "The background of a large image outweighs any error, so whatever counts true negatives is near its "
            "best; a sum over volumes is decided by the largest structure.",
        ),
        Pitfall(
            "boundary",
            "Boundary and shape",
            "Overlap and volume ignore where the errors are: a leak and an evenly shifted boundary can score the "
            "same. Add a measure of the boundary.",
        ),
        Pitfall(
            "empty references",
            "Empty references",
            "Without the structure in the truth the metric has no value, or one that says nothing of how much was "
            "invented. Leaving out missed structures flatters distances. Report the counts of missed and spurious "
            "structures beside every mean.",
        ),
        Pitfall(
            "resolution",
            "Resolution",
            "Values depend on the size of voxels: thick slices blur boundaries and merge lesions, and resampling "
            "changes both. Compare only on one grid, in mm.",
        ),
        Pitfall(
            "outliers",
            "Outliers",
            "A single stray voxel decides the value. Use a percentile or a mean beside it.",
        ),
    )
}
"""Pitfalls by name."""

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "coactseg",
            "CoactSeg (Wu et al. 2023)",
            "The public evaluation code of CoactSeg for new lesions of multiple sclerosis. It scores the one "
            "foreground class in voxels, without spacing; an empty prediction scores 0 in everything, distances "
            "included. F1 is of lesions: components of fewer than 11 voxels are dropped, a lesion counts from an "
            "overlap above 10 % on, and lesions that are mostly outside the other volume do not count (the rules "
            "of Commowick et al. 2018).",
            "Wu et al. 2023, doi:10.1007/978-3-031-43993-3_1",
        ),
    )
}
"""Protocols by name."""


def metrics_for(task: str) -> tuple[Metric, ...]:
    """Return the metrics that are recommended for a task, or that make up a protocol, in the order of tables.

    Raises
    ------
    UnknownKindError
        With the nearest names.
    """
    if task in TASKS:
        return tuple(metric for metric in registry.values() if task in metric.tasks)
    if task in PROTOCOLS:
        return tuple(metric for metric in registry.values() if metric.protocol == task)
    known = [*TASKS, *PROTOCOLS]
    raise UnknownKindError(f"There is no task {task!r}.", did_you_mean(task, known))


def misled_by(pitfall: str) -> tuple[Metric, ...]:
    """Return the metrics that a pitfall misleads."""
    return tuple(metric for metric in registry.values() if pitfall in metric.pitfalls)


def choose(names: Iterable[str]) -> tuple[str, ...]:
    """Return metrics by name, each once: a task or a protocol stands for all of its metrics.

    Raises
    ------
    UnknownKindError
        With the nearest names.
    """
    chosen: list[str] = []
    for name in (given.strip() for given in names):
        if name in TASKS or name in PROTOCOLS:
            chosen += [metric.name for metric in metrics_for(name)]
        elif name:
            chosen.append(registry.spec(name).name)
    return tuple(dict.fromkeys(chosen))
