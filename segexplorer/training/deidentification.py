"""Copies of what a run wrote in which nothing names a patient: cases get numbers, free text and paths go.

Nothing is searched and replaced. Every copy is built anew from what is known to be harmless: numbers, choices that
are declared in the code, names of classes. What is not known is left out, so that a new field leaks nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from segexplorer.core import events
from segexplorer.core.errors import SpecError
from segexplorer.core.events import CaseScore, Event
from segexplorer.core.fields import Shape, parameters
from segexplorer.core.spec import Spec, live_parameters
from segexplorer.training.experiment import Experiment
from segexplorer.training.plan import NOT_HELD_OUT
from segexplorer.training.progress import EDITED

LEFT_OUT = "left out"
ROOT = "data"
"""Stands for the path of the data."""

SAYINGS = re.compile(
    r"(loading torch and MONAI|reading the cases|building the network|saving the last checkpoint"
    r"|all \d+ epochs are done|its epoch is done|stopped by the user|failed|the iteration was left"
    rf"|Extended by \d+ epochs?, to \d+\.|{EDITED}|{NOT_HELD_OUT}|extended from \d+ to \d+ epochs|step_\d+(\.\d+)?)"
)
"""Sentences of ours without a name in them."""

_SUMMARY = ("Cases", "Classes", "Spacing", "Patch", "Steps", "Network", "Memory", "Device")
_PROVENANCE = ("attempt", "versions", "platform", "device", "precision", "threads", "seed")


@dataclass
class Names:
    """Case and class names of a run and what stands for them.

    Attributes
    ----------
    cases
        Name -> "case_001"; what is not known yet gets the next number.
    classes
        Name -> the same name, or "class_1" where classes are numbered.
    terms
        Name that a user gave to a term of the loss -> "term_1".
    dropped
        Texts that were left out, to be looked for in the result.
    """

    number_classes: bool = False
    cases: dict[str, str] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    terms: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)

    def case(self, name: str) -> str:
        """Return what stands for a case."""
        return self.cases.setdefault(name, f"case_{len(self.cases) + 1:03d}")

    def class_(self, name: str) -> str:
        """Return what stands for a class; "ignore" is a word of ours."""
        stand_in = f"class_{len(self.classes) + 1}" if self.number_classes and name != "ignore" else name
        return self.classes.setdefault(name, stand_in)

    def term(self, name: str) -> str:
        """Return what stands for a term of the loss that a user named."""
        return self.terms.setdefault(name, f"term_{len(self.terms) + 1}")

    def by_term(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by the names of terms, or of what adapts in them, without a user's own words."""
        own = sorted(self.terms, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, own)) or r"(?!)")
        return {pattern.sub(lambda m: self.terms[m[0]], key): value for key, value in values.items()}

    def saying(self, text: str) -> str:
        """Return a sentence that is ours as it is, and nothing for any other."""
        if SAYINGS.fullmatch(text):
            return text
        self.drop(text)
        return ""

    def badges(self, joined: str) -> str:
        """Return those of the badges "one; another" that are ours."""
        return "; ".join(filter(None, map(self.saying, joined.split("; ")))) if joined else ""

    def drop(self, text: str) -> None:
        """Remember a text that was left out."""
        if text:
            self.dropped.add(text)


# ---- the experiment


def nameless_experiment(experiment: Experiment, names: Names) -> Experiment:
    """Return the experiment without paths, free text and case names.

    The data set keeps its kind and settings where these say nothing; otherwise it becomes a plain folder.
    """
    # where a run was logged is nobody else's business, and the reader may lack the plug-in
    plain = _without_text(experiment.model_copy(update={"changes": (), "sinks": ()}), names)
    for declared in parameters(type(experiment.split)):
        listed = getattr(experiment.split, declared.name)
        if isinstance(listed, tuple):  # cases named for a role
            plain["split"][declared.name] = [names.case(case) for case in listed]
    for watched in ("watch_train", "watch_validation"):
        case = getattr(experiment.validation, watched)
        plain["validation"][watched] = names.case(case) if case is not None else None
    live = live_parameters(experiment)
    plain["changes"] = [
        {"step": c.step, "field": c.field, "value": _value(c.value, names)}
        for c in experiment.changes
        if c.field in live or c.field == "schedule.epochs"
    ]
    try:
        return Experiment.of(plain)
    except SpecError:
        kept = {k: plain["data"][k] for k in ("classes", "other_labels", "resample")}
        return Experiment.of({**plain, "data": {"kind": "folder", "root": ROOT, **kept}})


