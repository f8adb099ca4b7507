"""What `share` packs: nothing that names a patient, a person or a place, whatever the run wrote down."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core import events
from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import Planned, Role, StepDone
from segexplorer.core.fields import parameters
from segexplorer.core.untrusted_files import with_checksum
from segexplorer.data import datasets
from segexplorer.metrics.calibration import ANY_CLASS
from segexplorer.training import host
from segexplorer.training.checkpoint import open_checkpoint, save_checkpoint
from segexplorer.training.deidentification import (
    Pseudonyms,
    deidentify_events,
    deidentify_experiment,
    identifying_part,
)
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.ownership import Lease
from segexplorer.training.recorder import Recorder
from segexplorer.training.run import Run
from segexplorer.training.sharing import Shared, share_run, unpacked_run
from segexplorer.training.snapshots import WatchedSnapshot

PLANTED = (
    "mueller", "hans", "anna", "schmidt", "4711081512", "19470812", "klinik", "station7", "geheim", "drhouse",
    "grossmutter", "/home", "radiologie",
)  # fmt: skip
CASES = ("Mueller_Hans_4711081512", "Schmidt^Anna_19470812", "ct_drhouse")
ROOT = "/home/drhouse/Klinik-Radiologie/Station7"
PREPROCESSING = {"intensities": [{"kind": "z_score"}], "numbers": [{}], "spacing": [1, 1, 1]}


def experiment(**changes: Any) -> Experiment:
    return Experiment.of(
        {
            "name": "Studie Mueller, geheim",
            "data": {
                "kind": "folder",
                "root": ROOT,
                "images": ["{case}/Klinik_ct.nii.gz"],
                "labels": "{case}/drhouse.nii.gz",
                "patient_pattern": "^Station7_(.*)",
                "classes": {"liver": 1, "tumour": [2, 3]},
            },
            "split": {"validation": [CASES[1]], "test": [CASES[2]]},
            "network_weights": {"path": f"{ROOT}/geheim.pt", "freeze": ["Grossmutter"]},
            "loss": {
                "kind": "weighted_sum",
                "terms": [{"loss": "dice", "name": "Grossmutter"}, {"loss": "cross_entropy"}],
            },
            "validation": {"watch_train": CASES[0], "watch_validation": CASES[1]},
            "compute": {"device": "cpu"},
            "changes": [{"step": 1, "field": "loss.terms.0.weight", "value": 2.0}],
            "sinks": [{"kind": "wandb", "project": "Mueller"}],
            **changes,
        }
    )


def score(case: str, name: str, dice: float) -> events.CaseScore:
    return events.CaseScore(
        case=case, class_name=name, role="validation", state="scored", metrics={"dice": dice},
        false_positive_ml=1.0, false_negative_ml=2.0, truth_ml=3.0, badge="Geheim; edited while it ran",
    )  # fmt: skip


def told(names: tuple[str, ...]) -> list[events.Event]:
    """Return a run's events with names planted in every text that an event has."""
    return [
        events.StateChanged(state="preparing", activity=f"reading {ROOT}/{CASES[0]}"),
        events.Planned(
            steps=2, epochs=1, steps_per_epoch=2, classes=names, badges=("Mueller's own",),
            summary={"Cases": "1 train, 1 validate, 1 test", "Folder": ROOT}, warnings=(f"{CASES[0]}: odd.",),
        ),
        events.Notice(message=f"Weights of {ROOT}/geheim.pt were loaded.", remedy="Ask Dr. Schmidt."),
        events.Notice(message="Extended by 1 epoch, to 3."),
        events.StepDone(
            step=1, epoch=1, loss=0.5, terms={"Grossmutter": (0.3, 1.0), "cross entropy": (0.2, 1.0)},
            learning_rate=1e-3, gradient_norm=1.0, seconds=0.1, samples=1, cases=(CASES[0],),
        ),
        events.ParameterApplied(field="loss.terms.0.weight", value=2.0, previous=1.0, step=1),
        events.ParameterApplied(field="Hans", value="Mueller", previous="Anna", step=1),
        events.EpochDone(
            step=2, epoch=1, epochs=1, loss=0.5, terms={"Grossmutter": (0.3, 1.0)},
            adaptive={"weight of Grossmutter": 1.0},
        ),
        events.ValidationDone(
            step=2, epoch=1, loss=0.4, scores=tuple(score(CASES[1], n, 0.5) for n in names), mean_dice=0.5,
            class_dice=dict.fromkeys(names, 0.5), n_used=2, n_absent=0, n_missed=0, best=True, seconds=1.0,
            badge="training case, not held out; Mueller",
        ),
        events.WatchedDone(step=2, case=CASES[1], role="validation", index=0),
        events.CheckpointSaved(step=2, folder="step_2", pointers=("last", "best")),
        events.RunFinished(
            step=2, state="failed", reason=f"lost {ROOT}", error=f"{CASES[0]} is gone.", remedy="Ask Hans.",
            cause=f"File {ROOT}/x.py, line 3, in mueller",
        ),
    ]  # fmt: skip


