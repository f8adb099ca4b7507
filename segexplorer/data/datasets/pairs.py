"""An explicit list of cases: image, label and role of each, e.g. what the window collected."""

from __future__ import annotations

from typing import Literal

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.core.types import Role
from segexplorer.data.case import CaseRef
from segexplorer.data.datasets.base import DatasetSpec, expanded, registry


class Pair(Spec):
    """One case of the list."""

    display_name = "Case"
    case: str = parameter(title="Case", meaning="Its name.", min_length=1)
    image: str = parameter(title="Image", meaning="The image file.", path="file")
    label: str | None = parameter(
        None, title="Label", meaning="The label file; none: only predicted.", path="file"
    )
    role: Role | None = parameter(None, title="Role", meaning="What it is for; none: the split decides.")
    patient: str = parameter("", title="Patient", meaning="Empty: the case is one.", advanced=True)


@registry.register
class Pairs(DatasetSpec):
    """Cases listed one by one."""

    display_name = "List of cases"
    kind: Literal["pairs"] = "pairs"
    pairs: tuple[Pair, ...] = parameter(title="Cases", meaning="Image, label and role of each.", min_length=1)

    def cases(self) -> list[CaseRef]:
        """Return the listed cases, sorted by name."""
        return sorted((_ref(pair) for pair in self.pairs), key=lambda ref: ref.id)


def _ref(pair: Pair) -> CaseRef:
    image = expanded(pair.image)
    label = None if pair.label is None else expanded(pair.label)
    for path in (image, label):
        if path is not None and not path.exists():
            raise DataError(f"Case {pair.case}: there is no file {path}.", "Check its path in data.pairs.")
    return CaseRef(pair.case, (image,), label, pair.patient or pair.case, pair.role)
