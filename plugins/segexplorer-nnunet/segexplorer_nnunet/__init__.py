"""nnU-Net v2 recorded for segexplorer: `nnUNetTrainerSegExplorer`, which nnU-Net finds in `TRAINERS`."""

from pathlib import Path

TRAINERS = Path(__file__).parent / "trainers"
"""Folder for nnU-Net's `nnUNet_extTrainer`; it contains the trainer alone, since nnU-Net imports all of it."""

__all__ = ["TRAINERS"]
