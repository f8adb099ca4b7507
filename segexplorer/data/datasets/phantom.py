"""Built-in phantoms as a data set: rendered in memory when their voxels are first asked for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.data.case import CaseRef
from segexplorer.data.datasets.base import DatasetSpec, Listing, registry
from segexplorer.data.phantom import CLASSES, MODALITIES, Anatomy, Phantom, phantom_affine, render
from segexplorer.data.volume import Provenance, Volume


@registry.register
class Phantoms(DatasetSpec):
    """Seeded synthetic volumes that resemble CT or MR, with exact labels."""

    display_name = "Phantoms"
    kind: Literal["phantom"] = "phantom"
    anatomy: Literal["ct_abdomen", "mr_brain", "mr_tumour"] = parameter(
        "ct_abdomen",
        title="Anatomy",
        description="What is shown: an abdomen as in CT, a brain as in MR, or one with a tumour whose parts are "
        "labelled as in BraTS.",
    )
    count: int = parameter(
        12, title="Cases", description="How many are made.", typical=(1, 50), ge=1, le=10_000
    )
    size: int | tuple[int, int, int] = parameter(
        96, title="Size", description="Voxels along each side, or along x, y and z.", unit="voxels"
    )
    seed: int = parameter(
        0, title="Seed", description="Another seed gives other patients.", ge=0, le=2**31 - 1
    )

    @field_validator("size")
    @classmethod
    def _large_enough(cls, value: Any) -> Any:
        if min((value,) if isinstance(value, int) else value) < 16:
            raise ValueError("must be at least 16 voxels along each side")
        return value

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        return (self.size, self.size, self.size) if isinstance(self.size, int) else self.size

    def listing(self) -> Listing:
        """Return the phantoms; nothing is rendered yet."""
        return Listing([self._case(index) for index in range(self.count)])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the labelled structures."""
        return {name: (value,) for value, name in enumerate(CLASSES[self.anatomy], start=1)}

    def _case(self, index: int) -> CaseRef:
        name = f"phantom_{index:03d}"
        rendering = _Rendering(self.anatomy, self.shape, (self.seed, index))
        size = "x".join(map(str, self.shape))
        identity = f"{self.anatomy} {size}, seed {self.seed}, case {index}"
        origin = Provenance(format="phantom")
        affine, modality = phantom_affine(self.anatomy, self.shape), MODALITIES[self.anatomy]
        image = Volume(self.shape, affine, load=rendering.image, modality=modality, provenance=origin)
        label = Volume(self.shape, affine, load=rendering.label, provenance=origin)
        return CaseRef(name, (image,), label, patient=name, identity=identity)


@dataclass
class _Rendering:
    """Image and label of one phantom, rendered together once."""

    anatomy: Anatomy
    shape: tuple[int, int, int]
    seed: tuple[int, int]
    _made: Phantom | None = None
    _lock: Any = field(default_factory=threading.Lock)

    def __getstate__(self) -> dict[str, Any]:
        return {"anatomy": self.anatomy, "shape": self.shape, "seed": self.seed, "_made": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def image(self) -> NDArray[np.generic]:
        return self._phantom().image

    def label(self) -> NDArray[np.generic]:
        return self._phantom().label

    def _phantom(self) -> Phantom:
        with self._lock:
            if self._made is None:
                self._made = render(self.anatomy, self.shape, self.seed)
            return self._made
