"""What every data set offers: its cases by name and header, and the classes of its labels."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import model_validator

from segexplorer.core.errors import DataError, shorten
from segexplorer.core.fields import parameter
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec
from segexplorer.data.case import IGNORE, CaseRef, ClassMap, present_values
from segexplorer.data.checks import Problem
from segexplorer.data.label_versions import newest_version


@dataclass(frozen=True)
class Listing:
    """What a data set holds: its cases, and what could not become one (a label without image ...)."""

    cases: list[CaseRef]
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Recognition:
    """What a folder was recognised as.

    Attributes
    ----------
    kind
        Of data set.
    folder
        The data set's own folder; it may be a subfolder of the one looked at.
    reason
        What was seen, as the end of "because there is ...".
    settings
        Those of the kind that had to be found out, e.g. the names of subfolders.
    """

    kind: str
    folder: Path
    reason: str
    settings: Mapping[str, Any] = field(default_factory=dict)


class DatasetSpec(Spec):
    """Base of data sets: `classes` chooses and merges label values; empty takes all that the data set names.

    A kind implements `listing`, and `recognise` where a folder shows what it is. `layout` shows the folder for the
    documentation.
    """

    layout: ClassVar[str] = ""
    generality: ClassVar[int] = 0
    """How many folders `recognise` fits. Kinds of 0 know one layout: exactly one of them has to fit. Kinds of 1 and
    more also fit folders of others; they are asked when none of 0 fits, the smallest first, and the first one
    that fits is taken."""

    classes: dict[str, int | tuple[int, ...]] = parameter(
        title="Classes",
        description="Name of a class and its label value, or several values that are merged. Empty: all there are. "
        'Values under the name "ignore" count nowhere.',
        default_factory=dict,
    )
    overlapping: bool = parameter(
        False,
        title="Classes overlap",
        description="Whether a label value may belong to several classes, such as whole tumour [1, 2, 3], "
        "core [1, 3] and enhancing 3 (regions in nnU-Net and BraTS). Each class then has a sigmoid of its own, and "
        "in label maps that are written later classes are drawn over earlier ones.",
    )
    other_labels: Literal["background", "ignored"] = parameter(
        "background",
        title="Other labels",
        description="What labels of no class become: background, or ignored by loss and scores.",
    )

    resample: bool = parameter(
        False,
        title="Resample onto the image",
        description="Bring labels (nearest voxel) and further images (linear) with another grid onto "
        "that of the first image, by world position. Off: they are refused.",
        advanced=True,
    )

    series: str = parameter(
        "largest",
        title="DICOM series",
        description="Which series is the image where a folder holds several, such as a scout beside a CT: "
        "largest, a modality (CT), a part of its description, or its number.",
        min_length=1,
        advanced=True,
    )

    incomplete: Literal["refuse", "leave out"] = parameter(
        "refuse",
        title="Incomplete cases",
        description="What is done where a case lacks a file, such as a label without its image: the data set is "
        "refused, or the case is left out.",
        advanced=True,
    )

    label_versions: Literal["original", "newest"] = parameter(
        "original",
        title="Label versions",
        description="Which labels are used: the originals, or the newest corrected version of each, where there is "
        "one in a folder label_versions beside it.",
        advanced=True,
    )

    @model_validator(mode="after")
    def _one_class_per_value(self) -> Self:
        owner: dict[int, str] = {}
        for name, given in self.classes.items():
            if not name.strip():
                raise ValueError("a class needs a name")
            for value in (given,) if isinstance(given, int) else given:
                if value in owner and not (self.overlapping and IGNORE not in (name, owner[value])):
                    raise ValueError(
                        f"the label value {value} belongs to both {owner[value]} and {name}; where classes "
                        "overlap, set overlapping: true"
                    )
                owner[value] = name
            if not isinstance(given, int) and not given:
                raise ValueError(f"the class {name} has no label value")
        return self

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Say whether a folder is laid out as this kind expects, by names alone; None when it is not."""
        return None

    def listing(self) -> Listing:
        """Return the cases, by names alone, sorted by id, and what is amiss with others.

        Raises
        ------
        DataError
            When the data set is not there or is not laid out as its kind expects.
        """
        if type(self).cases is DatasetSpec.cases:
            raise NotImplementedError(f"{type(self).__name__} implements neither listing nor cases")
        return Listing(self.cases())

    def examine(self) -> Listing:
        """Return the listing as its settings want it; what cannot become a case is among its problems.

        Raises
        ------
        DataError
            As `listing`.
        """
        found = self.listing()
        if self.incomplete == "leave out":
            left_out = [
                replace(p, severity="warning", remedy="It is left out (data.incomplete).") if p.case else p
                for p in found.problems
            ]
            found = replace(found, problems=left_out)
        if self.label_versions == "newest":
            found = with_newest_labels(found)
        if not self.resample and self.series == "largest" and not self.overlapping:
            return found
        chosen = [
            replace(ref, resample=self.resample, series=self.series, together=self.overlapping)
            for ref in found.cases
        ]
        return Listing(chosen, found.problems)

    def cases(self) -> list[CaseRef]:
        """Return the cases, by names alone, sorted by id.

        Raises
        ------
        DataError
            When the data set is not there, is not laid out as its kind expects, or has a label without image.
        """
        found = self.examine()
        for problem in found.problems:
            if problem.severity == "error":
                raise DataError(f"{problem.case}: {problem.message}".removeprefix(": "), problem.remedy)
        return found.cases

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the classes that the data set itself names; by default those its labels hold."""
        return present_values(self.examine().cases)

    def ignored_values(self) -> tuple[int, ...]:
        """Return the label values that the data set marks as not to be counted."""
        return ()

    def class_values(self) -> dict[str, tuple[int, ...]]:
        """Return the chosen classes with their label values, or all that the data set names.

        What the data set marks as ignored is under "ignore", unless a class was chosen for it.
        """
        if not self.classes:
            chosen = self.named_values()
        else:
            chosen = {n: (v,) if isinstance(v, int) else tuple(v) for n, v in self.classes.items()}
        taken = {value for values in chosen.values() for value in values}
        ignored = tuple(value for value in self.ignored_values() if value not in taken)
        return {**chosen, IGNORE: (*chosen.get(IGNORE, ()), *ignored)} if ignored else chosen

    def as_setting(self, classes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Return what `class_values` gave in the way in which the setting `classes` says it."""
        return dict(classes)

    def declared_overlap(self) -> str:
        """Return the sentence that says why classes overlap, where the data set's description says that they do."""
        return ""

    def class_map(self) -> ClassMap:
        """Return how label values become label indices.

        Raises
        ------
        DataError
            When there is no class, or too many.
        """
        return ClassMap.from_classes(self.class_values(), self.other_labels, overlapping=self.overlapping)


