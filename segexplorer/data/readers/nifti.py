"""Reading NIfTI: plain, gzipped, NIfTI-2, two-file; the header is checked before any voxel is allocated."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.readers.frames import choose_frame
from segexplorer.data.readers.nifti_extensions import check_extensions
from segexplorer.data.readers.nifti_geometry import geometry_facts, world_affine
from segexplorer.data.readers.stored import Frame, Stored
from segexplorer.data.readers.stored import as_labels as as_labels
from segexplorer.data.volume import Provenance, Select, Volume

_BROKEN = (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, OverflowError)


def read_nifti(path: Path, *, label: bool = False, select: Select = None) -> Volume:
    """Read a NIfTI header and return a lazy volume.

    Parameters
    ----------
    label
        Whether the voxels must be whole numbers and become integers.
    select
        Which frame of a file with more than three axes; see `frames.choose_frame`.

    Raises
    ------
    DataError
        For anything but one 3D volume with a usable geometry: what is wrong and what to do.
    """
    image = _open(path)
    shape, frame = _one_volume(image.shape, select, path.name)
    if image.header.get_data_dtype().kind not in "iuf":
        raise DataError(
            f"{path.name} holds colours or complex numbers, not one number per voxel.",
            "Convert it to a plain intensity image first.",
        )
    stored = _stored(image, path, (*shape, *image.shape[3:]))
    stored.check()
    slope, inter = (float(number) for number in (image.dataobj.slope, image.dataobj.inter))
    plain = (slope, inter) == (1.0, 0.0)
    voxels: Any = Frame(stored, (None, None, None, *frame), label and plain)
    if not plain:
        voxels = _Scaled(voxels, slope, inter, label)
    affine, notes = world_affine(image, shape, path.name)
    if len(image.shape) == 2:
        notes = ("It is a single slice; its thickness may be made up.", *notes)
    nifti2 = isinstance(image, (nib.Nifti2Image, nib.Nifti2Pair))
    provenance = Provenance(
        path,
        "NIfTI-2" if nifti2 else "NIfTI-1",
        notes,
        {**geometry_facts(image.header), "nifti2": nifti2},
    )
    return Volume(shape, affine, load=voxels, modality="unknown" if label else None, provenance=provenance)


def _open(path: Path) -> Any:
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path.name} is empty.", "Copy or download it again.")
        image = _load(path)
    except DataError:
        raise
    except _BROKEN as error:
        raise DataError(
            f"{path.name} is not a readable NIfTI file ({_reason(error)}).",
            "Check that it is an image and was copied whole.",
        ) from error
    if not isinstance(image, nib.Nifti1Pair):
        raise DataError(
            f"{path.name} is an Analyze image, which does not say left from right.",
            "Convert it to NIfTI with a known orientation.",
        )
    return image


def _load(path: Path) -> Any:
    check_extensions(path)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # nibabel warns of odd extensions, which are not read; a form that is not finite is refused later
        warnings.simplefilter("ignore", UserWarning)
        return nib.load(path)


def _reason(error: BaseException) -> str:
    """Return why a file could not be read, without its path, which may hold a name."""
    if isinstance(error, FileNotFoundError):
        return "a part of it is missing; .hdr and .img belong together"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, EOFError):
        return "it ends too early"
    if str(error).startswith("w2 should be positive"):  # nibabel's words for a quaternion longer than one
        return "the rotation in its qform is broken"
    lines = str(error).splitlines()
    if not lines or "/" in lines[0] or "\\" in lines[0]:
        return "its header is not that of an image"
    return lines[0].strip(" .")


def _one_volume(
    shape: Sequence[int], select: Select, name: str
) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Return the three axes of space and the index of the chosen frame; refuse what is not a volume."""
    axes = [int(n) for n in shape]
    size = " × ".join(str(n) for n in axes)
    if axes and min(axes) < 1:
        raise DataError(f"{name} has no voxels ({size}).", "Export it again.")
    space, extra = axes[:3], axes[3:]
    if len(space) == 2:
        space.append(1)
    if len(space) < 3 or (space.count(1) >= 2 and not any(n > 1 for n in extra)):
        raise DataError(
            f"{name} is {sum(n > 1 for n in space)}D ({size}); a volume or a slice is needed.",
            "Stack the slices of the series into one volume first.",
        )
    chosen = choose_frame(extra, select, f"{name} ({size})" if extra else name)
    return (space[0], space[1], space[2]), chosen


def _stored(image: Any, path: Path, shape: Sequence[int]) -> Stored:
    """Return where the voxels lie; checked against a limit and against the file."""
    data = Path(image.file_map["image"].filename)
    offset, packed = int(image.dataobj.offset), data.name.lower().endswith(".gz")
    return Stored(
        data,
        path.name,
        0 if packed else offset,
        "deflate" if packed else "raw",
        image.header.get_data_dtype().str,
        tuple(int(n) for n in shape),
        inner=offset if packed else 0,
        followed=True,
    )


@dataclass(frozen=True)
class _Scaled:
    """Reads voxels scaled as the header says; picklable, so that a lazy volume is too."""

    frame: Frame
    slope: float
    inter: float
    label: bool

    def __call__(self) -> NDArray[Any]:
        raw = self.frame()
        # float32 holds 16-bit integers exactly
        wide = raw.dtype.itemsize >= (4 if raw.dtype.kind in "iu" else 8)
        array = np.empty(raw.shape, np.float64 if wide else np.float32, order="F")
        with np.errstate(over="ignore", invalid="ignore"):  # infinite voxels are told of later
            for k in range(raw.shape[2]):
                array[..., k] = raw[..., k].astype(np.float64) * self.slope + self.inter
        return as_labels(array, self.frame.stored.name) if self.label else array
