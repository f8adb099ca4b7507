"""How long a network takes to predict a patch, and how much memory that takes, measured on this machine."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segexplorer.core.errors import TrainingError
from segexplorer.networks import registry
from segexplorer.networks.base import NetworkSpec, padded
from segexplorer.training.compute import Compute, Runtime, resolve_compute

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Speed:
    """A measured forward pass over one patch.

    Attributes
    ----------
    seconds
        Median of the passes.
    fastest, slowest
        Their range.
    passes
        How many were timed.
    memory_bytes
        Peak beyond what the process held before: weights, activations and the library's workspaces. None where
        the system does not tell.
    device, precision, threads
        Where, and how.
    """

    seconds: float
    fastest: float
    slowest: float
    passes: int
    memory_bytes: int | None
    device: str
    precision: str
    threads: int


def measure(
    network: NetworkSpec,
    patch: Sequence[int],
    *,
    in_channels: int = 1,
    out_channels: int = 2,
    compute: Compute | None = None,
    passes: int = 5,
) -> Speed:
    """Time the prediction of one patch, in a process of its own so that memory is the network's alone.

    Parameters
    ----------
    patch
        Spatial shape, rounded up to the network's divisor.
    compute
        Device, precision and threads.
    passes
        Timed passes, after one that warms up.

    Raises
    ------
    SpecError
        When the network cannot be built so, or the device does not exist here.
    TrainingError
        When the process ended before its time, as it does where memory is short.
    """
    shape = padded(patch, network.divisor(len(patch)))
    network.parameter_count(dimensions=len(shape), in_channels=in_channels, out_channels=out_channels)
    wanted = compute or Compute()
    resolve_compute(wanted)
    task = {
        "network": network.plain(),
        "shape": shape,
        "channels": (in_channels, out_channels),
        "compute": wanted.plain(),
        "passes": passes,
    }
    command = [sys.executable, "-m", "segexplorer.training.speed"]
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrainingError(
            f"Measuring {network.display_name} on {' × '.join(map(str, shape))} voxels broke off.",
            "Ask for a smaller patch; the end of what it printed: " + done.stderr.strip()[-200:],
        )
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def _measured(task: dict[str, Any]) -> Speed:
    import torch

    spec, shape, passes = registry.parse(task["network"]), task["shape"], task["passes"]
    in_channels, out_channels = task["channels"]
    runtime = resolve_compute(Compute.of(task["compute"]))
    # loads the libraries, which are no part of what the network takes
    spec.build(dimensions=len(shape), in_channels=in_channels, out_channels=out_channels)
    torch.nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8))
    before = _forget_peak(runtime)
    built = spec.build(dimensions=len(shape), in_channels=in_channels, out_channels=out_channels)
    placed = runtime.place_network(built, len(shape)).eval()
    image = runtime.place(torch.rand((1, in_channels, *shape)))
    with runtime.active():
        times = [_timed(placed, image, runtime) for _ in range(passes + 1)][1:]
    peak = _peak(runtime)
    return Speed(
        seconds=statistics.median(times),
        fastest=min(times),
        slowest=max(times),
        passes=passes,
        memory_bytes=None if before is None or peak is None else peak - before,
        device=runtime.device_name,
        precision=runtime.precision,
        threads=runtime.threads,
    )


def _timed(network: torch.nn.Module, image: torch.Tensor, runtime: Runtime) -> float:
    import torch

    _wait(runtime)
    begun = time.perf_counter()
    with torch.inference_mode(), runtime.autocast():
        network(image)
    _wait(runtime)
    return time.perf_counter() - begun


def _wait(runtime: Runtime) -> None:
    import torch

    if runtime.device.startswith("cuda"):
        torch.cuda.synchronize(runtime.device)


def _forget_peak(runtime: Runtime) -> int | None:
    """Begin anew to look for the peak, and return the bytes held now; None where the system does not tell."""
    import torch

    if runtime.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(runtime.device)
        return torch.cuda.memory_allocated(runtime.device)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not Linux
        return None
    return _peak(runtime)


def _peak(runtime: Runtime) -> int | None:
    """Return the most bytes held since: allocated on CUDA, resident in the process on the CPU."""
    if runtime.device.startswith("cuda"):
        return runtime.memory_in_use()
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


if __name__ == "__main__":
    print(json.dumps(asdict(_measured(json.load(sys.stdin)))))  # noqa: T201
