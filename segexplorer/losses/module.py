"""The one `torch.nn.Module` of all losses: a spec, and what adapts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segexplorer.core.errors import SpecError
from segexplorer.core.types import EpochSummary
from segexplorer.functional.context import LossContext, Scene
from segexplorer.losses.base import LossOutput, LossSpec
from segexplorer.losses.compound import Compound

__all__ = ["Loss", "LossOutput"]


class Loss(nn.Module):
    """A loss, a drop-in in anybody's training loop.

    Attributes
    ----------
    spec
        The frozen parameters.
    parts
        Losses of a compound's terms, in order.
    weights
        float64 buffer (terms,) of a compound whose weights adapt, else None.
    """

    weights: Tensor | None

    def __init__(self, spec: LossSpec) -> None:
        super().__init__()
        self.spec = spec
        terms = spec.compound_terms() if isinstance(spec, Compound) else ()
        self.parts = nn.ModuleList(Loss(term.spec) for term in terms)
        adapts = isinstance(spec, Compound) and spec.rule().moves() != "never"
        start = spec.start_weights() if isinstance(spec, Compound) and adapts else None
        self.register_buffer("weights", None if start is None else torch.tensor(start, dtype=torch.float64))

    def forward(self, logits: Tensor, target: Tensor, context: LossContext | None = None) -> Tensor:
        """Return the scalar loss of logits (B, C, *spatial) and labels (B, 1, *spatial) or a soft target.

        Raises
        ------
        LossInputError
            Naming what is wrong with logits or target.
        """
        return self.evaluate(logits, target, context).value

    def evaluate(self, logits: Tensor, target: Tensor, context: LossContext | None = None) -> LossOutput:
        """Return value, terms with their weights, and region maps; float32 or wider inside, whatever autocast."""
        with torch.autocast(logits.device.type, enabled=False):
            logs = self.spec.has_cross_entropy()
            scene = Scene(logits, target, context, self.spec.ignore_index, cross_entropies=logs)
            return self.spec.compute(scene, self)

    def part_outputs(self, scene: Scene) -> list[LossOutput]:
        """Return the outputs of a compound's terms on a shared scene.

        Terms that count box by box come first: the others add their overlap up from the boxes.
        """
        parts = self._losses()
        first = sorted(range(len(parts)), key=lambda i: not parts[i].spec.regional)
        outputs = {i: parts[i].spec.compute(scene, parts[i]) for i in first}
        return [outputs[i] for i in range(len(parts))]

    def term_weights(self) -> tuple[float, ...]:
        """Return the present weights of a compound's terms."""
        if self.weights is not None:
            return tuple(self.weights.tolist())
        return self.spec.start_weights() if isinstance(self.spec, Compound) else ()

    def epoch_end(self, summary: EpochSummary) -> None:
        """Let what adapts by epoch follow the epoch's mean terms; call it once after each epoch."""
        self._adapt(summary.terms, "epoch")

    def step_end(self, terms: Mapping[str, float]) -> None:
        """Let what adapts by step follow the step's term values."""
        self._adapt(terms, "step")

    def _adapt(self, terms: Mapping[str, float], moment: str) -> None:
        if not isinstance(self.spec, Compound):
            return
        names = [term.name for term in self.spec.compound_terms()]
        rule = self.spec.rule()
        if self.weights is not None and rule.moves() == moment:
            means = [part._mean(name, terms) for name, part in zip(names, self._losses(), strict=True)]
            if all(m is not None for m in means):
                adapted = rule.adapted(self.term_weights(), tuple(m for m in means if m is not None))
                self.weights.copy_(torch.tensor(adapted, dtype=torch.float64))
        for name, part in zip(names, self._losses(), strict=True):
            start = f"{name}."
            part._adapt({k.removeprefix(start): v for k, v in terms.items() if k.startswith(start)}, moment)

    def _mean(self, name: str, terms: Mapping[str, float]) -> float | None:
        """The mean value of this part, from its own entry or from those of its terms ("name.term")."""
        if not isinstance(self.spec, Compound):
            return terms.get(name)
        total = 0.0
        for term, weight, part in zip(
            self.spec.compound_terms(), self.term_weights(), self._losses(), strict=True
        ):
            mean = part._mean(f"{name}.{term.name}", terms)
            if mean is None:
                return None
            total += weight * mean
        return total

    def update(self, spec: LossSpec) -> None:
        """Take over changed parameters; adaptive weights stay as they are.

        Raises
        ------
        SpecError
            When the new spec has another kind or other terms; that needs a new loss.
        """
        self._check_update(spec)
        self.spec = spec
        if isinstance(spec, Compound):
            for part, term in zip(self._losses(), spec.compound_terms(), strict=True):
                part.update(term.spec)

    def _check_update(self, spec: LossSpec) -> None:
        same = type(spec) is type(self.spec)
        if same and isinstance(spec, Compound) and isinstance(self.spec, Compound):
            new, old = spec.compound_terms(), self.spec.compound_terms()
            same = [t.name for t in new] == [t.name for t in old]
            same = same and (spec.rule().moves() == "never") == (self.weights is None)
            if same:
                for part, term in zip(self._losses(), new, strict=True):
                    part._check_update(term.spec)
        if not same:
            raise SpecError(
                "A loss in use cannot change its kind, its terms or its weighting rule.",
                "Change parameters only, or start a new run.",
            )

    def adaptive(self) -> dict[str, float]:
        """Return what adapts, by name, for curves: "weight of dice" -> 0.5."""
        if not isinstance(self.spec, Compound):
            return {}
        found: dict[str, float] = {}
        terms = self.spec.compound_terms()
        if self.weights is not None:
            found = {f"weight of {t.name}": w for t, w in zip(terms, self.term_weights(), strict=True)}
        for term, part in zip(terms, self._losses(), strict=True):
            found.update({f"{term.name}: {k}": v for k, v in part.adaptive().items()})
        return found

    def _losses(self) -> list[Loss]:
        return [part for part in self.parts if isinstance(part, Loss)]

    def extra_repr(self) -> str:
        """Show the parameters in the module's print-out."""
        return repr(self.spec)
