"""Loaded by every Python of a test's jobs: a process of another computer counts as dead after a good minute."""

import segexplorer.training.ownership

segexplorer.training.ownership.STALE_SECONDS = 75.0
