"""A case before any training: image and label as training will see them, the verdict on their geometry, volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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
    """

    case: str
    pictures: tuple[Picture, ...]
    examination: Examination | None
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    facts: str = ""

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
    shown = image_picture(image, f"image ({case.id})", key=IMAGE)
    if case.label is None:
        return CasePreview(case.id, (shown,), None, dict(classes), facts)
    seen = examination if examination is not None else examine(image, case.label)
    if seen.volumes_ml is None:  # no label that could be drawn; the verdict says why
        return CasePreview(case.id, (shown,), seen, dict(classes), facts)
    offered = dict(classes) or offered_classes(seen.volumes_ml, {})
    label = aligned(case.label, image, label=True)
    name = f"label ({case.id})"
    if not 0 < len(offered) < IGNORED:
        return CasePreview(
            case.id, (shown, replace(label_picture(label, name, key=LABEL), editable=False)), seen, {}, facts
        )
    # the classes themselves: the same colours as in the table, merged values alike, as training has them
    mapping = ClassMap.from_classes(offered, other_labels, overlapping=overlapping)
    codes = mapping.scheme.topmost(mapping.encode(whole(label).array)).copy()
    codes[codes == IGNORED] = 0
    names = dict(enumerate((n for n in offered if n != IGNORE), 1))
    drawn = picture_of(LABEL, "labels", name, label.with_array(codes), values=names, colours="classes")
    drawn = replace(drawn, open_at=fullest_slice(drawn.data, list(names)))
    return CasePreview(case.id, (shown, drawn), seen, offered, facts)
