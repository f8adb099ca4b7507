"""Whether a run that goes on is still the same run: what its checkpoint was made of, and what is there now.

A checkpoint keeps the `Identity` of what it was trained on and by. Before anything goes on from it (resuming,
extending, starting another run from its weights), `compare` gives an answer for every part of it:

* identical;
* live: a setting that may change while a run goes on becomes a recorded change at the present step;
* announced: the run goes on, and its figures carry a badge from then on (other threads, another version of torch);
* free: no result depends on it (where the files are, what is logged);
* refused: it would be another run; the sentence names the setting.

Which answer a changed setting gets is declared with the setting (`core.fields.parameter`, `live` and `resume`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from segexplorer.core.errors import DataError, SpecError, shorten
from segexplorer.core.fields import Parameter, ResumeRule
from segexplorer.core.spec import Spec, differences, walk
from segexplorer.data.case import ClassMap
from segexplorer.training.experiment import Experiment

if TYPE_CHECKING:
    from segexplorer.training.plan import Plan

Answer = Literal["live", "announced", "extended", "free", "refused"]
Purpose = Literal["resume", "weights"]
"""What a checkpoint is compared for: to go on with its run, or to begin another one with its weights."""

SAME_NUMBER = 1e-6
"""Relative difference up to which fitted statistics are equal; other processors round otherwise."""
_NAMED = 3
_NEW_RUN = "or start a new run with what is there now."


# ---- what a run is made of


@dataclass(frozen=True)
class Identity:
    """What a checkpoint was made of, as far as it is known; None where it is not (yet).

    Attributes
    ----------
    planned
        The experiment, with the live changes requested so far.
    classes
        Label values by class, in the order of the network's outputs.
    preprocessing
        Rules and fitted numbers, as `FittedPreprocessing.plain` gives them.
    inputs
        Channels, patch and steps per epoch, which follow from settings and data.
    roles, data
        Case -> what it is for; case -> hash of its files.
    plugins
        Package -> kinds that the experiment takes from it.
    versions
        Package -> version, of those that compute.
    machine
        Device, precision, threads, number of devices and switches, which decide the last digits.
    """

    planned: Experiment | None = None
    classes: ClassMap | None = None
    preprocessing: Mapping[str, Any] | None = None
    inputs: Mapping[str, Any] | None = None
    roles: Mapping[str, str] | None = None
    data: Mapping[str, str] | None = None
    plugins: Mapping[str, Sequence[str]] | None = None
    versions: Mapping[str, str] | None = None
    machine: Mapping[str, str] | None = None

    @classmethod
    def of_plan(cls, plan: Plan, planned: Experiment) -> Self:
        """Return the identity of a resolved plan."""
        runtime = plan.runtime
        return cls(
            planned=planned,
            classes=plan.classes,
            preprocessing=plan.fitted.plain(),
            inputs={
                "channels": plan.channels,
                "patch": None if plan.patch is None else list(plan.patch),
                "steps_per_epoch": plan.steps_per_epoch,
            },
            roles=dict(plan.roles),
            data={case: plan.fingerprints[case] for case in plan.roles},
            plugins=plan.plugins,
            versions=plan.versions,
            machine={
                "device": "cpu" if runtime.device == "cpu" else runtime.device_name,
                "precision": runtime.precision,
                "threads": str(runtime.threads),
                "devices": str(runtime.devices),
                **{name: "on" if on else "off" for name, on in runtime.switches().items()},
            },
        )

    @classmethod
    def of_meta(cls, meta: Mapping[str, Any], name: str) -> Self:
        """Read what a checkpoint's `meta.json` knows; a shared copy knows what predicting needs.

        Raises
        ------
        DataError
            When it is damaged.
        """
        kept: Mapping[str, Any] = meta.get("identity") or {}
        try:
            return cls(
                planned=Experiment.of(kept["planned"], name) if "planned" in kept else None,
                classes=ClassMap.of(meta["classes"]) if meta.get("classes") else None,
                preprocessing=meta.get("preprocessing"),
                inputs=kept.get("inputs"),
                roles=kept.get("roles"),
                data=kept.get("data"),
                plugins=kept.get("plugins"),
                versions=kept.get("versions"),
                machine=kept.get("machine"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"The checkpoint of {name} is damaged ({error}).", "Copy the run folder again."
            ) from error

    def plain(self) -> dict[str, Any]:
        """Return plain data for `meta.json`, which holds classes and preprocessing beside it."""
        return {
            "planned": None if self.planned is None else self.planned.plain(),
            "inputs": self.inputs,
            "roles": self.roles,
            "data": self.data,
            "plugins": self.plugins,
            "versions": self.versions,
            "machine": self.machine,
        }


# ---- the answers


@dataclass(frozen=True)
class Finding:
    """One part that differs.

    Attributes
    ----------
    field
        A setting by its dotted path, or "classes", "case liver_3", "torch", "threads" ...
    before, now
        Both values.
    badge
        What figures say from now on, of an announced difference.
    sentence, remedy
        What a user reads.
    """

    field: str
    answer: Answer
    before: Any = None
    now: Any = None
    badge: str = ""
    sentence: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Comparison:
    """Every difference between two identities, in the order of `Identity`; what is not named is identical."""

    findings: tuple[Finding, ...]

    def of(self, *answers: Answer) -> list[Finding]:
        """Return the findings with one of these answers."""
        return [f for f in self.findings if f.answer in answers]

    @property
    def badges(self) -> tuple[str, ...]:
        """What figures say of the announced differences."""
        return tuple(dict.fromkeys(f.badge for f in self.of("announced") if f.badge))

    def require(self) -> None:
        """Refuse what would be another run.

        Raises
        ------
        SpecError
            Naming the first setting that was refused, and how many there are.
        """
        refused = self.of("refused")
        if refused:
            first, more = refused[0], [shorten(f.field) for f in refused[1:]]
            others = (
                f" So is {_listed(more)}." if len(more) == 1 else f" So are {_listed(more)}." if more else ""
            )
            raise SpecError(f"{first.sentence}{others}", first.remedy)


def compare(before: Identity, now: Identity, *, step: int = 0, purpose: Purpose = "resume") -> Comparison:
    """Compare what a checkpoint was made of with what is there now.

    Parameters
    ----------
    step
        Optimiser steps done at the checkpoint; changes recorded before it must be the same.
    purpose
        "weights": another run begins with them, so that only what the weights mean has to fit.

    Returns
    -------
    The differences; parts that are None on either side are not compared.
    """
    findings: list[Finding] = []
    if purpose == "weights":
        findings += _classes(before, now, purpose)
        findings += [_as_notice(f) for f in _preprocessing(before, now)]
        return Comparison(tuple(findings))
    if before.planned is not None and now.planned is not None:
        findings += compare_settings(before.planned, now.planned, step)
    findings += _classes(before, now, purpose)
    findings += _cases(before, now, step)
    findings += _preprocessing(before, now)
    findings += _inputs(before, now)
    findings += _plugins(before, now)
    findings += _announced(before.versions, now.versions, "another version may round otherwise")
    findings += _announced(before.machine, now.machine, "results differ in their last digits")
    return Comparison(tuple(findings))


# ---- settings


def compare_settings(before: Experiment, now: Experiment, step: int = 0) -> list[Finding]:
    """Compare two experiments setting by setting, and the changes that were in effect at a step."""
    one, two = _unchanged(before), _unchanged(now)
    different = differences(one, two)
    rules = [rules_of(one), rules_of(two)] if different else []
    found = [
        _setting(path, values[0], values[1], _common([_rule(path, r) for r in rules]))
        for path, values in different.items()
    ]
    early = [[c for c in e.changes if c.step < step] for e in (before, now)]
    if early[0] != early[1]:
        sentence = (
            f"The live changes recorded before step {step} were edited; the weights are the result of them."
        )
        remedy = f"Restore the file, {_NEW_RUN}"
        found.append(Finding("changes", "refused", early[0], early[1], sentence=sentence, remedy=remedy))
    return found


Rule = ResumeRule | Literal["live"]


def rules_of(spec: Spec) -> dict[str, Rule]:
    """Return what is declared of the settings of a spec: dotted path -> what another value there means."""
    return {path: rule for path, declared, _ in walk(spec) if (rule := _declared(declared)) is not None}


def _rule(path: str, rules: Mapping[str, Rule]) -> Rule:
    """Return the rule of a path; what the outermost group declares holds for all that is inside."""
    parts = path.split(".")
    outer = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return next((rules[name] for name in outer if name in rules), "refuse")


def _common(rules: Sequence[Rule]) -> Rule:
    return rules[0] if len(set(rules)) == 1 else "refuse"


def _declared(parameter: Parameter) -> Rule | None:
    if parameter.resume is not None:
        return parameter.resume
    if parameter.live:
        return "live"
    return "free" if parameter.path else None


def _setting(path: str, before: Any, now: Any, rule: Rule) -> Finding:
    values = (before, now)
    if rule == "live" and (now is None or isinstance(now, (bool, int, float, str))):
        return Finding(path, "live", *values)
    if rule == "free":
        return Finding(path, "free", *values)
    texts = _text(before), _text(now)
    if rule == "announce":
        # what it resolves to on this machine is compared, and announced, under `machine`
        return Finding(path, "announced", *values, sentence=f"{path} was {texts[0]} and is {texts[1]} now.")
    if rule == "extend" and now > before:
        return Finding(path, "extended", *values)
    remedy = f"Set {path} to {texts[0]} again to go on with this run, {_NEW_RUN}"
    sentence = f"{path} was {texts[0]} when this run was trained and is {texts[1]} now."
    if rule == "extend":
        sentence, remedy = (
            f"{path} was {texts[0]} and cannot be lowered to {texts[1]}.",
            f"Set it back, {_NEW_RUN}",
        )
    return Finding(path, "refused", *values, sentence=sentence, remedy=remedy)


def settle(before: Experiment, now: Experiment, findings: Iterable[Finding]) -> Experiment:
    """Return the experiment to go on with: live and extended settings as they were planned, to be changed anew.

    What was changed in the file since is requested as a live change instead, so that the record says from which
    step on it holds, and a repetition from the start gives the same numbers.
    """
    from segexplorer.core.spec import get_value, replace_values

    restored = {f.field: get_value(before, f.field) for f in findings if f.answer in ("live", "extended")}
    return replace_values(now, restored) if restored else now


def _unchanged(experiment: Experiment) -> Experiment:
    return experiment.model_copy(update={"changes": ()})


# ---- classes, cases, preprocessing


def _classes(before: Identity, now: Identity, purpose: Purpose) -> list[Finding]:
    one, two = before.classes, now.classes
    if one is None or two is None or one == two:
        return []
    names = [shorten(", ".join(c.names), 120) for c in (one, two)]
    if set(one.names) != set(two.names):
        sentence = f"The network was trained for the classes {names[0]}, and the data have {names[1]}."
        if purpose == "weights":  # another task, whose outputs are learned anew
            return [Finding("classes", "announced", one, two, sentence=sentence)]
    elif one.names != two.names:
        sentence = (
            f"The classes were {names[0]} in this order and are {names[1]} now; each output of the network belongs "
            "to one of them."
        )
    elif purpose == "weights":  # the same structures under other numbers, or others ignored
        return []
    else:
        sentence = _values_differ(one, two)
    remedy = f"Restore the classes (data.classes, or the data set's own list of labels), {_NEW_RUN}"
    return [Finding("classes", "refused", one, two, sentence=sentence, remedy=remedy)]


def _values_differ(one: ClassMap, two: ClassMap) -> str:
    for name, before, now in zip(one.names, one.values, two.values, strict=True):
        if tuple(before) != tuple(now):
            return (
                f"The class {shorten(name)} was made of the label values {_numbers(before)} when this run was "
                f"trained and is made of {_numbers(now)} now."
            )
    if one.overlapping != two.overlapping:
        states = ["overlap" if c.overlapping else "exclude each other" for c in (one, two)]
        return f"The classes {states[0]} in this run, and {states[1]} now."
    return "Which label values are ignored has changed since this run was trained."


def _cases(before: Identity, now: Identity, step: int) -> list[Finding]:
    found: list[Finding] = []
    if before.roles is None or now.roles is None:
        return found
    back = f"Restore the data to go on with this run, {_NEW_RUN}"
    for what, cases in (
        ("is missing from the data set", [c for c in before.roles if c not in now.roles]),
        ("was added to the data set", [c for c in now.roles if c not in before.roles]),
    ):
        found += [
            Finding(
                f"case {shorten(case)}",
                "refused",
                before.roles.get(case),
                now.roles.get(case),
                sentence=f"The case {shorten(case, 80)} {what} since step {step}; the split would be another one.",
                remedy=back,
            )
            for case in cases
        ]
    if not found and list(before.roles) != list(now.roles):
        sentence = "The order of the cases has changed, and with it which case each step draws."
        found.append(Finding("order of cases", "refused", sentence=sentence, remedy=back))
    for case, role in before.roles.items():
        other = now.roles.get(case, role)
        if other != role:
            sentence = f"The case {shorten(case, 80)} was for {role} and is for {other} now."
            found.append(
                Finding(f"case {shorten(case)}", "refused", role, other, sentence=sentence, remedy=back)
            )
    for case, content in (before.data or {}).items():
        other = (now.data or {}).get(case, content)
        if other != content:
            sentence = f"The image or label of the case {shorten(case, 80)} has changed since step {step}."
            found.append(
                Finding(f"case {shorten(case)}", "refused", content, other, sentence=sentence, remedy=back)
            )
    return found


def _preprocessing(before: Identity, now: Identity) -> list[Finding]:
    one, two = before.preprocessing, now.preprocessing
    if one is None or two is None:
        return []
    different = [key for key in {**one, **two} if not _close(one.get(key), two.get(key))]
    if not different:
        return []
    sentence = (
        f"The preprocessing of the images has changed since this run was trained ({_listed(different)}): it was "
        "fitted to other cases or settings."
    )
    remedy = f"Restore preprocessing and data to go on with this run, {_NEW_RUN}"
    return [Finding("preprocessing", "refused", one, two, sentence=sentence, remedy=remedy)]


def _close(one: Any, two: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(_close(one[k], two[k]) for k in one)
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(map(_close, one, two))
    if isinstance(one, float) or isinstance(two, float):
        numbers = all(isinstance(v, (int, float)) for v in (one, two))
        return numbers and math.isclose(one, two, rel_tol=SAME_NUMBER)
    return bool(one == two)


def _as_notice(finding: Finding) -> Finding:
    sentence = "The weights were trained on images that were prepared in another way."
    return Finding(finding.field, "announced", finding.before, finding.now, sentence=sentence)


_INPUTS = {
    "channels": "images per case",
    "patch": "voxels of a patch (sampling.patch_size)",
    "steps_per_epoch": "steps per epoch (sampling.steps_per_epoch)",
}


def _inputs(before: Identity, now: Identity) -> list[Finding]:
    one, two = before.inputs or {}, now.inputs or {}
    return [
        Finding(
            name,
            "refused",
            one[name],
            two[name],
            sentence=f"The {what} were {_text(one[name])} in training and are {_text(two[name])} now.",
            remedy=f"Restore the settings and the data to go on with this run, {_NEW_RUN}",
        )
        for name, what in _INPUTS.items()
        if name in one and name in two and one[name] != two[name]
    ]


def _plugins(before: Identity, now: Identity) -> list[Finding]:
    if before.plugins is None or now.plugins is None:
        return []
    one, two = (
        {kind: package for package, kinds in p.items() for kind in kinds}
        for p in (before.plugins, now.plugins)
    )
    own = "segexplorer"
    return [
        Finding(
            kind,
            "refused",
            one.get(kind, own),
            two.get(kind, own),
            sentence=f"{kind} came from {one.get(kind, own)} in training and comes from {two.get(kind, own)} now.",
            remedy=f"Install the package it came from, {_NEW_RUN}",
        )
        for kind in {**one, **two}
        if one.get(kind) != two.get(kind)
    ]


def _announced(
    before: Mapping[str, str] | None, now: Mapping[str, str] | None, consequence: str
) -> list[Finding]:
    one, two = before or {}, now or {}
    return [
        Finding(
            name,
            "announced",
            one[name],
            two[name],
            badge=f"{name} {one[name]}, then {two[name]}",
            sentence=f"The run goes on with {name} {two[name]} after {one[name]}; {consequence}.",
        )
        for name in one
        if name in two and one[name] != two[name]
    ]


# ---- words


def _text(value: Any) -> str:
    if isinstance(value, Spec):
        return str(getattr(value, "kind", type(value).__name__))
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return shorten(", ".join(f"{k}: {_text(v)}" for k, v in value.items()) or "empty", 80)
    if isinstance(value, (tuple, list)):
        return shorten("[" + ", ".join(map(_text, value)) + "]", 80)
    return shorten(str(value) or "empty", 80)


def _numbers(values: Iterable[int]) -> str:
    return shorten(", ".join(map(str, values)), 80) or "none"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
