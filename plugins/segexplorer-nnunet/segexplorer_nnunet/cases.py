"""A case of nnU-Net's preprocessed data set: its files, its classes, and predictions on the grid of its label.

nnU-Net transposes the axes of an image, crops it to what is not zero, and resamples it. Logits go the same way
back, with its own functions, as its export of predictions does; so what is recorded is what nnU-Net would write.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nnunetv2.paths import nnUNet_raw
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from numpy.typing import NDArray

from segexplorer import open_volume
from segexplorer.core.errors import SegExplorerError
from segexplorer.data.volume import Volume

OUTSIDE = 20.0
"""Logit of the background, and minus that of other classes, where nnU-Net cropped the image away."""
FILE_ORDER = ("SimpleITKIO", "NibabelIO")
"""nnU-Net's readers that keep the order of a file's axes; with these, files stay where they are."""


def classes_of(label_manager: Any) -> dict[str, int | tuple[int, ...]]:
    """Return the classes, or regions, as a recorder takes them, in the order of the channels; and "ignore"."""
    ignored = {} if label_manager.ignore_label is None else {"ignore": int(label_manager.ignore_label)}
    found: dict[str, int | tuple[int, ...]] = {}
    for name, value in label_manager.label_dict.items():
        values = tuple(map(int, value)) if isinstance(value, (list, tuple)) else (int(value),)
        if name != "ignore" and values != (0,):
            found[str(name)] = values
    return found | ignored


def on_own_grid(
    logits: Any,
    properties: dict[str, Any],
    plans_manager: Any,
    configuration_manager: Any,
    *,
    regions: bool = False,
) -> NDArray[np.float32]:
    """Return logits on the case's own grid.

    Parameters
    ----------
    logits
        (C, *spatial) on nnU-Net's training grid.
    properties
        Of the preprocessed case.
    regions
        Whether there is no channel of the background.

    Returns
    -------
    NDArray
        (C, x, y, z) float32: the axes in the reader's order, reversed; background where the image was cropped.
    """
    spacing = [properties["spacing"][axis] for axis in plans_manager.transpose_forward]
    cropped = properties["shape_after_cropping_and_before_resampling"]
    current = configuration_manager.spacing
    if len(current) != len(cropped):  # 2D: the slices keep their distance
        current = [spacing[0], *current]
    resampled = configuration_manager.resampling_fn_probabilities(logits, cropped, current, spacing)
    whole = np.full((len(resampled), *properties["shape_before_cropping"]), -OUTSIDE, np.float32)
    if not regions:
        whole[0] = OUTSIDE
    whole = insert_crop_into_image(
        whole, np.asarray(resampled, np.float32), properties["bbox_used_for_cropping"]
    )
    back = whole.transpose([0, *(axis + 1 for axis in plans_manager.transpose_backward)])
    return np.ascontiguousarray(back.transpose(0, 3, 2, 1))


class CaseFiles:
    """Finds image and label of a case, as they were before preprocessing.

    Parameters
    ----------
    preprocessed
        The data set's folder in `nnUNet_preprocessed`, which has a copy of the labels.
    dataset
        Its name.
    dataset_json
        Its description.
    plans_manager
        Its plans.
    """

    def __init__(
        self, preprocessed: Path, dataset: str, dataset_json: dict[str, Any], plans_manager: Any
    ) -> None:
        self._labels = preprocessed / "gt_segmentations"
        self._ending = dataset_json["file_ending"]
        self._reader = plans_manager.image_reader_writer_class()
        self._images: dict[str, Any] = {}
        if nnUNet_raw.is_set() and (raw := Path(nnUNet_raw) / dataset).is_dir():
            self._images = get_filenames_of_train_images_and_targets(str(raw), dataset_json)

    def of(self, case: str) -> dict[str, Any]:
        """Return `image`, `label` (files, or volumes as nnU-Net reads them) for `Recorder.watch`."""
        label = self._labels / f"{case}{self._ending}"
        images = list(self._images.get(case, {}).get("images", []))
        if type(self._reader).__name__ in FILE_ORDER:
            return {"label": label, "image": _fitting(images, label)}
        found = self._volume(self._reader.read_seg(str(label)))
        image = self._volume(self._reader.read_images(images)) if images else None
        if image is not None and image.shape != found.shape:
            image = None
        return {"label": found, "image": image}

    def _volume(self, read: tuple[NDArray[Any], dict[str, Any]]) -> Volume:
        """Return the first channel of what nnU-Net read, with the axes reversed."""
        voxels, properties = read
        return Volume.from_array(np.ascontiguousarray(voxels[0].T), affine=affine_of(properties))


def affine_of(properties: dict[str, Any]) -> NDArray[np.float64]:
    """Return the (4, 4) voxel -> RAS mm of an image that nnU-Net read, its axes reversed: x, y, z."""
    if "nibabel_stuff" in properties:
        known = properties["nibabel_stuff"]
        return np.asarray(known.get("reoriented_affine", known["original_affine"]), np.float64)
    affine = np.eye(4)
    if "sitk_stuff" in properties and len(properties["sitk_stuff"]["spacing"]) == 3:
        known = properties["sitk_stuff"]
        affine[:3, :3] = np.reshape(known["direction"], (3, 3)) * np.asarray(known["spacing"])
        affine[:3, 3] = known["origin"]
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK counts towards left and back
    spacing = [abs(float(s)) for s in properties["spacing"]][::-1]
    if len(spacing) == 3 and spacing[2] == 999 * max(spacing[:2]):
        spacing[2] = 1.0  # a picture: nnU-Net's mark for an axis without neighbours
    affine[:3, :3] = np.diag(spacing)
    return affine


def _fitting(images: list[str], label: Path) -> Path | None:
    """Return the first image, if it can be opened and has the label's shape; errors are shown without one."""
    if not images:
        return None
    try:
        same = open_volume(images[0]).shape == open_volume(label, label=True).shape
    except SegExplorerError:
        return None
    return Path(images[0]) if same else None
