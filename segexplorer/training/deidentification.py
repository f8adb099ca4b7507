"""De-identified copies of what a run wrote: cases get numbers, free text and paths are left out.

Nothing is searched and replaced. Every copy is built anew from an allow-list of what is known to be harmless:
numbers, choices declared in the code, sentences of our own. Whatever is not on it is left out, so that a
field added later cannot leak. The only words of a user that a copy keeps are names of classes; a name that
may identify somebody is therefore refused (`identifying_part`), unless classes get numbers as well.
"""

from __future__ import annotations

import getpass
import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from segexplorer.core import events
from segexplorer.core.errors import SpecError
from segexplorer.core.events import CaseScore, Event
from segexplorer.core.fields import Shape, parameters
from segexplorer.core.spec import Spec, live_parameters, walk
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.data.seen_images import SeenImages
from segexplorer.data.transforms import FittedPreprocessing
from segexplorer.losses.base import registry as losses
from segexplorer.metrics.calibration import ANY_CLASS
from segexplorer.training.experiment import Experiment
from segexplorer.training.plan import NOT_HELD_OUT
from segexplorer.training.progress import EDITED
from segexplorer.training.step_columns import NUMBERS, RecordedEvents, StepColumns, stretches
from segexplorer.training.verdicts import ErrorKind, Verdict

LEFT_OUT = "left out"
ROOT = "data"
"""Replaces the path of the data."""

OWN_SENTENCES = re.compile(
    r"(loading torch and MONAI|reading the cases|building the network|saving the last checkpoint"
    r"|all \d+ epochs are done|its epoch is done|stopped by the user|failed|the iteration was left"
    rf"|Extended by \d+ epochs?, to \d+\.|{EDITED}|{NOT_HELD_OUT}|extended from \d+ to \d+ epochs|step_\d+(\.\d+)?)"
)
"""Texts that the program itself writes, without a name in them."""

_SUMMARY = {
    "Cases": r"\d+ train, \d+ validate, \d+ test",
    "Classes": r".*",
    "Spacing": r"as stored|[\d.e+× -]+ mm",
    "Patch": r"(whole volumes|[\d× ]+ voxels), \d+ per batch",
    "Steps": r"\d+ \(\d+ epochs? of \d+\)",
    "Network": r"[\d.,]+ (million )?parameters",
    "Memory": r"about [\d.]+ [GM]iB",
    "Device": r"(CPU, \d+ cores?|[\w .()/-]{1,80} \(\d+ GiB\)|mps|cpu), \w+, \d+ threads?",
}
"""Lines of a plan, and what a plan of our own says there: of a recorded run they may be words of the user's."""
_VERSION = re.compile(r"[a-z_]{1,40} (\d[\w.+-]{0,40}|not installed)", re.ASCII)
"""A package and its version."""
_PROVENANCE = ("attempt", "versions", "platform", "device", "precision", "threads", "seed")


@dataclass
class Pseudonyms:
    """Names of cases, classes and loss terms of a run, and what a copy calls them.

    Attributes
    ----------
    cases
        Name -> "case_001"; a name that is not known yet gets the next number.
    classes
        Name -> the same name, or "class_1" where classes are numbered.
    terms
        Name that a user gave to a term of the loss -> "term_1".
    """

    number_classes: bool = False
    cases: dict[str, str] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    terms: dict[str, str] = field(default_factory=dict)

    def case(self, name: str) -> str:
        """Return what a case is called."""
        return self.cases.setdefault(name, f"case_{len(self.cases) + 1:03d}")

    def class_(self, name: str) -> str:
        """Return what a class is called; "ignore" is a keyword and stays."""
        numbered = self.number_classes and name != "ignore"
        return self.classes.setdefault(name, f"class_{len(self.classes) + 1}" if numbered else name)

    def term(self, name: str) -> str:
        """Return what a term of the loss is called that a user named."""
        return self.terms.setdefault(name, f"term_{len(self.terms) + 1}")

    def by_term(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by the names of terms, or of what adapts in them, without a user's own words."""
        own = sorted(self.terms, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, own)) or r"(?!)")
        return {pattern.sub(lambda m: self.terms[m[0]], key): value for key, value in values.items()}


def own_sentence(text: str) -> str:
    """Return a text that the program itself writes, and "" for any other."""
    return text if OWN_SENTENCES.fullmatch(text) else ""


def own_badges(joined: str) -> str:
    """Return those of the badges "one; another" that the program itself writes."""
    return "; ".join(filter(None, map(own_sentence, joined.split("; ")))) if joined else ""


