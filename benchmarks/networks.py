"""The memory of networks: what a process takes at its peak against what the plan estimates.

    python benchmarks/networks.py [--kinds unet vnet] [--sizes 48 80] [--batch 2] [--precision float32] [--small]

Two steps of training (Dice and cross entropy, Adam), and a prediction, each in a process of its own: the growth of
its resident memory beyond what it held with all libraries loaded. CPU and Linux only. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
from pathlib import Path

import torch

from segexplorer import losses, networks
from segexplorer.networks.base import NetworkSpec
from segexplorer.networks.cost import memory_estimate
from segexplorer.training.compute import Compute, Runtime, resolve_compute

KINDS = ("unet", "segresnet", "dynunet", "vnet", "attention_unet", "unetr")


def peak_memory() -> int:
    """Return the most bytes resident since the peak was last reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def work(spec: NetworkSpec, size: int, batch: int, runtime: Runtime, *, training: bool) -> None:
    """Train two steps on cubes, or predict one batch of them."""
    built = spec.build(dimensions=3, in_channels=1, out_channels=2)
    network = runtime.place_network(built, 3).train(training)
    image = runtime.place(torch.rand(batch, 1, size, size, size))
    if not training:
        with torch.inference_mode(), runtime.autocast():
            network(image)
        return
    labels = torch.zeros((batch, 1, size, size, size), dtype=torch.long)
    loss, optimiser = losses.create("dice_cross_entropy"), torch.optim.Adam(network.parameters())
    for _ in range(2):
        with runtime.autocast():
            logits = network(image)
        value = loss(logits, labels)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()


def measured(kind: str, size: int, batch: int, precision: str, *, training: bool) -> int:
    """Return the growth of this process in bytes; to be called once in a process."""
    spec = networks.spec(kind)()
    runtime = resolve_compute(Compute.of({"device": "cpu", "threads": 1, "precision": precision}))
    with runtime.active():
        work(networks.spec("unet")(base_features=2, levels=2), 8, batch, runtime, training=training)
        spec.build(dimensions=3, in_channels=1, out_channels=2)  # loads what it needs
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = peak_memory()
        work(spec, size, batch, runtime, training=training)
    return peak_memory() - before


def row(kind: str, size: int, options: argparse.Namespace) -> str:
    """Return the table's row of a network at a size."""
    cells = [f"`{kind}`", f"{options.batch} x {size}³"]
    for training in (True, False):
        command = [sys.executable, __file__, "--one", kind, str(size), "train" if training else "predict"]
        command += ["--batch", str(options.batch), "--precision", options.precision]
        took = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        estimated = memory_estimate(
            networks.spec(kind)(),
            (size,) * 3,
            options.batch,
            in_channels=1,
            out_channels=2,
            activation_bytes=4 if options.precision == "float32" else 2,
            training=training,
        )
        cells += [f"{took / 2**20:.0f}", f"{estimated / 2**20:.0f}", f"{estimated / took:.2f}"]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print the table, or with --one the bytes of one measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--sizes", nargs="+", type=int, default=(48, 80))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--one", nargs=3, metavar=("KIND", "SIZE", "WHAT"))
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args()
    if options.small:
        options.kinds, options.sizes = ("unet",), (16,)
    if options.one:
        kind, size, what = options.one
        print(measured(kind, int(size), options.batch, options.precision, training=what == "train"))
        return 0
    print("| network | patches | training, MiB | estimate | ratio | prediction, MiB | estimate | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in options.kinds:
        for size in options.sizes:
            print(row(kind, size, options), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
