"""The TensorBoard sink: read back by TensorBoard's own reader, and compared with the record of the run."""

from __future__ import annotations

import builtins
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from segexplorer.core import colours
from segexplorer.core.events import EpochDone, Notice, RunFinished, StepDone, ValidationDone
from segexplorer.core.schema import json_schema
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.run import Run
from segexplorer.training.sinks import registry
from segexplorer.training.sinks.pictures import GAP, SIDE, PlaneView

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
MakeRun = Callable[..., Run]


def read_back(folder: Path) -> Any:
    """Return what TensorBoard shows of a run."""
    everything = dict.fromkeys(event_accumulator.DEFAULT_SIZE_GUIDANCE, 0)  # 0: nothing is thinned out
    return event_accumulator.EventAccumulator(str(folder / "tensorboard"), everything).Reload()


def curve(read: Any, tag: str) -> dict[int, float]:
    points = read.Scalars(tag)
    assert len({p.step for p in points}) == len(points), f"{tag} has a step twice"
    return {p.step: p.value for p in points}


def single(values: dict[int, float]) -> Any:
    """TensorBoard keeps float32."""
    return pytest.approx(values, rel=1e-6)


def expected_curves(run: Run) -> dict[str, dict[int, float]]:
    """What the curves must be, from the log and, for the metrics, from `metrics.csv`."""
    found: dict[str, dict[int, float]] = {}
    for event in open_run(run.folder).events():
        if isinstance(event, StepDone):
            numbers = {
                "loss": event.loss,
                "learning_rate": event.learning_rate,
                "gradient_norm": event.gradient_norm,
            }
            numbers |= {f"terms/{name}": value for name, (value, _) in event.terms.items()}
            numbers |= {f"weights/{name}": weight for name, (_, weight) in event.terms.items()}
            numbers |= {f"term_gradients/{name}": norm for name, norm in event.term_gradients.items()}
            numbers |= {f"references/{name}": value for name, value in event.references.items()}
            group = "train"
        elif isinstance(event, EpochDone):
            numbers = {"loss": event.loss} | {f"adaptive/{n}": v for n, v in event.adaptive.items()}
            numbers |= {f"terms/{name}": value for name, (value, _) in event.terms.items()}
            group = "epoch"
        elif isinstance(event, ValidationDone):
            numbers, group = {"loss": event.loss, "mean_dice": event.mean_dice}, "validation"
        else:
            continue
        for name, value in numbers.items():
            found.setdefault(f"{group}/{name}", {})[event.step] = value
    table = pd.read_csv(run.folder / "metrics.csv")
    used = table[table["state"] != "absent"]
    first, last = table.columns.get_loc("state") + 1, table.columns.get_loc("false_positive_ml")
    for (step, class_name), rows in used.groupby(["step", "class"]):
        for metric in table.columns[first:last]:
            if np.isfinite(mean := rows[metric].replace([np.inf, -np.inf], np.nan).mean()):
                found.setdefault(f"validation/{metric}/{class_name}", {})[step] = mean
    return found


def test_curves_are_those_of_the_log_and_the_table(make_run: MakeRun) -> None:
    run = make_run(sinks=["tensorboard"])
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            run.set("optimiser.learning_rate", 3e-4)
    read, expected = read_back(run.folder), expected_curves(run)
    assert len(expected["train/loss"]) == 6 and len(expected["validation/mean_dice"]) == 2
    assert sorted(expected) == sorted(read.Tags()["scalars"])
    assert any(tag.startswith("validation/dice/") for tag in expected)
    assert {"train/terms/tversky", "train/weights/tversky"} <= expected.keys()
    for tag, values in expected.items():
        assert curve(read, tag) == single(values), tag
    (text,) = read.Tensors("experiment/text_summary")
    assert run.planned.to_yaml() in text.tensor_proto.string_val[0].decode()
    (change,) = read.Tensors("changes/text_summary")
    assert (
        change.step == 2 and b"`optimiser.learning_rate` became 0.0003" in change.tensor_proto.string_val[0]
    )


