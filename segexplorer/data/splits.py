"""Which cases train, validate and test: seeded, by patient, independent of the order of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from segexplorer.core.errors import DataError, SpecError, did_you_mean
from segexplorer.core.events import Role
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data.case import CaseRef

_KEPT: Mapping[Role, str] = {"validation": "validate", "test": "test"}


class Split(Spec):
    """How cases are divided. Explicit names win over counts, counts over fractions."""

    validation_fraction: float = parameter(
        0.2,
        title="Validation fraction",
        description="Fraction of the patients that are used for validation.",
        ge=0,
        lt=1,
    )
    validation_count: int | None = parameter(
        None,
        title="Validation patients",
        description="Number of validation patients; none: given by the fraction.",
        ge=0,
    )
    test_fraction: float = parameter(
        0.0,
        title="Test fraction",
        description="Fraction of the patients that are kept for testing.",
        ge=0,
        lt=1,
    )
    validation: tuple[str, ...] = parameter(
        (),
        title="Validation cases",
        description="Names of the validation cases, which are then not drawn.",
        advanced=True,
    )
    test: tuple[str, ...] = parameter(
        (), title="Test cases", description="Names of the cases that are kept for testing.", advanced=True
    )
    train: tuple[str, ...] = parameter(
        (),
        title="Training cases",
        description="Names of cases that train, whatever the data set says about them; others train, too.",
        advanced=True,
    )
    excluded: tuple[str, ...] = parameter(
        (),
        title="Left out",
        description="Names of cases that neither train, validate nor test, for example because their "
        "labels are not trusted.",
        advanced=True,
    )
    self_validation: bool = parameter(
        False,
        title="Validate on the training case",
        description="For a single case, which then trains and validates on itself; every figure says so.",
    )


def assign_roles(refs: Sequence[CaseRef], split: Split, seed: int) -> dict[str, Role]:
    """Return case id -> role, sorted by id.

    Cases without a label only predict and are left out, as are those that the split excludes. Roles that the data
    set itself gives are kept, but for the cases that the split names.

    Raises
    ------
    SpecError
        When a named case does not exist, is excluded as well or named for training and something else, or two cases
        share an id.
    DataError
        When nothing is left for training, or cases of one patient are named for different roles.
    """
    labelled = sorted((r for r in refs if r.label is not None), key=lambda r: r.id)
    ids = [r.id for r in labelled]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise SpecError(f"Two cases are called {twice}.", "Give every case a name of its own.")
    for name in (*split.validation, *split.test):
        if name not in ids:
            raise SpecError(f"There is no case {name!r} to keep apart.", did_you_mean(name, ids))
    for name in split.train:
        if name not in ids:
            raise SpecError(f"There is no case {name!r} to train on.", did_you_mean(name, ids))
        if name in (*split.validation, *split.test, *split.excluded):
            raise SpecError(f"Case {name} trains and does not at once.", "Name it in one list of the split.")
    known = [r.id for r in refs]  # a case without a label may be left out as well: it is not predicted either
    for name in split.excluded:
        if name not in known:
            remedy = f"{did_you_mean(name, known)} Or take it out of split.excluded."
            raise SpecError(f"There is no case {name!r} to leave out.", remedy)
    for name in (*split.validation, *split.test):
        if name in split.excluded:
            raise SpecError(
                f"Case {name} is left out and kept apart at once.", "Name it in one of the lists."
            )
    labelled = [r for r in labelled if r.id not in split.excluded]
    ids = [r.id for r in labelled]
    roles: dict[str, Role] = {r.id: r.role for r in labelled if r.role is not None}
    roles.update(dict.fromkeys(split.train, "train"))
    roles.update(dict.fromkeys(split.test, "test"))
    roles.update(dict.fromkeys(split.validation, "validation"))
    _spread_to_patients(labelled, roles)
    rest = [r for r in labelled if r.id not in roles]
    roles.update(_drawn(rest, split, seed, drawn_validation="validation" not in roles.values()))
    if labelled and "train" not in roles.values():
        kept = [f"{list(roles.values()).count(role)} {text}" for role, text in _KEPT.items()]
        raise DataError(
            f"No case is left for training: of {len(labelled)} labelled cases {' and '.join(kept)}.",
            "Lower split.validation_count or the fractions, or add cases.",
        )
    return {i: roles[i] for i in ids}


def _spread_to_patients(labelled: Sequence[CaseRef], roles: dict[str, Role]) -> None:
    """Give every case of a patient the role that one of its cases has."""
    first: dict[str, str] = {}
    for ref in labelled:
        if ref.id not in roles:
            continue
        other = first.setdefault(ref.patient or ref.id, ref.id)
        if roles[other] != roles[ref.id]:
            pair = f"{other} (for {roles[other]}) and {ref.id} (for {roles[ref.id]})"
            raise DataError(
                f"{pair} are of one patient, {ref.patient}.",
                "Give all cases of a patient the same role, or correct the patient's name.",
            )
    of_patient = {patient: roles[case] for patient, case in first.items()}
    for ref in labelled:
        patient = ref.patient or ref.id
        if ref.id not in roles and patient in of_patient:
            roles[ref.id] = of_patient[patient]


def _drawn(rest: Sequence[CaseRef], split: Split, seed: int, *, drawn_validation: bool) -> Mapping[str, Role]:
    patients = sorted({r.patient or r.id for r in rest})
    order = [patients[i] for i in np.random.default_rng([seed, 0x5]).permutation(len(patients))]
    tests = round(split.test_fraction * len(order)) if not split.test else 0
    wanted = split.validation_count
    count = round(split.validation_fraction * len(order)) if wanted is None else wanted
    if wanted is None and split.validation_fraction > 0 and len(order) - tests > 1:
        count = max(1, count)
    if split.self_validation or not drawn_validation:
        count = 0
    if len(order) - tests - count < 1 and wanted is None:
        count = max(0, len(order) - tests - 1)
    role_of = dict.fromkeys(order, "train")
    role_of.update(dict.fromkeys(order[:count], "validation"))
    role_of.update(dict.fromkeys(order[count : count + tests], "test"))
    return {r.id: role_of[r.patient or r.id] for r in rest}  # type: ignore[misc]