def planted_run(place: Path, changes: dict[str, Any] | None = None) -> Path:
    """Write a run folder with names of patients wherever a run, a user or a later version may put some."""
    import torch

    planned = experiment(**(changes or {}))
    names = tuple(planned.data.classes)
    folder = RunFolder.create(planned, place / "Klinik" / "lauf_mueller")
    for number, event in enumerate(told(names)):
        folder.write(type(event)(**{**vars(event), "time": 1.7e9 + number, "seq": number}))
    roles: dict[str, Role] = {CASES[0]: "train", CASES[1]: "validation", CASES[2]: "test"}
    hashes = {case: f"{number:064x}" for number, case in enumerate(roles)}
    facts = {
        "device": "CPU",
        "seed": 3,
        "roles": roles,
        "data": hashes,
        "host": "station7",
        "user": "drhouse",
    }
    folder.write_provenance(1, facts)
    shape = (4, 5, 6)
    folder.write_frame(
        WatchedSnapshot(
            case=CASES[1], role="validation", step=2, index=0, class_names=names, affine=np.eye(4),
            prediction=np.ones(shape, np.uint8), probabilities=None, regions=None, regions_affine=None,
            badge="Hans",
        ),
        1,
    )  # fmt: skip
    folder.close()
    network = torch.nn.Linear(2, 2)
    meta = {
        "step": 2, "position": {"epoch": 1}, "sums": {"values": {"Grossmutter": 1}}, "best": 0.5,
        "experiment": planned.plain(), "preprocessing": PREPROCESSING, "patch": None, "channels": 1,
        "classes": {
            "names": list(names), "values": [[1], [2, 3]][: len(names)],
            "other_labels": "background", "ignored": [],
        },
        "badges": ["Mueller"], "note": ROOT,
    }  # fmt: skip
    save_checkpoint(
        folder.checkpoints, network=network, average=None, state={"Hans": torch.ones(1)}, meta=meta, best=True
    )
    (folder.path / "notes Mueller.txt").write_text("Anna Schmidt")
    (folder.path / "owner.json").write_text(json.dumps({"host": "station7", "job": "drhouse"}))
    (folder.path / "cache").mkdir()
    (folder.path / "cache" / f"{CASES[0]}.npy").write_bytes(b"voxels of Hans")
    with (folder.path / "events.jsonl").open("a") as log:
        log.write(json.dumps({"event": "StateChanged", "state": "stopped", "patient": "Mueller"}) + "\n")
    return folder.path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return planted_run(tmp_path)


def unpacked(shared: Shared, place: Path) -> Path:
    with zipfile.ZipFile(shared.path) as archive:
        archive.extractall(place)
    return place / "run"


@pytest.mark.parametrize("predictions", [False, True])
def test_no_planted_name_is_in_the_archive(run: Path, tmp_path: Path, predictions: bool) -> None:
    raw = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file()).lower()
    assert all(name.encode() in raw for name in PLANTED)  # they are there to be found
    shared = share_run(run, tmp_path / "out.zip", predictions=predictions)
    with zipfile.ZipFile(shared.path) as archive:
        whole = b"".join(archive.read(name) for name in archive.namelist()).lower()
        listed = " ".join(archive.namelist()).lower()
        assert archive.comment == b"" and {i.date_time[0] for i in archive.infolist()} == {1980}
    for name in PLANTED:
        assert name.encode() not in whole, name
        assert name not in listed
    assert tuple(archive.namelist()) == shared.files
    assert ("history.zarr" in listed) is predictions
    assert "state.pt" not in listed and "cache" not in listed and "notes" not in listed