def test_pictures_and_histograms_are_of_the_watched_cases(make_run: MakeRun) -> None:
    run = make_run(sinks=["tensorboard"], loss="adaptive_region_tversky")
    assert list(run)[-1].state == "finished"  # type: ignore[attr-defined]
    read = read_back(run.folder)
    for role in ("train", "validation"):
        snapshot = run.watched.last(role)
        assert snapshot is not None and snapshot.truth is not None and snapshot.regions is not None
        pictures = read.Images(f"{role}/{snapshot.case}")
        assert [p.step for p in pictures] == [3, 6]
        shown = np.asarray(Image.open(io.BytesIO(pictures[-1].encoded_image_string)))
        assert shown.shape == (32, 4 * 32 + 3 * GAP, 3)
        alpha = snapshot.regions.values["alpha"]
        names = ("background", *snapshot.class_names)
        for name, row in zip(names, alpha, strict=True):
            values = row[np.isfinite(row)].astype(float)
            tag = f"{role} regions/alpha/{name}"
            if not values.size:
                assert tag not in read.Tags()["histograms"]
                continue
            histogram = read.Histograms(tag)[-1].histogram_value
            assert histogram.num == values.size
            assert (histogram.min, histogram.max) == pytest.approx((values.min(), values.max()))
            assert histogram.sum == pytest.approx(values.sum(), rel=1e-5)
    assert any("/beta/" in tag for tag in read.Tags()["histograms"])


@pytest.mark.parametrize("lost", [False, True])
def test_a_resumed_run_has_every_step_once(make_run: MakeRun, lost: bool) -> None:
    run = make_run(sinks=["tensorboard"], schedule__epochs=3)
    for event in run:
        if isinstance(event, (ValidationDone if lost else StepDone)) and event.step == 6 - (not lost):
            run.stop()
    if lost:  # told, but not saved: the end of the epoch comes again
        assert [e.step for e in open_run(run.folder).events() if isinstance(e, ValidationDone)] == [3, 6]
    resumed = Run(RunFolder.open(run.folder))
    assert list(resumed)[-1].state == "finished"  # type: ignore[attr-defined]
    assert len(list((run.folder / "tensorboard").iterdir())) == 2
    read = read_back(run.folder)
    for tag, values in expected_curves(resumed).items():
        assert curve(read, tag) == single(values), tag
    snapshot = resumed.watched.last("validation")
    assert snapshot is not None
    assert [p.step for p in read.Images(f"validation/{snapshot.case}")] == [3, 6, 9]


def next_second() -> None:
    """Wait for it: TensorBoard reads files by name, of which those of a second end in a counter (9 after 10).

    Processes that follow each other do not write within one second.
    """
    time.sleep(1.01 - time.time() % 1)


def test_steps_after_the_last_checkpoint_are_superseded(make_run: MakeRun, tmp_path: Path) -> None:
    """A killed process wrote two steps more than it saved."""
    run = make_run(sinks=["tensorboard"])
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            run.stop()
    from torch.utils.tensorboard import SummaryWriter

    next_second()
    writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=3)
    for step in (3, 4):
        writer.add_scalar("train/loss", 99.0, step)
    writer.close()
    next_second()
    resumed = Run(RunFolder.open(run.folder))
    list(resumed)
    read = read_back(run.folder)
    assert curve(read, "train/loss") == single(expected_curves(resumed)["train/loss"])


def test_every_n_steps_without_pictures_and_histograms(make_run: MakeRun) -> None:
    spec = {"kind": "tensorboard", "every_steps": 4, "pictures": False, "histograms": False}
    run = make_run(sinks=[spec])
    list(run)
    read = read_back(run.folder)
    assert list(curve(read, "train/loss")) == [4]
    assert not read.Tags()["images"] and not read.Tags()["histograms"]


