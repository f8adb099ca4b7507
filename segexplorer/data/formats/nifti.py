"""NIfTI, read and written: plain, gzipped, NIfTI-2, one file or two.

Reading checks the header before any voxel is allocated, states which of the two geometries of the header was
used and what was assumed, and guards the extensions between header and voxels: nibabel reserves whatever
length an extension claims, so that length is compared with the file first. Writing keeps the geometry to the
last bit, copies no text of the input, and leaves a file that is whole or not there.

Definition: nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields/nifti1fields_pages/extension.html.
"""

from __future__ import annotations

import gzip
import itertools
import math
import re
import struct
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError
from segexplorer.data import geometry
from segexplorer.data.formats.registry import Format, formats
from segexplorer.data.formats.voxels import MAX_RATIO, Frame, RawArray, as_labels, choose_frame, to_store
from segexplorer.data.geometry import Affine, Grid
from segexplorer.data.grid import grid_notes
from segexplorer.data.volume import Provenance, Select, Volume

TO_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_NAMES = {"meter": "metres", "micron": "micrometres"}
_FIELDS = (
    "sform_code",
    "qform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
)


def world_affine(image: Any, shape: tuple[int, int, int], name: str) -> tuple[Affine, tuple[str, ...]]:
    """Return voxel index -> RAS mm of a nibabel image, and the notes of how it was found.

    The sform comes first, then the qform, as in nibabel; with neither, nibabel's centred LAS grid is assumed.

    Raises
    ------
    DataError
        When the form that counts is singular or not finite.
    """
    header = image.header
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform > 0 and geometry.is_singular(header.get_sform()):
        raise DataError(
            f"The sform of {name} is singular: it puts different voxels at one place.",
            "Correct its header, e.g. copy the geometry from the original image.",
        )
    affine = np.array(image.affine, dtype=np.float64)
    notes = _form_notes(header, shape, sform, qform)
    unit = _unit(header)
    if unit in _NAMES:
        affine[:3] *= TO_MM[unit]
        notes.append(f"Positions are stored in {_NAMES[unit]} and were converted to mm.")
    if geometry.is_singular(affine):
        remedy = "Export it again."
        raise DataError(f"{name} has no usable geometry (a zero or non-finite voxel size).", remedy)
    return affine, (*notes, *grid_notes(affine))


def _form_notes(header: Any, shape: tuple[int, int, int], sform: int, qform: int) -> list[str]:
    if not _has_form(header):
        return [
            "The file does not say where it is in space; left-anterior-superior axes (LAS) were assumed, centred."
        ]
    if sform <= 0 or qform <= 0:
        return []
    apart = _forms_apart(header, shape)
    if apart == 0:
        return []
    how_far = f"by up to {apart:.3g} mm" if math.isfinite(apart) else "(the qform is broken)"
    return [f"sform and qform disagree {how_far}; the sform was used."]


def _has_form(header: Any) -> bool:
    return int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0


def _forms_apart(header: Any, shape: tuple[int, int, int]) -> float:
    """Return how far the two forms are apart, mm; 0 for one grid, infinite where the qform is broken."""
    try:
        qform = header.get_qform()
    except (HeaderDataError, ValueError):
        return math.inf
    if geometry.is_singular(qform):
        return math.inf
    verdict = geometry.compare(Grid(shape, header.get_sform()), Grid(shape, qform))
    return 0.0 if verdict.same else verdict.distance_mm


def _unit(header: Any) -> str:
    """Return the unit of length by nibabel's name; "unknown" also for a code that the standard has not."""
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:
        return "unknown"


def geometry_facts(header: Any) -> dict[str, Any]:
    """Return the geometry of a header as plain values: forms, codes, voxel size, unit. No text fields."""
    facts: dict[str, Any] = {name: header[name].tolist() for name in _FIELDS}
    facts["pixdim"] = header["pixdim"][:4].tolist()
    facts["units"] = _unit(header)
    return facts


def write_geometry(
    header: Any, shape: tuple[int, ...], affine: NDArray[np.float64], facts: Mapping[str, Any]
) -> None:
    """Put shape and geometry into a new header: the facts of the file where they give this affine, else both forms.

    So a prediction covers its image in every program, also where those disagree about which form counts.
    """
    header.set_data_shape(shape)
    if "pixdim" in facts:
        for name in _FIELDS:
            header[name] = facts[name]
        header["pixdim"][:4] = facts["pixdim"]
        header.set_xyzt_units(facts["units"])
        as_written = np.array(header.get_best_affine())
        as_written[:3] *= TO_MM.get(facts["units"], 1.0)
        apart = geometry.compare(Grid(tuple(shape), as_written), Grid(tuple(shape), affine)).distance_mm
        if apart <= geometry.TOLERANCE_MM:
            return
    header.set_xyzt_units("mm")
    # a qform cannot hold a shear, so none is written then
    header.set_qform(affine, 0 if geometry.is_sheared(affine) else 1)
    header.set_sform(affine, 1)


