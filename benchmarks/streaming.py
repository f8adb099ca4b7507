"""Time and memory of predicting, validating and scoring whole cases of any size, beside MONAI's sliding window.

    python benchmarks/streaming.py [time] [memory] [chain] [noise] [--shape X Y Z] [--classes N] [--gb 5] [--small]

`time` predicts one volume with our windows and with MONAI's `sliding_window_inference`, in turns, with the same
network, positions and weights, and takes the likeliest class of both. MONAI gets the network in the memory format
that suits it better. CPU times, medians and their ratio, for a volume of noise and for one that is mostly air.

`memory` does the same in fresh processes and prints the peak of each (`ru_maxrss`): our labels, our labels with the
loss and the errors per box, and MONAI's logits where they fit.

`chain` writes a CT of `--shape` with `--classes` structures, trains one step on it, validates, predicts, and
evaluates the prediction, each command in a process of its own with `compute.case_gb` set to `--gb`, and prints how
long each took and its peak. A small network, so that it is the handling of the volumes that is measured; without
calibration, which looks at every probability in float64.

`noise` evaluates predictions as bad as those of a network that was hardly trained: noise of all classes, and one
class in half of the voxels, nearly all of them its border; and beside them the label moved by two voxels.
With `--together` the three are the cases of one folder.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray

from segexplorer import losses
from segexplorer.functional.inputs import LossContext
from segexplorer.losses.streamed import StreamedLoss
from segexplorer.networks import registry as networks
from segexplorer.training.compute import Runtime
from segexplorer.training.evaluator import error_partition
from segexplorer.training.sliding_window import Tile, likeliest, stream_logits

Array = NDArray[Any]

OVERLAP = 0.5


def runtime(threads: int, gigabytes: float = 4.0) -> Runtime:
    return Runtime("cpu", "CPU", "float32", threads, True, int(gigabytes * 1e9))


def network(classes: int, last: bool, *, small: bool = False) -> torch.nn.Module:
    """A U-Net of 4 features, or a single convolution; the same weights in either memory format."""
    torch.manual_seed(0)
    if small:
        made: torch.nn.Module = torch.nn.Conv3d(1, classes, 3, padding=1).eval()
    else:
        spec = networks.parse({"kind": "unet", "base_features": 4, "levels": 3})
        made = spec.build(dimensions=3, in_channels=1, out_channels=classes).eval()
    return made.to(memory_format=torch.channels_last_3d) if last else made


def volume(shape: Sequence[int], air: bool) -> torch.Tensor:
    """Noise; where there is air, in the middle third of two axes alone."""
    torch.manual_seed(1)
    image = torch.randn(1, 1, *shape)
    if air:
        for axis in (2, 3):
            n = image.shape[axis]
            image.narrow(axis, 0, n // 4).fill_(-1)
            image.narrow(axis, n - n // 4, n // 4).fill_(-1)
    return image


def ours(
    net: torch.nn.Module, image: torch.Tensor, classes: int, patch: Sequence[int], run: Runtime
) -> torch.Tensor:
    """Return (x, y, z) labels, as `predict` makes them."""
    labels = torch.zeros(image.shape[2:], dtype=torch.uint8)
    for item in stream_logits(
        net,
        image,
        classes=classes,
        patch=patch,
        overlap=OVERLAP,
        runtime=run,
        memory=run.device_bytes(0),
        means=False,
    ):
        if isinstance(item, Tile):
            labels[item.place] = likeliest(item.core_logits[0])
    return labels


def ours_with_loss(
    net: torch.nn.Module, image: torch.Tensor, classes: int, patch: Sequence[int], run: Runtime
) -> tuple[torch.Tensor, float]:
    """Return labels and the loss, with the errors per box, as a validation makes them."""
    shape = tuple(image.shape[2:])
    truth = (torch.arange(shape[0] * shape[1] * shape[2]) // 4096 % classes).to(torch.uint8).view(shape)
    boxes = error_partition(shape, classes)
    loss = StreamedLoss(losses.create("dice_cross_entropy"), truth, classes, LossContext(), boxes=boxes)
    labels = torch.zeros(shape, dtype=torch.uint8)
    memory = run.device_bytes(loss.nbytes + labels.numel())
    for item in stream_logits(
        net, image, classes=classes, patch=patch, overlap=OVERLAP, runtime=run, memory=memory
    ):
        if isinstance(item, Tile):
            labels[item.place] = likeliest(item.core_logits[0])
            loss.add(item.start, item.core_logits)
    return labels, float(loss.output().value)


def monai(net: torch.nn.Module, image: torch.Tensor, patch: Sequence[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: Any = sliding_window_inference(image, tuple(patch), 1, net, OVERLAP, "gaussian")
        return logits.argmax(1)[0].to(torch.uint8)


# ---- time


def compare_times(cases: Sequence[tuple[tuple[int, ...], int, int]], rounds: int, threads: int) -> None:
    print(
        "network      shape            patch  classes  air   ours, s   MONAI, s   ratio   voxels that differ"
    )
    for shape, edge, classes in cases:
        patch, run = (edge,) * 3, runtime(threads)
        for small, air in ((False, False), (False, True), (True, False), (True, True)):
            plain, last = (network(classes, last, small=small) for last in (False, True))
            image = volume(shape, air)
            ways: dict[str, Callable[[], torch.Tensor]] = {
                "ours": partial(ours, last, image, classes, patch, run),
                "monai": partial(monai, plain, image, patch),
                "monai, channels last": partial(monai, last, image, patch),
            }
            taken: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                found = {name: timed(taken[name], way) for name, way in ways.items()}
            differ = float((found["ours"] != found["monai"]).double().mean())
            own, *others = (statistics.median(times) for times in taken.values())
            print(
                f"{'convolution' if small else 'U-Net':12} "
                f"{'x'.join(map(str, shape)):16} {edge:5}  {classes:7}  {'most' if air else 'none':4}  "
                f"{own:7.2f}   {min(others):8.2f}   {own / min(others):5.2f}   {differ:.1e}",
                flush=True,
            )


def timed(taken: list[float], work: Callable[[], torch.Tensor]) -> torch.Tensor:
    begun = time.process_time()
    found = work()
    taken.append(time.process_time() - begun)
    return found


# ---- memory


def compare_memory(
    shapes: Sequence[tuple[int, ...]], edge: int, classes: int, gb: float, threads: int
) -> None:
    print("shape            classes  budget, GB   what           peak, GiB   CPU, s   all logits, GiB")
    for shape in shapes:
        for what in ("nothing", "ours", "ours and loss", "monai"):
            logits = 4 * classes * float(np.prod(shape)) / 2**30
            if what == "monai" and logits > 3:
                continue
            told = json.dumps([what, shape, edge, classes, gb, threads])
            done = subprocess.run(
                [sys.executable, __file__, "--child", told], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            peak, seconds = json.loads(done.stdout.splitlines()[-1])
            name = "x".join(map(str, shape))
            print(
                f"{name:16} {classes:7}  {gb:10}   {what:14} {peak:9.2f}   {seconds:6.1f}   {logits:.1f}",
                flush=True,
            )


def child(what: str, shape: Sequence[int], edge: int, classes: int, gb: float, threads: int) -> None:
    torch.set_num_threads(threads)
    image, patch, run = volume(shape, False), (edge,) * 3, runtime(threads, gb)
    net = network(classes, what != "monai")
    if what == "ours":
        ours(net, image, classes, patch, run)
    elif what == "ours and loss":
        ours_with_loss(net, image, classes, patch, run)
    elif what == "monai":
        monai(net, image, patch)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([usage.ru_maxrss / 2**20, usage.ru_utime + usage.ru_stime]))


# ---- all commands


def rods(shape: Sequence[int], classes: int) -> Array:
    """Return labels of a body of rods, one structure each."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    x, y, z = ((a - n / 2) / (n / 2) for a, n in zip(axes, shape, strict=True))
    rows = int(np.ceil(classes ** (1 / 3)))
    cell = [np.minimum(((v + 0.6) / 1.2 * rows).astype(np.int16), rows - 1) for v in (x, y)]
    depth = np.minimum(((z + 1) / 2 * rows).astype(np.int16), rows - 1)
    number = (cell[0] * rows + cell[1]) * rows + depth + 1
    inside = (np.abs(x) < 0.6) & (np.abs(y) < 0.6) & (number <= classes)
    return np.where(inside, number, 0).astype(np.uint8)