# ---- names of classes

_SHORTEST_PART = 4
"""Characters of the name of a folder that may identify somebody, unless it is the folder of a user: T1 does not."""
_NUMBER_OR_DICOM_NAME = re.compile(r"\d{5,}|\^")
"""A number as long as a patient's, and the character that separates the parts of a name in DICOM."""
_HOMES = {"home", "users"}
"""Folders whose subfolders are named after people."""


def identifying_part(name: str, cases: Iterable[str], folders: Iterable[str]) -> str:
    """Return why the name of a class may identify somebody, "" where nothing suggests that.

    Parameters
    ----------
    cases
        Names of the run's cases. Words that most of them share (the "liver" of liver_12) identify nobody; any other
        does, however short ("Li", "Wu"), but for numbers.
    folders
        Paths of the run and its data. A folder counts where it belongs to a user or has a digit in its name; others
        are often called after an organ, as classes are.
    """
    words = _words(name)
    known = list(dict.fromkeys(cases))
    for case in known:
        if _contains(words, _words(case), 2):
            return f"{case!r} is the name of a case"
    often = Counter(word for case in known for word in set(_name_words(case)))
    for word in _name_words(name):
        rare = 0 < often[word] <= len(known) / 2 or (len(known) == 1 and often[word])
        if rare and _may_be_a_name(word):
            return f"{word!r} is a word of a case's name"
    for folder in folders:
        parts = Path(folder).parts
        users = {part for above, part in pairwise(parts) if above.lower() in _HOMES}
        for part in parts:
            mixed = re.search(r"[^\W\d_].*\d|\d.*[^\W\d_]", part)
            shortest = 2 if part in users else _SHORTEST_PART
            if (part in users or mixed) and _contains(words, _words(part), shortest):
                return f"{part!r} is part of a path"
    for account in _accounts():
        if _contains(words, _words(account), 2):
            return f"{account!r} is the name of the current user or of this machine"
    return "it looks like a patient's number or name" if _NUMBER_OR_DICOM_NAME.search(name) else ""


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _name_words(text: str) -> list[str]:
    """Return the words of a name, also those that case or digits set apart: LiWei07 holds li and wei."""
    apart = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", text))
    return list(dict.fromkeys([*_words(text), *(word.lower() for word in apart)]))


def _may_be_a_name(word: str) -> bool:
    """Whether a word is long enough for a name: two characters, or one that is a syllable by itself (Chinese)."""
    if word.isdecimal():
        return len(word) >= _SHORTEST_PART
    return len(word) >= 2 or ord(word) >= 0x2E80


def _contains(words: list[str], part: list[str], shortest: int) -> bool:
    """Whether the words of a name follow one another in another name; names with few characters do not count."""
    joined = "".join(part)
    if len(joined) < shortest or (joined.isdecimal() and len(joined) < _SHORTEST_PART):
        return False
    return any(words[start : start + len(part)] == part for start in range(len(words) - len(part) + 1))


def _accounts() -> Iterator[str]:
    """Yield the names of the current user, of the home folder and of the machine."""
    for read in (getpass.getuser, lambda: Path.home().name, platform.node):
        try:
            yield read()
        except (OSError, KeyError, RuntimeError):  # a container's user without a name
            continue


def paths_in(experiment: Experiment) -> list[str]:
    """Return every path that an experiment names."""
    return [value for _, declared, value in walk(experiment) if declared.path and isinstance(value, str)]


# ---- the experiment