def test_a_real_run_is_shared_without_path_user_host_or_case(
    tmp_path: Path, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "jdoe4711")
    monkeypatch.setattr("platform.node", lambda: "ws-radiology-7")
    monkeypatch.setattr("socket.gethostname", lambda: "ws-radiology-7")
    monkeypatch.setenv("SLURM_JOB_ID", "job8151")
    host.this_host.cache_clear()
    run = make_run("lauf_mueller")
    list(run)
    lease = Lease.take(run.folder)
    shared = share_run(run.folder, tmp_path / "out.zip", predictions=True)
    lease.release()
    host.this_host.cache_clear()
    attempt = json.loads((run.folder / "provenance.json").read_text())[0]
    assert (attempt["host"], attempt["job"]) == ("ws-radiology-7", "SLURM job8151")
    with zipfile.ZipFile(shared.path) as archive:
        whole = b"\n".join(name.encode() + archive.read(name) for name in archive.namelist()).lower()
    texts = (
        "jdoe4711",
        "ws-radiology-7",
        "job8151",
        "owner",
        "mueller",
        str(tmp_path),
        tmp_path.name,
        str(Path.home()),
    )
    texts += (*(case for case in run.plan.roles), str(Path.cwd()))  # type: ignore[union-attr]
    for text in texts:
        assert text in ("/", "localhost") or text.lower().encode() not in whole, text


@pytest.mark.parametrize("kind", datasets.names())
def test_no_free_text_of_any_data_set_is_kept(kind: str) -> None:
    """Every setting that is a text or holds texts, in every registered kind, is left out or replaced."""
    declared = datasets.spec(kind)
    planted: dict[str, Any] = {}
    for item in parameters(declared):
        if item.shape.form == "text":
            planted[item.name] = "Mueller/{case}" if "{case}" in str(item.default) else "Mueller"
        elif item.shape.form == "list" and item.shape.items[0].form == "text":
            planted[item.name] = ["Mueller/{case}"]
        elif item.required:
            row = {"case": "Mueller", "image": "Mueller.nii", "label": "Mueller.nii"}
            planted[item.name] = [row]
    planned = Experiment.of({"data": {"kind": kind, **planted, "classes": {"liver": 1}}})
    assert not planted or "Mueller" in planned.to_yaml()
    copy = deidentify_experiment(planned, Pseudonyms())
    assert "mueller" not in copy.to_yaml().lower()
    assert copy.data.classes == {"liver": 1}


def test_a_setting_of_a_loss_called_classes_is_no_list_of_classes() -> None:
    planned = experiment(loss={"kind": "lovasz_softmax", "classes": "all"}, changes=[])
    assert deidentify_experiment(planned, Pseudonyms()).loss == planned.loss


def test_what_was_done_and_what_came_out_is_kept(run: Path, tmp_path: Path) -> None:
    shared = share_run(run, tmp_path / "out.zip", predictions=True)
    record, before = open_run(unpacked(shared, tmp_path / "x")), open_run(run)
    told = record.events()
    assert [type(e).__name__ for e in told] == [
        type(e).__name__
        for e in before.events()
        if e.seq not in (2, 6)  # the notice and the change with names
    ]
    assert told[0].time == 0 and told[-2].time == pytest.approx(11)
    steps = [e for e in told if isinstance(e, events.StepDone)]
    assert steps[0].loss == 0.5 and steps[0].cases == ("case_001",)
    assert set(steps[0].terms) == {"term_1", "cross entropy"}
    (epoch,) = [e for e in told if isinstance(e, events.EpochDone)]
    assert set(epoch.adaptive) == {"weight of term_1"}
    (validation,) = [e for e in told if isinstance(e, events.ValidationDone)]
    assert validation.badge == "training case, not held out"
    assert {s.badge for s in validation.scores} == {"edited while it ran"}
    assert record.metrics["dice"].tolist() == before.metrics["dice"].tolist() == [0.5, 0.5]
    assert set(record.metrics["case"]) == {"case_002"} and set(record.metrics["class"]) == {"liver", "tumour"}
    assert record.experiment.loss.terms[0].weight == 1.0 and record.experiment.changes[0].value == 2.0
    assert record.experiment.split.validation == ("case_002",)
    assert record.experiment.data.class_values() == {"liver": (1,), "tumour": (2, 3)}
    (frame,) = record.watched("validation")
    assert frame.load().case == "case_002" and frame.load().prediction.all()
    (attempt,) = json.loads((record.folder / "provenance.json").read_text())
    assert attempt["roles"] == {"case_001": "train", "case_002": "validation", "case_003": "test"}
    assert attempt["data"]["case_002"] == f"{1:064x}" and attempt["seed"] == 3
    assert {"torch", "numpy"} <= set(attempt["versions"])


