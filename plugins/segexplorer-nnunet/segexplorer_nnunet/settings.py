"""What the trainer reads from environment variables, since nnU-Net's command line has no place for settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segexplorer import losses
from segexplorer.core.errors import SpecError
from segexplorer.core.yaml_text import YamlError, load_yaml
from segexplorer.losses.base import LossSpec

VARIABLES = {
    "SEGEXPLORER_LOSS": "the loss: a kind or preset (tversky), parameters ({kind: tversky, alpha: 0.3}), or a YAML "
    "file with them, also under `loss:`; unset: that of nnU-Net",
    "SEGEXPLORER_WATCH_EVERY": "epochs between two predictions of the watched cases (default 50)",
    "SEGEXPLORER_WATCH_CASES": "names of the cases to watch, with commas (default: the first of each split)",
    "SEGEXPLORER_RUN": "run folder to make (default: segexplorer in the fold's results)",
    "SEGEXPLORER_EPOCHS": "epochs (default: those of nnU-Net, 1000)",
    "SEGEXPLORER_STEPS": "training steps per epoch (default: nnU-Net's 250); a fifth of it in its validation",
}
"""Name -> meaning; the README prints them."""

WATCH_EVERY = 50


@dataclass(frozen=True)
class Settings:
    """Settings of the trainer; None: as nnU-Net has it."""

    loss: LossSpec | None = None
    watch_every: int = WATCH_EVERY
    watch_cases: tuple[str, ...] = ()
    run: Path | None = None
    epochs: int | None = None
    steps: int | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the variables.

        Raises
        ------
        SpecError
            Naming the variable that makes no sense.
        """
        given = {k: v.strip() for k, v in environment.items() if k.startswith("SEGEXPLORER_") and v.strip()}
        run = given.get("SEGEXPLORER_RUN")
        cases = given.get("SEGEXPLORER_WATCH_CASES", "")
        return cls(
            loss=_loss(given.get("SEGEXPLORER_LOSS")),
            watch_every=_number(given, "SEGEXPLORER_WATCH_EVERY") or WATCH_EVERY,
            watch_cases=tuple(case.strip() for case in cases.split(",") if case.strip()),
            run=Path(run).expanduser() if run else None,
            epochs=_number(given, "SEGEXPLORER_EPOCHS"),
            steps=_number(given, "SEGEXPLORER_STEPS"),
        )


def _number(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise SpecError(f"{name} is {text!r}.", "Give a whole number of at least 1.")
    return int(text)


def _loss(text: str | None) -> LossSpec | None:
    if text is None:
        return None
    if text.endswith((".yaml", ".yml")):
        path = Path(text).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise SpecError(f"{path} cannot be read: {error.strerror}.", "Set SEGEXPLORER_LOSS.") from error
    try:
        value = load_yaml(text)
    except YamlError as error:
        remedy = "Give a kind, or {kind: tversky, alpha: 0.3}."
        raise SpecError(f"SEGEXPLORER_LOSS is not valid YAML{error}.", remedy) from error
    if isinstance(value, dict) and "loss" in value and "kind" not in value:
        value = value["loss"]  # an experiment
    return losses.parse(value)
