"""The paragraph "methods" of a run, to copy into a paper: what was trained on what, and how it was scored.

Every sentence is made from what the run recorded, so that it can be checked; what a run does not know (who the
patients were, how they were imaged) is left to the author.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segexplorer.core.fields import Parameter, parameters
from segexplorer.core.papers import PAPERS, citation_of
from segexplorer.core.spec import Spec
from segexplorer.losses.base import LossSpec
from segexplorer.training.experiment import Experiment
from segexplorer.training.plan import counted
from segexplorer.training.recorded import RecordedRun
from segexplorer.training.run_files import AttemptFacts


def methods(
    experiment: Experiment,
    attempts: Sequence[AttemptFacts],
    summary: Mapping[str, str],
    *,
    recorded: RecordedRun | None = None,
    chosen_step: int | None = None,
    seeds: Sequence[int] = (),
) -> str:
    """Return the paragraph.

    Parameters
    ----------
    experiment
        Its effective settings.
    attempts
        What each attempt ran on.
    summary
        What the plan said, label -> text (`Planned.summary`).
    recorded
        Who trained it, where that was another program.
    chosen_step
        Step of the checkpoint that validation chose; None where none was.
    seeds
        Of several runs of the same; empty: that of the experiment.
    """
    if recorded is not None:
        return " ".join(_recorded(experiment, attempts, recorded, summary))
    sentences = [
        _split(experiment, attempts),
        _preprocessing(experiment, summary),
        _network(experiment, summary),
        f"The loss was {loss_text(experiment.loss)}.",
        _optimisation(experiment, summary),
        _augmentation(experiment),
        *_changes(experiment),
        _checkpoint(experiment, chosen_step),
        "Metrics were computed on whole volumes in each case's own grid; a structure that was missed counts 0 in "
        "overlaps. Means are over cases, with 95 % bootstrap intervals (BCa) over cases.",
        _software(experiment, attempts, seeds),
    ]
    return " ".join(filter(None, sentences))


def _recorded(
    experiment: Experiment,
    attempts: Sequence[AttemptFacts],
    recorded: RecordedRun,
    summary: Mapping[str, str],
) -> list[str]:
    """Return what is known of a run that another program trained; its settings are that program's."""
    who = recorded.trainer or "another program"
    network = f" The network was {recorded.network}." if recorded.network else ""
    loss = f" The loss was {recorded.loss}." if recorded.loss else ""
    return [
        f"The network was trained with {who} and recorded with segexplorer{_version(attempts)}.{network}{loss}",
        _split(experiment, attempts),
        "Settings of training are those of that program and are not known here.",
    ]


def _split(experiment: Experiment, attempts: Sequence[AttemptFacts]) -> str:
    roles = next((a.roles for a in reversed(attempts) if a.roles), None)
    if not roles:
        return ""
    counts = {role: list(roles.values()).count(role) for role in ("train", "validation", "test")}
    parts = [f"{counts['train']} for training", f"{counts['validation']} for validation"]
    parts += [f"{counts['test']} for testing"] if counts["test"] else []
    text = f"Of {counted(len(roles), 'case')}, {', '.join(parts[:-1])} and {parts[-1]} were used"
    if experiment.split.self_validation:
        return f"One case trained and validated on itself, so no figure is held out ({text[0].lower()}{text[1:]})."
    named = experiment.split.validation or experiment.split.test or experiment.split.train
    how = "named cases" if named else f"drawn at random by patient, seed {experiment.seed}"
    return f"{text} ({how})."


def _preprocessing(experiment: Experiment, summary: Mapping[str, str]) -> str:
    spec = experiment.preprocessing
    scaled = (
        f"Intensities were scaled ({_lower(described(spec.intensity))}; numbers from training cases alone)"
    )
    if spec.resize is not None:
        return f"{scaled}; volumes were resized to {_times(spec.resize)} voxels."
    if spec.spacing is None:
        return f"{scaled}; voxels kept their own size."
    return f"{scaled}; volumes were resampled to {summary.get('Spacing', value_text(spec.spacing) + ' mm')}."


def _network(experiment: Experiment, summary: Mapping[str, str]) -> str:
    size = f", {summary['Network']}" if "parameters" in summary.get("Network", "") else ""
    patch = experiment.sampling.patch_size
    seen = f"patches of {_times(patch)} voxels" if patch else "whole volumes"
    return (
        f"The network was {described(experiment.network)}{size}. It saw {seen}, "
        f"{experiment.sampling.batch_size} per step."
    )