_HEADER_SIZES = (348, 540)
_LEAST = 8
"""Bytes of an extension's own length and code."""


def check_extensions(path: Path) -> None:
    """Follow the extensions of a file from one to the next.

    Raises
    ------
    DataError
        When one claims to be longer than the file.
    OSError, EOFError, zlib.error
        When the file cannot be read.
    """
    packed = is_packed(path)
    held = path.stat().st_size * (MAX_RATIO if packed else 1)
    with gzip.open(path) if packed else path.open("rb") as opened:
        file: Any = opened
        start = file.read(4)
        order: Literal["little", "big"] = "little"
        size = int.from_bytes(start, order)
        if size not in _HEADER_SIZES:
            order = "big"
            size = int.from_bytes(start, order)
        if size not in _HEADER_SIZES:
            return  # no NIfTI; whoever reads the header says so
        header = start + file.read(size - 4)
        flags = file.read(4)
        if len(header) == size and flags[:1] not in (b"", b"\0"):
            _follow(file, order, size + 4, _voxels_begin(header, order), held, path.name)


def _voxels_begin(header: bytes, order: Literal["little", "big"]) -> float:
    """Return where the extensions end: where voxels begin, or with the file where those are in another."""
    sign = "<" if order == "little" else ">"
    if len(header) == _HEADER_SIZES[0]:
        magic, begin = header[344:348], struct.unpack_from(f"{sign}f", header, 108)[0]
    else:
        magic, begin = header[4:8], struct.unpack_from(f"{sign}q", header, 168)[0]
    return float(begin) if magic.startswith(b"n+") else math.inf


def _follow(
    file: IO[bytes],
    order: Literal["little", "big"],
    position: int,
    end: float,
    held: int,
    name: str,
) -> None:
    while position < end and len(begin := file.read(_LEAST)) == _LEAST:
        length = int.from_bytes(begin[:4], order, signed=True)
        if length < _LEAST:
            return
        if position + length > held:
            raise DataError(
                f"{name} is damaged: an extension of its header claims {length:,} bytes.",
                "Copy or download it again.",
            )
        if not file.seek(length - _LEAST, 1):
            return
        position += length


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
    if stored.encoding != ("deflate" if stored.path.name.lower().endswith(".gz") else "raw"):
        what = "compressed" if stored.encoding == "deflate" else "not compressed"
        notes = (*notes, f"It is {what}, against its suffix; it was read by its first bytes.")
    if label and not plain and not (slope.is_integer() and inter.is_integer()):
        text = f"Its values are stored in steps of {abs(slope):.3g} and were rounded to the nearest whole number."
        notes = (*notes, text)
    if len(image.shape) == 2:
        notes = ("It is a single slice; its thickness may be made up.", *notes)
    nifti2 = isinstance(image, (nib.Nifti2Image, nib.Nifti2Pair))
    facts = {**geometry_facts(image.header), "nifti2": nifti2, "place": _has_form(image.header)}
    if label and (names := _label_table(image.header.extensions)):
        facts["label_names"] = names
    provenance = Provenance(path, "NIfTI-2" if nifti2 else "NIfTI-1", notes, facts)
    return Volume(shape, affine, load=voxels, modality="unknown" if label else None, provenance=provenance)


_LABEL = re.compile(
    rb'<Label\b[^<>]{0,400}?\bKey="(\d{1,9})"[^<>]{0,400}>\s*(?:<!\[CDATA\[([^\]<>]{1,200})\]\]>|([^<>]{1,200}))'
)
_MOST_LABELS = 4096
_MOST_TABLE = 2**20
"""Bytes of an extension with names of labels; Caret's own hold other things, too."""


def _label_table(extensions: Any) -> dict[int, str]:
    """Return label value -> name of the table that TotalSegmentator and Caret write into an extension (XML).

    It is searched rather than parsed, since what a file of somebody else names may be made to unpack without end.
    """
    for extension in extensions:
        content = extension.get_content()
        if not isinstance(content, bytes) or len(content) > _MOST_TABLE or b"<LabelTable" not in content:
            continue
        found = list(itertools.islice(_LABEL.finditer(content), _MOST_LABELS))
        names = {int(m[1]): (m[2] or m[3]).decode("utf-8", "replace").strip() for m in found}
        return {value: name for value, name in names.items() if value and name}
    return {}


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
    name = path.name.lower()
    other = name.endswith((".nii", ".nii.gz")) and is_packed(path) != name.endswith(".gz")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # nibabel warns of odd extensions, which are not read; a form that is not finite is refused later
        warnings.simplefilter("ignore", UserWarning)
        return _load_by_first_bytes(path) if other else nib.load(path)


