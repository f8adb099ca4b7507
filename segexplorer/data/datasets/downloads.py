"""Public data sets that can be fetched: what they are, under which licence; fetched only when asked."""

from __future__ import annotations

import logging
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segexplorer.core.errors import DataError, did_you_mean

LICENCE = "CC BY-SA 4.0"
REFERENCE = "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022"
PAGE = "http://medicaldecathlon.com"


@dataclass(frozen=True)
class Sample:
    """A public data set.

    Attributes
    ----------
    name
        That of its folder, as published.
    shows
        Modality, region and what is labelled.
    cases
        With label.
    megabytes
        Of the archive, roughly; unpacked it takes as much again.
    """

    name: str
    shows: str
    cases: int
    megabytes: int
    licence: str = LICENCE
    reference: str = REFERENCE
    page: str = PAGE


SAMPLES = (
    Sample("Task04_Hippocampus", "MR of the hippocampus: anterior, posterior", 260, 27),
    Sample("Task05_Prostate", "MR (T2, ADC) of the prostate: peripheral and transition zone", 32, 229),
    Sample("Task02_Heart", "MR of the heart: left atrium", 20, 435),
    Sample("Task09_Spleen", "CT of the abdomen: spleen", 41, 1500),
    Sample("Task10_Colon", "CT of the abdomen: colon cancer", 126, 5800),
    Sample("Task01_BrainTumour", "MR (FLAIR, T1, T1 contrast, T2) of the brain: parts of glioma", 484, 7100),
    Sample("Task06_Lung", "CT of the chest: lung cancer", 63, 8500),
    Sample("Task08_HepaticVessel", "CT of the liver: vessels, tumours", 303, 8700),
    Sample("Task07_Pancreas", "CT of the abdomen: pancreas, tumours", 281, 11400),
    Sample("Task03_Liver", "CT of the abdomen: liver, tumours", 131, 26900),
)
"""The tasks of the Decathlon that MONAI can fetch, smallest first."""


def sample(name: str) -> Sample:
    """Return a sample by its name.

    Raises
    ------
    DataError
        With the nearest names.
    """
    for one in SAMPLES:
        if one.name.lower() == name.lower():
            return one
    raise DataError(f"There is no sample {name!r}.", did_you_mean(name, [one.name for one in SAMPLES]))


def fetch(wanted: Sample, folder: Path, *, progress: bool = True) -> Path:
    """Download a sample through MONAI, check its hash, unpack it; return its folder.

    Raises
    ------
    DataError
        When the folder is there already, the disk is too full, or the download fails.
    """
    from monai.apps.datasets import DecathlonDataset
    from monai.apps.utils import HashCheckError, download_url

    target, archive = folder / wanted.name, folder / f"{wanted.name}.tar"
    if target.exists():
        raise DataError(f"{target} is there already.", "Use it, or remove it first.")
    folder.mkdir(parents=True, exist_ok=True)
    _check_space(wanted, folder)
    try:
        url, expected = DecathlonDataset.resource[wanted.name], DecathlonDataset.md5[wanted.name]
        with _quiet():
            download_url(url, archive, hash_val=expected, hash_type="md5", progress=progress)
    except (OSError, RuntimeError, HashCheckError) as error:
        reason = (
            "its hash is not that of the published file" if isinstance(error, HashCheckError) else str(error)
        )
        text = f"{wanted.name} could not be downloaded: {reason.rstrip('.')}."
        raise DataError(text, f"Check the connection, or fetch it yourself from {wanted.page}.") from error
    try:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    except (tarfile.TarError, OSError) as error:
        shutil.rmtree(target, ignore_errors=True)
        raise DataError(f"{archive} could not be unpacked: {error}.", "Remove it and try again.") from error
    archive.unlink()
    return target


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MONAI's log, which goes to stdout, out of what a program may read; failures are raised anyway."""
    logger = logging.getLogger("monai.apps")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _check_space(wanted: Sample, folder: Path) -> None:
    """Check that the archive fits where it is first put, and archive and content where they go."""
    for place, times in ((Path(tempfile.gettempdir()), 1), (folder, 2)):
        free = shutil.disk_usage(place).free / 1e6
        if free < times * wanted.megabytes:
            text = f"{place} has {free:.0f} MB free; {wanted.name} needs {times * wanted.megabytes} MB there."
            raise DataError(text, "Choose another folder (TMPDIR for the temporary one), or make room.")
