"""Reading NIfTI: plain, gzipped, NIfTI-2, two-file; the header is checked before any voxel is allocated."""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.readers.frames import choose_frame
from segexplorer.data.readers.nifti_extensions import check_extensions
from segexplorer.data.readers.nifti_geometry import geometry_facts, world_affine
from segexplorer.data.readers.stored import MAX_BYTES, MAX_RATIO
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
    _check_size(image, path)
    if image.header.get_data_dtype().kind not in "iuf":
        raise DataError(
            f"{path.name} holds colours or complex numbers, not one number per voxel.",
            "Convert it to a plain intensity image first.",
        )
    affine, notes = world_affine(image, shape, path.name)
    nifti2 = isinstance(image, (nib.Nifti2Image, nib.Nifti2Pair))
    provenance = Provenance(
        path,
        "NIfTI-2" if nifti2 else "NIfTI-1",
        notes,
        {**geometry_facts(image.header), "nifti2": nifti2},
    )
    voxels = _Voxels(path, shape, frame, label)
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
    with warnings.catch_warnings():
        # nibabel warns of odd extensions, which are not read
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


def _one_volume(shape: Sequence[int], select: Select, name: str) -> tuple[tuple[int, int, int], int]:
    """Return the three axes of space and the number of the chosen frame; refuse what is not a volume."""
    axes = [int(n) for n in shape]
    size = " × ".join(str(n) for n in axes)
    if axes and min(axes) < 1:
        raise DataError(f"{name} has no voxels ({size}).", "Export it again.")
    space, extra = axes[:3], axes[3:]
    if len(space) < 3 or (space.count(1) >= 2 and not any(n > 1 for n in extra)):
        raise DataError(
            f"{name} is {sum(n > 1 for n in space)}D ({size}); a 3D volume is needed.",
            "Stack the slices of the series into one volume first.",
        )
    chosen = choose_frame(extra, select, f"{name} ({size})" if extra else name)
    frame = int(np.ravel_multi_index(chosen, extra, order="F")) if extra else 0
    return (space[0], space[1], space[2]), frame


def _check_size(image: Any, path: Path) -> None:
    """Compare what the header claims with a limit and with the file, before anything is allocated."""
    claimed = math.prod(int(n) for n in image.shape) * image.header.get_data_dtype().itemsize
    data = Path(image.file_map["image"].filename)
    if not data.exists():
        raise DataError(
            f"The data file {data.name} of {path.name} is missing.", "Keep .hdr and .img together."
        )
    size = data.stat().st_size
    packed = _packed(data)
    held = size * MAX_RATIO if packed else max(0, size - int(image.dataobj.offset))
    if claimed > held:
        most = f"at most {held:,}" if packed else f"{held:,}"
        raise DataError(
            f"{path.name} is cut off: its header promises {claimed:,} bytes of voxels, the file holds {most}.",
            "Copy or download it again.",
        )
    if claimed > MAX_BYTES:
        raise DataError(
            f"{path.name} holds {claimed / 2**30:.0f} GiB of voxels; the limit is {MAX_BYTES / 2**30:.0f} GiB.",
            "Crop or resample it first.",
        )


@dataclass(frozen=True)
class _Voxels:
    """Reads the voxels of one file; picklable, so that a lazy volume is too."""

    path: Path
    shape: tuple[int, int, int]
    frame: int
    label: bool

    def __call__(self) -> NDArray[Any]:
        try:
            array = _read_voxels(_load(self.path), self.shape, self.frame)
        except MemoryError as error:
            raise DataError(
                f"{self.path.name} does not fit into memory.", "Crop or resample it first."
            ) from error
        except _BROKEN as error:
            raise DataError(
                f"{self.path.name} is cut off or damaged ({_reason(error)}).", "Copy or download it again."
            ) from error
        return as_labels(array, self.path.name) if self.label else array


def _read_voxels(image: Any, shape: tuple[int, int, int], frame: int) -> NDArray[Any]:
    """Return one frame in native byte order, scaled where the header says so, else in its stored type."""
    known = image.dataobj
    # voxels are stored with the first axis fastest, so that a frame is one piece
    start = known.offset + frame * math.prod(shape) * known.dtype.itemsize
    path = Path(image.file_map["image"].filename)
    array: NDArray[Any]
    with gzip.open(path) if _packed(path) else path.open("rb") as file:
        proxy = ArrayProxy(file, (shape, known.dtype, start, known.slope, known.inter), mmap=False)
        if (proxy.slope, proxy.inter) == (1.0, 0.0):
            array = proxy.get_unscaled()
        else:
            # float32 holds 16-bit integers exactly
            wide = proxy.dtype.kind in "iu" and proxy.dtype.itemsize >= 4
            with np.errstate(over="ignore", invalid="ignore"):  # infinite voxels are told of later
                array = np.asarray(proxy, dtype=np.float64 if wide else np.float32)
        if _packed(path):
            # gzip keeps its checksum at the end: read on, or damaged bytes would pass for voxels
            while file.read(2**20):
                pass
    return np.asarray(array, dtype=array.dtype.newbyteorder("="))


def _packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")