def test_the_network_comes_with_it_and_is_whole(run: Path, tmp_path: Path) -> None:
    import torch

    folder = unpacked(share_run(run, tmp_path / "out.zip"), tmp_path / "x")
    for pointer in ("best", "last"):
        there, _ = open_checkpoint(run / "checkpoints", pointer)  # type: ignore[arg-type]
        here, trouble = open_checkpoint(folder / "checkpoints", pointer)  # type: ignore[arg-type]
        networks = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
        for checkpoint, network in zip((there, here), networks, strict=True):
            checkpoint.load_weights(network)
        assert torch.equal(networks[0].weight, networks[1].weight) and trouble == ""
    without = share_run(run, tmp_path / "light.zip", weights=False)
    assert not any("checkpoints" in name for name in without.files)


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        ({"Schmidt": 1}, "a word of a case's name"),
        ({CASES[2]: 1}, "the name of a case"),
        ({"Station7": 1}, "part of a path"),
        ({"tumour 19551224": 1}, "a patient's number"),
        ({"Roe^Jane": 1}, "a patient's number or name"),
        ({"drhouse": 1}, "a word of a case's name"),
        ({"Li": 1}, "'li' is a word of a case's name"),
        ({"liver of Wu": 1}, "'wu' is a word of a case's name"),
        ({"李": 1}, "'李' is a word of a case's name"),
    ],
)
def test_a_class_that_may_name_somebody_is_refused(tmp_path: Path, classes: dict[str, int], why: str) -> None:
    data = {"kind": "folder", "root": ROOT, "classes": classes}
    split = {"validation": ["LiWei07", "wu_003", "李_4"], "test": []}
    run, output = planted_run(tmp_path, {"data": data, "split": split}), tmp_path / "out.zip"
    with pytest.raises(DataError, match=rf"{why}.*--number-classes"):
        share_run(run, output)
    assert not list(tmp_path.glob("*out*"))
    shared = share_run(run, output, number_classes=True)
    assert shared.classes == ("class_1",)
    texts = [zipfile.ZipFile(output).read(name).decode("utf-8", "replace") for name in shared.files]
    word = rf"(?<![^\W_]){re.escape(next(iter(classes)))}(?![^\W_])"
    assert not [text for text in texts if re.search(word, text, re.IGNORECASE)]


def test_words_that_most_cases_share_may_be_classes(tmp_path: Path) -> None:
    """A class `liver` beside cases `liver_12` says nothing about anybody."""
    folder = RunFolder.create(experiment(split={"validation": ["liver_2"]}, validation={}), tmp_path / "run")
    folder.write_provenance(1, {"roles": {"liver_1": "train", "liver_2": "validation", "liver_3": "train"}})
    assert share_run(folder.path, tmp_path / "out.zip").classes == ("liver", "tumour")


@pytest.mark.parametrize(
    ("name", "cases", "named"),
    [
        ("Li", ("Li_Wei", "Wu", "Ng"), True),
        ("ng lesion", ("Li_Wei", "Wu", "Ng"), True),
        ("lesion", ("Li_Wei", "Wu", "Ng"), False),
        ("lining", ("Li_Wei", "Wu", "Ng"), False),  # whole words only
        ("ct", ("ct_01", "ct_02", "ct_03"), False),  # a word that all share
        ("zone 01", ("ct_01", "ct_02", "ct_03"), False),  # a number
        ("wei", ("LiWei07", "WuMing12", "NgTan3"), True),
    ],
)
def test_short_names_are_names_as_whole_words(name: str, cases: tuple[str, ...], named: bool) -> None:
    assert bool(identifying_part(name, cases, [])) is named


