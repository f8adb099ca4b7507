"""Pre-trained weights: read from a file, fitted to a network by name and shape, and frozen by pattern.

Weights of other networks never fit whole: another number of classes, other names in front, kernels of another
length. What fits is taken, what does not stays as initialised, and the report names both.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segexplorer.core.errors import DataError, SpecError, shorten
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.data.checks import Problem

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from segexplorer.training.checkpoint import Checkpoint

_WRAPPERS = ("state_dict", "model_state_dict", "network_weights", "model", "network", "net")
"""Keys under which training programs save the weights beside other things."""
_COUNTERS = "num_batches_tracked"
_SHOWN = 3
_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


class NetworkWeights(Spec):
    """Weights to start from, and layers that training leaves as they are."""

    path: str = parameter(
        "",
        title="Weights file",
        description=(
            "Start from these weights: a safetensors file, a torch state dict, or a run folder of this program. "
            "Empty: from random ones."
        ),
        path="file",
    )
    freeze: tuple[str, ...] = parameter(
        (),
        title="Frozen layers",
        description="Names or patterns of layers that are not trained, e.g. encoder or down.*.stage.",
    )


@dataclass(frozen=True)
class WeightsReport:
    """What became of the weights of a file.

    Attributes
    ----------
    source
        Name of the file, and the start of its SHA-256.
    matched
        Names in the network whose weights were taken over as they are.
    resized
        Names whose convolution kernels were interpolated to another length.
    unfitting
        Names that are in the file with another shape; they stay as initialised.
    missing
        Names of the network that the file lacks; they stay as initialised.
    unused
        Names in the file that the network has no place for.
    """

    source: str
    matched: tuple[str, ...]
    resized: tuple[str, ...]
    unfitting: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def sentence(self) -> str:
        """Return all of it in one paragraph; of long lists the first names."""
        taken = len(self.matched) + len(self.resized)
        total = taken + len(self.unfitting) + len(self.missing)
        parts = [f"Weights of {self.source}: {taken} of {total} tensors taken over"]
        for names, what in (
            (self.resized, "kernels resized"),
            (self.unfitting, "of another shape, left as initialised"),
            (self.missing, "not in the file, left as initialised"),
            (self.unused, "in the file without a place"),
        ):
            if names:
                more = ", ..." if len(names) > _SHOWN else ""
                parts.append(f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})")
        return "; ".join(parts) + "."


def check_weights(weights: NetworkWeights) -> list[Problem]:
    """Return what keeps the named file of weights from being there; nothing of it is loaded."""
    if weights.path:
        try:
            _file_of(weights.path)
        except DataError as error:
            return [Problem("error", "weights", error.message, error.remedy)]
    return []


def require_weights(weights: NetworkWeights) -> None:
    """Refuse to start a run from a missing file; a resumed run has weights of its own.

    Raises
    ------
    DataError
        Naming the file.
    """
    if weights.path:
        _file_of(weights.path)


def load_weights(network: nn.Module, path: str | Path) -> WeightsReport:
    """Take over what fits of a file's weights, in place.

    A name fits with or without a prefix that all names of the file share ("module."), and inside any one
    child of the network ("swinViT."); the reading that fits most names is taken. Convolution kernels of another
    length are interpolated linearly, as MedNeXt's UpKern does (Roy et al. 2023, section 2.3).

    Raises
    ------
    DataError
        When the file is missing, is not a file of weights, contains more than tensors, or fits nowhere.
    """
    file = _file_of(path)
    given = _read(file)
    own = dict(network.state_dict())
    names = _best_reading(given, own, [name for name, _ in network.named_children()])
    fitted: dict[str, Tensor] = {}
    resized, unfitting = [], []
    for name in names.keys() & own.keys():
        tensor = given[names[name]]
        if tensor.shape == own[name].shape:
            fitted[name] = tensor
        elif _is_kernel_of_another_length(tensor, own[name]):
            fitted[name] = _resized(tensor, own[name])
            resized.append(name)
        else:
            unfitting.append(name)
    if not fitted:
        raise DataError(
            f"No weight of {file.name} fits the network: it holds {_some(given)}, the network {_some(own)}.",
            "Choose the network that the weights were trained with.",
        )
    network.load_state_dict(fitted, strict=False)
    # a tensor that the network holds under two names is there once one of them is
    covered = {own[name].data_ptr() for name in fitted}
    missing = [
        name
        for name, tensor in own.items()
        if name not in names and tensor.data_ptr() not in covered and not name.endswith(_COUNTERS)
    ]
    used = {names[name] for name in names.keys() & own.keys()}
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()[:12]
    return WeightsReport(
        source=f"{file.name} (sha256 {digest})",
        matched=tuple(n for n in own if n in fitted and n not in resized),
        resized=tuple(n for n in own if n in resized),
        unfitting=tuple(n for n in own if n in unfitting),
        missing=tuple(missing),
        unused=tuple(n for n in given if n not in used and not n.endswith(_COUNTERS)),
    )


def freeze(network: nn.Module, patterns: Sequence[str]) -> tuple[nn.Module, ...]:
    """Exclude layers from training, in place.

    Parameters
    ----------
    patterns
        Shell patterns over parameter names; one without a wildcard names a layer with all that is inside.

    Returns
    -------
    The modules whose running statistics must not change either: keep them in evaluation mode.

    Raises
    ------
    SpecError
        When a pattern fits no parameter, or nothing is left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            layers = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
            raise SpecError(
                f"network_weights.freeze: no layer of the network is called {pattern!r}.",
                f"Its layers are: {layers}.",
            )
    for name, weight in network.named_parameters():
        if any(_fits(name, pattern) for pattern in patterns):
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in network.parameters()):
        raise SpecError(
            "network_weights.freeze leaves nothing to train.", "Leave out a layer, e.g. the head."
        )
    return tuple(module for module in network.modules() if _stands_still(module))


