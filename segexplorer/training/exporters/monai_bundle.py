"""A MONAI bundle: metadata, the configuration of inference, and the weights as a plain state dict.

```
configs/metadata.json    what goes in and comes out, versions, preprocessing and classes
configs/inference.json   the workflow, from files to label volumes; its parts are `exporters.bundle_parts`
models/model.pt          the state dict, which `torch.load(..., weights_only=True)` reads
docs/README.md           how to run it
```

There is no TorchScript in it, which torch deprecates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import segexplorer
from segexplorer.core.errors import SpecError
from segexplorer.core.fields import parameter
from segexplorer.training.exporters.base import (
    NOTICE,
    TOLERANCE,
    ExporterSpec,
    example,
    largest_difference,
    model_facts,
    network_settings,
    registry,
)

if TYPE_CHECKING:
    from segexplorer.training.predict import Predictor

PARTS = "segexplorer.training.exporters.bundle_parts"


@registry.register
class MonaiBundle(ExporterSpec):
    """A folder that `monai.bundle` runs: metadata, the configuration of inference, and a state dict.

    It uses segexplorer for the network and for preprocessing, so that it predicts what `segexplorer predict` does.
    """

    display_name: ClassVar[str] = "MONAI bundle"
    reference: ClassVar[str] = "https://docs.monai.io/en/stable/mb_specification.html"
    kind: Literal["monai_bundle"] = "monai_bundle"
    title: str = parameter(
        "", title="Name", description="The bundle's name; none: the experiment's, or its loss."
    )
    version: str = parameter("0.1.0", title="Version", description="The bundle's own version.", min_length=1)
    authors: str = parameter("", title="Authors", description="Who made the model.")

    def write(self, model: Predictor, output: Path) -> None:
        """Write the bundle.

        Raises
        ------
        SpecError
            When a network built from the bundle does not give the same output.
        """
        import torch

        facts = model_facts(model)
        for name in ("configs", "models", "docs"):
            (output / name).mkdir(parents=True)
        state = {k: v.detach().cpu().contiguous() for k, v in model.network.state_dict().items()}
        with (output / "models" / "model.pt").open("wb") as file:  # so that a full disk is called by its name
            torch.save(state, file)
        _write_json(output / "configs" / "metadata.json", self._metadata(model, facts))
        _write_json(output / "configs" / "inference.json", _inference(model, facts))
        readme = _README.format(name=self._name(model), notice=NOTICE, version=segexplorer.__version__)
        (output / "docs" / "README.md").write_text(readme, encoding="utf-8")
        _check(model, output)

    def _name(self, model: Predictor) -> str:
        experiment = model.experiment
        return (
            self.title
            or experiment.name
            or f"{experiment.network.display_name}, {experiment.loss.display_name}"
        )

    def _metadata(self, model: Predictor, facts: Mapping[str, Any]) -> dict[str, Any]:
        classes = facts["classes"]
        shape = facts["patch_size"] or [f"{n}*n" for n in facts["size_must_be_multiple_of"]]
        channels = {str(i): f"image {i + 1}" for i in range(len(model.fitted.intensities))}
        if model.fitted.difference:
            channels[str(len(channels))] = "image 2 minus image 1"
        return {
            "version": self.version,
            "changelog": {self.version: f"exported by {facts['written_by']}"},
            "monai_version": metadata.version("monai"),
            "pytorch_version": metadata.version("torch").partition("+")[0],
            "numpy_version": metadata.version("numpy"),
            "required_packages_version": {"segexplorer": segexplorer.__version__},
            "name": self._name(model),
            "task": f"Segmentation of {', '.join(model.classes.names)}",
            "description": f"{facts['network_name']} trained with {model.experiment.loss.display_name}.",
            "authors": self.authors,
            "intended_use": NOTICE,
            "network_data_format": {
                "inputs": {
                    "image": {
                        "type": "image",
                        "format": "intensity",
                        "num_channels": model.channels,
                        "spatial_shape": shape,
                        "dtype": "float32",
                        "value_range": [],
                        "is_patch_data": facts["patch_size"] is not None,
                        "channel_def": channels,
                    }
                },
                "outputs": {
                    "pred": {
                        "type": "logits",
                        "format": "segmentation",
                        "num_channels": len(classes),
                        "spatial_shape": shape,
                        "dtype": "float32",
                        "value_range": [],
                        "is_patch_data": facts["patch_size"] is not None,
                        "channel_def": {index: entry["name"] for index, entry in classes.items()},
                    }
                },
            },
            "segexplorer": dict(facts),
        }


def _inference(model: Predictor, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the workflow: what MONAI's `$` and `@` stand for is evaluated by it when the bundle is run."""
    several = len(model.fitted.intensities) > 1
    files = "sorted(glob.glob(os.path.join({}, '*')))"
    cases = files.format("@dataset_dir")
    taken = {"preprocessing": facts["preprocessing"], "classes": model.classes.plain()}
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/segmentations'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "weights": "$@bundle_root + '/models/model.pt'",
        # a file for each case, or a folder with its images in the order of their names
        "datalist": f"$[{files.format('case')} for case in {cases}]" if several else f"${cases}",
        "network_def": {
            "_target_": f"{PARTS}.build_network",
            "settings": network_settings(model),
            "patch_size": facts["patch_size"],
            "in_channels": model.channels,
            "out_channels": len(facts["classes"]),
            **({"overlapping": True} if model.classes.overlapping else {}),
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": f"{PARTS}.Prepare", **taken},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': case} for case in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False},
        "inferer": {
            "_target_": f"{PARTS}.Windows",
            "classes": len(facts["classes"]),
            "patch_size": facts["patch_size"],
            "multiple_of": facts["size_must_be_multiple_of"],
            "overlap": facts["window_overlap"],
            "mirror": facts["mirrored_predictions"],
        },
        "postprocessing": {"_target_": f"{PARTS}.PutBack", **taken, "output_dir": "@output_dir"},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "initialize": [
            "$@network.load_state_dict(torch.load(@weights, map_location=@device, weights_only=True))"
        ],
        "run": ["$@evaluator.run()"],
    }


def _check(model: Predictor, bundle: Path) -> None:
    """Build the network from what was written and compare it with the one that was trained."""
    import torch

    from segexplorer.training.exporters.bundle_parts import build_network

    written = json.loads((bundle / "configs" / "inference.json").read_text(encoding="utf-8"))["network_def"]
    written.pop("_target_")
    network = build_network(**written).eval()
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    missing, unknown = network.load_state_dict(state, strict=False)
    image = example(model, model.patch or tuple(2 * n for n in model.divisor))
    with torch.inference_mode():
        difference = largest_difference(network(image), model.network(image))
    if missing or unknown or not difference <= TOLERANCE:
        raise SpecError(
            f"The network {model.experiment.network.display_name} cannot be exported as a MONAI bundle: built anew "
            "from its settings and weights it is another one.",
            "Predict with segexplorer predict.",
        )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


_README = """# {name}

{notice}

Exported by segexplorer {version}. `configs/metadata.json` says what goes in and what comes out.

To segment every file of the folder `images` (a folder for each case, where a case has several images):

    pip install "segexplorer=={version}" "monai[fire,ignite]"
    python -m monai.bundle run --bundle_root . \\
        --meta_file configs/metadata.json --config_file configs/inference.json

The segmentations, with the label values of the training data and in each image's own grid, are written to
`segmentations`. `--dataset_dir` and `--output_dir` name other folders.

For the network alone:

    from monai.bundle import ConfigParser
    import torch

    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load("models/model.pt", weights_only=True))
"""