def write(path: Path, array: Array) -> None:
    import nibabel as nib

    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([0.8, 0.8, 1.0, 1.0])), path)


def write_case(folder: Path, shape: Sequence[int], classes: int) -> None:
    """Write a CT with a body of rods and air around it."""
    label = rods(shape, classes)
    x, y, _ = (2 * a / n - 1 for a, n in zip(np.ogrid[tuple(map(slice, shape))], shape, strict=True))
    body = np.broadcast_to(x**2 + y**2 < 0.9, shape)
    image = np.where(body, 2 * label.astype(np.int16), np.int16(-1000))
    for layer in image:  # noise within the body, a layer at a time
        layer += (np.random.default_rng(0).integers(-20, 20, layer.shape, np.int16)) * (layer > -1000)
    write(folder / "images" / "case.nii", image)
    write(folder / "labels" / "case.nii", label)


LAUNCHER = """
import json, os, sys
words = [sys.executable, "-m", "segexplorer.frontends.cli", *sys.argv[2:]]
child = os.posix_spawn(sys.executable, words, os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    json.dump([usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20], file)
sys.exit(bool(status))
"""
"""Starts a command from a process of a few MB, because Linux counts that of the parent as memory of the child."""


def measured(name: str, *words: str) -> str:
    """Run a command in a process of its own, print its times and its peak, and return what it says."""
    with tempfile.TemporaryDirectory() as scratch:
        figures = Path(scratch) / "figures"
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", LAUNCHER, str(figures), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stdout}")
        wall = time.perf_counter() - begun
        cpu, peak = json.loads(figures.read_text())
    print(f"{name:26} {wall:9.1f} {cpu:9.1f} {peak:9.2f}", flush=True)
    return done.stdout


