"""From a folder as a researcher has it to the first validation: minutes, commands typed, words read.

    python benchmarks/first_hour.py [--folders NAME ...] [--minutes 10] [--size 96] [--patients 10] [--small]

Five folders are made of phantoms: patient folders with spaces and umlauts, nnU-Net's raw format, BIDS, DICOM series
with a scout beside each CT, and an Excel list of files that have no order. In each, what a newcomer types is run:

    segexplorer check FOLDER
    segexplorer init FOLDER --minutes M
    segexplorer train experiment.yaml

If a command fails and its message proposes another one, that is typed next, as a reader would. The clock runs from
the first command to the first validation of whole volumes; `train` is then ended, as by Ctrl-C. Words are what the
commands print until then; processor seconds are those of all processes (not on Windows). `--small` takes small
phantoms and few steps, in this process, for tests.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

VALIDATED = re.compile(r"mean Dice (\d\.\d+)")
SURNAMES = ("Müller Jürgen", "Šimůnek Žofie", "Núñez José", "Ångström Åsa", "Çelik Gülşen", "O'Neill Seán")


@dataclass
class Walk:
    """What it took from a folder to the first validation."""

    folder: str
    commands: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    processor: float = 0.0
    words: int = 0
    dice: float | None = None

    @property
    def minutes(self) -> float:
        """From the first command on."""
        return sum(self.seconds) / 60


# ---- folders


def cases_of(count: int, size: int, anatomy: str) -> Iterator[tuple[int, Any, Any]]:
    """Yield number, image and label of phantoms."""
    from segexplorer.data.datasets import parse

    data = {"kind": "phantom", "anatomy": anatomy, "count": count, "size": size}
    for number, ref in enumerate(parse(data).cases()):
        case = ref.open()
        yield number, case.images[0], case.label


def save(volume: Any, path: Path, *, label: bool = False) -> None:
    """Write a volume and the folders above it."""
    from segexplorer.data.io import save_volume

    path.parent.mkdir(parents=True, exist_ok=True)
    save_volume(volume, path, integer=label)


def patients(root: Path, count: int, size: int) -> Path:
    """One folder per patient, called by name, with German file names."""
    place = root / "Daten für Studie (neu)"
    for number, image, label in cases_of(count, size, "ct_abdomen"):
        folder = place / f"{SURNAMES[number % len(SURNAMES)]} {number + 1}"
        save(image, folder / "CT Abdomen nativ.nii.gz")
        save(label, folder / "Segmentierung geprüft.nii.gz", label=True)
    return place


def nnunet(root: Path, count: int, size: int) -> Path:
    """The raw format of nnU-Net."""
    place = root / "nnUNet_raw" / "Dataset042_Abdomen"
    for number, image, label in cases_of(count, size, "ct_abdomen"):
        save(image, place / "imagesTr" / f"abd_{number:03d}_0000.nii.gz")
        save(label, place / "labelsTr" / f"abd_{number:03d}.nii.gz", label=True)
    names = ["background", "liver", "spleen", "kidneys", "aorta", "spine", "vessel", "lesion"]
    described = {
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in enumerate(names)},
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
    (place / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return place


def bids(root: Path, count: int, size: int) -> Path:
    """BIDS with lesions in a derivative."""
    place = root / "ms_study"
    derived = place / "derivatives" / "manual"
    for number, image, label in cases_of(count, size, "mr_brain"):
        subject = f"sub-{number + 1:02d}"
        save(image, place / subject / "anat" / f"{subject}_FLAIR.nii.gz")
        lesion = label.with_array((np.asarray(label.array) == 5).astype(np.uint8))
        save(lesion, derived / subject / "anat" / f"{subject}_label-lesion_mask.nii.gz", label=True)
    for folder in (place, derived):
        described = {"Name": folder.name, "BIDSVersion": "1.9.0"}
        (folder / "dataset_description.json").write_text(json.dumps(described), encoding="utf-8")
    return place


def dicom(root: Path, count: int, size: int) -> Path:
    """Series as they leave a PACS: every folder of slices also holds a scout; labels are NIfTI beside it."""
    from segexplorer.data.io import open_volume
    from segexplorer.data.volume import Volume
    from segexplorer.testing.dicom import write_series

    place = root / "PACS export"
    for number, image, label in cases_of(count, size, "ct_abdomen"):
        case = place / f"{4711 + number}"
        stored = (np.asarray(image.array).transpose(2, 1, 0) + 1024).clip(0).astype(np.uint16)
        write_series(case / "dicom", stored[:1], number=1)
        spacing = image.spacing
        write_series(
            case / "dicom", stored, number=2, spacing=(spacing[1], spacing[0]), step=(0, 0, spacing[2])
        )
        ct = open_volume(case / "dicom", select=2)
        save(Volume.from_array(np.asarray(label.array), affine=ct.affine), case / "label.nii.gz", label=True)
    return place


def excel(root: Path, count: int, size: int) -> Path:
    """A table of files that are anywhere, headed as people head tables."""
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["Case", "Image", "Label", "Patient"])
    for number, image, label in cases_of(count, size, "ct_abdomen"):
        name = SURNAMES[number % len(SURNAMES)].split()[0]
        save(image, root / "Archiv" / f"scan {number} ({name}).nii.gz")
        save(label, root / "Masken 2024" / f"{number}-final2.nii.gz", label=True)
        book.active.append(
            [
                f"Fall {number}",
                f"Archiv\\scan {number} ({name}).nii.gz",
                f"Masken 2024\\{number}-final2.nii.gz",
                name,
            ]
        )
    book.save(root / "Fälle.xlsx")
    return root / "Fälle.xlsx"


FOLDERS: dict[str, Callable[[Path, int, int], Path]] = {
    "patient folders": patients,
    "nnU-Net raw": nnunet,
    "BIDS": bids,
    "DICOM with scouts": dicom,
    "Excel list": excel,
}


# ---- what is typed


def typed(words: Sequence[str], here: Path, until: re.Pattern[str] | None = None) -> tuple[int, str]:
    """Run a command in a process of its own and return its exit code and what it printed, or did up to a match."""
    command = [sys.executable, "-m", "segexplorer.frontends.cli", *words]
    process = subprocess.Popen(
        command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if until is not None and until.search(line):
            process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
            process.stdout.read()
            process.wait()
            return 0, printed
    return process.wait(), printed


def typed_here(words: Sequence[str], here: Path, until: re.Pattern[str] | None = None) -> tuple[int, str]:
    """Run a command in this process; `until` is not needed, since training is short."""
    from segexplorer.frontends.cli.app import run

    printed = io.StringIO()
    with contextlib.chdir(here), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = run(list(words))
    return code, printed.getvalue()


def walk(name: str, place: Path, here: Path, minutes: float, *, small: bool) -> Walk:
    """Type what leads from a folder to the first validation."""
    before = os.times()
    do = typed_here if small else typed
    done = Walk(name)
    shown = str(place.relative_to(here))
    length = ["--quick"] if small else ["--minutes", f"{minutes:g}"]
    fewer = ["sampling.steps_per_epoch=2", "schedule.epochs=1", "network.base_features=4"]
    reduced = [word for setting in fewer for word in ("--set", setting)] if small else []
    left = [
        ["check", shown],
        ["init", shown, *length],
        ["train", "experiment.yaml", *reduced],
    ]
    while left:
        words = left.pop(0)
        begun = time.perf_counter()
        code, printed = do(words, here, VALIDATED if words[0] == "train" else None)
        done.seconds.append(time.perf_counter() - begun)
        done.commands.append(shlex.join(["segexplorer", *words]))
        done.words += len(printed.split())
        if code:
            proposed = re.search(r"segexplorer (check .+?)\.?$", printed, re.MULTILINE)
            again = shlex.split(proposed[1]) if proposed else []
            if not again or shlex.join(["segexplorer", *again]) in done.commands:
                raise SystemExit(f"{name}: {done.commands[-1]} ended with {code}:\n{printed}")
            left = [again, ["init", *again[1:], *length], *left[-1:]]
        if words[0] == "train" and (found := VALIDATED.search(printed)):
            done.dice = float(found[1])
    now = os.times()
    done.processor = sum(now[:4]) - sum(before[:4])
    return done


def table(walks: Sequence[Walk]) -> str:
    """Return one line per folder."""
    lines = [
        "| folder | minutes | check, init, train s | processor s | commands | words | first mean Dice |",
        "|---|---|---|---|---|---|---|",
    ]
    for found in walks:
        cells = [
            found.folder,
            f"{found.minutes:.1f}",
            ", ".join(f"{s:.0f}" for s in found.seconds),
            f"{found.processor:.0f}",
            str(len(found.commands)),
            str(found.words),
            "none" if found.dice is None else f"{found.dice:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Walk]:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folders", nargs="+", default=[*FOLDERS], choices=[*FOLDERS])
    parser.add_argument("--minutes", type=float, default=10.0, help="of training that init is asked for")
    parser.add_argument("--size", type=int, default=96, help="voxels along each axis")
    parser.add_argument("--patients", type=int, default=10)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args(arguments)
    count, size = (4, 32) if given.small else (given.patients, given.size)
    walks = []
    for name in given.folders:
        with tempfile.TemporaryDirectory(prefix="segexplorer-first-hour-") as scratch:
            here = Path(scratch)
            place = FOLDERS[name](here, count, size)
            walks.append(walk(name, place, here, given.minutes, small=given.small))
        if not given.small:
            print("\n".join([*walks[-1].commands, table(walks[-1:]).splitlines()[-1]]), flush=True)
    print(table(walks))
    return walks


if __name__ == "__main__":
    main()
