"""`python -m segexplorer_nnunet` prints the folder for `nnUNet_extTrainer`; `--settings` what the trainer reads."""

import sys

from segexplorer_nnunet import TRAINERS
from segexplorer_nnunet.settings import VARIABLES


def main(arguments: list[str]) -> int:
    """Print, and return the exit code."""
    if arguments == ["--settings"]:
        for name, meaning in VARIABLES.items():
            print(f"{name}: {meaning}")
        return 0
    if arguments:
        print("python -m segexplorer_nnunet [--settings]", file=sys.stderr)
        return 2
    print(TRAINERS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
