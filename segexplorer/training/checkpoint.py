"""Checkpoints: a folder per saved step, whole or not there, and one-line pointers to them.

`checkpoints/step_N/` holds `weights.safetensors` (the network), `average.safetensors` (the averaged network, where
weight averaging is on), `state.pt` (optimiser, loss, scaler: tensors and plain numbers, read with `weights_only`)
and `meta.json` (everything else, with the SHA-256 of the other files). It is written aside, synced and renamed;
then the pointer files `last`, `previous` and `best` are replaced. A kill at any moment leaves the old or the new.
What no pointer names is removed, but for the checkpoints that the file `kept` names: those from which a run is
forked, as many as fit a budget.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segexplorer.core.atomic_files import atomic_write, os_error_behind, sync_folder, translate_disk_errors
from segexplorer.core.errors import DataError, shorten
from segexplorer.core.untrusted_files import open_regular, sha256_of, with_checksum
from segexplorer.training.run_files import (
    COPY_AGAIN,
    KEPT,
    MAX_TENSORS,
    checkpoint_meta,
    read_kept,
    read_pointer,
)

if TYPE_CHECKING:
    import torch

Pointer = Literal["last", "previous", "best"]
WEIGHTS, AVERAGE, STATE, META = "weights.safetensors", "average.safetensors", "state.pt", "meta.json"


@dataclass(frozen=True)
class Keep:
    """That a checkpoint is kept for forks: its number among those (from 1), and what they all may take, MB."""

    number: int
    megabytes: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk, its checksums verified; tensors are loaded on request."""

    folder: Path
    meta: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps done when it was saved."""
        return int(self.meta["step"])

    @property
    def weights_sha256(self) -> str:
        """Checksum of the file of weights that predicts: the averaged ones where they are there."""
        sums = self.meta["sha256"]
        return str(sums[AVERAGE] if (self.folder / AVERAGE).exists() else sums[WEIGHTS])

    def load_weights(self, network: torch.nn.Module, *, average: bool = False) -> None:
        """Load the weights into a network of the same spec; the averaged ones where asked for and there.

        Raises
        ------
        DataError
            When they do not fit, or are not finite.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        name = AVERAGE if average and AVERAGE in self.meta["sha256"] else WEIGHTS
        try:
            load_model(network, self.folder / name)
        except (RuntimeError, ValueError, SafetensorError) as error:
            raise DataError(
                f"The weights of {self.folder.name} do not fit the network that its meta.json describes.",
                COPY_AGAIN,
            ) from error
        require_finite(network.state_dict(), f"{name} of {self.folder.name}")

    def load_state(self, device: str) -> dict[str, Any]:
        """Return optimiser, loss and scaler state.

        Raises
        ------
        DataError
            When the file holds more than tensors and plain numbers, or is damaged.
        """
        if STATE not in self.meta["sha256"]:
            raise DataError(f"{self.folder.name} has no {STATE}.", COPY_AGAIN)
        return read_state(self.folder / STATE, device)


