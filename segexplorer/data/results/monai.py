"""Results of MONAI: outputs of bundles, and the ensemble of Auto3DSeg.

```
bundle/eval/spleen_12/spleen_12_trans.nii.gz         SaveImage; its output_postfix is "trans", in many bundles "seg"
work_dir/ensemble_output/spleen_12/spleen_12_ensemble.nii.gz
work_dir/input.yaml                                  modality, datalist, dataroot
```

Names were read in monai 1.6.1: `monai.data.utils.create_file_basename` (a folder per image, the postfix behind its
name), `monai.transforms.SaveImage`, `monai.apps.auto3dseg.ensemble_builder` (folder `ensemble_output`, postfix
"ensemble"; below it the image's place under `dataroot` is repeated) and `auto_runner` (`input.yaml`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from segexplorer.core.errors import DataError
from segexplorer.core.fields import parameter
from segexplorer.data.case import Source
from segexplorer.data.datasets.base import existing_folder
from segexplorer.data.datasets.discovery import stem, subfolders
from segexplorer.data.datasets.tables import read_document, read_object
from segexplorer.data.results.base import (
    ResultListing,
    ResultRecognition,
    ResultsSpec,
    images_in,
    labels_in,
    put_together,
    registry,
    volumes_by_name,
)

ENSEMBLE = "ensemble_output"
INPUT = "input.yaml"
_DEPTH = 4
"""Below an output folder, SaveImage repeats the folders that an image has under its data root."""


@registry.register
class MonaiResults(ResultsSpec):
    """A folder per case with `case_POSTFIX`, as MONAI's SaveImage writes it in bundles and Auto3DSeg.

    For an Auto3DSeg work folder, labels and images are those of the data list that its `input.yaml` names.
    """

    display_name = "MONAI output"
    layout: ClassVar[str] = "eval/spleen_12/spleen_12_seg.nii.gz\neval/spleen_19/spleen_19_seg.nii.gz"
    generality: ClassVar[int] = 1
    kind: Literal["monai_results"] = "monai_results"
    postfix: str = parameter(
        "", title="Postfix", description="Behind the image's name, e.g. seg. Empty: the one most files have."
    )

    @classmethod
    def recognise(cls, folder: Path) -> list[ResultRecognition]:
        """Recognise folders that each hold a file of the folder's own name with the same postfix behind it."""
        if (folder / ENSEMBLE).is_dir():
            folder = folder / ENSEMBLE
        found = Counter(postfix for _, postfix, _ in _saved(folder, _DEPTH))
        if not found:
            return []
        ((postfix, count),) = found.most_common(1)
        reason = (
            f"{count} folder{'s' if count > 1 else ''} with a file of its own name and _{postfix} behind it"
        )
        return [ResultRecognition("monai_results", folder, reason, {"postfix": postfix})]

    @property
    def title(self) -> str:
        """The folder's name; of an ensemble or of a bundle's eval with the folder above it."""
        folder = existing_folder(self.root, "results").resolve()
        return f"{folder.parent.name}/{folder.name}" if folder.name in (ENSEMBLE, "eval") else folder.name

    def listing(self) -> ResultListing:
        """Return the saved predictions, with labels and images of the data list or of the folders given."""
        folder = existing_folder(self.root, "results")
        saved = list(_saved(folder, _DEPTH))
        postfix = self.postfix or next((p for p, _ in Counter(p for _, p, _ in saved).most_common(1)), "")
        predictions: dict[str, Source] = {}
        for case, own, path in saved:
            if own == postfix:
                if case in predictions:
                    raise DataError(
                        f"{predictions[case]} and {path} are both of the case {case}.",
                        "Open their folders one by one.",
                    )
                predictions[case] = path
        truths, images = _listed(folder)
        if self.labels:
            truths = labels_in(self.labels)
        else:
            truths = {case: label for case, label in truths.items() if case in predictions}
        if self.images:
            images = images_in(self.images, list(predictions))
        cases, problems = put_together(predictions, truths, images, where=folder)
        return ResultListing(cases, tuple(problems))


def _saved(folder: Path, depth: int) -> Iterator[tuple[str, str, Path]]:
    """Yield case, postfix and file of every folder that holds one of its own name with a postfix."""
    for inner in subfolders(folder):
        own = [
            (inner.name, name.removeprefix(f"{inner.name}_"), path)
            for name, path in volumes_by_name(inner).items()
            if name.startswith(f"{inner.name}_") and name != f"{inner.name}_"
        ]
        # images and labels of a case are there too where the folder is a data set
        if own and not any(name == inner.name for name in volumes_by_name(inner)):
            yield from own
        elif depth > 1:
            yield from _saved(inner, depth - 1)


def _listed(folder: Path) -> tuple[dict[str, Source], dict[str, tuple[Source, ...]]]:
    """Return labels and images of the data list that Auto3DSeg's input.yaml names, as far as they are there."""
    place = next((p / INPUT for p in (folder, folder.parent) if (p / INPUT).is_file()), None)
    if place is None:
        return {}, {}
    told = read_object(place)
    root, listed = (Path(str(told.get(key, ""))).expanduser() for key in ("dataroot", "datalist"))
    file = next((p for p in (listed, place.parent / listed, root / listed) if p.is_file()), None)
    content: Any = read_document(file) if file is not None else {}
    labels: dict[str, Source] = {}
    images: dict[str, tuple[Source, ...]] = {}
    for part in content.values() if isinstance(content, dict) else ():
        for row in part if isinstance(part, list) else ():
            own = _paths(row, "image", root)
            if not own:
                continue
            case = stem(own[0]) or own[0].name
            images[case] = tuple(own)
            if label := _paths(row, "label", root):
                labels[case] = label[0]
    return labels, images


def _paths(row: object, key: str, root: Path) -> list[Path]:
    """Return the files of an entry that are there; an image may be a list of channels."""
    given = row.get(key) if isinstance(row, Mapping) else None
    several = given if isinstance(given, list) else [given] if isinstance(given, str) else []
    found = [root / str(path) for path in several]
    return found if found and all(path.is_file() for path in found) else []
