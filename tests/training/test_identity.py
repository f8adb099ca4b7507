"""Identity at resume: every setting, file and version that changes between two attempts gets an answer."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from segexplorer.core.errors import ExitCode, SpecError
from segexplorer.core.events import Event, Notice, Planned, RunFinished, StepDone
from segexplorer.core.fields import Parameter, Shape, parameters
from segexplorer.core.registry import families
from segexplorer.core.spec import Spec, differences, get_value, replace_value, walk
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.training.experiment import Change, Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.identity import Comparison, Identity, compare, compare_settings, settle
from segexplorer.training.plan import resolve
from segexplorer.training.run import Run
from segexplorer.training.sinks import record

FREE = {
    "checkpoints.keep_every",
    "checkpoints.keep_mb",
    "compute.cache_folder",
    "compute.cache_gb",
    "compute.case_gb",
    "compute.devices",
    "monitoring.flight_recorder_mb",
    "monitoring.gradients_every",
    "monitoring.patch_mb",
    "name",
    "network_weights.path",
    "sinks",
    "validation.keep_probabilities",
    "validation.logits_mb",
    "validation.metrics",
    "validation.probability_classes",
    "validation.watch_train",
    "validation.watch_validation",
}
ANNOUNCED = {
    "compute.compile",
    "compute.cudnn_benchmark",
    "compute.device",
    "compute.precision",
    "compute.tf32",
    "compute.threads",
}
"""What no result, or only its last digits, depends on. Whoever adds to these sets has thought about it."""


# ---- every setting


def candidates(shape: Shape, value: Any) -> Iterator[Any]:
    """Yield values of a shape that are not `value`, likely ones first."""
    if shape.optional and value is not None:
        yield None
    match shape.form:
        case "flag":
            yield not value
        case "integer":
            yield from ((value or 0) + 1, (value or 2) - 1, 2, 64)
        case "number":
            yield from ((value or 0.0) + 0.125, (value or 0.5) / 2, 0.75, 3.0)
        case "text":
            yield from ("other", "cpu", "cuda", "jaccard", "hd95")
        case "choice":
            yield from (choice for choice in shape.choices if choice != value)
        case "tuple":
            given = value if isinstance(value, (tuple, list)) else [None] * len(shape.items)
            for other in candidates(shape.items[0], given[0]):
                yield (other, *(g if g is not None else other for g in given[1:]))
                yield (other,) * len(shape.items)
        case "list":
            yield from ([*(value or ()), item] for item in candidates(shape.items[0], None))
            yield ()
        case "mapping":
            yield from ({**(value or {}), "other": item} for item in candidates(shape.items[1], None))
            yield {**(value or {}), "liver": 9}
        case "group":
            yield from ({p.name: c} for p in parameters(shape.spec) for c in candidates(p.shape, p.default))  # type: ignore[arg-type]
        case "kind":
            others = [kind for kind in shape.registry.names() if kind != getattr(value, "kind", None)]
            yield from (*others[:3], *({"kind": kind, "root": "/data"} for kind in others))
        case "one_of":
            for item in shape.items:
                yield from candidates(item, None)


def mutations(spec: Spec) -> Iterator[tuple[str, Parameter, Spec]]:
    """Yield (path, declaration, the spec with another value there) of every setting that can have one."""
    for path, declared, value in walk(spec):
        if isinstance(value, Spec) and declared.shape.form == "group":
            continue  # what is inside is walked
        for other in candidates(declared.shape, value):
            try:
                changed = replace_value(spec, path, other)
            except SpecError:
                continue
            if differences(spec, changed):
                yield path, declared, changed
                break


@pytest.fixture(scope="module")
def plain() -> Experiment:
    """An experiment with every group of settings and a compound loss."""
    return Experiment.of(
        {
            "name": "one",
            "data": {"kind": "phantom", "count": 3, "size": 32, "classes": {"liver": 1, "spleen": [2, 3]}},
            "split": {"validation_count": 1},
            "network_weights": {"path": "/weights.pt"},
            "sampling": {"patch_size": [16, 16, 16], "steps_per_epoch": 3},
            "network": {"kind": "unet", "base_features": 4, "levels": 3},
            "loss": "adaptive_tversky_cross_entropy",
            "sinks": ["tensorboard"],
        }
    )


def answer(before: Experiment, now: Experiment, path: str) -> str:
    found = {f.field: f.answer for f in compare_settings(before, now)}
    assert set(found) == {path} or all(name.startswith(path) for name in found), (path, found)
    return next(iter(found.values()))


def test_every_setting_of_an_experiment_gets_an_answer(plain: Experiment) -> None:
    answers = {
        path: answer(plain, changed, path)
        for path, _, changed in mutations(plain)
        if not path.startswith("changes")
    }
    declared = {path: p for path, p, _ in walk(plain)}
    settings = {
        p for p, d in declared.items() if d.shape.form != "group" and not p.startswith(("changes", "sinks."))
    }
    assert settings - answers.keys() <= {"split.group_pattern", "split.cases"}, "no other value was found"
    free = {p for p, a in answers.items() if a == "free"}
    assert {p for p in free if not p.startswith(("sinks.", "validation.metric_options."))} == FREE
    assert {p for p, a in answers.items() if a == "announced"} == ANNOUNCED
    assert {p for p, a in answers.items() if a == "extended"} == {"schedule.epochs"}
    live = {p for p, a in answers.items() if a == "live"}
    assert live == {p for p, d in declared.items() if d.live and p in answers}
    refused = {p for p, a in answers.items() if a == "refused"}
    assert refused == answers.keys() - free - live - ANNOUNCED - {"schedule.epochs"}
    assert {"seed", "network", "optimiser", "loss", "preprocessing.intensity", "data.seed"} <= refused
    for path in refused:
        changed = next(c for p, _, c in mutations(plain) if p == path)
        with pytest.raises(SpecError) as caught:
            compare(Identity(planned=plain), Identity(planned=changed), step=4).require()
        assert path in str(caught.value) and len(str(caught.value)) < 400 and caught.value.remedy


FAMILIES = {"losses": "loss", "networks": "network", "optimisers": "optimiser", "schedules": "schedule"}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_setting_of_every_kind_gets_an_answer(family: str, plain: Experiment) -> None:
    section, registry = FAMILIES[family], families()[family]
    seen = 0
    for kind in registry.names():
        try:
            one = Experiment.of({**plain.plain(), section: kind})
        except SpecError:  # kinds with required settings; those of a compound are walked above
            continue
        for path, declared, changed in mutations(getattr(one, section)):
            two = Experiment.model_construct(**{**dict(one), section: changed})
            found = answer(one, two, f"{section}.{path}")
            expected = {"extend": "extended"}.get(
                declared.resume or "", "live" if declared.live else "refused"
            )
            assert found == expected, (kind, path)
            seen += 1
    assert seen > 10


def test_live_settings_take_values_that_a_change_can_record() -> None:
    """A live change is one number, text or flag; a live setting of another form could never be replayed."""
    simple = {"flag", "integer", "number", "text", "choice"}
    for family in families().values():
        for kind, spec in family.specs().items():
            for declared in parameters(spec):
                if declared.live:
                    assert declared.shape.form in simple, (kind, declared.name)


def test_an_edited_live_setting_becomes_a_recorded_change(plain: Experiment) -> None:
    edited = replace_value(plain, "loss.alpha", 0.9)
    found = compare_settings(plain, edited, step=4)
    assert [(f.field, f.answer, f.before, f.now) for f in found] == [("loss.alpha", "live", 0.5, 0.9)]
    assert settle(plain, edited, found) == plain


def test_recorded_changes_up_to_the_checkpoint_must_be_the_same(plain: Experiment) -> None:
    def with_changes(*changes: tuple[int, float]) -> Experiment:
        return plain.model_copy(
            update={"changes": tuple(Change(step=s, field="loss.alpha", value=v) for s, v in changes)}
        )

    before = with_changes((2, 0.5), (6, 0.8))
    assert compare_settings(before, with_changes((2, 0.5)), step=4) == []
    assert compare_settings(before, with_changes((2, 0.5), (9, 0.1)), step=4) == []
    for edited in (with_changes(), with_changes((2, 0.6), (6, 0.8)), with_changes((3, 0.5), (6, 0.8))):
        assert [f.field for f in compare_settings(before, edited, step=4)] == ["changes"]


# ---- classes, cases, statistics, plug-ins, versions, machine


@pytest.fixture(scope="module")
def known(plain: Experiment) -> Identity:
    experiment = replace_value(plain, "network_weights.path", "")
    return Identity.of_plan(resolve(experiment), experiment)


def mutated(known: Identity, part: str) -> Iterator[tuple[str, str, Identity]]:
    """Yield (what, expected field, identity) for every change of a part that is a mapping."""
    given = dict(getattr(known, part))
    for key, value in given.items():
        other = {k: v for k, v in given.items() if k != key}
        if part != "versions":
            yield "left out", key, dataclasses.replace(known, **{part: other})
        changed = value + 1 if isinstance(value, int) else "other" if isinstance(value, str) else None
        yield "changed", key, dataclasses.replace(known, **{part: {**given, key: changed}})


def test_an_identity_is_identical_to_itself_and_comes_back_from_its_file(known: Identity) -> None:
    assert compare(known, known) == Comparison(())
    assert known.classes is not None
    meta = {
        "identity": known.plain(),
        "classes": known.classes.plain(),
        "preprocessing": known.preprocessing,
    }
    again = Identity.of_meta(json.loads(json.dumps(meta)), "run")
    assert again == known and compare(known, again) == Comparison(())


@pytest.mark.parametrize("part", ["roles", "data"])
def test_every_case_that_is_missing_or_other_is_refused_by_name(part: str, known: Identity) -> None:
    for what, case, now in mutated(known, part):
        if part == "data" and what == "left out":
            continue
        with pytest.raises(SpecError, match=case):
            compare(known, now, step=3).require()
    reordered = dict(reversed(list(known.roles.items())))  # type: ignore[union-attr]
    with pytest.raises(SpecError, match="order of the cases"):
        compare(known, dataclasses.replace(known, roles=reordered)).require()
    added = dataclasses.replace(known, roles={**known.roles, "new_case": "train"})  # type: ignore[dict-item]
    with pytest.raises(SpecError, match="new_case was added"):
        compare(known, added).require()


def test_inputs_preprocessing_and_plugins_are_refused(known: Identity) -> None:
    for what, name, now in mutated(known, "inputs"):
        assert what == "left out" or [f.field for f in compare(known, now).of("refused")] == [name]
    for what, name, now in mutated(known, "preprocessing"):
        refused = [f.field for f in compare(known, now).of("refused")]
        assert known.preprocessing is not None
        # what is not set may also be left out
        assert refused == ([] if known.preprocessing[name] is None else ["preprocessing"]), (what, name)
    fitted = [
        Identity(preprocessing={"numbers": [{"mean": 12.5 * factor}]}) for factor in (1, 1 + 1e-9, 1.001)
    ]
    assert not compare(fitted[0], fitted[1]).findings  # another processor rounds otherwise
    assert [f.field for f in compare(fitted[0], fitted[2]).of("refused")] == ["preprocessing"]
    other = dataclasses.replace(known, plugins={"stranger": ["losses dice"]})
    with pytest.raises(SpecError, match=r"losses dice came from segexplorer .* stranger"):
        compare(known, other).require()


@pytest.mark.parametrize("part", ["versions", "machine"])
def test_versions_and_machine_are_announced_with_a_badge(part: str, known: Identity) -> None:
    for what, name, now in mutated(known, part):
        if what == "changed":
            found = compare(known, now)
            found.require()
            before = getattr(known, part)[name]
            assert found.badges == (f"{name} {before}, then {getattr(now, part)[name]}",)
            assert name in found.of("announced")[0].sentence


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (ClassMap(("spleen", "liver"), ((2, 3), (1,))), "in this order"),
        (ClassMap(("liver", "spleen"), ((2, 3), (1,))), "liver was made of the label values 1"),
        (ClassMap(("liver",), ((1,),)), "trained for the classes liver, spleen"),
        (ClassMap(("liver", "spleen"), ((1,), (2, 3)), "ignored"), "ignored"),
        (ClassMap(("liver", "spleen"), ((1,), (2, 3)), "background", (7,)), "ignored"),
    ],
)
def test_classes_and_their_order_are_refused(now: ClassMap, told: str) -> None:
    before = Identity(classes=ClassMap(("liver", "spleen"), ((1,), (2, 3))))
    with pytest.raises(SpecError, match=told):
        compare(before, Identity(classes=now)).require()


def test_weights_of_another_run_must_mean_the_same_outputs(known: Identity) -> None:
    other = ClassMap(("spleen", "liver"), ((2, 3), (1,)))
    with pytest.raises(SpecError, match="in this order"):
        compare(known, dataclasses.replace(known, classes=other), purpose="weights").require()
    another_task = dataclasses.replace(known, classes=ClassMap(("tumour",), ((1,),)), roles={}, data={})
    found = compare(known, another_task, purpose="weights")
    found.require()
    assert "tumour" in found.of("announced")[0].sentence


# ---- files between two attempts


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Decathlon folder with two structures, and a run on it that was stopped after two steps."""
    root = tmp_path_factory.mktemp("identity")
    rng = np.random.default_rng(0)
    for number in range(4):
        label = np.zeros((20, 18, 16), np.uint8)
        label[3:10, 4:12, 3:9], label[11:17, 6:14, 6:12] = 1, 2
        voxels = (label * 100 + rng.normal(100, 20, label.shape)).astype(np.int16)
        for folder, array in (("imagesTr", voxels), ("labelsTr", label)):
            (root / "set" / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / "set" / folder / f"case_{number}.nii.gz")
    labels = {"0": "background", "1": "liver", "2": "kidney"}
    described = {"name": "x", "modality": {"0": "MRI"}, "labels": labels, "numTraining": 4}
    (root / "set/dataset.json").write_text(json.dumps(described))
    experiment = Experiment.of(
        {
            "data": {"kind": "nnunet", "root": str(root / "set")},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 3},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "loss": "tversky",
            "schedule": {"kind": "polynomial", "epochs": 2},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )
    run = Run(RunFolder.create(experiment, root / "run"))
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            run.stop()
    assert run.state == "stopped"
    return root


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of both folders, its experiment pointing to the copied data: another place is no other data."""
    shutil.copytree(trained, tmp_path / "all")
    file = tmp_path / "all/run/experiment.yaml"
    file.write_text(file.read_text().replace(str(trained), str(tmp_path / "all")))
    return tmp_path / "all"


def resumed(root: Path, until: int = 3) -> list[Event]:
    """Resume, at most to a step."""
    run = Run(RunFolder.open(root / "run"))
    events = []
    for event in run:
        events.append(event)
        if isinstance(event, StepDone) and event.step >= until:
            run.stop()
    return events


def swap_labels(root: Path) -> None:
    file = root / "set/dataset.json"
    content = json.loads(file.read_text())
    content["labels"] = {"0": "background", "2": "kidney", "1": "liver"}
    file.write_text(json.dumps(content))


def exchange_numbers(root: Path) -> None:
    file = root / "set/dataset.json"
    content = json.loads(file.read_text())
    content["labels"] = {"0": "background", "2": "liver", "1": "kidney"}
    file.write_text(json.dumps(content))


def rename_a_class(root: Path) -> None:
    file = root / "set/dataset.json"
    file.write_text(file.read_text().replace("kidney", "spleen"))


def sort_classes(root: Path) -> None:
    """As a YAML dump that sorts keys does it to classes written out in the file."""
    edit(root, "data.classes", {"kidney": 2, "liver": 1})


def replace_a_label(root: Path) -> None:
    path = root / "set/labelsTr/case_1.nii.gz"
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(voxels, image.affine), path)


def change_an_image(root: Path) -> None:
    path = root / "set/imagesTr/case_2.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), path)


def move_an_image(root: Path) -> None:
    path = root / "set/imagesTr/case_0.nii.gz"
    image = nib.load(path)
    label = nib.load(root / "set/labelsTr/case_0.nii.gz")
    for file, one in ((path, image), (root / "set/labelsTr/case_0.nii.gz", label)):
        nib.save(nib.Nifti1Image(np.asarray(one.dataobj), np.diag([1, 1, 2, 1])), file)


def drop_a_case(root: Path) -> None:
    (root / "set/imagesTr/case_3.nii.gz").unlink()
    (root / "set/labelsTr/case_3.nii.gz").unlink()


def add_a_case(root: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        shutil.copy(root / f"set/{folder}/case_3.nii.gz", root / f"set/{folder}/case_7.nii.gz")
    replace = nib.load(root / "set/imagesTr/case_7.nii.gz")
    nib.save(
        nib.Nifti1Image(np.asarray(replace.dataobj) + 3, replace.affine), root / "set/imagesTr/case_7.nii.gz"
    )


def edit(root: Path, path: str, value: Any) -> None:
    file = root / "run/experiment.yaml"
    replace_value(Experiment.from_yaml(file), path, value).save(file)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (swap_labels, "classes"),
        (exchange_numbers, "class liver"),
        (rename_a_class, "classes"),
        (sort_classes, "classes"),
        (replace_a_label, "case_1"),
        (change_an_image, "case_2"),
        (move_an_image, "case_0"),
        (drop_a_case, "case_"),
        (add_a_case, "case_"),
        (lambda root: edit(root, "seed", 1), "seed"),
        (lambda root: edit(root, "network.base_features", 8), "network.base_features"),
        (lambda root: edit(root, "network", "vnet"), "network"),
        (lambda root: edit(root, "optimiser", "sgd"), "optimiser"),
        (lambda root: edit(root, "loss", "t_loss"), "loss"),
        (lambda root: edit(root, "sampling.patch_size", [32, 16, 16]), "sampling.patch_size"),
        (lambda root: edit(root, "preprocessing.spacing", [2, 2, 2]), "preprocessing.spacing"),
        (lambda root: edit(root, "schedule.epochs", 1), "schedule.epochs"),
    ],
    ids=lambda value: getattr(value, "__name__", value) if value is not None else "",
)
def test_what_makes_another_run_is_refused_before_a_step(
    change: Callable[[Path], None], told: str, copied: Path
) -> None:
    change(copied)
    last = (copied / "run/checkpoints/last").read_text()
    experiment = (copied / "run/experiment.yaml").read_text()
    events = resumed(copied)
    end = events[-1]
    assert isinstance(end, RunFinished) and end.state == "failed" and not end.defect, end
    assert end.exit_code == ExitCode.MISTAKE and told in end.error and end.remedy, end
    assert not any(isinstance(e, StepDone) for e in events)
    assert (copied / "run/checkpoints/last").read_text() == last
    assert (copied / "run/experiment.yaml").read_text() == experiment


def test_what_is_live_announced_or_free_goes_on_and_says_so(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(copied, "loss.alpha", 0.6)
    installed = metadata.version("scipy")
    monkeypatch.setattr(record, "_version", lambda name: "0.1" if name == "scipy" else metadata.version(name))
    edit(copied, "compute.cache_gb", 1)
    edit(copied, "schedule.epochs", 3)
    events = resumed(copied)
    assert [e.step for e in events if isinstance(e, StepDone)] == [3], events[-1]
    planned = next(e for e in events if isinstance(e, Planned))
    badges = {f"scipy {installed}, then 0.1", "edited while it ran", "extended from 2 to 3 epochs"}
    assert set(planned.badges) == badges
    told = " ".join(e.message for e in events if isinstance(e, Notice))
    assert f"scipy 0.1 after {installed}" in told and "loss.alpha" in told
    saved = Experiment.from_yaml(copied / "run/experiment.yaml")
    assert [(c.step, c.field, c.value) for c in saved.changes] == [
        (2, "loss.alpha", 0.6),
        (2, "schedule.epochs", 3),
    ]
    assert get_value(saved, "loss.alpha") == 0.3 and saved.schedule.epochs == 2  # as it was planned
    again = resumed(
        copied, until=4
    )  # the same versions as before: nothing new to announce, and not forgotten
    assert set(next(e for e in again if isinstance(e, Planned)).badges) == badges
    assert not any(isinstance(e, Notice) and "scipy" in e.message for e in again)


def test_an_unchanged_run_in_another_place_says_nothing(copied: Path) -> None:
    events = resumed(copied)
    assert [e.step for e in events if isinstance(e, StepDone)] == [3]
    assert next(e for e in events if isinstance(e, Planned)).badges == ()


def test_weights_of_a_run_whose_classes_have_another_order_are_refused(copied: Path) -> None:
    swap_labels(copied)
    experiment = Experiment.from_yaml(copied / "run/experiment.yaml")
    fine = replace_value(experiment, "network_weights.path", str(copied / "run"))
    end = list(Run(RunFolder.create(fine, copied / "fine")))[-1]
    assert isinstance(end, RunFinished) and end.exit_code == ExitCode.MISTAKE
    assert "liver, kidney in this order" in end.error


@pytest.mark.parametrize("part", ["image", "label"])
def test_a_change_in_the_middle_of_a_large_file_changes_its_fingerprint(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segexplorer.data.case._WHOLE", 2**16)
    monkeypatch.setattr("segexplorer.data.case._BLOCK", 2**8)
    files = {name: tmp_path / f"{name}.nii" for name in ("image", "label")}
    content = bytearray(2**20)
    for path in files.values():
        path.write_bytes(content)
    ref = CaseRef("one", (files["image"],), files["label"])
    before = ref.fingerprint()
    assert ref.fingerprint() == before
    # one byte of a label; of an image as many as one slice of it has
    first = 2**19 + 1000
    content[first : first + (1 if part == "label" else 2**13)] = b"\1" * (1 if part == "label" else 2**13)
    files[part].write_bytes(content)
    assert ref.fingerprint() != before