def test_folders_of_users_count_however_short(monkeypatch: pytest.MonkeyPatch) -> None:
    assert identifying_part("Wu", (), ["/home/wu/data"]) and identifying_part(
        "wu lesion", (), ["/Users/Wu/x"]
    )
    assert not identifying_part("t1", (), ["/data/t1"])  # a folder of a sequence
    monkeypatch.setattr("getpass.getuser", lambda: "ng")
    assert identifying_part("Ng", (), [])


def test_free_texts_of_weight_files_and_provenance_do_not_leave(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    run = planted_run(tmp_path)
    folder = next((run / "checkpoints").glob("step_*"))
    weights = folder / "weights.safetensors"
    save_file(load_file(weights), weights, {"format": "pt", "Li": "Wu of Ward Nine"})
    meta = json.loads((folder / "meta.json").read_text())
    meta["sha256"]["weights.safetensors"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "meta.json").write_text(json.dumps(with_checksum(meta)))
    facts = json.loads((run / "provenance.json").read_text())
    facts[0]["versions"] |= {"note": "Ward Nine", "Wu": "1.0", "torch": "2.0 of Li"}
    (run / "provenance.json").write_text(json.dumps([with_checksum(facts[0])]))
    shared = unpacked(share_run(run, tmp_path / "out.zip"), tmp_path / "x")
    assert b"Ward" not in b"".join(path.read_bytes() for path in shared.rglob("*") if path.is_file())
    (attempt,) = json.loads((shared / "provenance.json").read_text())
    assert not {"note", "Wu", "torch"} & attempt["versions"].keys() and "numpy" in attempt["versions"]
    assert open_checkpoint(shared / "checkpoints", "best")[0].meta["step"] == meta["step"]
    save_file({"Li, Wu": next(iter(load_file(weights).values()))}, weights)
    meta["sha256"]["weights.safetensors"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "meta.json").write_text(json.dumps(with_checksum(meta)))
    with pytest.raises(DataError, match=r"as no layer is.*--no-weights"):
        share_run(run, tmp_path / "other.zip")


def harmless_run(place: Path, data: dict[str, Any], cases: tuple[str, ...] = ("P1", "P2")) -> Path:
    """Write a run folder in which nothing but the name of its folder, its data and its cases is a user's."""
    import torch

    place.parent.mkdir(parents=True)
    planned = Experiment.of({"data": {"kind": "folder", "root": "data", "classes": {"organ": 1}, **data}})
    folder, names = RunFolder.create(planned, place), tuple(planned.data.classes)
    folder.write_provenance(1, {"device": "NVIDIA H200 (139 GiB)", "roles": dict.fromkeys(cases, "train")})
    done = events.ValidationDone(
        step=1001, epoch=7, loss=0.1001, scores=tuple(score(cases[0], n, 0.1002) for n in names),
        mean_dice=0.5, class_dice=dict.fromkeys(names, 0.5), n_used=2, n_absent=0, n_missed=0, best=True,
        seconds=1.0,
    )  # fmt: skip
    folder.write(done)
    folder.write(events.RunFinished(step=1001, state="finished", reason="all 7 epochs are done"))
    folder.close()
    meta = {
        "step": 1001, "best": 0.5, "experiment": planned.plain(), "patch": None, "channels": 1, "badges": [],
        "preprocessing": PREPROCESSING,
        "classes": {
            "names": list(names), "values": [[n + 1] for n in range(len(names))], "other_labels": "background",
        },
    }  # fmt: skip
    network = torch.nn.Linear(1, 1)
    save_checkpoint(folder.checkpoints, network=network, average=None, state={}, meta=meta, best=True)
    return folder.path


@pytest.mark.parametrize("part", ["ventricles", "Ventricles", "left ventricles", "ventricles_left", "2024"])
def test_a_folder_called_like_a_class_names_nobody(tmp_path: Path, part: str) -> None:
    classes = {"left ventricles": 1, "right ventricles": 2}
    run = harmless_run(tmp_path / part / "r1", {"root": f"/mnt/{part}/nii", "classes": classes})
    assert share_run(run, tmp_path / "out.zip").classes == tuple(classes)


@pytest.mark.parametrize(
    "cases", [("1001", "1002", "2000"), ("case_002", "case_001"), ("step_1001", "patient_7")]
)
def test_cases_called_like_a_counter_or_a_stand_in_are_no_hindrance(
    tmp_path: Path, cases: tuple[str, ...]
) -> None:
    run = harmless_run(tmp_path / "x" / "r1", {}, cases)
    shared = share_run(run, tmp_path / "out.zip")
    assert shared.cases == len(cases)
    assert set(open_run(unpacked(shared, tmp_path / "y")).metrics["case"]) == {"case_001"}


def test_an_account_called_like_a_class_is_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "organ")
    with pytest.raises(DataError, match=r"'organ' is the name of the current user.*--number-classes"):
        share_run(harmless_run(tmp_path / "x" / "r1", {}), tmp_path / "out.zip")


