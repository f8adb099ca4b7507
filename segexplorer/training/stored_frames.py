"""The history of a run, read without trust: what may be in `history.zarr`, checked before zarr opens it.

zarr runs whatever codec a file names, and allocates whatever shape it declares. So the metadata of each array is
read as JSON first. Only what segexplorer writes itself is accepted: zarr format 3, one chunk, little-endian numbers
of four types, compressed by zstd, of a size that a volume can have and that the compressed file announces.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from segexplorer.core.errors import DataError
from segexplorer.core.events import Count, Role
from segexplorer.core.label_scheme import LabelScheme
from segexplorer.core.regions import NOWHERE, MapRegions
from segexplorer.core.untrusted_files import open_regular, size_text
from segexplorer.training.run_files import COPY_AGAIN, HISTORY, Name, RunFile, parsed, read_run_file
from segexplorer.training.snapshots import WatchedSnapshot

REGIONS = "regions_"
"""Beginning of the names of arrays of region values."""
REGION_MAP, REGION_IDS = "region_map", "region_ids"
"""Names of the arrays of regions that are no boxes: the place of each voxel's region in the ids, and the ids."""
LOGITS = "logits"
"""Name of the array of logits on the training grid."""
ARRAYS: tuple[tuple[str, str, int], ...] = (
    (r"prediction", "uint8", 3),
    (r"probabilities", "uint8", 4),
    (LOGITS, "float16", 4),
    (rf"{REGIONS}[A-Za-z0-9_]{{1,40}}", "float32", 2),
    (REGION_MAP, "int32", 3),
    (REGION_IDS, "int64", 1),
)
"""What a frame may hold: name of the array, type of its numbers, number of axes."""
MAX_ARRAY = 2 * 2**30
"""Bytes of the largest array."""
MAX_VOXELS = 2**29
"""Voxels of the largest grid, as 512 x 512 x 2048."""
MAX_MAP = 2**27
"""Voxels of the largest map of regions that is kept, as 512 x 512 x 512."""
MAX_FRAMES = 100_000
"""Most frames of one watched case."""


# ---- metadata


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _ChunkShape(_Strict):
    chunk_shape: list[Count]


class _ChunkGrid(_Strict):
    name: Literal["regular"]
    configuration: _ChunkShape


class _Separator(_Strict):
    separator: Literal["/"] = "/"


class _ChunkNames(_Strict):
    name: Literal["default"]
    configuration: _Separator = _Separator()


class _Endian(_Strict):
    endian: Literal["little"] = "little"


class _BytesCodec(_Strict):
    name: Literal["bytes"]
    configuration: _Endian = _Endian()


class _ZstdLevel(_Strict):
    level: Annotated[int, Field(ge=-131072, le=22)] = 0
    checksum: bool = False


class _ZstdCodec(_Strict):
    name: Literal["zstd"]
    configuration: _ZstdLevel = _ZstdLevel()


class ArrayHeader(RunFile):
    """`zarr.json` of an array: what segexplorer writes, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    zarr_format: Literal[3]
    node_type: Literal["array"]
    shape: Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(min_length=1, max_length=4)]
    data_type: Literal["uint8", "int32", "int64", "float16", "float32"]
    chunk_grid: _ChunkGrid
    chunk_key_encoding: _ChunkNames
    fill_value: Annotated[float, Field(allow_inf_nan=False)]
    codecs: tuple[_BytesCodec, _ZstdCodec]
    attributes: dict[str, Any] = Field(default_factory=dict)
    storage_transformers: Annotated[list[Any], Field(max_length=0)] = Field(default_factory=list)
    dimension_names: None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * np.dtype(self.data_type).itemsize


class GroupHeader(RunFile):
    """`zarr.json` of a group; consolidated metadata, which would be read instead of the arrays' own, is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    zarr_format: Literal[3]
    node_type: Literal["group"]
    attributes: dict[str, Any] = Field(default_factory=dict)
    consolidated_metadata: None = None


Affine = Annotated[
    list[
        Annotated[
            list[Annotated[float, Field(ge=-1e7, le=1e7, allow_inf_nan=False)]],
            Field(min_length=4, max_length=4),
        ]
    ],
    Field(min_length=4, max_length=4),
]
ClassNames = Annotated[list[Name], Field(min_length=1, max_length=254)]
Edges = Annotated[
    list[Annotated[list[Annotated[int, Field(ge=0, le=MAX_VOXELS)]], Field(min_length=2)]],
    Field(min_length=1, max_length=3),
]


LossState = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=400, pattern=r"^[A-Za-z0-9_.]+$")],
        Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=100_000)],
    ],
    Field(max_length=1000),
]