def require_finite(tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Check that no tensor of floating-point numbers holds NaN or infinity.

    Raises
    ------
    DataError
        Naming the source and the first such tensor.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DataError(
                f"{source}: {shorten(name, 80)} has values that are not finite.",
                "Use weights of an earlier step.",
            )


def read_state(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Return what a file of `torch.save` holds: tensors and plain values by name; nothing in it is executed.

    Raises
    ------
    DataError
        When it holds anything else, is packed (it could unpack to any size), or is damaged.
    """
    import pickle

    import torch

    try:
        with open_regular(path, MAX_TENSORS) as file:
            with zipfile.ZipFile(file) as archive:
                packed = any(i.compress_type != zipfile.ZIP_STORED for i in archive.infolist())
            if packed:
                raise DataError(
                    f"{path.name} is packed, which torch does not write.",
                    "Do not use a file of unknown origin.",
                )
            file.seek(0)
            state = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path.name} contains more than tensors; it was not opened, since that could run code.",
            "Do not use a file of unknown origin.",
        ) from error
    except (OSError, MemoryError):
        raise
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path.name} is damaged ({type(error).__name__}).", COPY_AGAIN) from error
    if not isinstance(state, dict):
        raise DataError(f"{path.name} is damaged: it holds no values by name.", COPY_AGAIN)
    return state


def save_checkpoint(
    root: Path,
    *,
    network: torch.nn.Module,
    average: torch.nn.Module | None,
    state: Mapping[str, Any],
    meta: Mapping[str, Any],
    best: bool,
    keep: Keep | None = None,
    mark: str = "",
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Write a checkpoint under `root` ("checkpoints") and move the pointers to it.

    Parameters
    ----------
    keep
        Keep it although later ones are saved. Where all of these do not fit, every second one is removed, then
        every second one of those that are left and so on.
    mark
        Becomes part of the name under which it is written aside: the token of the lease, so that it is known whose
        leftover it is.
    check
        Called before each change that others see; raises where this process may not write any more.

    Raises
    ------
    TrainingError
        When the disk is full or may not be written; what was there before stays valid.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    check()
    aside = root / f".step_{meta['step']}.{mark or os.getpid()}.tmp"
    with translate_disk_errors(root / f"step_{meta['step']}"):
        root.mkdir(exist_ok=True)  # not its parents: a run folder that was deleted must not come back
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            save_model(network, str(aside / WEIGHTS))
            if average is not None:
                save_model(average, str(aside / AVERAGE))
            # a file of Python's own says what the disk refused; torch's writer only that it failed
            with (aside / STATE).open("wb") as written:
                torch.save(dict(state), written)
            sums = {f.name: _sha256(f) for f in sorted(aside.iterdir())}
            text = json.dumps(with_checksum({**meta, "sha256": sums}), indent=1)
            (aside / META).write_text(text, encoding="utf-8")
            for file in aside.iterdir():
                _sync_file(file)
            final = _free_name(root, int(meta["step"]))
            sync_folder(aside)
            check()
            aside.rename(final)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            check()  # where the folder is gone, that is the reason
            raise os_error_behind(error) or error from error
        sync_folder(root)
    check()
    _move_pointers(root, final.name, best=best)
    if keep is not None:
        _add_kept(root, final.name, keep)
    _remove_unreferenced(root)
    return final


def _free_name(root: Path, step: int) -> Path:
    """Return step_N, or step_N.2 and so on where an earlier attempt saved that step already."""
    candidate, count = root / f"step_{step}", 1
    while candidate.exists():
        count += 1
        candidate = root / f"step_{step}.{count}"
    return candidate


def _move_pointers(root: Path, name: str, *, best: bool) -> None:
    before = read_pointer(root, "last")
    if before is not None and before != name:
        atomic_write(root / "previous", f"{before}\n".encode())
    atomic_write(root / "last", f"{name}\n".encode())
    if best:
        atomic_write(root / "best", f"{name}\n".encode())


def _add_kept(root: Path, name: str, keep: Keep) -> None:
    """Add a checkpoint to those that are kept, thinning out the earlier ones evenly where they do not fit."""
    fit = keep.megabytes * 10**6 // max(1, _size(root / name))  # they are of one network, and equally large
    stride = 1
    while -(-keep.number // stride) > fit > 0:
        stride *= 2
    earlier = {
        n: number for n, number in read_kept(root).items() if number < keep.number and not number % stride
    }
    kept = {**earlier, name: keep.number} if fit else {}
    atomic_write(root / KEPT, "".join(f"{other} {number}\n" for other, number in kept.items()).encode())


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _remove_unreferenced(root: Path) -> None:
    kept = {*(read_pointer(root, p) for p in ("last", "previous", "best")), *read_kept(root)}
    for folder in root.glob("step_*"):
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def open_checkpoint(root: Path, pointer: Pointer = "last") -> tuple[Checkpoint, str]:
    """Open a checkpoint; `last` falls back to `previous` when it is damaged.

    Returns
    -------
    The checkpoint, and a sentence to show when another one than asked for was taken ("" otherwise).

    Raises
    ------
    DataError
        When all are damaged, or there is none.
    """
    order: tuple[str, ...] = ("last", "previous") if pointer == "last" else (pointer,)
    trouble = ""
    for name in order:
        if not os.path.lexists(root / name):
            continue
        folder_name = read_pointer(root, name)
        if folder_name is None:
            trouble = f"The pointer {name} is damaged; went on from the checkpoint before it."
            continue
        try:
            return Checkpoint(root / folder_name, verified_meta(root, folder_name)), trouble
        except (DataError, FileNotFoundError) as error:
            cause = error.message.rstrip(".") if isinstance(error, DataError) else "a file is missing"
            trouble = f"Checkpoint {folder_name} is damaged ({cause}); went on from the one before it."
    if trouble:
        raise DataError(f"No whole checkpoint is left in {root.parent.name}.", "Start the run again.")
    raise DataError(
        f"The run {root.parent.name} has no checkpoint {pointer!r} yet.",
        "Let it train until the first checkpoint is saved."
        if pointer == "last"
        else "Use the checkpoint last.",
    )


def verified_meta(root: Path, name: str) -> dict[str, Any]:
    """Return `meta.json` of a checkpoint in `root`, the checksums of its other files compared.

    Raises
    ------
    DataError
        When something is damaged, missing or no regular file.
    """
    meta = checkpoint_meta(root, name)
    for file, expected in {WEIGHTS: "", **meta["sha256"]}.items():
        try:
            found = sha256_of(root / name / file, MAX_TENSORS, within=root)
        except FileNotFoundError as error:
            raise DataError(f"{file} is missing.", COPY_AGAIN) from error
        if found != expected:
            raise DataError(f"{file} has another checksum.", COPY_AGAIN)
    return meta


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
