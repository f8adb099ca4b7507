"""Get LeViT's ImageNet weights, when asked to: `python -m segexplorer_levit_unet.download 384`.

Nothing else in this package reaches for the network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

NAMES = {"128s": "facebook/levit-128S", "192": "facebook/levit-192", "384": "facebook/levit-384"}


def download(size: str, file: Path) -> Path:
    """Download the encoder's weights from the Hugging Face hub and save them as safetensors.

    Parameters
    ----------
    size
        "128s", "192" or "384".
    file
        Where to; name it in `network_weights.path` of an experiment.
    """
    from safetensors.torch import save_file
    from transformers import LevitModel

    encoder = LevitModel.from_pretrained(NAMES[size])
    save_file({f"levit.{name}": value for name, value in encoder.state_dict().items()}, file)
    return file


def main(arguments: list[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Download LeViT's ImageNet-1k weights (Apache-2.0).")
    parser.add_argument("size", choices=sorted(NAMES))
    parser.add_argument("file", nargs="?", type=Path, help="default: levit-SIZE.safetensors")
    given = parser.parse_args(arguments)
    file = download(given.size, given.file or Path(f"levit-{given.size}.safetensors"))
    print(f"Saved {file}. Start from it with: --set network_weights.path={file}")  # noqa: T201


if __name__ == "__main__":
    main()