class FrameFacts(RunFile):
    """Attributes of a frame, beside its arrays."""

    case: Annotated[str, StringConstraints(max_length=4096)]
    step: Count
    attempt: Count
    loss: float | None = None
    class_names: ClassNames
    affine: Affine
    badge: Name = ""
    edges: Edges | None = None
    regions_affine: Affine | None = None
    regions_scope: Name = ""
    logits_affine: Affine | None = None
    loss_state: LossState = Field(default_factory=dict)
    overlapping: Annotated[list[list[Annotated[int, Field(ge=1, le=254)]]], Field(max_length=254)] | None = (
        None
    )
    """For each label index the classes that it stands for, where classes overlap."""
    probability_classes: (
        Annotated[list[Annotated[int, Field(ge=0, le=254)]], Field(max_length=255)] | None
    ) = None

    @property
    def scheme(self) -> LabelScheme:
        """What the label indices of the prediction mean.

        Raises
        ------
        ValueError
            When they stand for no classes.
        """
        return LabelScheme.of(len(self.class_names), self.overlapping or ())


Header = TypeVar("Header", bound=RunFile)


def read_group(folder: Path, name: str, model: type[Header]) -> Header | None:
    """Return the metadata of a zarr group or array of a run folder, None where there is none.

    Raises
    ------
    DataError
        When it is of another zarr format, uses other codecs or types, or is damaged.
    """
    place = folder / name
    for other in (".zgroup", ".zarray", ".zattrs", ".zmetadata"):
        if os.path.lexists(place / other):
            raise DataError(
                f"{name} is stored in zarr format 2, which segexplorer does not write and does not open.",
                "Do not use this folder if you do not know where it comes from.",
            )
    return read_run_file(folder, f"{name}/zarr.json", model)


# ---- frames


def frame_name(role: Role, index: int | str) -> str:
    """Return the path of a frame in its run folder."""
    return f"{HISTORY}/{role}/{int(index):06d}"


def frame_names(folder: Path, role: Role) -> list[str]:
    """Return the numbers of the frames of a role, sorted, as their folders are called.

    Raises
    ------
    DataError
        When there are too many, or the history is stored in another way than segexplorer stores it.
    """
    for group in (HISTORY, f"{HISTORY}/{role}"):
        if not os.path.lexists(folder / group) or read_group(folder, group, GroupHeader) is None:
            return []
    entries = (entry.name for entry in (folder / HISTORY / role).iterdir())
    found = [name for name in entries if re.fullmatch(r"\d{6}|[1-9]\d{6,8}", name, re.ASCII)]
    if len(found) > MAX_FRAMES:
        raise DataError(f"{HISTORY} holds more than {MAX_FRAMES:,} frames of one case.", COPY_AGAIN)
    return sorted(found, key=int)


def read_frame_facts(folder: Path, role: Role, key: str) -> FrameFacts | None:
    """Return the attributes of a frame; None for one that is being written or deleted.

    Raises
    ------
    DataError
        When they are damaged.
    """
    name = frame_name(role, key)
    group = read_group(folder, name, GroupHeader)
    if group is None or group.attributes.get("complete") is not True:
        return None
    facts = parsed(group.attributes, FrameFacts, name)
    try:
        facts.scheme  # noqa: B018  looked at here, so that everybody else may rely on it
    except ValueError as error:
        raise DataError(f"{name} is damaged: {error}.", COPY_AGAIN) from error
    require_region_attributes(facts, name)
    return facts


def require_region_attributes(facts: FrameFacts, name: str) -> None:
    """Check affines and the edges of regions.

    Raises
    ------
    DataError
        Naming the frame.
    """
    for affine in (facts.affine, facts.regions_affine, facts.logits_affine):
        if affine is not None and not _is_affine(np.asarray(affine)):
            raise DataError(f"{name} is damaged: its affine maps no volume.", COPY_AGAIN)
    if facts.edges is None:
        return
    if facts.regions_affine is None or any(b <= a for axis in facts.edges for a, b in pairwise(axis)):
        raise DataError(f"{name} is damaged: the edges of its regions are no edges.", COPY_AGAIN)
    if math.prod(axis[-1] for axis in facts.edges) > MAX_VOXELS:
        raise DataError(f"{name} is damaged: its regions are larger than a volume can be.", COPY_AGAIN)


def _is_affine(affine: NDArray[np.float64]) -> bool:
    return bool((affine[3] == [0, 0, 0, 1]).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12)


def array_names(folder: Path, frame: str) -> list[str]:
    """Return the names of the arrays of a frame, sorted; what is no array that a frame can hold is left out."""
    entries = (folder / frame).iterdir()
    return sorted(e.name for e in entries if _declared(e.name) and os.path.lexists(e / "zarr.json"))


def _declared(name: str) -> tuple[str, int] | None:
    return next(((kind, axes) for pattern, kind, axes in ARRAYS if re.fullmatch(pattern, name)), None)


# ---- arrays


