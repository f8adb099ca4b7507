"""`segexplorer cost`: what networks cost, counted and (on request) measured, in one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from segexplorer.core.errors import DataError, SpecError
from segexplorer.frontends.cli.terminal import print_json, remarks, results

if TYPE_CHECKING:
    from segexplorer.networks.base import NetworkSpec
    from segexplorer.networks.cost import Cost
    from segexplorer.training.compute import Compute
    from segexplorer.training.experiment import Experiment
    from segexplorer.training.timing import Speed

CUBE = (64, 64, 64)
"""Patch of a network that is named without one."""


@dataclass(frozen=True)
class Subject:
    """A network with what it is given: patch, channels, classes.

    Attributes
    ----------
    passes
        Forward passes over the largest volume of its data: windows, each as often as it is mirrored.
    compute
        Where and how it is measured.
    """

    name: str
    network: NetworkSpec
    patch: tuple[int, ...]
    channels: int
    classes: int
    passes: int | None = None
    compute: Compute | None = None


def run_cost(
    names: Sequence[str],
    *,
    patch: str | None,
    channels: int | None,
    classes: int | None,
    measured: bool,
    as_json: bool,
) -> None:
    """Print what each network, or the network of each experiment file, costs."""
    from segexplorer.networks.cost import cost

    given = _parsed_patch(patch)
    subjects = [_subject(name, given, channels, classes) for name in names]
    costs = [cost(s.network, s.patch, in_channels=s.channels, out_channels=s.classes) for s in subjects]
    speeds = [_measured(s) if measured else None for s in subjects]
    rows = list(zip(subjects, costs, speeds, strict=True))
    if as_json:
        print_json([_plain(*row) for row in rows])
        return
    out = results()
    out.print(_table(rows))
    out.print(
        "FLOPs: of one forward pass over the patch; a multiplication and an addition count as two "
        "(papers that count them as one write half of it). Memory to train: one patch, float32, with Adam."
    )
    for subject, counted, _ in rows:
        if subject.passes is not None:
            out.print(
                f"{escape(subject.name)}: the largest volume of its data takes {subject.passes} forward "
                f"pass{'es' if subject.passes != 1 else ''}, {_short(subject.passes * counted.flops)}FLOPs."
            )
    for place in dict.fromkeys(_place(speed) for speed in speeds if speed is not None):
        out.print(f"Measured here ({place}): median, least to most.")
    if not measured:
        out.print("--measure times it on this machine.")


def _measured(subject: Subject) -> Speed:
    from segexplorer.training.timing import measure_network

    with remarks().status(f"Measuring {escape(subject.name)}"):
        return measure_network(
            subject.network,
            subject.patch,
            in_channels=subject.channels,
            out_channels=subject.classes,
            compute=subject.compute,
        )


def _place(speed: Speed) -> str:
    threads = f"{speed.threads} thread{'s' if speed.threads != 1 else ''}"
    return f"{speed.device}, {threads}, {speed.precision}, {speed.passes} passes"


def _subject(name: str, patch: tuple[int, ...] | None, channels: int | None, classes: int | None) -> Subject:
    if not name.lower().endswith((".yaml", ".yml")):
        from segexplorer.networks import registry

        return Subject(name, registry.parse(name), patch or CUBE, channels or 1, classes or 2)
    from segexplorer.training.experiment import Experiment

    experiment = Experiment.from_yaml(Path(name))
    own = tuple(n for n in experiment.sampling.patch_size or () if n > 1)
    found = _of_data(experiment)
    if found is None:
        shape = patch or own
        if not shape:
            raise SpecError(
                f"{name} trains on whole volumes, and its data are not here to say how large they are.",
                "Name a size: --patch 128,128,64",
            )
        return Subject(
            Path(name).stem,
            experiment.network,
            shape,
            channels or 1,
            classes or 2,
            compute=experiment.compute,
        )
    found_channels, found_classes, whole, passes = found
    return Subject(
        Path(name).stem,
        experiment.network,
        patch or own or whole,
        channels or found_channels,
        classes or found_classes,
        passes if patch is None else None,
        experiment.compute,
    )


def _of_data(experiment: Experiment) -> tuple[int, int, tuple[int, ...], int] | None:
    """Return channels, classes, largest prepared shape and forward passes over it; None without the data."""
    from segexplorer.training.plan import resolve
    from segexplorer.training.sliding_window import window_count

    try:
        plan = resolve(experiment)
    except DataError as error:
        remarks().print(
            escape(
                f"{error.message} Without its data, 1 channel and 2 classes are taken: --channels, --classes."
            )
        )
        return None
    shapes = [plan.fitted.prepared_shape(ref) for ref in plan.refs.values()]
    largest = tuple(max(s[axis] for s in shapes) for axis in range(3))
    window = plan.patch_for(largest)
    count = window_count(largest, window, experiment.validation.overlap)
    if experiment.validation.mirror:
        count *= 2 ** sum(n > 1 for n in window)
    return plan.channels, len(plan.class_names) + 1, largest, count


def _parsed_patch(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.lower().replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise SpecError(f"--patch {text!r} is no size.", "Write two or three numbers: --patch 64,64,64")
    return shape


def _table(rows: Sequence[tuple[Subject, Cost, Speed | None]]) -> Table:
    timed = any(speed is not None for *_, speed in rows)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("network", overflow="fold")
    headings = ["patch", "parameters", "FLOPs", "memory\nto train", "memory\nto predict"]
    for heading in [*headings, *(["seconds", "measured\nmemory"] if timed else [])]:
        table.add_column(heading, justify="right", no_wrap=heading != "seconds")
    for subject, counted, speed in rows:
        cells = [
            "×".join(map(str, counted.patch)),
            _short(counted.parameters).strip(),
            _short(counted.flops),
            _bytes(counted.training_bytes),
            _bytes(counted.inference_bytes),
        ]
        if speed is not None:
            cells.append(f"{speed.seconds:.3g} ({speed.fastest:.3g} to {speed.slowest:.3g})")
            cells.append("not known" if speed.memory_bytes is None else _bytes(speed.memory_bytes))
        table.add_row(escape(subject.name), *cells)
    return table


def _plain(subject: Subject, counted: Cost, speed: Speed | None) -> dict[str, Any]:
    return {
        "name": subject.name,
        "channels": subject.channels,
        "classes": subject.classes,
        **asdict(counted),
        "macs": counted.macs,
        "flops_per_voxel": counted.flops_per_voxel,
        "passes_per_volume": subject.passes,
        "measured": None if speed is None else asdict(speed),
    }


def _short(count: int) -> str:
    """Return a count as people write it: "28.1 G"."""
    if not count:
        return "0"
    exact = float(f"{count:.3g}")  # 999,700 is 1 M
    power = min(int(math.log10(exact) + 1e-9) // 3, 5)
    return f"{exact / 1000**power:.4g} {('', 'k', 'M', 'G', 'T', 'P')[power]}"


def _bytes(count: int) -> str:
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if count >= 2**power:
            return f"{count / 2**power:.3g} {unit}"
    return f"{count / 2**10:.0f} KiB"
