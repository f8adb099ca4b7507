"""nnU-Net's trainer, which records what it does in a run folder of segexplorer.

nnU-Net finds it by its name in the folder that `nnUNet_extTrainer` names; `python -m segexplorer_nnunet` prints it.
"""

from __future__ import annotations

import copy
import os
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from numpy.typing import NDArray
from segexplorer_nnunet.cases import CaseFiles, classes_of, on_own_grid
from segexplorer_nnunet.settings import Settings
from segexplorer_nnunet.supervision import OwnTerms, SupervisedLoss, needs_full_resolution

from segexplorer import Recorder, losses, open_volume
from segexplorer.core.errors import SpecError
from segexplorer.core.events import EpochSummary, Role
from segexplorer.data.case import IGNORED
from segexplorer.data.geometry import spacing
from segexplorer.data.volume import Volume
from segexplorer.functional.inputs import LossContext
from segexplorer.losses.base import LossOutput, losses_in


class nnUNetTrainerSegExplorer(nnUNetTrainer):
    """nnU-Net with a record: terms of the loss, learning rate, and watched cases every few epochs.

    `segexplorer_nnunet.settings.VARIABLES` lists the environment variables that it reads.
    """

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net reads this signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.settings = Settings.from_environment(os.environ)
        self.recorder: Recorder | None = None
        self._end: ExitStack | None = None
        self._terms: OwnTerms | SupervisedLoss | None = None
        self._term_sums: dict[str, float] = {}
        if self.settings.epochs:
            self.num_epochs = self.settings.epochs
        if self.settings.steps:
            self.num_iterations_per_epoch = self.settings.steps
            self.num_val_iterations_per_epoch = max(1, self.settings.steps // 5)
        if self.settings.loss is not None and needs_full_resolution(self.settings.loss):
            self.enable_deep_supervision = False

    # ---- the loss

    def _build_loss(self) -> torch.nn.Module:
        own = super()._build_loss()
        if self.settings.loss is None:
            self._terms = OwnTerms(own)
            return own
        regions = self.label_manager.has_regions
        made = losses.multi_label(self.settings.loss) if regions else self.settings.loss.build()
        module = made.to(self.device)
        if self.is_ddp and (list(module.parameters()) or list(module.buffers())):
            raise SpecError(
                f"{self.settings.loss.display_name} adapts or learns, and would do so on each GPU by itself.",
                "Train on one GPU (-num_gpus 1), or choose a loss that does not adapt.",
            )
        self._terms = SupervisedLoss(
            module,
            getattr(own, "weight_factors", None),
            ignore_label=self.label_manager.ignore_label,
            spacing=self.configuration_manager.spacing,
            regions=regions,
        )
        return self._terms

    def initialize(self) -> None:
        super().initialize()
        learned = list(self._module.parameters()) if self._module is not None else []
        if learned:
            self.optimizer.add_param_group({"params": learned, "weight_decay": 0.0})

    @property
    def _module(self) -> Any:
        """Our loss; None with that of nnU-Net."""
        return self._terms.loss if isinstance(self._terms, SupervisedLoss) else None

    def save_checkpoint(self, filename: str) -> None:
        super().save_checkpoint(filename)
        if self._module is not None and self.local_rank == 0 and not self.disable_checkpointing:
            torch.save(self._module.state_dict(), _beside(filename))

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        super().load_checkpoint(filename_or_checkpoint)
        if self._module is not None and isinstance(filename_or_checkpoint, str):
            beside = _beside(filename_or_checkpoint)
            if beside.exists():
                self._module.load_state_dict(torch.load(beside, map_location=self.device, weights_only=True))

    # ---- training

    def run_training(self) -> None:
        with ExitStack() as self._end:  # the record ends as the training does, also with an error
            super().run_training()

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.settings.loss is not None and needs_full_resolution(self.settings.loss):
            self.print_to_log_file("Deep supervision is off, since the loss counts regions or distances.")
        self.print_to_log_file(f"Loss: {self._loss_name()}")
        if self.local_rank != 0:
            return
        self._watched = self._cases_to_watch()
        self._classes = classes_of(self.label_manager)
        self._files = CaseFiles(
            Path(self.preprocessed_dataset_folder_base),
            self.plans_manager.dataset_name,
            self.dataset_json,
            self.plans_manager,
        )
        plan = self.configuration_manager
        self.recorder = Recorder(
            self.settings.run or _new_folder(Path(self.output_folder)),
            self._classes,
            overlapping=self.label_manager.has_regions,
            loss=self._module,
            trainer=f"nnU-Net ({type(self).__name__})",
            network=plan.network_arch_class_name.rpartition(".")[2],
            loss_name=self._loss_name(),
            epochs=self.num_epochs - self.current_epoch,
            steps_per_epoch=self.num_iterations_per_epoch,
            name=f"{self.plans_manager.dataset_name} {self.configuration_name} fold {self.fold}",
            settings={
                "Data set": self.plans_manager.dataset_name,
                "Configuration": f"{self.configuration_name}, {self.plans_manager.plans_name}, fold {self.fold}",
                "Patch": " x ".join(map(str, plan.patch_size)),
                "Batch": str(plan.batch_size),
                "Spacing": " x ".join(f"{s:g}" for s in plan.spacing) + " mm (nnU-Net's order of axes)",
            },
        )
        if self._end is not None:
            self._end.enter_context(self.recorder)
        if self.current_epoch:
            self.recorder.note(f"nnU-Net went on after its epoch {self.current_epoch}.")
        self.print_to_log_file(f"Recording to {self.recorder.folder}; it can be opened while it grows")

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if isinstance(self._terms, SupervisedLoss):
            self._terms.epoch = self.current_epoch + 1
        self._term_sums = {}

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = super().train_step(batch)
        assert self._terms is not None
        terms = self._terms.terms()
        if self._module is not None:
            self._module.step_end({name: value for name, (value, _) in terms.items()})
        for name, (value, _) in terms.items():
            self._term_sums[name] = self._term_sums.get(name, 0.0) + value
        self._record(
            lambda recorder: recorder.step(
                float(result["loss"]),
                terms,
                learning_rate=self.optimizer.param_groups[0]["lr"],
                samples=len(batch["data"]),
                cases=[str(key) for key in batch.get("keys", ())],
            )
        )
        return result

    def on_epoch_end(self) -> None:
        epoch = self.current_epoch + 1
        if self._module is not None:  # before nnU-Net saves a checkpoint
            dice = self.logger.get_value("dice_per_class_or_region", step=-1)
            steps = self.num_iterations_per_epoch
            means = {name: total / steps for name, total in self._term_sums.items()}
            classes = {i: float(np.nan_to_num(value)) for i, value in enumerate(dice, 1)}
            self._module.epoch_end(EpochSummary(epoch, self.num_epochs, means, classes))
        super().on_epoch_end()
        self._record(lambda recorder: recorder.epoch_end())
        if epoch in (1, self.num_epochs) or epoch % self.settings.watch_every == 0:
            self._record(self._watch)

    def on_train_end(self) -> None:
        super().on_train_end()
        if self.local_rank == 0:  # as nnU-Net does with its own
            _beside(str(Path(self.output_folder) / "checkpoint_latest.pth")).unlink(missing_ok=True)

    # ---- watched cases

    def _cases_to_watch(self) -> dict[str, Role]:
        training, validation = self.do_split()
        roles: dict[str, Role] = {str(case): "validation" for case in validation}
        roles |= {str(case): "train" for case in training}  # fold "all" validates on what it trains with
        wanted = self.settings.watch_cases or (min(map(str, training)), min(map(str, validation)))
        unknown = [case for case in wanted if case not in roles]
        if unknown:
            raise SpecError(f"{unknown[0]} is no case of this data set.", "Correct SEGEXPLORER_WATCH_CASES.")
        return {case: roles[case] for case in wanted}

    def _watch(self, recorder: Recorder) -> None:
        data = self.dataset_class(
            self.preprocessed_dataset_folder,
            list(self._watched),
            folder_with_segs_from_previous_stage=self.folder_with_segs_from_previous_stage,
        )
        predictor = self._predictor()
        scores: list[Any] = []
        self.set_deep_supervision_enabled(False)
        try:
            for case, role in self._watched.items():
                logits, properties = self._predict(predictor, data, case)
                found = self._watch_case(recorder, case, role, logits, properties)
                scores += found if role == "validation" else []
        finally:
            self.set_deep_supervision_enabled(self.enable_deep_supervision)
        if scores:
            recorder.validate(scores, loss=float(self.logger.get_value("val_losses", step=-1)))

    def _predictor(self) -> nnUNetPredictor:
        predictor = nnUNetPredictor(
            tile_step_size=0.5,
            use_gaussian=True,
            use_mirroring=False,  # what the network says, in an eighth of the time
            perform_everything_on_device=True,
            device=self.device,
            verbose=False,
            verbose_preprocessing=False,
            allow_tqdm=False,
        )
        network = self.network.module if self.is_ddp else self.network
        network.eval()
        predictor.manual_initialization(
            network,
            self.plans_manager,
            self.configuration_manager,
            None,
            self.dataset_json,
            type(self).__name__,
            self.inference_allowed_mirroring_axes,
        )
        return predictor

    def _predict(self, predictor: nnUNetPredictor, data: Any, case: str) -> tuple[Any, dict[str, Any]]:
        """Return (C, ...) logits on the training grid, and the properties of the case."""
        voxels, _, previous, properties = data.load_case(case)
        voxels = voxels[:]
        if self.is_cascaded:
            stage = convert_labelmap_to_one_hot(
                previous[:], self.label_manager.foreground_labels, output_dtype=voxels.dtype
            )
            voxels = np.vstack((voxels, stage))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the array may not be writable, and nobody writes
            image = torch.from_numpy(voxels)
        return predictor.predict_sliding_window_return_logits(image).cpu().float(), properties

    def _watch_case(
        self, recorder: Recorder, case: str, role: Any, logits: Any, properties: dict[str, Any]
    ) -> list[Any]:
        plans, configuration = self.plans_manager, self.configuration_manager
        regions = self.label_manager.has_regions
        own = on_own_grid(logits, properties, plans, configuration, regions=regions)
        files = self._files.of(case)
        output = self._regions(own, files["label"])
        return list(recorder.watch(case, role=role, logits=own, output=output, **files))

    def _regions(self, logits: NDArray[np.float32], label: Any) -> LossOutput | None:
        """Return what the loss says of the whole case, where it counts regions; None where it does not."""
        if self.settings.loss is None or not any(part.regional for part in losses_in(self.settings.loss)):
            return None
        volume = label if isinstance(label, Volume) else open_volume(label, label=True)
        values, ignored = np.asarray(volume.array).astype(np.int64), self.label_manager.ignore_label
        truth = torch.from_numpy(values[np.newaxis])
        if self.label_manager.has_regions:
            own = [np.isin(values, given) for name, given in self._classes.items() if name != "ignore"]
            truth = torch.from_numpy(np.where(values == ignored, IGNORED, np.stack(own)))
            ignored = IGNORED
        context = LossContext(
            spacing=[spacing(volume.affine)], ignore_index=ignored, epoch=self.current_epoch
        )
        with torch.no_grad():
            found: LossOutput = (
                copy.deepcopy(self._module)
                .cpu()
                .evaluate(torch.from_numpy(logits)[None], truth[None], context)
            )
        return found

    # ---- the record

    def _record(self, write: Callable[[Recorder], object]) -> None:
        """Record something; where that fails, say so, end the record, and go on training."""
        if self.recorder is None:
            return
        try:
            write(self.recorder)
        except Exception as error:  # noqa: BLE001  days of training must not end by a full disk of the record
            self.print_to_log_file(f"Recording ended, training goes on: {error}\n{traceback.format_exc()}")
            recorder, self.recorder = self.recorder, None
            try:
                recorder.finish("failed", error=str(error))
            except Exception as again:  # noqa: BLE001  the disk is full for this, too
                self.print_to_log_file(f"The record could not be ended: {again}")

    def _loss_name(self) -> str:
        if self.settings.loss is not None:
            return self.settings.loss.display_name
        compound = getattr(self.loss, "loss", self.loss)
        return f"{type(compound).__name__} of nnU-Net"


def _beside(checkpoint: str) -> Path:
    """Return the file for the state of our loss, beside nnU-Net's checkpoint."""
    return Path(checkpoint).with_suffix(".loss.pth")


def _new_folder(results: Path) -> Path:
    """Return a run folder that does not exist: nnU-Net may train a fold again, or go on."""
    folder, number = results / "segexplorer", 2
    while folder.exists():
        folder, number = results / f"segexplorer-{number}", number + 1
    return folder
