"""A case before any training: image and label as training will see them, the verdict on their geometry, volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from segexplorer.core.label_scheme import IGNORED
from segexplorer.data.case import IGNORE, Case, ClassMap, OtherLabels
from segexplorer.data.grid import aligned
from segexplorer.viewmodels.layer_images import (
    Examination,
    Picture,
    examine,
    fullest_slice,
    image_picture,
    label_picture,
    offered_classes,
    picture_of,
    whole,
)

IMAGE, LABEL = "preview/image", "preview/label"
"""Keys of the layers of a preview."""


@dataclass(frozen=True)
class CasePreview:
    """One case, ready to be shown.

    Attributes
    ----------
    case
        Its id.
    pictures
        Image, and label where there is one.
    examination
        What its geometry and its label are like; None without a label.
    classes
        Class name -> label values, in the order of their colours.
    facts
        Size, spacing, orientation and modality in words.
    unit
        Of the intensities; "" where it is not known.
    """

    case: str
    pictures: tuple[Picture, ...]
    examination: Examination | None
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    facts: str = ""
    unit: str = ""

    def at(self, place: Sequence[float]) -> str:
        """Return the intensity and the class at (z, y, x) in mm; "" outside the image."""
        said = []
        for picture in self.pictures:
            steps = (np.asarray(place, float) - picture.translate) / picture.scale
            index = tuple(int(i) for i in np.rint(steps))
            if any(not 0 <= i < n for i, n in zip(index, picture.data.shape, strict=True)):
                continue
            value = picture.data[index]
            if picture.kind == "image":
                said.append(f"{float(value):.4g} {self.unit}".strip())
            else:
                said.append(picture.values.get(int(value), f"label {value}") if value else "no class")
        return ", ".join(said)

    @property
    def verdict(self) -> str:
        """The verdict on image and label, with what to do where something is wrong."""
        if self.examination is None:
            return "no label: this case can only be predicted"
        return f"{self.examination.verdict} {self.examination.remedy}".strip()


def preview_case(
    case: Case,
    classes: Mapping[str, tuple[int, ...]],
    other_labels: OtherLabels = "background",
    examination: Examination | None = None,
    *,
    overlapping: bool = False,
) -> CasePreview:
    """Prepare a case; slow, for a worker.

    Parameters
    ----------
    classes
        Class name -> label values; without any, those that the label offers.
    other_labels
        What label values of no class become.
    examination
        Where the pair was examined already.

    Raises
    ------
    DataError
        When image or label cannot be read.
    """
    image = case.images[0]
    size = " × ".join(map(str, image.shape))
    spacing = " × ".join(f"{s:.3g}" for s in image.spacing)
    facts = f"{size} voxels of {spacing} mm, {image.orientation}, {image.modality}"
    unit = "HU" if image.modality == "CT" else ""
    shown = image_picture(image, f"image ({case.id})", key=IMAGE)
    if case.label is None:
        return CasePreview(case.id, (shown,), None, dict(classes), facts, unit)
    seen = examination if examination is not None else examine(image, case.label)
    if seen.volumes_ml is None:  # no label that could be drawn; the verdict says why
        return CasePreview(case.id, (shown,), seen, dict(classes), facts, unit)
    offered = dict(classes) or offered_classes(seen.volumes_ml, {})
    label = aligned(case.label, image, label=True)
    name = f"label ({case.id})"
    if not 0 < len(offered) < IGNORED:
        return CasePreview(
            case.id,
            (shown, replace(label_picture(label, name, key=LABEL), editable=False)),
            seen,
            {},
            facts,
            unit,
        )
    # the classes themselves: the same colours as in the table, merged values alike, as training has them
    mapping = ClassMap.from_classes(offered, other_labels, overlapping=overlapping)
    codes = mapping.scheme.topmost(mapping.encode(whole(label).array)).copy()
    codes[codes == IGNORED] = 0
    names = dict(enumerate((n for n in offered if n != IGNORE), 1))
    drawn = picture_of(LABEL, "labels", name, label.with_array(codes), values=names, colours="classes")
    drawn = replace(drawn, open_at=fullest_slice(drawn.data, list(names)))
    return CasePreview(case.id, (shown, drawn), seen, offered, facts, unit)
