"""Training with Lightning recorded for segexplorer: a callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from segexplorer import Recorder
from segexplorer.core.events import Role

__all__ = ["SegExplorerCallback"]


class SegExplorerCallback(Callback):
    """Records curves, terms, learning rate, and watched cases.

    Parameters
    ----------
    folder, classes
        As of `segexplorer.Recorder`: the run folder to make, and the foreground classes.
    loss
        The loss module; terms and adaptive weights of ours are recorded.
    watched
        Role -> cases to predict whole: mappings with `image` (C, *spatial) and `label` (*spatial) or (1, *spatial),
        of classes that overlap 0 or 1 in (C, *spatial), tensors or arrays, and optionally `case` (name) and
        `affine` (4, 4) voxel -> RAS mm.
    watch_every
        Epochs between two predictions of them.
    predict
        `predict(module, images)` gives logits (1, C, *spatial) of images (1, C, *spatial); None: `module(images)`.
    settings
        Further arguments of the recorder.

    Attributes
    ----------
    recorder
        The record, once the training has started; None in all processes but the first.
    """

    def __init__(
        self,
        folder: str | Path | None,
        classes: Mapping[str, int | Sequence[int]] | Sequence[str],
        *,
        loss: Any = None,
        watched: Mapping[Role, Sequence[Mapping[str, Any]]] | None = None,
        watch_every: int = 1,
        predict: Callable[[LightningModule, Tensor], Tensor] | None = None,
        **settings: Any,
    ) -> None:
        self.recorder: Recorder | None = None
        self._folder, self._classes, self._settings = folder, classes, settings
        self._loss, self._watched, self._every = loss, watched or {}, watch_every
        self._predict = predict or (lambda module, images: module(images))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the record, in the first process alone."""
        if not trainer.is_global_zero or self.recorder is not None:
            return
        ours = hasattr(self._loss, "numbers_by_name")
        steps = trainer.num_training_batches
        told = {
            "trainer": f"Lightning ({type(pl_module).__name__})",
            "network": type(pl_module).__name__,
            "loss_name": "" if ours or self._loss is None else type(self._loss).__name__,
            "epochs": max(0, trainer.max_epochs or 0),
            "steps_per_epoch": int(steps) if steps != float("inf") else 0,
        }
        self.recorder = Recorder(
            self._folder, self._classes, loss=self._loss if ours else None, **(told | self._settings)
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record a step; under gradient accumulation, every batch is one."""
        if self.recorder is None or outputs is None:
            return
        rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else float("nan")
        self.recorder.step(outputs["loss"] if isinstance(outputs, Mapping) else outputs, learning_rate=rate)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the end of an epoch, and predict the watched cases when it is time."""
        if self.recorder is None:
            return
        self.recorder.epoch_end()
        done = trainer.current_epoch + 1
        if done % self._every == 0 or done == trainer.max_epochs:
            self._watch(self.recorder, pl_module)

    def _watch(self, recorder: Recorder, module: LightningModule) -> None:
        training, scores = module.training, []
        module.eval()
        try:
            for role, cases in self._watched.items():
                for number, given in enumerate(cases, 1):
                    image = torch.as_tensor(given["image"])
                    label = torch.as_tensor(given["label"])
                    label = label[0] if label.ndim == image.ndim and len(label) == 1 else label
                    with torch.no_grad():
                        logits = self._predict(module, image[None].to(module.device))[0]
                    found = recorder.watch(
                        str(given.get("case", f"{role} {number}")),
                        role=role,
                        image=_three_axes(image[0]),
                        label=_three_axes(label, int(label.ndim == image.ndim)),
                        affine=given.get("affine"),
                        logits=_three_axes(logits, 1),
                    )
                    scores += list(found) if role == "validation" else []
        finally:
            module.train(training)
        if scores:
            recorder.validate(scores)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the record."""
        if self.recorder is not None:
            self.recorder.finish("interrupted" if trainer.interrupted else "finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the record with the error, which goes on."""
        if self.recorder is None:
            return
        if isinstance(exception, KeyboardInterrupt):
            self.recorder.finish("interrupted")
        else:
            self.recorder.finish("failed", error=f"{type(exception).__name__}: {exception}")


def _three_axes(given: Tensor, channels: int = 0) -> Tensor:
    """Return voxels with three spatial axes; a slice is one voxel thick."""
    return given[..., None] if given.ndim - channels == 2 else given
