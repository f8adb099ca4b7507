"""NIH Pancreas-CT on TCIA (Roth 2015): DICOM series and NIfTI labels whose headers do not place them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.finding import by_case, put_together, stem, subfolders, volumes_named
from segexplorer.data.sources import PlacedByIndex

_CASE = re.compile(r"PANCREAS_(\d{4})")
_LABEL = r"label(\d{4})"


@registry.register
class PancreasCt(DatasetSpec):
    """`PANCREAS_0001/.../*.dcm` (or PANCREAS_0001.nii.gz) and `TCIA_pancreas_labels.../label0001.nii.gz`.

    The labels' headers do not say where they lie. They are placed by index, turned over along rows or slices where
    that makes them stand out most from what is around them; `segexplorer check` says so for each case. A label
    whose header agrees with its image is left as it is.
    """

    display_name = "NIH Pancreas-CT"
    layout: ClassVar[str] = (
        "Pancreas-CT/PANCREAS_0001/11-24-2015-PANCREAS0001/Pancreas-18957/1-001.dcm\n"
        "TCIA_pancreas_labels-02-05-2017/label0001.nii.gz"
    )
    kind: Literal["pancreas_ct"] = "pancreas_ct"
    root: str = parameter(
        title="Folder", meaning="The folder that holds both images and labels.", path="folder"
    )
    place: Literal["by intensity", "stored", "rows", "slices", "rows and slices"] = parameter(
        "by intensity",
        title="Place of the labels",
        meaning="Which axes of the labels are turned over; by intensity: as they stand out most in the CT.",
        advanced=True,
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise PANCREAS_0001 and label0001."""
        case = next(iter(_images(folder)), None)
        label = next((match[0] for match, _ in volumes_named(folder, _LABEL, 2)), None)
        if case is None or label is None:
            return None
        return Recognition("pancreas_ct", folder, f"PANCREAS_{case} and {label}")

    def listing(self) -> Listing:
        """Return the cases; PANCREAS_0025 and 0070, withdrawn as copies, are not missed."""
        root = existing_folder(self.root)
        images: dict[str, tuple[Source, ...]] = {f"PANCREAS_{n}": (p,) for n, p in _images(root).items()}
        labels = by_case(volumes_named(root, _LABEL, 2))
        placed: dict[str, Source] = {
            f"PANCREAS_{n}": PlacedByIndex(path, self.place) for n, path in labels.items()
        }
        return put_together(images, placed, root)

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the pancreas."""
        return {"pancreas": (1,)}


def _images(root: Path) -> dict[str, Path]:
    """Return number -> folder of a DICOM series, or a converted file."""
    found = {match[1]: path for match, path in volumes_named(root, _CASE.pattern, 2)}
    return {**{_CASE.fullmatch(p.name)[1]: p for p in _folders(root, 2)}, **found}  # type: ignore[index]


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    for inner in subfolders(folder):
        if _CASE.fullmatch(inner.name):
            yield inner
        elif depth > 0 and stem(inner) is None:
            yield from _folders(inner, depth - 1)