def _optimisation(experiment: Experiment, summary: Mapping[str, str]) -> str:
    schedule, optimiser = experiment.schedule, experiment.optimiser
    steps = summary.get("Steps", "").partition(" ")[0]
    number = f", {steps} steps in all," if steps.isdigit() else ""
    return (
        f"It was trained for {counted(schedule.epochs, 'epoch')}{number} with {described(optimiser)}; "
        f"learning rate schedule: {_lower(described(schedule, leave=('epochs', 'extension')))}."
    )


def _augmentation(experiment: Experiment) -> str:
    if not experiment.augmentation.enabled:
        return "Patches were not varied."
    spec = experiment.augmentation
    parts = {
        "mirroring": any(getattr(spec.flips, p.name) > 0 for p in parameters(type(spec.flips))),
        "rotation and scaling": spec.placement.probability > 0,
        "elastic deformation": spec.elastic.probability > 0,
        "changes of contrast, brightness and noise": spec.shading.probability > 0,
    }
    used = [name for name, on in parts.items() if on]
    return f"Training images were varied by {_and(used)}." if used else ""


def _changes(experiment: Experiment) -> list[str]:
    changes = [f"{c.field} to {value_text(c.value)} at step {c.step}" for c in experiment.changes]
    return [f"Settings were changed while it trained: {_and(changes)}."] if changes else []


def _checkpoint(experiment: Experiment, step: int | None) -> str:
    if step is None:
        return "The weights at the end of training were used."
    by = "highest mean Dice" if experiment.validation.select_best == "dice" else "lowest loss"
    return f"The checkpoint with the {by} on the validation cases (step {step}) was used."


def _software(experiment: Experiment, attempts: Sequence[AttemptFacts], seeds: Sequence[int]) -> str:
    said = ", ".join(str(seed) for seed in (seeds or (experiment.seed,)))
    text = f"Random {'seeds' if len(seeds) > 1 else 'seed'}: {said}."
    if not attempts:
        return text
    last = attempts[-1]
    packages = [f"{name} {version}" for name, version in last.versions.items() if name in _NAMED]
    device = (last.model_extra or {}).get("device")
    on = [str(part) for part in (device, last.precision, last.platform) if part]
    return f"{text} Software: {', '.join(packages)}; computed on {', '.join(on)}." if packages else text


_NAMED = ("segexplorer", "torch", "monai", "numpy", "python")


def _version(attempts: Sequence[AttemptFacts]) -> str:
    found = attempts[-1].versions.get("segexplorer", "") if attempts else ""
    return f" {found}" if found else ""


def loss_text(spec: LossSpec) -> str:
    """Return a loss with its terms, weights, parameters and references, as a sentence names it."""
    weighting = getattr(spec, "weighting", None)
    if weighting is None:
        return _one_loss(spec)
    parts = [
        f"{'' if t.weight == 1 else f'{t.weight:g} × '}{_one_loss(t.spec)}" for t in spec.compound_terms()
    ]
    rule = "" if weighting.kind == "fixed" else f", weighted by {described(weighting)}"
    return f"the sum of {_and(parts)}{rule}" if len(parts) > 1 else parts[0]


def _one_loss(spec: LossSpec) -> str:
    cited = spec.reference if citation_of(spec.reference) else ""
    if (paper := PAPERS.get(citation_of(spec.reference))) is not None:
        cited = paper.reference
    return f"{described(spec, leave=('ignore_index',))}{f' [{cited}]' if cited else ''}"


def described(spec: Spec, leave: Sequence[str] = ()) -> str:
    """Return a part of an experiment with its settings; rarely used ones only where they differ from their default.

    E.g. "U-Net (base features 16, levels 4)".
    """
    name = spec.display_name or str(getattr(spec, "kind", type(spec).__name__))
    said = []
    for declared in parameters(type(spec)):
        value = getattr(spec, declared.name)
        usual = not declared.required and value == declared.default
        if (
            declared.name in leave
            or declared.path
            or value is None
            or value is False
            or (usual and declared.advanced)
        ):
            continue
        said.append(f"{_title(declared)} {value_text(value)}{f' {declared.unit}' if declared.unit else ''}")
    return f"{name} ({', '.join(said)})" if said else name


def _title(declared: Parameter) -> str:
    return _lower(declared.title)


def _lower(text: str) -> str:
    # an abbreviation stays as it is
    return text if text[:2].isupper() else f"{text[:1].lower()}{text[1:]}"


def value_text(value: Any) -> str:
    """Return the value of a setting as a sentence has it."""
    if isinstance(value, Spec):
        return described(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return " × ".join(map(value_text, value)) if value else "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {value_text(inner)}" for name, inner in value.items())
    return "none" if value is None else str(value).replace("_", " ")


def _times(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""
