"""NIfTI: plain, gzipped, NIfTI-2, two-file; the header is checked before any voxel is allocated."""

from __future__ import annotations

import contextlib
import errno
import gzip
import math
import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.volume import Modality, Provenance, Volume

MAX_BYTES = 16 * 2**30
"""Largest volume that is read, as stored."""
MAX_GZIP_RATIO = 1032
"""Deflate cannot do better than this; a header that claims more lies."""
TO_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_BROKEN = (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, OverflowError)


def read_nifti(path: Path, *, label: bool = False) -> Volume:
    """Read a NIfTI header and return a lazy volume.

    Parameters
    ----------
    label
        Whether the voxels must be whole numbers and become integers.

    Raises
    ------
    DataError
        For anything but one 3D volume with a usable geometry: what is wrong and what to do.
    """
    image = _open(path)
    shape = _three_axes(image.shape, path)
    _check_size(image, path)
    if image.header.get_data_dtype().kind not in "iuf":
        raise DataError(
            f"{path.name} holds colours or complex numbers, not one number per voxel.",
            "Convert it to a plain intensity image first.",
        )
    affine, notes = _affine(image, path)
    reader = _Voxels(path, shape, label)
    modality, guess = _guess_modality(image, label)
    header = image.header
    facts = {
        "sform_code": int(header["sform_code"]),
        "qform_code": int(header["qform_code"]),
        "units": header.get_xyzt_units()[0],
        "nifti2": isinstance(image, (nib.Nifti2Image, nib.Nifti2Pair)),
    }
    name = "NIfTI-2" if facts["nifti2"] else "NIfTI-1"
    provenance = Provenance(path, name, (*notes, *guess), facts)
    return Volume(shape, affine, load=reader, modality=modality, provenance=provenance)


def _open(path: Path) -> Any:
    if path.stat().st_size == 0:
        raise DataError(f"{path.name} is empty.", "Copy or download it again.")
    try:
        image: Any = nib.load(path)
    except _BROKEN as error:
        raise DataError(
            f"{path.name} is not a readable NIfTI file ({_first_line(error)}).",
            "Check that it is an image and was copied whole.",
        ) from error
    if not isinstance(image, nib.Nifti1Pair):
        raise DataError(
            f"{path.name} is an Analyze image, which does not say left from right.",
            "Convert it to NIfTI with a known orientation.",
        )
    return image


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    # nibabel repeats the whole path, which may hold a name
    text = lines[0].split('"')[-1].strip(" :'") if lines else ""
    return text or "its header is not that of an image"


