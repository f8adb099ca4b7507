"""An explicit list of cases: images, label and role of each, e.g. what the window collected."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.core.types import Role
from segexplorer.data import readers
from segexplorer.data.case import CaseRef
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, expanded, registry
from segexplorer.data.datasets.finding import hidden, is_label_name, stem, subfolders
from segexplorer.data.datasets.patients import kept_together


class FurtherImage(Spec):
    """Another image of a case, on the same grid; it becomes the next channel. A bare path will do."""

    display_name = "Further image"
    image: str = parameter(title="Image", meaning="The image file.", path="file", min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, value: Any) -> Any:
        return {"image": value} if isinstance(value, str) else value


class Pair(Spec):
    """One case of the list."""

    display_name = "Case"
    case: str = parameter(title="Case", meaning="Its name.", min_length=1)
    image: str = parameter(title="Image", meaning="The image file.", path="file")
    further: tuple[FurtherImage, ...] = parameter(
        (),
        title="Further images",
        meaning="More images on the same grid, which become channels.",
        advanced=True,
    )
    label: str | None = parameter(
        None, title="Label", meaning="The label file; none: only predicted.", path="file"
    )
    role: Role | None = parameter(None, title="Role", meaning="What it is for; none: the split decides.")
    patient: str = parameter("", title="Patient", meaning="Empty: the case is one.", advanced=True)


@registry.register
class Pairs(DatasetSpec):
    """Cases listed one by one."""

    display_name = "List of cases"
    layout: ClassVar[str] = (
        "pairs:\n- {case: anna, image: a/t1.nii.gz, further: [{image: a/t2.nii.gz}], label: a/seg.nii.gz}"
    )
    kind: Literal["pairs"] = "pairs"
    pairs: tuple[Pair, ...] = parameter(title="Cases", meaning="Image, label and role of each.", min_length=1)

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise the folder of one case: an image (a file or a folder of DICOM slices) and its label."""
        files = [
            path for path in sorted(folder.iterdir()) if path.is_file() and stem(path) and not hidden(path)
        ]
        labels = [path for path in files if is_label_name(path)]
        images = [path for path in files if path not in labels] or [
            f for f in subfolders(folder) if _slices(f)
        ]
        if len(labels) != 1 or len(images) != 1:
            return None
        pair = {"case": folder.name, "image": str(images[0]), "label": str(labels[0])}
        return Recognition("pairs", folder, f"{labels[0].name} beside {images[0].name}", {"pairs": (pair,)})

    @field_validator("pairs")
    @classmethod
    def _same_channels(cls, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        first = pairs[0]
        for pair in pairs:
            if len(pair.further) != len(first.further):
                raise ValueError(
                    f"{pair.case} has {len(pair.further) + 1} images and {first.case} {len(first.further) + 1}"
                )
        return pairs

    def listing(self) -> Listing:
        """Return the listed cases, sorted by name."""
        return Listing(kept_together(sorted((_ref(pair) for pair in self.pairs), key=lambda ref: ref.id)))


def _slices(folder: Path) -> bool:
    first = next((path for path in sorted(folder.iterdir()) if path.is_file() and not hidden(path)), None)
    found = readers.format_of(first) if first is not None else None
    return found is not None and found.name == "DICOM"


def _ref(pair: Pair) -> CaseRef:
    images = tuple(expanded(path) for path in (pair.image, *(more.image for more in pair.further)))
    label = None if pair.label is None else expanded(pair.label)
    for path in (*images, *([] if label is None else [label])):
        if not path.exists():
            raise DataError(f"Case {pair.case}: there is no file {path}.", "Check its path in data.pairs.")
    return CaseRef(pair.case, images, label, pair.patient or pair.case, pair.role)
