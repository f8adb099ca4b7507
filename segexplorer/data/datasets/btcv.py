"""BTCV, multi-organ CT of the abdomen on Synapse (Landman 2015): `img0001.nii.gz` and `label0001.nii.gz`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.finding import by_case, put_together, reach, volumes_named

ORGANS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "oesophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic vein",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
_IMAGE, _LABEL, _DEPTH = r"img(\d{4})", r"label(\d{4})", 3


@registry.register
class Btcv(DatasetSpec):
    """`img0001` and `label0001` in `Training/img` and `Training/label`; 13 organs. Test images can be predicted."""

    display_name = "BTCV / Synapse"
    layout: ClassVar[str] = "RawData/Training/img/img0001.nii.gz\nRawData/Training/label/label0001.nii.gz"
    kind: Literal["btcv"] = "btcv"
    root: str = parameter(title="Folder", meaning="RawData, or a folder in it.", path="folder")

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise img0001 with label0001."""
        depth = reach(folder, "training", "testing")
        numbers = {match[1] for match, _ in volumes_named(folder, _IMAGE, depth)}
        both = next((m[1] for m, _ in volumes_named(folder, _LABEL, depth) if m[1] in numbers), None)
        return Recognition("btcv", folder, f"img{both} with label{both}") if both else None

    def listing(self) -> Listing:
        """Return the cases, named img0001 and so on."""
        root = existing_folder(self.root)
        images = by_case(volumes_named(root, _IMAGE, _DEPTH))
        labels: dict[str, Source] = {
            f"img{number}": path for number, path in by_case(volumes_named(root, _LABEL, _DEPTH)).items()
        }
        return put_together({f"img{number}": (path,) for number, path in images.items()}, labels, root)

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the 13 organs."""
        return {name: (value,) for value, name in enumerate(ORGANS, start=1)}
