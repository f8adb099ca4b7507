"""The experiment: one frozen plan of everything that decides a training run, and its YAML."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import field_validator, model_validator
from pydantic_core import PydanticCustomError

import segexplorer
from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import SpecError, UnknownKindError, did_you_mean, shorten
from segexplorer.core.fields import parameter, parameters
from segexplorer.core.printable import is_printable, printable
from segexplorer.core.registry import kept_settings, plugin_kinds, require_plugins, section_class
from segexplorer.core.spec import Spec, replace_values, walk
from segexplorer.core.untrusted_files import require_bounded
from segexplorer.core.yaml_text import YamlError, load_yaml
from segexplorer.data.datasets.base import AnyDataset
from segexplorer.data.datasets.base import registry as datasets
from segexplorer.data.sampler import Sampling
from segexplorer.data.splits import Split
from segexplorer.data.transforms import Augmentation, Preprocessing
from segexplorer.losses.base import AnyLoss
from segexplorer.metrics import MetricOptions, choose
from segexplorer.networks.base import AnyNetwork
from segexplorer.training.compute import Compute
from segexplorer.training.deep_supervision import incompatibility
from segexplorer.training.optimisers import AnyOptimiser
from segexplorer.training.schedules import AnySchedule
from segexplorer.training.sinks import AnySink
from segexplorer.training.weights import NetworkWeights

MAX_YAML_BYTES = 4 * 2**20
MATRIX = "matrix"
"""Key of a file that `segexplorer study` expands (study.matrix); training it alone leaves it aside."""
CLUSTER = "cluster"
"""Key of a file that says where `segexplorer study` trains (study.cluster); no part of what a run is."""


class EarlyStopping(Spec):
    """When training ends before its last epoch, because the validation improves no more."""

    patience: int | None = parameter(
        None,
        title="Patience",
        description="Training ends after this many validations without an improvement. None: never early.",
        unit="validations",
        ge=1,
        live=True,
    )
    min_delta: float = parameter(
        0.0,
        title="Smallest improvement",
        description="A validation is better when it exceeds the best one so far by more than this.",
        ge=0,
        live=True,
        advanced=True,
    )
    monitor: Literal["dice", "loss"] = parameter(
        "dice",
        title="Monitored value",
        description="dice: the mean foreground Dice of the validation cases, which should rise; loss: their "
        "mean loss, which should fall.",
    )


class Validation(Spec):
    """How often whole volumes are predicted and scored, and which cases are watched."""

    every_epochs: int = parameter(
        1,
        title="Validate every",
        description="Whole validation volumes are predicted and scored after this many epochs.",
        unit="epochs",
        ge=1,
        live=True,
    )
    overlap: float = parameter(
        0.5,
        title="Window overlap",
        description="Overlap of neighbouring sliding windows; more is smoother and slower.",
        ge=0,
        le=0.9,
    )
    mirror: bool = parameter(
        False,
        title="Mirrored predictions",
        description="Average the predictions of all mirrored volumes: up to 8 times slower, a little better.",
        live=True,
    )
    early_stopping: EarlyStopping = parameter(
        default_factory=EarlyStopping,
        title="Early stopping",
        description="Whether training ends when the validation improves no more. It then reads the validation "
        "cases, so that figures on them are slightly flattered.",
    )
    average_weights: float = parameter(
        0.0,
        title="Weight averaging",
        description="Predict with an exponential moving average of the weights with this memory; 0 "
        "switches it off.",
        ge=0,
        lt=1,
        advanced=True,
    )
    select_best: Literal["dice", "loss"] = parameter(
        "dice",
        title="Best checkpoint",
        description="dice: that of the highest mean Dice of whole validation volumes; loss: that of their lowest "
        "mean loss.",
    )
    metrics: tuple[str, ...] = parameter(
        (),
        title="Further metrics",
        description="Names of metrics, tasks (lesions, organs, vessels) or protocols (coactseg) that are computed "
        "beside the default metrics at every validation; see `segexplorer list metrics`.",
        advanced=True,
        resume="free",
    )
    metric_options: MetricOptions = parameter(
        title="Options of metrics",
        description="What the definitions of further metrics leave open.",
        default_factory=MetricOptions,
        advanced=True,
        resume="free",
    )
    watch_train: str | None = parameter(
        None,
        title="Watched training case",
        description="Name of the case. None: the first training case.",
        advanced=True,
        resume="free",
    )
    watch_validation: str | None = parameter(
        None,
        title="Watched validation case",
        description="Name of the case. None: the first validation case.",
        advanced=True,
        resume="free",
    )
    watch_every_seconds: float | None = parameter(
        None,
        title="Watch every",
        description="Also predict the watched cases between validations, at this interval.",
        unit="s",
        gt=0,
        live=True,
    )
    keep_probabilities: bool = parameter(
        True,
        title="Keep probabilities",
        description="Store the class probabilities of the watched cases in the history (8 bits each).",
        advanced=True,
        resume="free",
    )
    probability_classes: tuple[str, ...] = parameter(
        (),
        title="Probabilities of",
        description="Classes whose probabilities are kept, at most eight, where those of all classes take too much "
        "(compute.case_gb). Empty: the first eight.",
        max_length=8,
        advanced=True,
        resume="free",
    )
    logits_mb: int = parameter(
        500,
        title="Space for logits",
        description="Most that the logits of the watched cases may take in the history (16 bits each). What a loss "
        "asks for at a voxel is computed from them. Where they do not fit, those of every second frame are kept, "
        "then of every fourth and so on, and always the newest. 0 keeps none.",
        unit="MB",
        ge=0,
        advanced=True,
        resume="free",
    )
    calibration: bool = parameter(
        True,
        title="Calibration",
        description="Compare the probabilities of the watched cases with how often they are right.",
        advanced=True,
    )

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            choose(value)
        except UnknownKindError as error:
            raise PydanticCustomError(
                "metric", "{text}", {"text": f"{error.message} {error.remedy}"}
            ) from error
        return value


class Monitoring(Spec):
    """What a run records of its loss so that `segexplorer doctor` can say what is wrong; it changes no result."""

    gradients_every: int = parameter(
        50,
        title="Gradients of terms every",
        description="After this many steps, the run records how strongly each term of the loss pulls on "
        "the logits, and what the loss would be for a perfect, an empty and a random prediction of the same batch. "
        "0: never.",
        unit="steps",
        ge=0,
        advanced=True,
        resume="free",
    )
    flight_recorder_mb: int = parameter(
        64,
        title="Space for the flight recorder",
        description="When training fails or the gradient explodes, the last steps and the batch are kept in the "
        "run "
        "folder, at most twice this much. They are never part of a shared copy. 0 keeps nothing.",
        unit="MB",
        ge=0,
        le=2000,
        advanced=True,
        resume="free",
    )
    patch_mb: int = parameter(
        1000,
        title="Space for the last patch",
        description="Most memory that the batch of a training step may take while somebody looks at what the loss "
        "asks for on its last patch: the logits in 32 bits, labels and image. A step that nobody asks about keeps "
        "nothing. 0: never.",
        unit="MB",
        ge=0,
        advanced=True,
        resume="free",
    )


class Checkpoints(Spec):
    """Which checkpoints stay although later ones were saved, so that a run can be forked from them."""

    keep_every: int = parameter(
        0,
        title="Keep checkpoints every",
        description="After this many epochs a checkpoint is saved and kept, so that a fork or a race can start "
        "from it at once; from other steps they first train again from the checkpoint before. 0: only the last two "
        "and the best one are kept.",
        unit="epochs",
        ge=0,
        advanced=True,
        resume="free",
    )
    keep_mb: int = parameter(
        500,
        title="Space for kept checkpoints",
        description="Most that these checkpoints may take. Where they do not fit, every second one is removed, "
        "then every second one of those that are left and so on.",
        unit="MB",
        ge=0,
        advanced=True,
        resume="free",
    )


class Change(Spec):
    """A live change: `field` took `value` before optimiser step `step` (counted from 0)."""

    step: int = parameter(title="Step", description="Optimiser steps done when it was applied.", ge=0)
    field: str = parameter(title="Setting", description="Dotted path of the setting.")
    value: bool | int | float | str | None = parameter(title="Value", description="The new value.")


class Experiment(Spec):
    """Data, preparation, network, loss, optimiser, schedule, validation, seed and place to compute.

    `changes` are live changes of an earlier run; they are replayed at their steps.
    """

    name: str = parameter(
        "", title="Name", description="A name of your choice.", advanced=True, resume="free"
    )
    data: AnyDataset = parameter(
        title="Data", description="Where the cases are and which labels are learned."
    )
    split: Split = parameter(
        default_factory=Split, title="Split", description="Which cases train, validate and test."
    )
    network: AnyNetwork = parameter("unet", title="Network", description="What predicts the classes.")
    network_weights: NetworkWeights = parameter(
        default_factory=NetworkWeights,
        title="Pre-trained weights",
        description="Weights to start from, and layers that are not trained.",
        advanced=True,
    )
    loss: AnyLoss = parameter("dice_cross_entropy", title="Loss", description="What training minimises.")
    optimiser: AnyOptimiser = parameter(
        "adamw", title="Optimiser", description="How the weights are updated."
    )
    schedule: AnySchedule = parameter(
        "polynomial", title="Schedule", description="How long to train, and how the learning rate decreases."
    )
    sampling: Sampling = parameter(
        default_factory=Sampling, title="Sampling", description="Patches and batches of a training step."
    )
    preprocessing: Preprocessing = parameter(
        default_factory=Preprocessing, title="Preprocessing", description="Spacing and intensities."
    )
    augmentation: Augmentation = parameter(
        default_factory=Augmentation,
        title="Augmentation",
        description="Random variation of training patches.",
    )
    validation: Validation = parameter(
        default_factory=Validation, title="Validation", description="How predictions are checked."
    )
    monitoring: Monitoring = parameter(
        default_factory=Monitoring,
        title="Monitoring",
        description="What is recorded of the loss so that its problems can be found.",
        advanced=True,
    )
    checkpoints: Checkpoints = parameter(
        default_factory=Checkpoints,
        title="Kept checkpoints",
        description="From which steps the run can be forked at once.",
        advanced=True,
    )
    seed: int = parameter(
        0,
        title="Seed",
        description="Determines the split, the initial weights and every random draw.",
        ge=0,
        le=2**31 - 1,
    )
    compute: Compute = parameter(
        default_factory=Compute, title="Computing", description="Device and precision."
    )
    sinks: tuple[AnySink, ...] = parameter(
        (),
        title="Sinks",
        description="Further places for the run's events besides its own folder, e.g. tensorboard. "
        "They change no result.",
        advanced=True,
        resume="free",
    )
    changes: tuple[Change, ...] = parameter(
        (), title="Changes", description="Live changes to replay at their steps.", advanced=True
    )

    @model_validator(mode="after")
    def _supervision_fits_the_loss(self) -> Self:
        if reason := incompatibility(self.network, self.loss):
            raise ValueError(reason)
        return self

    @classmethod
    def from_yaml(
        cls,
        source: str | Path,
        settings: Mapping[str, Any] | None = None,
        *,
        on_note: Callable[[str], object] = lambda note: None,
    ) -> Self:
        """Read an experiment file.

        Parameters
        ----------
        source
            Path of a YAML file. Relative paths in it resolve against its folder; `${VAR}` stays as it is.
        settings
            Dotted path -> value, applied before validation; relative paths among them resolve against the
            working directory. A section that becomes another kind ("loss.kind") loses what that kind does not have.
        on_note
            Called with a sentence where settings of the file are lost in this way.

        Raises
        ------
        SpecError
            One sentence naming the file and every setting at fault, unknown keys with the nearest name; for a kind
            of a package that is not installed, that package.
        """
        path = Path(source)
        # what concerns a study alone; the file without it is an experiment of its own
        data = {k: v for k, v in read_yaml(path).items() if k not in (MATRIX, CLUSTER)}
        data = _absolute(cls, data, path.resolve().parent)
        deferred = _apply_early(data, settings or {}, on_note)
        try:
            experiment = cls.of(data, path.name)
        except SpecError:
            require_plugins(_plugins_named_in(path))
            raise
        return (
            experiment.with_settings({k: (settings or {})[k] for k in deferred})
            if deferred
            else (experiment._with_paths_from(Path.cwd()))
        )

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """Return the experiment with dotted paths set; relative paths resolve against the working directory."""
        return replace_values(self, settings)._with_paths_from(Path.cwd())

    def to_yaml(self) -> str:
        """Return YAML that `from_yaml` reads back to an equal experiment; kinds of plug-ins are named above it."""
        named = [
            f"# {kind}: package {package}\n"
            for package, kinds in plugin_kinds(self).items()
            for kind in kinds
        ]
        return "".join(named) + yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True, width=100)

    def save(self, path: str | Path) -> None:
        """Write the experiment file atomically."""
        atomic_write(Path(path), self.to_yaml().encode())

    def _with_paths_from(self, folder: Path) -> Self:
        moved = {
            path: str(folder / value)
            for path, declared, value in walk(self)
            if declared.path and isinstance(value, str) and _is_relative(value)
        }
        return replace_values(self, moved) if moved else self


_PLUGIN_LINE = re.compile(r"^# (\w+ [\w-]+): package ([\w.-]+)$", re.MULTILINE)


def _plugins_named_in(path: Path) -> dict[str, list[str]]:
    """Return package -> kinds as `to_yaml` names them above an experiment."""
    found: dict[str, list[str]] = {}
    for kind, package in _PLUGIN_LINE.findall(_text_of(path)):
        found.setdefault(package, []).append(kind)
    return found


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_YAML_BYTES).decode("utf-8", "replace")


def _is_relative(text: str) -> bool:
    return bool(text) and "$" not in text and not text.startswith("~") and not Path(text).is_absolute()


def sample_configs() -> Path:
    """Return the folder of the experiment files that come with segexplorer.

    A wheel carries it inside the package; in a clone, an editable install and an unpacked source distribution it is
    beside the package.

    Raises
    ------
    SpecError
        When neither is there, e.g. because a part of an installation was deleted.
    """
    package = Path(segexplorer.__file__).resolve().parent
    for folder in (package / "sample_configs", package.parent / "sample_configs"):
        if folder.is_dir():
            return folder
    raise SpecError(f"The sample experiments of {package} are missing.", "Install segexplorer again.")


@dataclass(frozen=True)
class ShippedExperiment:
    """An experiment file that comes with segexplorer; `title` is the first sentence of its first comment."""

    name: str
    title: str
    path: Path


def shipped_experiments() -> tuple[ShippedExperiment, ...]:
    """Return the experiment files that come with segexplorer, sorted by name."""
    found = []
    for path in sorted(sample_configs().glob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            first = file.readline().strip().removeprefix("#").strip()
        found.append(ShippedExperiment(path.stem, first.partition(". ")[0].rstrip("."), path))
    return tuple(found)


def shipped_experiment(name: str) -> ShippedExperiment:
    """Return a shipped experiment by the name of its file, with or without `.yaml`.

    Raises
    ------
    SpecError
        With the nearest names.
    """
    found = {one.name: one for one in shipped_experiments()}
    wanted = name.removesuffix(".yaml")
    if wanted not in found:
        raise SpecError(
            f"No experiment called {name!r} comes with segexplorer.",
            f"{did_you_mean(wanted, found)} segexplorer configs lists all of them.",
        )
    return found[wanted]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that an experiment file holds, as it is.

    Raises
    ------
    SpecError
        When there is no such file, or it is no YAML mapping.
    """
    if not path.exists():
        raise SpecError(
            f"There is no experiment file {path}.",
            "Check the path, or copy a shipped one: segexplorer configs.",
        )
    if path.is_dir():
        raise SpecError(f"{path} is a folder, not an experiment file.", "Name the YAML file inside it.")
    with path.open("rb") as file:  # a device has no size that could be asked for
        content = file.read(MAX_YAML_BYTES + 1)
    if len(content) > MAX_YAML_BYTES:
        raise SpecError(
            f"{path.name} is too large for an experiment file.", "Check that it is the right file."
        )
    try:
        data = load_yaml(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SpecError(f"{path.name} is not valid YAML: it is not text.") from error
    except YamlError as error:
        raise SpecError(f"{path.name} is not valid YAML{error}.", "Correct that line.") from error
    if not isinstance(data, dict):
        raise SpecError(
            f"{path.name} does not contain an experiment.", "It should start with data:, network:, loss: ..."
        )
    require_bounded(data, path.name)
    _require_printable(data, path.name)
    return data


def _require_printable(value: Any, name: str) -> None:
    """Check that no name or text holds characters that act on a terminal; they reach every table and label.

    Raises
    ------
    SpecError
        Naming the text, its characters written out.
    """
    if isinstance(value, str) and not is_printable(value.replace("\n", " ").replace("\t", " ")):
        raise SpecError(
            f"{name} holds characters that cannot be shown: {shorten(printable(value), 60)}.",
            "Write the text without them.",
        )
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in (*parts, *(value if isinstance(value, dict) else ())):
        _require_printable(part, name)


def _absolute(model: type[Experiment], data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the file's own relative paths absolute before settings (relative to elsewhere) come in.

    Paths are in the pre-trained weights and in the data, whose class is known by `kind`; an unknown kind is left
    to validation.
    """
    weights = data.get("network_weights")
    if isinstance(weights, dict):
        data = {**data, "network_weights": _absolute_section(NetworkWeights, weights, folder)}
    section = data.get("data")
    if not isinstance(section, dict):
        return data
    try:
        declared = datasets.spec(str(section.get("kind", "")))
    except UnknownKindError:
        return data
    return {**data, "data": _absolute_section(declared, section, folder)}


def _absolute_section(declared: type[Spec], section: dict[str, Any], folder: Path) -> dict[str, Any]:
    moved = dict(section)
    for item in parameters(declared):
        value = section.get(item.name)
        if item.path and isinstance(value, str) and _is_relative(value):
            moved[item.name] = str(folder / value)
        inner = item.shape.items[0] if item.shape.form == "list" else None
        if inner is not None and inner.form == "group" and isinstance(value, (list, tuple)):
            nested = inner.spec
            assert nested is not None and issubclass(nested, Spec)
            moved[item.name] = [
                _absolute_section(nested, v, folder) if isinstance(v, dict) else v for v in value
            ]
    return moved


def _apply_early(
    data: dict[str, Any], settings: Mapping[str, Any], on_note: Callable[[str], object]
) -> list[str]:
    """Set what can be set in the raw mapping; return the paths that need the validated experiment.

    Early, since a file may leave out what the command line gives (a data path); late where a section is a bare
    name ("loss: tversky"), a list, or left to its default.
    """
    deferred = []
    for path, value in settings.items():
        parts = path.split(".")
        if parts[0] not in Experiment.model_fields:
            hint = did_you_mean(parts[0], Experiment.model_fields)
            raise SpecError(f"An experiment has no setting {parts[0]!r}.", hint)
        target: Any = data
        for part in parts[:-1]:
            target = target.get(part) if isinstance(target, dict) else None
        if isinstance(target, dict):
            if parts[-1] == "kind" and len(parts) > 1:
                _drop_settings(data, target, parts[:-1], str(value), on_note)
            target[parts[-1]] = value
        else:
            deferred.append(path)
    return deferred


def _drop_settings(
    data: dict[str, Any],
    section: dict[str, Any],
    parts: Sequence[str],
    kind: str,
    on_note: Callable[[str], object],
) -> None:
    """Take out of a section what its new kind does not have, and say so."""
    registry = section_class(Experiment, data, parts)
    if registry is None:
        return
    given = {key: value for key, value in section.items() if key != "kind"}
    kept = kept_settings(registry, kind, given)
    if lost := [key for key in given if key not in kept]:
        on_note(
            f"{'.'.join(parts)}.kind={kind} has no {', '.join(lost)}: what the file says of it is left out."
        )
    for key in lost:
        del section[key]
