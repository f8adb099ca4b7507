"""A folder whose layout is found out by looking at it."""

from __future__ import annotations

from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.data.datasets.base import DatasetSpec, Listing, expanded, registry
from segexplorer.data.datasets.detection import described, recognise


@registry.register
class Auto(DatasetSpec):
    """Whatever layout the folder has; `segexplorer check FOLDER` says which was recognised, and by what."""

    display_name = "Found by looking"
    layout: ClassVar[str] = "any of the others"
    kind: Literal["auto"] = "auto"
    root: str = parameter(
        title="Folder", meaning="The folder of the data set, or a CSV or JSON file.", path="folder"
    )

    def recognised(self) -> DatasetSpec:
        """Return the data set in its own kind, with the same choice of classes.

        Raises
        ------
        DataError
            When the layout is not known.
        """
        found = described(recognise(expanded(self.root)))
        return found.model_copy(
            update={"classes": self.classes, "unselected": self.unselected, "resample": self.resample}
        )

    def listing(self) -> Listing:
        """Return the cases of the recognised layout."""
        return self.recognised().listing()

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return the classes that the data set names."""
        return self.recognised().named_values()

    def ignored_values(self) -> tuple[int, ...]:
        """Return the label values that the data set marks as not to be counted."""
        return self.recognised().ignored_values()
