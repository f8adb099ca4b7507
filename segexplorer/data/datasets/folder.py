"""Data sets as people keep them: `images/` and `labels/`, or names with a `{case}` in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.data.case import CaseRef
from segexplorer.data.datasets.base import DatasetSpec, existing_folder, pair_up, registry, volume_files


@registry.register
class Folder(DatasetSpec):
    """Images and labels of equal names in two folders, or found by patterns such as `{case}/ct.nii.gz`."""

    display_name = "Folder"
    kind: Literal["folder"] = "folder"
    root: str = parameter(title="Folder", meaning="The folder of the data set.", path="folder")
    images: tuple[str, ...] = parameter(
        ("images",),
        title="Images",
        meaning="Subfolder of the images, or a pattern with {case}; one per channel.",
        min_length=1,
    )
    labels: str = parameter(
        "labels", title="Labels", meaning="Subfolder of the labels, or a pattern with {case}."
    )
    patient_pattern: str = parameter(
        "",
        title="Patient pattern",
        meaning="Regular expression for the patient in a case's name, e.g. ^(\\w+)_; empty: every case is one.",
        advanced=True,
    )

    @field_validator("images", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("patient_pattern")
    @classmethod
    def _is_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return value

    def cases(self) -> list[CaseRef]:
        """Return the cases found by name."""
        root = existing_folder(self.root)
        channels = [_find(root, place) for place in self.images]
        labels = _find(root, self.labels)
        images = channels[0]
        pair_up(images, labels, str(root))
        for place, files in zip(self.images[1:], channels[1:], strict=True):
            missing = sorted(set(images) - set(files))
            if missing:
                raise DataError(
                    f"The case {missing[0]} has no image in {place}.", "Every case needs all channels."
                )
        return [
            CaseRef(i, tuple(c[i] for c in channels), labels.get(i), self._patient(i)) for i in sorted(images)
        ]

    def _patient(self, case: str) -> str:
        found = re.search(self.patient_pattern, case) if self.patient_pattern else None
        if found is None:
            return case
        return found.group(1) if found.groups() else found.group()


def _find(root: Path, place: str) -> dict[str, Path]:
    """Return case -> file, in a subfolder by file name or by a pattern with `{case}`."""
    if "{case}" not in place:
        if not (root / place).is_dir():
            raise DataError(
                f"{root} has no folder {place}.", "Set data.images and data.labels, e.g. {case}/ct.nii.gz."
            )
        return volume_files(root / place)
    expression = "(?P<case>[^/]+)".join(re.escape(part) for part in place.split("{case}", 1))
    expression = expression.replace(re.escape("{case}"), "(?P=case)")
    found: dict[str, Path] = {}
    for path in sorted(root.glob(place.replace("{case}", "*"))):
        match = re.fullmatch(expression, path.relative_to(root).as_posix())
        if match is not None and not path.name.startswith("."):
            found[match["case"]] = path
    return found