def deidentify_experiment(experiment: Experiment, names: Pseudonyms) -> Experiment:
    """Return the experiment without paths, free text and case names.

    The data set keeps its kind and those settings that are numbers or declared choices; where it cannot be built
    from these alone, it becomes a plain folder.
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
        {"step": c.step, "field": c.field, "value": _value(c.value)}
        for c in experiment.changes
        if c.field in live or c.field == "schedule.epochs"
    ]
    try:
        return Experiment.of(plain)
    except SpecError:
        kept = {k: plain["data"][k] for k in ("classes", "other_labels", "resample")}
        return Experiment.of({**plain, "data": {"kind": "folder", "root": ROOT, **kept}})


def _without_text(spec: Spec, names: Pseudonyms) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": kind} if (kind := getattr(spec, "kind", None)) else {}
    for declared in parameters(type(spec)):
        value = getattr(spec, declared.name)
        if declared.name == "classes" and isinstance(spec, DatasetSpec):
            plain["classes"] = {names.class_(n): v for n, v in value.items()}
        elif declared.name == "name" and value and not isinstance(spec, Experiment):
            plain["name"] = names.term(value)
        elif (cleaned := _cleaned(value, declared.shape, names)) is not _FREE_TEXT:
            plain[declared.name] = cleaned
        elif declared.path:
            plain[declared.name] = ROOT if declared.required else ""
        elif declared.required:
            plain[declared.name] = LEFT_OUT
    return plain


_FREE_TEXT = object()
"""Result for a value that contains a text other than a declared choice."""


def _cleaned(value: Any, shape: Shape, names: Pseudonyms) -> Any:
    if isinstance(value, Spec):
        return _without_text(value, names)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return value if value in _choices(shape) else _FREE_TEXT
    if isinstance(value, (list, tuple)):
        items = [_cleaned(item, shape, names) for item in value]
        return _FREE_TEXT if any(item is _FREE_TEXT for item in items) else items
    return _FREE_TEXT  # a mapping, whose keys are names


def _choices(shape: Shape) -> set[Any]:
    return set(shape.choices).union(*map(_choices, shape.items))


def _value(value: Any) -> Any:
    """Return the value of a live setting; a text could be anything and is left out."""
    if isinstance(value, str):
        return LEFT_OUT
    return value if value is None or isinstance(value, (bool, int, float)) else None


# ---- events


def deidentify_events(
    written: Sequence[Event], experiment: Experiment, names: Pseudonyms, *, recorded: bool = False
) -> Sequence[Event]:
    """Return copies of the events, their times counted from the first; kinds not listed here are left out.

    Parameters
    ----------
    recorded
        Whether they are of another program, so that names of terms are words of the user's unless a loss has them.
    """
    live = live_parameters(experiment)
    begun = written[0].time if written else 0.0
    copies: list[Event | StepColumns] = []
    for piece in stretches(written):
        if isinstance(piece, StepColumns):
            if recorded:
                _number_terms(piece.block.terms, names)
            copies.append(_columns(piece, begun, names))
            continue
        if recorded and isinstance(piece, (events.StepDone, events.EpochDone)):
            _number_terms((*piece.terms, *getattr(piece, "adaptive", ())), names)
        copy = _event(piece, live, names)
        if copy is not None:
            copies.append(replace(copy, time=piece.time - begun))
    return RecordedEvents(copies)


def _number_terms(terms: Iterable[str], names: Pseudonyms) -> None:
    for name in terms:
        if name not in losses.names():
            names.term(name)


def _columns(steps: StepColumns, begun: float, names: Pseudonyms) -> StepColumns:
    """Return a copy of consecutive steps; cases get their numbers in the order in which they come."""
    block = steps.alone()
    numbers = block.numbers.copy()
    numbers[NUMBERS.index("time")] -= begun
    return StepColumns(
        replace(
            block,
            numbers=numbers,
            cases=tuple(map(names.case, block.cases)),
            terms=tuple(names.by_term(dict.fromkeys(block.terms))),
            gradients=tuple(names.by_term(dict.fromkeys(block.gradients))),
        ),
        0,
        len(steps),
    )


def _event(event: Event, live: Iterable[str], names: Pseudonyms) -> Event | None:
    match event:
        case events.StateChanged():
            return replace(event, activity=own_sentence(event.activity))
        case events.Planned():
            classes = ", ".join(map(names.class_, event.classes))
            return replace(
                event,
                summary={
                    k: classes if k == "Classes" else v
                    for k, v in event.summary.items()
                    if k in _SUMMARY and re.fullmatch(_SUMMARY[k], v, re.ASCII | re.DOTALL)
                },
                warnings=(),
                badges=tuple(filter(None, map(own_sentence, event.badges))),
                classes=tuple(map(names.class_, event.classes)),
            )
        case events.StepDone():
            cases = tuple(map(names.case, event.cases))
            return replace(
                event,
                cases=cases,
                terms=names.by_term(event.terms),
                term_gradients=names.by_term(event.term_gradients),
            )
        case events.EpochDone():
            adaptive = names.by_term(event.adaptive)
            return replace(event, terms=names.by_term(event.terms), adaptive=adaptive)
        case events.ValidationDone():
            return replace(
                event,
                scores=tuple(_score(score, names) for score in event.scores),
                class_dice={names.class_(n): dice for n, dice in event.class_dice.items()},
                badge=own_badges(event.badge),
                criterion="loss" if event.criterion == "loss" else "dice",
            )
        case events.WatchedDone():
            curves = tuple(
                c if c.class_name == ANY_CLASS else replace(c, class_name=names.class_(c.class_name))
                for c in event.calibration
            )
            dice = {names.class_(name): value for name, value in event.class_dice.items()}
            return replace(event, case=names.case(event.case), calibration=curves, class_dice=dice)
        case events.ParameterApplied() if event.field in live:
            before, after = _value(event.previous), _value(event.value)
            return replace(event, value=after, previous=before)
        case events.CheckpointSaved():
            return replace(event, folder=own_sentence(event.folder))
        case events.Notice():
            message = own_sentence(event.message)
            return replace(event, message=message, remedy="") if message else None
        case events.RunFinished():
            failed = "The cause was left out of this copy." if event.state == "failed" else ""
            return replace(event, reason=own_sentence(event.reason), error=failed, remedy="", cause="")
    return None


def _score(score: CaseScore, names: Pseudonyms) -> CaseScore:
    return replace(
        score,
        case=names.case(score.case),
        class_name=names.class_(score.class_name),
        badge=own_badges(score.badge),
    )


# ---- verdicts


def deidentify_verdict(verdict: Verdict, names: Pseudonyms, *, note: bool, voxels: bool) -> Verdict:
    """Return a verdict without dates and names of files.

    Parameters
    ----------
    note
        Whether its free text is kept.
    voxels
        Whether the voxels that it remembers are, which show a part of a patient's shape.
    """
    return Verdict(
        id=verdict.id,
        case=names.case(verdict.case),
        role=verdict.role,
        family=verdict.family,
        class_name=names.class_(verdict.class_name),
        kind=verdict.kind if verdict.kind in get_args(ErrorKind) else "",
        judgement=verdict.judgement,
        done=verdict.done,
        note=verdict.note if note else "",
        step=verdict.step,
        when=0.0,
        volume_ml=verdict.volume_ml,
        depth_mm=verdict.depth_mm,
        shape=verdict.shape,
        voxels=verdict.voxels,
        samples=verdict.samples if voxels else [],
    )


# ---- provenance and checkpoints


def deidentify_provenance(attempts: Iterable[Mapping[str, Any]], names: Pseudonyms) -> list[dict[str, Any]]:
    """Return what each attempt ran on; cases by their numbers, each with its role and the hash of its content."""
    return [
        {key: attempt[key] for key in _PROVENANCE if key in attempt}
        | {
            "versions": {
                k: v for k, v in attempt.get("versions", {}).items() if _VERSION.fullmatch(f"{k} {v}")
            }
        }
        | {
            key: {names.case(case): value for case, value in attempt[key].items()}
            for key in ("roles", "data")
            if attempt.get(key)
        }
        for attempt in attempts
    ]


def deidentify_meta(meta: Mapping[str, Any], names: Pseudonyms) -> dict[str, Any]:
    """Return what prediction needs of a checkpoint's `meta.json`."""
    experiment = Experiment.of(meta["experiment"], "the checkpoint's experiment")
    classes, patch = meta["classes"], meta["patch"]
    return {
        "step": int(meta["step"]),
        "best": float(meta["best"]),
        "channels": int(meta["channels"]),
        "patch": None if patch is None else [int(n) for n in patch],
        "preprocessing": _preprocessing(meta["preprocessing"], names),
        "experiment": deidentify_experiment(experiment, names).plain(),
        "classes": {
            "names": [names.class_(name) for name in classes["names"]],
            "values": [[int(v) for v in group] for group in classes["values"]],
            "other_labels": "background" if classes["other_labels"] == "background" else "ignored",
            "ignored": [int(v) for v in classes.get("ignored", ())],
        },
        "badges": [badge for badge in map(own_sentence, meta["badges"]) if badge],
        "seen": None if (seen := SeenImages.of(meta.get("seen"))) is None else seen.plain(),
    }


def _preprocessing(plain: Mapping[str, Any], names: Pseudonyms) -> dict[str, Any]:
    """Return fitted preprocessing: its rules without free text, and the numbers that each rule itself declares."""
    fitted = FittedPreprocessing.of(plain)
    kept = fitted.plain()
    kept["intensities"] = [_without_text(rule, names) for rule in fitted.intensities]
    if "crop" in kept:
        kept["crop"] = _without_text(fitted.crop, names)
    kept["numbers"] = [{str(k): float(v) for k, v in numbers.items()} for numbers in fitted.numbers]
    return kept
