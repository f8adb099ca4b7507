"""Names of conditions: the loss, the network where there are several, and the settings that tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segexplorer.core.registry import families
from segexplorer.core.spec import Spec
from segexplorer.study.identity import settings_apart
from segexplorer.training.experiment import Experiment

SHOWN = 3
"""Settings that a label holds; of more, only as many as tell the conditions apart."""


def labels_of(experiments: Sequence[Experiment], folders: Sequence[Path]) -> list[str]:
    """Return a short name per experiment, from what they differ in; with the folder's where nothing else tells."""
    short = _short_names(experiments)
    labels = list(short)
    for name in dict.fromkeys(short):
        places = [place for place, other in enumerate(short) if other == name]
        for place, words in zip(places, _distinctions([experiments[p] for p in places]), strict=True):
            labels[place] = " ".join([name, *words])
    told = [
        label if labels.count(label) == 1 else f"{label} [{folder.name}]"
        for label, folder in zip(labels, folders, strict=True)
    ]
    return [
        label if told.count(label) == 1 else f"{label} {told[: place + 1].count(label)}"
        for place, label in enumerate(told)
    ]


def _short_names(experiments: Sequence[Experiment]) -> list[str]:
    first = experiments[0]
    varied = {path for other in experiments[1:] for path in settings_apart(first, other)}
    losses = [short_name(e.loss) for e in experiments]
    if not any(path.partition(".")[0] == "network" for path in varied):
        return losses
    networks = [short_name(e.network) for e in experiments]
    if all(e.loss == first.loss for e in experiments):
        return networks
    return [f"{loss}, {network}" for loss, network in zip(losses, networks, strict=True)]


def short_name(spec: Spec) -> str:
    """Return the kind of a spec with default values, else the name of the preset it equals, else the kind.

    A part without a kind of its own, as a term of a sum, has the name of the part with a kind that it holds.
    """
    kind = getattr(spec, "kind", None)
    values = [getattr(spec, name) for name in type(spec).model_fields]
    if kind is None:
        inner = next((v for v in values if isinstance(v, Spec)), None)
        return short_name(inner) if inner is not None else "/".join(value_text(v) for v in values)
    registry = next((r for r in families().values() if r.specs().get(kind) is type(spec)), None)
    required = any(field.is_required() for field in type(spec).model_fields.values())
    if registry is None or (not required and spec == registry.parse(kind)):
        return str(kind)
    return next((p.name for p in registry.presets().values() if p.spec == spec), str(kind))


def value_text(value: Any) -> str:
    """Return the value of a setting as a few characters: "0.3", "none", "64,64,64", "dice+cross_entropy"."""
    if isinstance(value, Spec):
        return short_name(value)
    if value is None or value in ((), "", {}):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, Mapping):
        return ";".join(f"{name}:{value_text(inner)}" for name, inner in value.items())
    if isinstance(value, (tuple, list)):
        return ("+" if any(isinstance(v, Spec) for v in value) else ",").join(map(value_text, value))
    return str(value)


def _distinctions(same: Sequence[Experiment]) -> list[list[str]]:
    """Return ["alpha=0.3", "beta=0.7"] for each of several experiments of one name: what is its own."""
    rows = [
        {path: own for other in same for path, (own, _) in settings_apart(experiment, other).items()}
        for experiment in same
    ]
    paths = sorted({path for row in rows for path in row})
    told = [{path: _told(path, paths, value) for path, value in row.items()} for row in rows]
    if max(map(len, told)) > SHOWN:
        paths = _telling(told, paths)
    return [[row[path] for path in paths if path in row] for row in told]


def _telling(rows: Sequence[Mapping[str, str]], paths: Sequence[str]) -> list[str]:
    """Return few of the paths that tell rows apart as well as all of them do."""

    def kinds(chosen: Sequence[str]) -> int:
        return len({tuple(row.get(path) for path in chosen) for row in rows})

    few: list[str] = []
    while kinds(few) < kinds(paths):
        few.append(max(paths, key=lambda path: kinds([*few, path])))
    return [path for path in paths if path in few]


def _told(path: str, paths: Sequence[str], value: Any) -> str:
    """Return "alpha=0.3", or the name alone of what is a loss, a network, an optimiser, or a sum of losses."""
    parts = value if isinstance(value, tuple) else (value,)
    if parts and all(isinstance(part, Spec) and _has_kind(part) for part in parts):
        return value_text(value)
    return f"{_shortened(path, paths)}={value_text(value)}"


def _has_kind(spec: Spec) -> bool:
    values = (getattr(spec, name) for name in type(spec).model_fields)
    return hasattr(spec, "kind") or any(hasattr(v, "kind") for v in values)


def _shortened(path: str, paths: Sequence[str]) -> str:
    """Return the end of a dotted path by which it is known among the others: "alpha", "terms.0.weight"."""
    parts = path.split(".")
    for length in range(1, len(parts)):
        end = parts[-length:]
        if not end[0].isdigit() and not any(p.split(".")[-length:] == end for p in paths if p != path):
            return ".".join(end)
    return path
