"""ACDC, cine MR of the heart (Bernard 2018): end diastole and end systole of each patient, named by Info.cfg."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.checks import Problem
from segexplorer.data.datasets.base import DatasetSpec, Listing, Recognition, existing_folder, registry
from segexplorer.data.datasets.finding import put_together, reach, volumes_named

_FRAME = r"(?P<patient>patient\d{3})_frame(?P<frame>\d{2})(?P<truth>_gt)?"
_DEPTH = 3


@registry.register
class Acdc(DatasetSpec):
    """`patient001/patient001_frame01` with `_gt`, and Info.cfg that says which frame is ED and which ES.

    The two frames of a patient are two cases that never fall on both sides of a split. Patients in a folder
    `testing` test.
    """

    display_name = "ACDC"
    layout: ClassVar[str] = (
        "training/patient001/Info.cfg\ntraining/patient001/patient001_frame01.nii.gz\n"
        "training/patient001/patient001_frame01_gt.nii.gz\ntesting/patient101/patient101_frame01.nii.gz"
    )
    kind: Literal["acdc"] = "acdc"
    root: str = parameter(
        title="Folder", meaning="The folder of the patients, or the one above.", path="folder"
    )
    phases: Literal["both", "ED", "ES"] = parameter(
        "both", title="Phases", meaning="End diastole, end systole, or both as cases of their own."
    )

    @classmethod
    def recognise(cls, folder: Path) -> Recognition | None:
        """Recognise patient001_frame01_gt."""
        depth = reach(folder, "training", "testing")
        match = next((m for m, _ in volumes_named(folder, _FRAME, depth) if m["truth"]), None)
        return match and Recognition("acdc", folder, f"files like {match[0]}")

    def listing(self) -> Listing:
        """Return a case for each phase, named patient001_ED and patient001_ES."""
        root = existing_folder(self.root)
        images: dict[str, tuple[Source, ...]] = {}
        labels: dict[str, Source] = {}
        testing: set[str] = set()
        problems: list[Problem] = []
        for match, path in volumes_named(root, _FRAME, _DEPTH):
            phase = phases(path.parent).get(int(match["frame"]))
            case = f"{match['patient']}_{phase or 'frame' + match['frame']}"
            if phase is None and not match["truth"]:
                text = "Info.cfg does not say whether this frame is end diastole (ED) or end systole (ES)."
                problems.append(Problem("warning", "no_phase", text, "Add Info.cfg to its folder.", case))
            if self.phases not in ("both", phase):
                continue
            if match["truth"]:
                labels[case] = path
            else:
                images[case] = (path,)
            if path.parent.parent.name.lower() in ("testing", "test"):
                testing.add(case)
        found = put_together(images, labels, root, lambda case: case.split("_")[0])
        cases = [replace(ref, role="test") if ref.id in testing else ref for ref in found.cases]
        return Listing(cases, [*found.problems, *problems])

    def named_values(self) -> dict[str, tuple[int, ...]]:
        """Return both ventricles and the muscle between."""
        return {"right ventricle": (1,), "myocardium": (2,), "left ventricle": (3,)}


def phases(folder: Path) -> dict[int, str]:
    """Return frame -> "ED" or "ES" as a patient's Info.cfg says; empty without one."""
    path = folder / "Info.cfg"
    if not path.is_file():
        return {}
    said = re.findall(r"^\s*(ED|ES)\s*:\s*(\d+)\s*$", path.read_text(errors="replace"), re.MULTILINE)
    return {int(number): phase for phase, number in said}
