"""The words that stand in every run's files, whoever trained it: a folder called like one of them names nobody.

Nothing is listed by hand. Settings and events declare theirs; what the writers add is read from the files of a run
of nobody, written here by the same writers.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from segexplorer.core.events import (
    CaseScore,
    Planned,
    RegionReport,
    Role,
    ValidationDone,
    event_kinds,
    to_json,
)
from segexplorer.core.schema import json_schema
from segexplorer.training.checkpoint import AVERAGE, WEIGHTS
from segexplorer.training.deidentification import (
    ROOT,
    SAYINGS,
    Names,
    nameless_events,
    nameless_meta,
    nameless_provenance,
)
from segexplorer.training.experiment import Experiment

if TYPE_CHECKING:
    from segexplorer.training.plan import Plan

_WORD = re.compile(r"[^\W_]+")
_MACHINE = ("versions", "platform", "device", "precision")
"""What provenance keeps of a machine: what it is, not what it is called."""


def words_of(text: str) -> list[str]:
    """Return the words of a text, lower case; an underscore parts words."""
    return _WORD.findall(text.lower())


def vocabulary() -> frozenset[str]:
    """Return the words of settings, choices, events and of all that the writers add; lower case."""
    texts = [*_schema_words(json_schema(Experiment)), *_event_words(), *_regular_words(SAYINGS.pattern)]
    texts += _files_of_nobody()
    whole = {token for text in texts for token in re.findall(r"\w+", text.lower())}
    return frozenset(whole.union(*map(words_of, texts)))


def machine_words(attempts: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the words of what the attempts ran on: "nvidia", "h200", "x86_64"."""
    texts = [str(attempt.get(key, "")) for attempt in attempts for key in _MACHINE]
    return {word for text in texts for word in (*words_of(text), *text.lower().split())}


def network_words(experiment: Experiment, channels: int, classes: int) -> set[str]:
    """Return the words in the names of a network's weights; none where its package is not installed here."""
    from segexplorer.networks.cost import on_meta
    from segexplorer.training.slices import Layout

    if experiment.network.missing_packages():
        return set()
    dimensions = Layout.of(experiment.sampling.patch_size).dimensions
    network = on_meta(experiment.network, dimensions, channels, classes + 1)
    return {word for name in network.state_dict() for word in (*words_of(name), *name.lower().split("."))}


# ---- what is declared


def _schema_words(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        yield from (v for v in (*schema.get("enum", ()), schema.get("const")) if isinstance(v, str))
        for value in schema.values():
            yield from _schema_words(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _schema_words(value)


def _event_words() -> Iterator[str]:
    """Yield kinds, fields and choices of all events, and of what lies in them."""
    for kind, event in event_kinds().items():
        yield kind
        yield from _declared(event)


def _declared(record: type) -> Iterator[str]:
    hints = get_type_hints(record)
    for declared in fields(record):
        yield declared.name
        yield from _hinted(hints[declared.name])


def _hinted(hint: Any) -> Iterator[str]:
    if isinstance(hint, type) and is_dataclass(hint):
        yield from _declared(hint)
    elif get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    else:
        for inner in get_args(hint):
            yield from _hinted(inner)


def _regular_words(pattern: str) -> list[str]:
    """Return the words of a regular expression; what is left of "\\d" and "epochs?" finds its word too."""
    plain = re.sub(r"\\.", " ", pattern)
    return [*words_of(plain.replace("?", "")), *words_of(re.sub(r"\w\?", "", plain))]


# ---- what the writers add


def _files_of_nobody() -> list[str]:
    """Return the text of every file of a copy in which a run of nobody lies."""
    from safetensors.numpy import save

    from segexplorer.losses.base import weightings
    from segexplorer.metrics.scoring import ALL_METRICS
    from segexplorer.training.sinks.record import MetricsTable, write_provenance

    texts = [save({"": np.zeros(1, np.float32)}).decode("ascii", "ignore")]
    texts += [WEIGHTS, AVERAGE, *ALL_METRICS, *(rule.penalty_name for rule in weightings.specs().values())]
    names = Names()
    with tempfile.TemporaryDirectory(prefix="segexplorer-words-") as place:
        folder = Path(place)
        for plan in (_plan(several=False), _plan(several=True)):
            told = nameless_events([_planned(plan), _validation()], plan.experiment, names)
            texts += map(to_json, told)
            meta = {"step": 1, "best": 0.5, "experiment": plan.experiment.plain()}
            texts.append(str(nameless_meta({**meta, **plan.for_prediction()}, names)))
            texts.append(str(nameless_provenance([plan.provenance()], names)))
        write_provenance(folder, 1, {})
        MetricsTable(folder).write(_validation())
        _write_frame(folder)
        files = [path for path in folder.rglob("*") if path.suffix in (".json", ".csv")]
        texts += [path.read_text(encoding="utf-8") for path in files]
    return texts


def _plan(*, several: bool) -> Plan:
    """Return a plan that no data were read for; of one of everything or of several."""
    from segexplorer.data.case import ClassMap
    from segexplorer.data.sampler import Sampling
    from segexplorer.data.transforms.intensities import CTWindow
    from segexplorer.data.transforms.preprocessing import FittedPreprocessing
    from segexplorer.training.compute import Runtime
    from segexplorer.training.plan import Plan

    count = 2 if several else 1
    rule = CTWindow(scale="standard")
    experiment = Experiment.of({"data": {"kind": "folder", "root": ROOT, "classes": {"class": 1}}})
    return Plan(
        experiment=experiment, refs={}, roles={}, classes=ClassMap((), ()),
        fitted=FittedPreprocessing((rule,), (rule.fit(()),), (1.0, 1.0, 1.0) if several else None),
        sampling=Sampling(), patch=(8, 8, 8) if several else None, divisor=(1, 1, 1),
        steps_per_epoch=count, channels=1, runtime=Runtime("cpu", "CPU", "float32", count, True),
        network_parameters=10**6 if several else 1, memory_bytes=2**30 if several else 1,
        problems=(), badges=(), watched={},
    )  # fmt: skip


def _planned(plan: Plan) -> Planned:
    return Planned(steps=1, epochs=1, steps_per_epoch=1, summary=plan.summary(plan.threads))


def _validation() -> ValidationDone:
    score = CaseScore(
        case="", class_name="", role="validation", state="scored", metrics={},
        false_positive_ml=0.0, false_negative_ml=0.0, truth_ml=0.0,
    )  # fmt: skip
    return ValidationDone(
        epoch=1, loss=0.0, scores=(score,), mean_dice=0.0, class_dice={}, n_used=1, n_absent=0, n_missed=0,
        best=True, seconds=0.0,
    )  # fmt: skip


def _write_frame(folder: Path) -> None:
    """Write a frame of the history with everything that one may hold."""
    from segexplorer.training.history import HistoryWriter
    from segexplorer.training.snapshots import WatchedSnapshot

    voxel, affine, role = np.zeros((1, 1, 1), np.uint8), np.eye(4), get_args(Role)[0]
    regions = RegionReport({"loss": np.zeros((1, 1), np.float32)}, ((0, 1), (0, 1), (0, 1)))
    HistoryWriter(folder).write(
        WatchedSnapshot(
            case="", role=role, step=1, index=0, class_names=(), affine=affine, prediction=voxel,
            probabilities=voxel[None], regions=regions, regions_affine=affine,
        ),
        1,
    )  # fmt: skip