def read_array(folder: Path, name: str) -> NDArray[Any]:
    """Return an array of a run folder, once its metadata and the head of its chunk are known to be sound.

    Raises
    ------
    DataError
        When it is missing, damaged, larger than a volume can be, or of another form than segexplorer writes.
    """
    header = read_group(folder, name, ArrayHeader)
    if header is None:
        raise DataError(f"{name} is missing.", COPY_AGAIN)
    declared = _declared(Path(name).name)
    if declared is None or (header.data_type, len(header.shape)) != declared:
        raise DataError(
            f"{name} is damaged: it holds {header.data_type} numbers along {len(header.shape)} axes.",
            COPY_AGAIN,
        )
    if header.nbytes > MAX_ARRAY or (declared[1] == 3 and math.prod(header.shape) > MAX_VOXELS):
        raise DataError(
            f"{name} is damaged: it claims {size_text(header.nbytes)}, more than a volume can be.", COPY_AGAIN
        )
    if header.chunk_grid.configuration.chunk_shape != [max(1, n) for n in header.shape]:
        raise DataError(f"{name} is damaged: it is not stored in one chunk.", COPY_AGAIN)
    _require_chunk(folder, name, header)
    try:
        stored = zarr.open_array(str(folder / name), mode="r", zarr_format=3)
        return np.asarray(stored[...])
    except (ValueError, TypeError, RuntimeError, KeyError, IndexError) as error:
        raise DataError(f"{name} is damaged: it cannot be unpacked.", COPY_AGAIN) from error


def _require_chunk(folder: Path, name: str, header: ArrayHeader) -> None:
    """Check the file of the only chunk, if there is one; where there is none, all numbers are the fill value.

    Raises
    ------
    DataError
        When it is not a zstd frame of the size that the array needs.
    """
    chunk = folder / name / "c" / "/".join("0" for _ in header.shape)
    # incompressible data grow by less than 1/256 (ZSTD_compressBound)
    limit = header.nbytes + header.nbytes // 256 + 4096
    try:
        with open_regular(chunk, limit, within=folder) as file:
            head = file.read(18)
    except FileNotFoundError:
        return
    if _zstd_size(head) != header.nbytes:
        raise DataError(
            f"{name} is damaged: its compressed numbers are not of the size that it declares.", COPY_AGAIN
        )


def _zstd_size(head: bytes) -> int | None:
    """Return the size that a zstd frame unpacks to, None where its header does not say (RFC 8878, 3.1.1)."""
    if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 6:
        return None
    descriptor = head[4]
    single = bool(descriptor & 0x20)
    width = {0: 1 if single else 0, 1: 2, 2: 4, 3: 8}[descriptor >> 6]
    place = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    field = head[place : place + width]
    if not width or len(field) < width:
        return None
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)


# ---- what belongs together


def require_fitting(snapshot: WatchedSnapshot, name: str) -> None:
    """Check that the arrays of a frame fit one another and its classes.

    Raises
    ------
    DataError
        Naming the frame and what does not fit.
    """
    classes, shape = len(snapshot.class_names) + 1, snapshot.prediction.shape
    known = snapshot.scheme.indices(len(snapshot.class_names))
    if 0 in shape or int(snapshot.prediction.max()) >= known:
        raise DataError(f"{name} is damaged: its prediction has values of no class.", COPY_AGAIN)
    chosen = snapshot.probability_classes
    if chosen is not None and (len(set(chosen)) < len(chosen) or max(chosen, default=0) >= classes):
        raise DataError(f"{name} is damaged: it keeps probabilities of no class.", COPY_AGAIN)
    rows = classes if chosen is None else len(chosen)
    if snapshot.probabilities is not None and snapshot.probabilities.shape != (rows, *shape):
        raise DataError(f"{name} is damaged: probabilities and prediction differ in shape.", COPY_AGAIN)
    if snapshot.logits is not None:
        fits = (
            snapshot.logits_affine is not None
            and len(snapshot.logits) == classes
            and snapshot.logits.size > 0
        )
        if not (fits and np.isfinite(snapshot.logits).all()):
            raise DataError(
                f"{name} is damaged: its logits do not fit its classes, or are no numbers.", COPY_AGAIN
            )
    if snapshot.regions is not None:
        regions = snapshot.regions.regions
        if isinstance(regions, MapRegions) and not _is_region_map(regions):
            raise DataError(f"{name} is damaged: its map of regions has numbers of no region.", COPY_AGAIN)
        if not {"fp", "fn"} <= snapshot.regions.values.keys():
            raise DataError(f"{name} is damaged: the errors of its regions are missing.", COPY_AGAIN)
        wanted: Sequence[int] = (classes, math.prod(snapshot.regions.counts))
        if any(values.shape != tuple(wanted) for values in snapshot.regions.values.values()):
            raise DataError(f"{name} is damaged: its region values do not fit its regions.", COPY_AGAIN)


def _is_region_map(regions: MapRegions) -> bool:
    """Whether every voxel has the place of a region, or none, and no two regions have one number."""
    labels, ids = regions.labels, regions.ids
    low, high = int(labels.min(initial=NOWHERE)), int(labels.max(initial=NOWHERE))
    whole = 0 < labels.size <= MAX_MAP and low >= NOWHERE and high < len(ids)
    return whole and bool((ids >= 0).all()) and len(np.unique(ids)) == len(ids)
