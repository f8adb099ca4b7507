"""Training with MONAI recorded for segexplorer: a handler for its engines, and `watch` for loops of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from torch import Tensor, nn

from segexplorer import Recorder
from segexplorer.core.events import CaseScore, Role

__all__ = ["SegExplorerHandler", "watch"]


def watch(
    recorder: Recorder, item: Mapping[str, Any], logits: Tensor, *, role: Role = "validation", case: str = ""
) -> tuple[CaseScore, ...]:
    """Record the prediction of an item of a MONAI data set, on the item's own grid.

    Parameters
    ----------
    recorder
        The record.
    item
        With `image` and `label`, (C, *spatial); of MetaTensors the affine is used. The label is one channel of
        integers, or 0 and 1 for each of several classes that overlap.
    logits
        (1, C, *spatial) or (C, *spatial) on the same grid.
    role
        "train" for a case that is trained on.
    case
        Its name; empty: that of the file.

    Returns
    -------
    tuple of CaseScore
        One per class.
    """
    label, image = item["label"], item["image"]
    affine = label.affine if isinstance(label, MetaTensor) else getattr(image, "affine", None)
    name = case or str(item.get("case", "")) or _file_name(image) or _file_name(label) or "case"
    given = logits[0] if logits.ndim == label.ndim + 1 else logits
    return recorder.watch(
        name,
        role=role,
        image=_three_axes(image[0]),
        label=(_three_axes(label[0]) if len(label) == 1 else _three_axes(label, 1)).to(torch.uint8),
        affine=None if affine is None else affine.detach().cpu().numpy(),
        logits=_three_axes(given, 1),
    )


class SegExplorerHandler:
    """An Ignite handler for MONAI's trainers: curves, terms, learning rate, and watched cases.

    Parameters
    ----------
    folder, classes
        As of `segexplorer.Recorder`: the run folder to make, and the foreground classes.
    loss
        The loss module of the trainer; terms and adaptive weights of ours are recorded.
    network, optimizer
        What is trained; the optimiser gives the learning rate.
    watched
        Role -> items of a data set with `image` and `label`, transformed as for validation; predicted whole.
    watch_every
        Epochs between two predictions of them.
    inferer
        `inferer(images, network)` gives logits; None: the network itself.
    device
        Where the network is.
    settings
        Further arguments of the recorder.

    Attributes
    ----------
    recorder
        The record, once the training has started.
    """

    def __init__(
        self,
        folder: str | Path | None,
        classes: Mapping[str, int | Sequence[int]] | Sequence[str],
        *,
        loss: nn.Module | None = None,
        network: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        watched: Mapping[Role, Sequence[Mapping[str, Any]]] | None = None,
        watch_every: int = 1,
        inferer: Callable[[Tensor, nn.Module], Tensor] | None = None,
        device: torch.device | str = "cpu",
        **settings: Any,
    ) -> None:
        self.recorder: Recorder | None = None
        self._folder, self._classes, self._settings = folder, classes, settings
        self._loss, self._network, self._optimizer = loss, network, optimizer
        self._watched, self._every, self._inferer, self._device = watched or {}, watch_every, inferer, device

    def attach(self, engine: Engine) -> None:
        """Follow an engine, e.g. a `SupervisedTrainer`; MONAI calls this."""
        engine.add_event_handler(Events.STARTED, self.started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch)
        engine.add_event_handler(Events.COMPLETED, self.completed)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.failed)

    def started(self, engine: Engine) -> None:
        """Begin the record."""
        if self.recorder is not None:
            return
        ours = hasattr(self._loss, "numbers_by_name")
        told = {
            "trainer": f"MONAI ({type(engine).__name__})",
            "network": type(self._network).__name__ if self._network is not None else "",
            "loss_name": "" if ours or self._loss is None else type(self._loss).__name__,
            "epochs": engine.state.max_epochs or 0,
            "steps_per_epoch": engine.state.epoch_length or 0,
        }
        loss: Any = self._loss if ours else None
        self.recorder = Recorder(self._folder, self._classes, loss=loss, **(told | self._settings))

    def step(self, engine: Engine) -> None:
        """Record a step from the engine's output."""
        if self.recorder is None:
            return
        output = engine.state.output
        first = output[0] if isinstance(output, list) else output
        loss = first["loss"] if isinstance(first, Mapping) else first
        rate = self._optimizer.param_groups[0]["lr"] if self._optimizer is not None else float("nan")
        samples = len(output) if isinstance(output, list) else 1
        self.recorder.step(loss, learning_rate=rate, samples=samples)

    def epoch(self, engine: Engine) -> None:
        """Record the end of an epoch, and predict the watched cases when it is time."""
        if self.recorder is None:
            return
        self.recorder.epoch_end()
        last = engine.state.epoch == engine.state.max_epochs
        if self._network is not None and (engine.state.epoch % self._every == 0 or last):
            self._watch(self.recorder, self._network)

    def _watch(self, recorder: Recorder, network: nn.Module) -> None:
        training, scores = network.training, []
        network.eval()
        try:
            for role, items in self._watched.items():
                for number, item in enumerate(items, 1):
                    with torch.no_grad():
                        images = item["image"][None].to(self._device)
                        logits = network(images) if self._inferer is None else self._inferer(images, network)
                    name = str(item.get("case", "")) or _file_name(item["image"]) or f"{role} {number}"
                    found = watch(recorder, item, logits, role=role, case=name)
                    scores += list(found) if role == "validation" else []
        finally:
            network.train(training)
        if scores:
            recorder.validate(scores)

    def completed(self, engine: Engine) -> None:
        """End the record."""
        if self.recorder is not None:
            self.recorder.finish("stopped" if engine.should_terminate else "finished")

    def failed(self, engine: Engine, error: Exception) -> None:
        """End the record with the error, which goes on."""
        if self.recorder is not None:
            self.recorder.finish("failed", error=f"{type(error).__name__}: {error}")
        raise error


def _file_name(given: Any) -> str:
    """Return the name of the file a MetaTensor was read from, without suffixes."""
    found = given.meta.get("filename_or_obj", "") if isinstance(given, MetaTensor) else ""
    return Path(str(found)).name.split(".")[0]


def _three_axes(given: Tensor, channels: int = 0) -> Tensor:
    """Return voxels with three spatial axes; a slice is one voxel thick."""
    plain = given.as_tensor() if isinstance(given, MetaTensor) else given
    return plain[..., None] if plain.ndim - channels == 2 else plain