def _three_axes(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    kept = list(shape)
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    if len(kept) < 3 or (len(kept) == 3 and 1 in kept and sorted(kept)[0:2] == [1, 1]):
        raise DataError(
            f"{path.name} is {len([n for n in kept if n > 1])}D (shape {tuple(shape)}); a 3D volume is needed.",
            "Stack the slices into one volume first.",
        )
    if len(kept) > 3:
        raise DataError(
            f"{path.name} has {len(kept)} axes (shape {tuple(shape)}); a single 3D volume is needed.",
            "Split it and choose one frame, e.g. nibabel.funcs.four_to_three.",
        )
    if min(kept) < 1:
        raise DataError(f"{path.name} has no voxels (shape {tuple(shape)}).", "Export it again.")
    return kept[0], kept[1], kept[2]


def _check_size(image: Any, path: Path) -> None:
    """Compare what the header claims with a limit and with the file, before anything is allocated."""
    claimed = math.prod(int(n) for n in image.shape) * image.header.get_data_dtype().itemsize
    if claimed > MAX_BYTES:
        raise DataError(
            f"{path.name} claims {claimed / 2**30:.0f} GiB of voxels; the limit is {MAX_BYTES / 2**30:.0f} GiB.",
            "If that is true, crop or resample it first; otherwise the file is broken.",
        )
    data = Path(image.file_map["image"].filename)
    if not data.exists():
        raise DataError(f"The data file {data.name} of {path.name} is missing.", "Keep .hdr and .img together.")
    size = data.stat().st_size
    offset = int(image.dataobj.offset)
    held = size * MAX_GZIP_RATIO if data.name.lower().endswith((".gz", ".bz2", ".zst")) else size - offset
    if claimed > held:
        raise DataError(
            f"{path.name} is cut off: its header promises {claimed} bytes of voxels, the file cannot hold them.",
            "Copy or download it again.",
        )


def _affine(image: Any, path: Path) -> tuple[NDArray[np.float64], list[str]]:
    header, notes = image.header, []
    affine = np.array(image.affine, dtype=np.float64)
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform == 0 and qform == 0:
        notes.append("The file says nothing of orientation; axes were assumed as nibabel does (LAS, centred).")
    elif sform > 0 and qform > 0:
        apart = _forms_apart(image)
        if apart > geometry.TOLERANCE_MM:
            notes.append(f"sform and qform disagree by up to {apart:.3g} mm; the sform was used.")
    unit = header.get_xyzt_units()[0]
    factor = TO_MM.get(unit, 1.0)
    if factor != 1.0:
        affine[:3] *= factor
        notes.append(f"Positions are stored in {unit}s and were converted to mm.")
    if sform > 0 and geometry.is_singular(header.get_sform()):
        raise DataError(
            f"The sform of {path.name} is singular: it puts different voxels at one place.",
            "Correct its header, e.g. copy the geometry from the original image.",
        )
    if geometry.is_singular(affine):
        raise DataError(f"{path.name} has no usable geometry (a zero or non-finite voxel size).", "Export it again.")
    if geometry.is_sheared(affine):
        notes.append("The axes are not at right angles (gantry tilt or shear); world positions are exact.")
    angle = geometry.obliqueness(affine)
    if angle > 0.5:
        notes.append(f"The slices are {angle:.0f} degrees oblique; they are shown along the closest axes.")
    return affine, notes


def _forms_apart(image: Any) -> float:
    try:
        qform = image.header.get_qform()
    except HeaderDataError:
        return math.inf
    shape = (*image.shape[:3], 1, 1, 1)[:3]
    verdict = geometry.compare(geometry.Grid(shape, image.header.get_sform()), geometry.Grid(shape, qform))
    return verdict.distance_mm


def _guess_modality(image: Any, label: bool) -> tuple[Modality, list[str]]:
    """Guess from the stored type and scaling alone; voxels are looked at later, where they are read anyway."""
    if label:
        return "unknown", []
    intercept = image.dataobj.inter if hasattr(image.dataobj, "inter") else 0.0
    kind = image.header.get_data_dtype()
    if intercept in (-1024.0, -1000.0):
        return "CT", []
    return ("unknown", []) if kind.kind in "if" else ("MR", [])


@dataclass(frozen=True)
class _Voxels:
    """Reads the voxels of one file; picklable, so that a lazy volume is too."""

    path: Path
    shape: tuple[int, int, int]
    label: bool

    def __call__(self) -> NDArray[Any]:
        try:
            image: Any = nib.load(self.path)
            proxy = image.dataobj
            scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
            array = np.asarray(proxy).reshape(self.shape)
            if scaled:  # nibabel scales in float64; nothing in a scanner's 16 bits needs more than float32
                array = array.astype(np.float32)
        except MemoryError as error:
            raise DataError(f"{self.path.name} does not fit into memory.", "Crop or resample it first.") from error
        except _BROKEN as error:
            raise DataError(
                f"{self.path.name} is cut off or damaged ({_first_line(error)}).", "Copy or download it again."
            ) from error
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        return as_labels(array, self.path.name) if self.label else array


def as_labels(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return label voxels as integers.

    Raises
    ------
    DataError
        When a value is no whole number, or too large for a label.
    """
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    rounded = np.rint(array)
    if not np.isfinite(array).all() or np.abs(array - rounded).max(initial=0) > 1e-3:
        raise DataError(
            f"{name} holds values that are no whole numbers, so it is not a label.",
            "Was the image chosen as its label? Probability maps need a threshold first.",
        )
    if rounded.size and (rounded.max() > 2**31 - 1 or rounded.min() < -(2**31)):
        raise DataError(f"{name} holds label values beyond 2 billion.", "Renumber its labels.")
    return rounded.astype(np.int32)


def write_nifti(volume: Volume, path: Path, *, integer: bool = False) -> Path:
    """Write a volume as NIfTI, with its affine, form codes and units; whole or not there.

    Raises
    ------
    DataError
        When the folder is missing, full or may not be written; what was there before stays.
    """
    facts = volume.provenance.header
    array = _smallest(volume.array) if integer else _storable(volume.array)
    make = nib.Nifti2Image if facts.get("nifti2") or max(volume.shape) > 32767 else nib.Nifti1Image
    unit = facts.get("units", "mm")
    affine = np.array(volume.affine)
    affine[:3] /= TO_MM.get(unit, 1.0)
    image = make(array, affine)
    image.header.set_xyzt_units(unit if unit in TO_MM else "mm")
    codes = facts.get("sform_code", 1), facts.get("qform_code", 0 if geometry.is_sheared(affine) else 1)
    sform, qform = codes if any(codes) else (1, 1)
    image.set_qform(affine, qform)
    image.set_sform(affine, sform if sform or geometry.is_sheared(affine) else 0)
    _write_whole(image, path)
    return path


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for kind in (np.uint8, np.int16, np.uint16, np.int32):
        info = np.iinfo(kind)
        if info.min <= low and high <= info.max:
            return array.astype(kind)
    raise DataError(f"Label values from {low} to {high} do not fit a NIfTI label.", "Renumber the labels.")


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype == bool:
        return array.astype(np.uint8)
    return array


def _write_whole(image: Any, path: Path) -> None:
    if not path.parent.is_dir():
        raise DataError(f"There is no folder {path.parent}.", "Create it, or choose another one.")
    suffix = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
    if not path.name.lower().endswith(suffix):
        raise DataError(f"{path.name}: volumes are written as .nii or .nii.gz.", "Use one of these suffixes.")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as file:
                content = image.to_bytes()
                file.write(gzip.compress(content, 6, mtime=0) if suffix == ".nii.gz" else content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)  # noqa: PTH101  mkstemp makes private files
            os.replace(name, path)  # noqa: PTH105
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        why = "there is no space left" if full else f"the folder cannot be written ({error.strerror})"
        raise DataError(f"{path.name} was not written: {why}.", "Choose another folder; nothing was lost.") from error