def _without_text(spec: Spec, names: Names) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": kind} if (kind := getattr(spec, "kind", None)) else {}
    for declared in parameters(type(spec)):
        value = getattr(spec, declared.name)
        if declared.name == "classes":
            plain["classes"] = {names.class_(n): v for n, v in value.items()}
        elif declared.name == "name" and value and not isinstance(spec, Experiment):
            plain["name"] = names.term(value)
        elif (cleaned := _cleaned(value, declared.shape, names)) is not _GONE:
            plain[declared.name] = cleaned
        elif declared.path:
            plain[declared.name] = ROOT if declared.required else ""
        elif declared.required:
            plain[declared.name] = LEFT_OUT
    return plain


_GONE = object()
"""What comes back for a value with a text in it that is no declared choice."""


def _cleaned(value: Any, shape: Shape, names: Names) -> Any:
    if isinstance(value, Spec):
        return _without_text(value, names)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        if value in _choices(shape):
            return value
        names.drop(value)
        return _GONE
    if isinstance(value, (list, tuple)):
        items = [_cleaned(item, shape, names) for item in value]
        return _GONE if any(item is _GONE for item in items) else items
    for item in value:  # a mapping by names
        names.drop(str(item))
    return _GONE


def _choices(shape: Shape) -> set[Any]:
    return set(shape.choices).union(*map(_choices, shape.items))


def _value(value: Any, names: Names) -> Any:
    """Return a live setting's value; a text may be anything."""
    if isinstance(value, str):
        names.drop(value)
        return LEFT_OUT
    return value if value is None or isinstance(value, (bool, int, float)) else None


# ---- events


def nameless_events(told: Iterable[Event], experiment: Experiment, names: Names) -> Iterator[Event]:
    """Yield copies of the events, their times counted from the first; kinds that are not known are left out."""
    live = live_parameters(experiment)
    begun: float | None = None
    for event in told:
        begun = event.time if begun is None else begun
        copy = _nameless(event, live, names)
        if copy is not None:
            yield replace(copy, time=event.time - begun)


def _nameless(event: Event, live: Iterable[str], names: Names) -> Event | None:
    match event:
        case events.StateChanged():
            return replace(event, activity=names.saying(event.activity))
        case events.Planned():
            for warning in event.warnings:
                names.drop(warning)
            classes = ", ".join(map(names.class_, event.classes))
            return replace(
                event,
                summary={
                    k: classes if k == "Classes" else v for k, v in event.summary.items() if k in _SUMMARY
                },
                warnings=(),
                badges=tuple(filter(None, map(names.saying, event.badges))),
                classes=tuple(map(names.class_, event.classes)),
            )
        case events.StepDone():
            cases = tuple(map(names.case, event.cases))
            return replace(event, cases=cases, terms=names.by_term(event.terms))
        case events.EpochDone():
            adaptive = names.by_term(event.adaptive)
            return replace(event, terms=names.by_term(event.terms), adaptive=adaptive)
        case events.ValidationDone():
            return replace(
                event,
                scores=tuple(_nameless_score(score, names) for score in event.scores),
                class_dice={names.class_(n): dice for n, dice in event.class_dice.items()},
                badge=names.badges(event.badge),
            )
        case events.WatchedDone():
            return replace(event, case=names.case(event.case))
        case events.ParameterApplied() if event.field in live:
            before, after = _value(event.previous, names), _value(event.value, names)
            return replace(event, value=after, previous=before)
        case events.CheckpointSaved():
            return replace(event, folder=names.saying(event.folder))
        case events.Notice():
            names.drop(event.remedy)
            message = names.saying(event.message)
            return replace(event, message=message, remedy="") if message else None
        case events.RunFinished():
            for text in (event.error, event.remedy, event.cause):
                names.drop(text)
            failed = "The cause was left out of this copy." if event.state == "failed" else ""
            return replace(event, reason=names.saying(event.reason), error=failed, remedy="", cause="")
    return None


def _nameless_score(score: CaseScore, names: Names) -> CaseScore:
    return replace(
        score,
        case=names.case(score.case),
        class_name=names.class_(score.class_name),
        badge=names.badges(score.badge),
    )


# ---- provenance and checkpoints


def nameless_provenance(attempts: Iterable[Mapping[str, Any]], names: Names) -> list[dict[str, Any]]:
    """Return what each attempt ran on; cases by their numbers, each with its role and the hash of its content."""
    return [
        {key: attempt[key] for key in _PROVENANCE if key in attempt}
        | {
            key: {names.case(case): value for case, value in attempt[key].items()}
            for key in ("roles", "data")
            if key in attempt
        }
        for attempt in attempts
    ]


def nameless_meta(meta: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """Return what prediction needs of a checkpoint's `meta.json`."""
    experiment = Experiment.of(meta["experiment"], "the checkpoint's experiment")
    classes = meta["classes"]
    return {
        **{key: meta[key] for key in ("step", "best", "preprocessing", "patch", "channels")},
        "experiment": nameless_experiment(experiment, names).plain(),
        "classes": {**classes, "names": [names.class_(name) for name in classes["names"]]},
        "badges": [badge for badge in map(names.saying, meta["badges"]) if badge],
    }