def evaluate_noise(shape: tuple[int, ...], classes: int, *, together: bool) -> None:
    """Evaluate predictions that are noise, each in a process of its own, or all in one."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        label = rods(shape, classes)
        predictions = {"moved by two voxels": "moved", "one class in half": "half", "all classes": "even"}
        for kind in predictions.values():
            write(root / "labels" / f"{kind}.nii", label)
            found = np.roll(label, 2, 0)
            if kind != "moved":
                for layer in found:
                    layer[...] = rng.integers(0, classes + 1, layer.shape, np.uint8)
                    if kind == "half":
                        layer[rng.random(layer.shape, np.float32) < 0.5] = 1
            write(root / "found" / f"{kind}.nii", found)
        del label, found
        print(f"{'x'.join(map(str, shape))}, {classes} classes and background")
        print("evaluate                      wall, s    CPU, s   peak, GiB")
        if together:
            measured("all three", "evaluate", str(root / "found"), str(root / "labels"), "--json")
            return
        for name, kind in predictions.items():
            files = (str(root / folder / f"{kind}.nii") for folder in ("found", "labels"))
            measured(name, "evaluate", *files, "--json")


def run_chain(
    shape: tuple[int, ...], classes: int, patch: int, gb: float, threads: int, loss: str, overlap: float
) -> None:
    import yaml

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_case(root / "data", shape, classes)
        edge = min(patch, *(n // 8 * 8 for n in shape))
        experiment = {
            "data": {
                "kind": "folder",
                "root": str(root / "data"),
                "images": ["images/{case}.nii"],
                "labels": "labels/{case}.nii",
                "classes": {f"rod {n}": n for n in range(1, classes + 1)},
            },
            "split": {"validation_count": 0, "self_validation": True},
            "sampling": {"patch_size": [edge] * 3, "batch_size": 1, "steps_per_epoch": 1},
            "network": {"kind": "unet", "base_features": 4, "levels": 3},
            "loss": loss,
            "schedule": {"epochs": 1},
            "validation": {"overlap": overlap, "calibration": False},
            "compute": {"device": "cpu", "threads": threads, "precision": "float32", "case_gb": gb},
        }
        file = root / "experiment.yaml"
        file.write_text(yaml.safe_dump(experiment))
        run, out = root / "run", root / "prediction.nii"
        image, label = root / "data/images/case.nii", root / "data/labels/case.nii"
        print(
            f"{'x'.join(map(str, shape))}, {classes} classes and background, compute.case_gb {gb}, loss {loss}, "
            f"windows of {edge} with an overlap of {overlap}"
        )
        print("command                       wall, s    CPU, s   peak, GiB")
        for name, *words in (
            ("train and validate", "train", str(file), "--output", str(run)),
            ("predict", "predict", str(run), str(image), "-o", str(out)),
            ("evaluate", "evaluate", str(out), str(label), "--json"),
        ):
            said = measured(name, *words)
            if name == "train and validate":
                print("   " + "\n   ".join(said.splitlines()[-12:]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["time", "memory", "chain", "noise"])
    parser.add_argument("--shape", nargs=3, type=int, default=[512, 512, 800])
    parser.add_argument("--classes", type=int, default=104)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--gb", type=float, default=5.0)
    parser.add_argument("--loss", default="dice_cross_entropy")
    parser.add_argument("--overlap", type=float, default=OVERLAP)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--child", default="")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.child:
        child(*json.loads(asked.child))
        return
    shape, small = tuple(asked.shape), asked.small
    if "time" in asked.parts:
        cases = [((40, 40, 48), 16, 5)] if small else [((192, 192, 224), 96, 5), ((160, 160, 192), 96, 104)]
        compare_times(cases, 1 if small else asked.rounds, asked.threads)
    if "memory" in asked.parts:
        shapes = [(48, 48, 64)] if small else [(192, 192, 224), shape]
        classes, edge = (5, 16) if small else (asked.classes, asked.patch)
        compare_memory(shapes, edge, classes, 0.3 if small else asked.gb, asked.threads)
    whole, classes = ((48, 40, 56), 4) if small else (shape, asked.classes - 1)
    if "noise" in asked.parts:
        evaluate_noise(whole, classes, together=asked.together)
    if "chain" in asked.parts:
        gb = 0.3 if small else asked.gb
        run_chain(whole, classes, asked.patch, gb, asked.threads, asked.loss, asked.overlap)


if __name__ == "__main__":
    main()
