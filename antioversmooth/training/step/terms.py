"""The terms that a LossMethod adds to the training loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from antioversmooth.methods.losses import LossMethod, PatchTargets, PatchTokens
from antioversmooth.models.patches import PatchVisionTransformer


class LossTerms:
    """The terms of a model's LossMethod, in float32; none of a model without one.

    Each is a mean over images, so those of micro-batches average to that of the global batch.
    """

    def __init__(self, model: nn.Module) -> None:
        self.method: LossMethod | None = None
        if isinstance(model, PatchVisionTransformer):
            self.method = model.loss_method
        self.weights = {} if self.method is None else self.method.weights
        self.names = tuple(self.weights)

    @property
    def need_targets(self) -> bool:
        """Whether a term asks what each patch shows."""
        return self.method is not None and self.method.classifies_patches

    def separate(self, outputs: Any) -> tuple[Any, PatchTokens | None]:
        """Outputs of a forward pass in training: what the criterion reads, and the patch tokens."""
        return (outputs, None) if self.method is None else outputs

    def add(self, loss: Tensor, tokens: PatchTokens, targets: PatchTargets | None) -> list[Tensor]:
        """The loss with all terms, and then each term without its weight, as in `names`."""
        assert self.method is not None
        first, last, logits = tokens
        logits = None if logits is None else logits.float()
        found = self.method.terms(PatchTokens(first.float(), last.float(), logits), targets)
        for name, weight in self.weights.items():
            loss = loss + weight * found[name]
        return [loss, *(found[name] for name in self.names)]
