"""What cropping would cut off the labels, told before training does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.progress import track

from segexplorer.core.errors import DataError
from segexplorer.faces.cli.output import remarks

if TYPE_CHECKING:
    from segexplorer.data.case import CaseRef, ClassMap
    from segexplorer.data.checks import Problem
    from segexplorer.data.transforms import Cropping


def check_cropping(cases: Sequence[CaseRef], crop: Cropping, classes: ClassMap) -> list[Problem]:
    """Return a warning for every case whose label sticks out of what its image is cropped to.

    Cases that cannot be read, or whose label lies on another grid, are passed over: the table of cases tells that.
    """
    from segexplorer.data.checks import check_grids
    from segexplorer.data.transforms.cropping import cut_off

    out = remarks()
    problems = []
    for ref in track(
        cases, "looking at what is cropped", console=out, transient=True, disable=not out.is_terminal
    ):
        try:
            case = ref.open()
            fits = not any(problem.severity == "error" for problem in check_grids(case))
            found = cut_off(case, crop, classes) if fits else None
        except DataError:
            continue
        if found is not None:
            problems.append(found)
    return problems
