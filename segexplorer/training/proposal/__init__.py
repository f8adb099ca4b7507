"""From a folder to an experiment: `propose` chooses the settings and says why."""

from __future__ import annotations

from segexplorer.training.proposal.proposal import Proposal, propose, time_sentence
from segexplorer.training.proposal.sizes import Hardware, Sizing, this_machine

__all__ = ["Hardware", "Proposal", "Sizing", "propose", "this_machine", "time_sentence"]
