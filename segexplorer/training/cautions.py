"""What a user should know of an experiment before it trains: settings that do not do what they seem to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from segexplorer.core.errors import SpecError
from segexplorer.core.types import Role
from segexplorer.data.checks import Problem
from segexplorer.data.distance_maps import MAPS
from segexplorer.losses.base import LossSpec, losses_in
from segexplorer.training.experiment import Experiment
from segexplorer.training.weights import check_weights


def problems_of(experiment: Experiment, roles: Mapping[str, Role]) -> list[Problem]:
    """Return what the settings themselves, and the roles of the cases, give reason to say.

    Raises
    ------
    SpecError
        When the loss requires maps that training cannot make.
    """
    problems: list[Problem] = []
    for name in experiment.loss.needs():
        if name not in MAPS:
            raise SpecError(
                f"The loss requires {name!r}, which training does not provide.",
                f"It provides {', '.join(MAPS)}. Choose another loss, or use this one in a loop of your own.",
            )
    validates = any(r == "validation" for r in roles.values())
    # no error, for a resumed run needs the file no more
    problems += [replace(p, severity="warning") for p in check_weights(experiment.network_weights)]
    problems += _cautions(experiment.loss, validates or experiment.split.self_validation)
    if len(roles) == 1 and not experiment.split.self_validation:
        text = "There is only one case, so nothing is held out to validate on."
        remedy = (
            "To train and validate on that case, with every figure badged, set split.self_validation: true."
        )
        problems.append(Problem("error", "one_case", text, remedy, next(iter(roles))))
    elif not validates and not experiment.split.self_validation:
        text = "No case validates, so no Dice is measured and there is no best checkpoint."
        problems.append(Problem("warning", "split", text, "Add cases, or set split.self_validation."))
    if experiment.schedule.reads_validation:
        text = "The schedule reads the validation Dice, so figures on these cases are slightly flattered."
        problems.append(Problem("note", "schedule", text, "Score test cases once at the end."))
    return problems


def _cautions(loss: LossSpec, validates: bool) -> list[Problem]:
    """Return what the losses' parameters may do that nobody wants."""
    problems = [Problem("warning", "loss", s.caution(), "") for s in losses_in(loss) if s.caution()]
    for spec in losses_in(loss):
        if spec.follows_validation and not validates:
            text = (
                f"{spec.display_name} follows the validation, and no case validates: it stays as it starts."
            )
            problems.append(Problem("warning", "loss", text, "Add cases, or choose another loss."))
    return problems
