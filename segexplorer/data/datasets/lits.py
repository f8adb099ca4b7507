"""LiTS, the liver tumour segmentation benchmark (Bilic 2023): `volume-0.nii` and `segmentation-0.nii`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.finding import by_case, put_together, volumes_named

_DEPTH = 3


@registry.register
class Lits(DatasetSpec):
    """`volume-N` and `segmentation-N` side by side, also in "Training Batch 1" and "Training Batch 2"."""

    display_name = "LiTS"
    layout: ClassVar[str] = "Training Batch 1/volume-0.nii\nTraining Batch 1/segmentation-0.nii"
    kind: Literal["lits"] = "lits"
    root: str = parameter(
        title="Folder", meaning="The folder of the volumes, or of the training batches.", path="folder"
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise segmentation-0 beside volume-0."""
        match = next((m for m, _ in volumes_named(folder, r"segmentation-(\d+)", 1)), None)
        if match is None or not any(True for _ in volumes_named(folder, rf"volume-{match[1]}", 1)):
            return None
        return Recognition("lits", folder, f"{match[0]} beside volume-{match[1]}")

    def listing(self) -> Listing:
        """Return the cases, named volume-N."""
        root = existing_folder(self.root)
        images = by_case(volumes_named(root, r"volume-(\d+)", _DEPTH))
        labels = by_case(volumes_named(root, r"segmentation-(\d+)", _DEPTH))
        named = {f"volume-{n}": (path,) for n, path in images.items()}
        return put_together(named, {f"volume-{n}": path for n, path in labels.items()}, root)

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return liver and tumour."""
        return {"liver": (1,), "tumour": (2,)}