def is_packed(path: Path) -> bool:
    """Whether a file is compressed with gzip, by its first bytes: suffixes are wrong now and then.

    One that begins with neither gzip's mark nor a header is what its suffix says, and damaged.
    """
    named = path.name.lower().endswith(".gz")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:  # the second file of a pair may be missing, which reading it reports
        return named
    if start[:2] == b"\x1f\x8b":
        return True
    return named and not {_size(start, "<"), _size(start, ">")} & set(_HEADER_SIZES)


def _load_by_first_bytes(path: Path) -> Any:
    """Open a file whose suffix and compression disagree; nibabel goes by the suffix."""
    with gzip.open(path) if is_packed(path) else path.open("rb") as opened:
        size = opened.read(4)
        opened.seek(0)
        kind = (
            nib.Nifti2Image if _HEADER_SIZES[1] in (_size(size, "<"), _size(size, ">")) else nib.Nifti1Image
        )
        holder = FileHolder(filename=str(path), fileobj=opened)
        return kind.from_file_map({"image": holder, "header": holder})


def _beside(path: Path) -> tuple[Path, ...]:
    """Return the other file of a pair of header and voxels."""
    found = re.fullmatch(r"(.*)\.(hdr|img)(\.gz)?", path.name, re.IGNORECASE)
    if found is None:
        return ()
    stem, other = found[1], {"hdr": "img", "img": "hdr"}[found[2].lower()]
    other = other.upper() if found[2].isupper() else other
    named = (path.with_name(f"{stem}.{other}{packed}") for packed in ("", ".gz", ".GZ"))
    return tuple(file for file in named if file.is_file())


def _size(data: bytes, order: str) -> int:
    return int(struct.unpack(f"{order}i", data)[0]) if len(data) == 4 else 0


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


def _stored(image: Any, path: Path, shape: Sequence[int]) -> RawArray:
    """Return where the voxels are in the file; checked against a limit and against the file."""
    data = Path(image.file_map["image"].filename)
    offset, packed = int(image.dataobj.offset), is_packed(data)
    return RawArray(
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
        with np.errstate(over="ignore", invalid="ignore"):  # infinite voxels are noted later
            for k in range(raw.shape[2]):
                array[..., k] = raw[..., k].astype(np.float64) * self.slope + self.inter
        return as_labels(array, self.frame.stored.name, self.rounding) if self.label else array

    @property
    def rounding(self) -> float:
        """How far a label value may be from a whole number: what its storage in steps of a slope made of it.

        Programs that keep the old header of an image store labels as multiples of a slope such as 2/255, in which
        1 becomes .996. No more than 1/4 counts as rounding, else a probability map would pass for a label.
        """
        return min(max(1e-3, abs(self.slope) / 2 * 1.001), 0.25)


_NIFTI1_LONGEST = 32767
_COMPRESSION = 4
"""Of gzip. Measured on a CT: a tenth larger than 9 makes it, in a thirtieth of the time."""


def write_nifti(volume: Volume, path: Path, *, integer: bool = False) -> Path:
    """Write a volume as NIfTI with its affine, form codes and units.

    Parameters
    ----------
    integer
        Whether the voxels are labels: stored in the smallest integer type that holds them.

    Raises
    ------
    DataError
        When a label is no whole number, or the folder is full or may not be written; what was there before stays.
    """
    array = to_store(volume.array, integer=integer)
    facts = volume.provenance.header
    long = facts.get("nifti2", False) or max(volume.shape) > _NIFTI1_LONGEST
    kind = nib.Nifti2Image if long else nib.Nifti1Image
    header = kind.header_class()
    header.set_data_dtype(array.dtype)
    write_geometry(header, volume.shape, volume.affine, facts)
    # get_best_affine is in the header's own unit, so nibabel finds nothing to correct
    image = kind(array, header.get_best_affine(), header, dtype=array.dtype)
    _write(image, path)
    return path


def _write(image: Any, path: Path) -> None:
    def write(file: IO[bytes]) -> None:
        if not path.name.lower().endswith(".gz"):
            image.to_stream(file)
            return
        # neither name nor time in the gzip header: equal volumes make equal files
        with gzip.GzipFile("", "wb", _COMPRESSION, file, mtime=0) as packed:
            image.to_stream(packed)

    atomic_write(path, write)


formats.register(
    Format(
        name="NIfTI",
        suffixes=(".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz"),
        reader=read_nifti,
        writer=write_nifti,
        writes=(".nii", ".nii.gz"),
        library="nibabel",
        beside=_beside,
    )
)