@pytest.mark.parametrize(
    "data",
    [
        {
            "kind": "pairs",
            "pairs": [{"case": CASES[0], "image": f"{ROOT}/a.nii", "label": f"{ROOT}/b.nii"}] * 1,
            "classes": {"liver": 1},
        },
        {"kind": "case_list", "file": f"{ROOT}/list.csv", "classes": {"liver": 1}},
        {"kind": "side_by_side", "root": ROOT, "ending": "_mueller", "classes": {"liver": 1}},
        {"kind": "bids", "root": ROOT, "label": "mueller", "pipeline": "drhouse", "classes": {"liver": 1}},
    ],
)
def test_every_way_to_name_data_is_nameless(tmp_path: Path, data: dict[str, Any]) -> None:
    run = planted_run(tmp_path, {"data": data, "split": {}, "validation": {}})
    folder = unpacked(share_run(run, tmp_path / "out.zip"), tmp_path / "x")
    text = (folder / "experiment.yaml").read_text().lower()
    assert not [name for name in PLANTED if name in text]
    assert open_run(folder).experiment.data.class_values() == {"liver": (1,)}


def test_nothing_is_replaced_unasked(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.zip"
    output.write_text("mine")
    with pytest.raises(SpecError, match="already exists"):
        share_run(run, output)
    with pytest.raises(SpecError, match=r"ends with \.zip"):
        share_run(run, tmp_path / "out.tar")
    with pytest.raises(DataError, match="not a run folder"):
        share_run(tmp_path, tmp_path / "other.zip")
    assert output.read_text() == "mine"
    assert share_run(run, output, overwrite=True).cases == 3


def test_curves_of_calibration_leave_without_names_of_classes() -> None:
    names = Pseudonyms(number_classes=True)
    curves = tuple(
        events.Reliability(
            class_name=name,
            region="box",
            counts=(3,),
            confidences=(2.5,),
            corrects=(2,),
            brier=0.5,
            nll=0.25,
            ece_mass=0.1,
        )
        for name in ("Jane Roe", ANY_CLASS)
    )
    event = events.WatchedDone(case="P1", role="train", index=0, calibration=curves)
    (copy,) = deidentify_events([event], Experiment.of({"data": {"kind": "phantom"}}), names)
    assert isinstance(copy, events.WatchedDone)
    assert [curve.class_name for curve in copy.calibration] == ["class_1", ANY_CLASS]
    assert copy.calibration[0].counts == (3,) and copy.case == "case_001"


def test_words_of_another_program_do_not_leave(tmp_path: Path) -> None:
    settings = {"Device": "Maier's PC", "Cases": "Maier, Huber", "Spacing": "0.8 × 0.8 × 2 mm"}
    place = tmp_path / "recorded"
    with Recorder(
        place, {"liver": 1}, trainer="Maier loop", network="Maier net", settings=settings
    ) as recorder:
        recorder.step(1.0, {"Maier term": 0.4, "dice": 0.6})
        recorder.epoch_end({"Maier weight": 1.0})
    archive = share_run(place, tmp_path / "shared.zip").path
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            assert b"Maier" not in packed.read(name), name
    with unpacked_run(archive) as folder:
        events = open_run(folder).events()
    (planned,) = (e for e in events if isinstance(e, Planned))
    assert planned.summary == {"Spacing": "0.8 × 0.8 × 2 mm"}
    (step,) = (e for e in events if isinstance(e, StepDone))
    assert dict(step.terms) == {"term_1": (0.4, 1.0), "dice": (0.6, 1.0)}