def test_without_the_package_the_run_says_what_to_install(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__
    import importlib

    def missing(name: str, package: str | None = None) -> Any:
        if name.startswith("tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")
        return imported(name, fromlist=["x"])

    monkeypatch.setattr(importlib, "import_module", missing)
    run = make_run(sinks=["tensorboard"], schedule__epochs=1)
    events = list(run)
    (notice,) = (e for e in events if isinstance(e, Notice))
    assert notice.message == (
        "The sink tensorboard is switched off: The sink tensorboard needs the package tensorboard, "
        "which is not installed."
    )
    assert notice.remedy == 'Run: pip install "segexplorer[tensorboard]"'
    assert isinstance(events[-1], RunFinished) and events[-1].state == "finished"
    assert not (run.folder / "tensorboard").exists()


def test_it_is_listed_without_torch_and_is_in_the_schema() -> None:
    import subprocess
    import sys

    program = (
        "import sys; from segexplorer.training.sinks import names, spec; assert 'tensorboard' in names(); "
        "assert spec('tensorboard').display_name == 'TensorBoard'; "
        "print([m for m in ('torch', 'monai', 'tensorboard') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    schema = json_schema(Experiment)
    assert schema["properties"]["sinks"]["items"] == {"$ref": "#/$defs/sinks"}
    assert set(schema["$defs"]["sinks.tensorboard"]["properties"]) == {
        "kind",
        "every_steps",
        "pictures",
        "histograms",
    }
    assert registry.parse("tensorboard").plain()["every_steps"] == 1


# ---- pictures


def paint(colour: str, grey: int) -> list[int]:
    return [round(0.5 * grey + 0.5 * int(colour[i : i + 2], 16)) for i in (1, 3, 5)]


def test_a_picture_lies_as_radiologists_look_at_it() -> None:
    image = np.zeros((6, 4, 5), np.float32)
    image[0, :, 2], image[:, 3, 2] = 100.0, 50.0  # the left of the patient bright, front grey
    truth = np.zeros((6, 4, 5), np.uint8)
    truth[1:3, 0:2, 2], truth[0, 0, 1], truth[5, 3, 3] = 1, 1, 255
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])  # index 0 lies at the patient's right
    view = PlaneView.of(image, truth, affine)
    assert view.plane == 2 and view.grey.shape == (4, 6)
    assert (
        (view.grey[1:, 0] == 255).all() and (view.grey[0, 1:] > 100).all() and (view.grey[1:, 1:] == 0).all()
    )
    prediction = np.zeros_like(truth)
    prediction[2:4, 0, 2], prediction[2, 1, 2] = 1, 2
    picture = view.picture(prediction).astype(int)
    panels = [picture[:, i * (6 + GAP) : i * (6 + GAP) + 6] for i in range(4)]
    assert panels[1][3, 1].tolist() == paint(colours.ClassColours().colour(1), 0)
    assert panels[2][3, 3].tolist() == paint(colours.ClassColours().colour(1), 0)
    assert panels[3][3, 2].tolist() == [0, 0, 0]  # right
    assert panels[3][3, 3].tolist() == paint(colours.FALSE_POSITIVE, 0)
    assert panels[3][3, 1].tolist() == paint(colours.FALSE_NEGATIVE, 0)
    assert panels[3][2, 2].tolist() == paint(colours.WRONG_CLASS, 0)


@pytest.mark.parametrize(("spacing", "shape"), [((0.5, 0.5, 5.0), (200, 256)), ((1.0, 2.0, 1.0), (256, 164))])
def test_pixels_are_square_and_pictures_small(spacing: tuple[float, ...], shape: tuple[int, int]) -> None:
    image: NDArray[np.float32] = np.zeros((512, 400, 3), np.float32)
    view = PlaneView.of(image, None, np.diag([*spacing, 1.0]))
    assert view.plane == 1 and view.grey.shape == shape and max(shape) == SIDE
    assert view.picture(np.zeros((512, 400, 3), np.uint8)).shape == (shape[0], 2 * shape[1] + GAP, 3)
