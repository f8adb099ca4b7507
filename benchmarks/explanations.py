"""Time and exactness of explanations: the pull against plain autograd, what-if of a decision, slices and volumes.

Prints, for each shape: seconds to make the pull of a few losses on all classes, the largest difference from the
gradient that `loss(...).backward()` gives (relative to its largest value), the difference that 16-bit logits make,
and milliseconds of one move of a decision slider: of the counts alone, and of all that the window's worker makes
while the slider moves (prediction, errors, their outlines and the counts of the whole case), and seconds after its
release. Then what a user waits for after a question about the loss: for the three slices that are seen, which
come first where the whole takes long, for the whole map with its shares (and how long a piece of it keeps another
question waiting), and for the slices once more under other parameters of the loss, whose sums over the case are
known by then. At last one move of alpha and beta while the map of the penalties per region is looked at.

    python benchmarks/explanations.py [--large] [--small]

`--large` adds 512 x 512 x 300 voxels with five classes (needs 24 GB), `--small` takes a second.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy import ndimage

from segexplorer import losses
from segexplorer.functional.inputs import LossContext
from segexplorer.losses.pull import pull
from segexplorer.training.explanation import explain_arrays
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.decision import Decision
from segexplorer.viewmodels.watched_case import Switch, Wanted, see
from segexplorer.viewmodels.why import Answer, Question, WhyRequest

KINDS = ("cross_entropy", "dice", "dice_cross_entropy", "tversky", "adaptive_region_tversky")


def made_up(shape: tuple[int, ...], classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (1, C, *shape) smooth logits and labels that agree with them in part."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(classes, *(max(2, n // 16) for n in shape))).astype(np.float32) * 4
    factors = [n / c for n, c in zip(shape, coarse.shape[1:], strict=True)]
    logits = np.stack([ndimage.zoom(channel, factors, order=1) for channel in coarse])
    labels = np.roll(logits.argmax(0), 2, axis=0)
    return torch.from_numpy(logits[None]), torch.from_numpy(labels[None, None].astype(np.int64))


def measure(shape: tuple[int, ...], classes: int) -> None:
    """Print one line per loss."""
    logits, labels = made_up(shape, classes)
    name = " x ".join(map(str, shape))
    for kind in KINDS:
        loss = losses.create(kind)
        begun = time.perf_counter()
        found = pull(loss, logits, labels, LossContext()).total
        seconds = time.perf_counter() - begun
        line = f"{name}, {classes} classes, {kind}: {seconds:.2f} s"
        if np.prod(shape) <= 128**3:
            leaf = logits.clone().requires_grad_()
            loss(leaf, labels, LossContext()).backward()
            assert leaf.grad is not None
            expected = -leaf.grad[0].numpy()
            top = np.abs(expected).max()
            halves = pull(loss, logits.half().float(), labels, LossContext()).total
            line += f", from autograd {np.abs(found - expected).max() / top:.1e}"
            line += f", 16-bit logits {np.abs(halves - expected).max() / top:.1e}"
        print(line, flush=True)
    array, truth = logits[0].numpy(), labels[0, 0].numpy().astype(np.uint8)
    begun = time.perf_counter()
    decision = Decision(array, truth, 1)
    decision.counts()
    prepared = time.perf_counter() - begun
    moves = []
    for bias in np.linspace(-3, 3, 20):
        begun = time.perf_counter()
        decision.counts(float(bias))
        decision.curve()
        decision.prediction(float(bias), (slice(None), slice(None), shape[2] // 2))
        moves.append(time.perf_counter() - begun)
    print(
        f"{name}: decision prepared in {prepared:.2f} s, a move takes {1000 * np.median(moves):.1f} ms",
        flush=True,
    )


def measure_window(shape: tuple[int, ...], classes: int) -> None:
    """Print what a move of the decision slider costs the worker of the window."""
    logits, labels = made_up(shape, classes)
    shown = WatchedSnapshot(
        case="case",
        role="validation",
        step=1,
        index=0,
        class_names=tuple(f"class {i}" for i in range(1, classes)),
        affine=np.eye(4),
        prediction=logits[0].numpy().argmax(0).astype(np.uint8),
        truth=labels[0, 0].numpy().astype(np.uint8),
        logits=logits[0].numpy().astype(np.float16),
        logits_affine=np.eye(4),
    )
    switches: frozenset[Switch] = frozenset({"prediction", "errors"})
    first = see(shown, None, Wanted(switches, 1, bias=0.0))
    seconds = []
    for bias, settled in [*((float(b), False) for b in np.linspace(-2, 2, 9)), (0.5, True)]:
        begun = time.perf_counter()
        see(
            shown,
            None,
            Wanted(switches, 1, bias=bias, settled=settled),
            known=first,
            decision=first.decision,
        )
        seconds.append(time.perf_counter() - begun)
    name = " x ".join(map(str, shape))
    print(
        f"{name}, {classes} classes: the window's worker needs {1000 * np.median(seconds[:-1]):.0f} ms a move, "
        f"{seconds[-1]:.2f} s after release",
        flush=True,
    )


def measure_answers(shape: tuple[int, ...], classes: int, kind: str) -> None:
    """Print how long the tab Why takes to answer what a loss asks for."""
    logits, labels = made_up(shape, classes)
    explanation = explain_arrays(
        labels[0, 0].numpy().astype(np.uint8),
        logits=logits[0].numpy(),
        loss=kind,
        class_names=[f"class {i}" for i in range(1, classes)],
    )
    del logits, labels
    changed = losses.parse({"kind": "tversky", "alpha": 0.3, "beta": 0.7})
    before: tuple[WhyRequest, Answer] | None = None
    waited = []
    for asked, loss in ((kind, None), ("then tversky", changed)):
        request = WhyRequest(
            *("run", "validation", "case", 1, None, 1),
            Question("asked", loss=loss),
            lambda _: explanation,
            visible=tuple((2 - axis, n / 2) for axis, n in enumerate(shape)),
        )
        begun, cpu, pieces = time.perf_counter(), time.process_time(), []
        while not pieces or before is None or before[1].partial:
            before = (request, request.answer(before))
            pieces.append(time.perf_counter() - begun - sum(pieces))
        if len(pieces) > 1:
            waited.append(f"{asked}: three slices in {1000 * pieces[0]:.0f} ms")
        whole = f"{sum(pieces):.2f} s ({time.process_time() - cpu:.2f} s of CPU)"
        waited.append(f"{asked}: the whole in {whole}, longest piece {max(pieces[1:] or pieces):.2f} s")
    print(f"{' x '.join(map(str, shape))}, {classes} classes, {', '.join(waited)}", flush=True)


def measure_penalties(shape: tuple[int, ...], classes: int) -> None:
    """Print how long a move of alpha and beta takes while the map of the penalties per region is looked at."""
    logits, labels = made_up(shape, classes)
    explanation = explain_arrays(
        labels[0, 0].numpy().astype(np.uint8), logits=logits[0].numpy(), loss="adaptive_region_tversky"
    )
    before: tuple[WhyRequest, Answer] | None = None
    moves = []
    for place in np.linspace(0.2, 0.4, 9):
        loss = losses.parse({"kind": "adaptive_region_tversky", "a": float(place)})
        request = WhyRequest(
            *("run", "validation", "case", 1, None, 1),
            Question("penalties", loss=loss),
            lambda _: explanation,
        )
        begun = time.perf_counter()
        before = (request, request.answer(before))
        assert not before[1].problem, before[1].problem
        moves.append(time.perf_counter() - begun)
    size = " x ".join(map(str, shape))
    print(
        f"{size}, {classes} classes: the map of penalties takes {1000 * moves[0]:.0f} ms at first, "
        f"{1000 * np.median(moves[1:]):.0f} ms a move",
        flush=True,
    )


def main() -> None:
    """Measure the shapes asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--small", action="store_true")
    chosen = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    if chosen.small:
        measure((24, 24, 24), 3)
        measure_window((24, 24, 24), 3)
        measure_answers((24, 24, 24), 3, "dice")
        measure_penalties((24, 24, 24), 3)
        return
    measure((128, 128, 128), 2)
    measure((128, 128, 128), 5)
    measure_window((128, 128, 128), 2)
    measure_window((128, 128, 128), 5)
    measure_answers((128, 128, 128), 2, "dice")
    measure_answers((128, 128, 128), 5, "dice")
    measure_penalties((128, 128, 128), 2)
    measure_penalties((128, 128, 128), 5)
    measure_answers((256, 256, 192), 5, "dice")
    if chosen.large:
        measure((512, 512, 300), 5)
        measure_answers((512, 512, 300), 5, "dice")


if __name__ == "__main__":
    main()