def _stands_still(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return (
        bool(own)
        and getattr(module, "running_mean", None) is not None
        and not any(weight.requires_grad for weight in own)
    )


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def source_run(weights: NetworkWeights) -> Checkpoint | None:
    """Return the checkpoint that the weights come from, None where they are a file or random.

    Raises
    ------
    DataError
        When the run folder has no whole checkpoint.
    """
    return _checkpoint_in(Path(os.path.expandvars(weights.path)).expanduser()) if weights.path else None


def _checkpoint_in(path: Path) -> Checkpoint | None:
    from segexplorer.training.checkpoint import open_checkpoint

    checkpoints = path / "checkpoints"
    if not checkpoints.is_dir():
        return None
    return open_checkpoint(checkpoints, "best" if (checkpoints / "best").exists() else "last")[0]


def _file_of(named: str | Path) -> Path:
    """Return the file of weights that a path means: itself, or those of a run folder's best checkpoint."""
    from segexplorer.training.checkpoint import AVERAGE, WEIGHTS

    path = Path(os.path.expandvars(named)).expanduser()
    if (checkpoint := _checkpoint_in(path)) is not None:
        return checkpoint.folder / (AVERAGE if (checkpoint.folder / AVERAGE).exists() else WEIGHTS)
    if not path.is_file():
        raise DataError(f"The file of weights {path} does not exist.", "Check network_weights.path.")
    return path


def _read(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; nothing in it is executed."""
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from segexplorer.training.checkpoint import require_finite

    if file.suffix == ".safetensors":
        try:
            stored: dict[str, Tensor] = load_file(file)
        except (SafetensorError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{file.name} is not a complete safetensors file: {shorten(str(error), 100)}.",
                "Get it again.",
            ) from error
        require_finite(stored, file.name)
        return stored
    try:
        _require_unpacked(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except DataError:
        raise
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{file.name} contains more than tensors, or is not a torch file; it was not opened, since that could "
            "run code.",
            "Have its owner save the state dict alone, best as safetensors.",
        ) from error
    except Exception as error:
        kind = type(error).__name__
        raise DataError(
            f"{file.name} cannot be read as a file of torch ({kind}).", "Get it again."
        ) from error
    tensors = _tensors(content, file.name)
    require_finite(tensors, file.name)
    return tensors


def _require_unpacked(file: Path) -> None:
    """Refuse an archive with compressed members, which torch never writes: it could unpack to any size.

    Raises
    ------
    DataError
        Naming the file.
    """
    if not zipfile.is_zipfile(file):
        return  # the format of before torch 1.6, which is not packed
    with zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise DataError(
                f"{file.name} is packed, which torch does not write.", "Do not use a file of unknown origin."
            )


def _tensors(content: Any, name: str) -> dict[str, Tensor]:
    import torch

    if isinstance(content, Mapping):
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), Mapping):
                return _tensors(content[wrapper], name)
        found = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        if found:
            return found
    raise DataError(f"{name} holds no weights by name.", "Choose a state dict or a safetensors file.")


def _best_reading(
    given: Mapping[str, Any], own: Mapping[str, Any], children: Sequence[str]
) -> dict[str, str]:
    """Return network name -> name in the file, under the reading of the file's names that fits most."""
    best: dict[str, str] = {}
    score = -1
    for front in _fronts(list(given)):
        for inside in ("", *(f"{child}." for child in children)):
            reading = {inside + name.removeprefix(front): name for name in given}
            fitting = sum(n in own and own[n].shape == given[f].shape for n, f in reading.items())
            if fitting > score:
                best, score = reading, fitting
    return best


def _fronts(names: Sequence[str]) -> Iterator[str]:
    """Yield the prefixes that all names share: none, then one part after the other."""
    front = ""
    yield front
    while True:
        parts = {name.removeprefix(front).partition(".")[0] for name in names}
        if len(parts) != 1 or not all("." in name.removeprefix(front) for name in names):
            return
        front += f"{parts.pop()}."
        yield front


def _is_kernel_of_another_length(given: torch.Tensor, own: torch.Tensor) -> bool:
    return given.ndim == own.ndim and own.ndim in _LINEAR and given.shape[:2] == own.shape[:2]


def _resized(given: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    mode = _LINEAR[own.ndim]
    return functional.interpolate(given.float(), own.shape[2:], mode=mode, align_corners=False)


def _some(names: Mapping[str, Any]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(list(names)[:_SHOWN]) + more