def with_newest_labels(listing: Listing) -> Listing:
    """Return the cases with the newest versions of their labels, and a problem that says of which that is.

    Raises
    ------
    DataError
        When the provenance of a version is damaged.
    """
    cases, used = [], []
    for ref in listing.cases:
        path, version = newest_version(ref.label) if isinstance(ref.label, Path) else (None, None)
        if version is not None:
            used.append(f"{ref.id} (version {version.number}, {version.when[:10]})")
        cases.append(ref if version is None else replace(ref, label=path))
    if not used:
        text = "No case has a corrected label, so all labels are the originals."
    else:
        text = f"Corrected labels are used instead of the originals for {shorten(', '.join(used), 400)}."
    problem = Problem("warning", "label_versions", text)
    return Listing(cases, [*listing.problems, problem])


registry: Registry[DatasetSpec] = Registry("datasets", DatasetSpec, "data set")
AnyDataset = Annotated[DatasetSpec, registry.late_bound]


def existing_folder(root: str, what: str = "data set") -> Path:
    """Return the folder that `root` names, `~` and `${VAR}` expanded.

    Raises
    ------
    DataError
        When a variable is not set or there is no such folder.
    """
    folder = expanded(root)
    if not folder.exists():
        raise DataError(f"There is no folder {folder}.", f"Check the path of the {what} (data.root).")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not the folder of a {what}.", "Name the folder that holds it.")
    return folder


def expanded(path: str) -> Path:
    """Return a path with `~`, `$VAR` and `${VAR}` expanded.

    Raises
    ------
    DataError
        When a variable is not set.
    """
    text = os.path.expandvars(path)
    left = re.search(r"\$(\w+|\{[^}]*\})", text)
    if left is not None:
        name = left.group(1).strip("{}")
        raise DataError(
            f"The path {path} uses the variable {name}, which is not set.",
            f"Set it: export {name}=/some/folder.",
        )
    return Path(text).expanduser()
