"""The kind of method that adds terms to the training loss, and leaves the forward pass as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from antioversmooth.methods.base import Method
from antioversmooth.methods.family import Family

if TYPE_CHECKING:
    from torch import Tensor


class PatchTokens(NamedTuple):
    """Patch tokens that a model returns of B images; N patches, C channels."""

    first: Tensor
    """Patch tokens behind the first block, [B, N, C]."""
    last: Tensor
    """Patch tokens behind the last block and the final norm, [B, N, C]."""
    logits: Tensor | None = None
    """Classification of each patch, [B, N, classes]; None where no term asks for it."""


class PatchTargets(NamedTuple):
    """Labels of the patches of B mixed images, which show the own image and a partner."""

    own: Tensor
    """Soft labels of the images, [B, classes]."""
    partner: Tensor
    """Soft labels of the images that they are mixed with, [B, classes]."""
    share: Tensor
    """Share of the own image in each patch, [B, N]."""


@dataclass(frozen=True)
class LossMethod(Method):
    """A weighted sum of terms, added to the training loss; each is a mean over images."""

    families: ClassVar[tuple[Family, ...]] = (Family.vit,)
    is_exact_at_start: ClassVar[bool] = True

    @property
    def is_off(self) -> bool:
        """Without a weight that is not 0."""
        return not self.weights

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each term whose weight is not 0, by its name."""
        raise NotImplementedError

    @property
    def classifies_patches(self) -> bool:
        """Whether a term needs logits and targets of patches."""
        return False

    @property
    def has_own_head(self) -> bool:
        """Whether patches have a classifier of their own, which only training uses."""
        return False

    def misfits(self, depth: int, *, distilled: bool) -> Iterator[tuple[str, str]]:
        """A distilled model has two outputs in training already."""
        if distilled:
            yield "distillation_token", f"false with {self.title.lower()}"

    def terms(self, tokens: PatchTokens, targets: PatchTargets | None) -> dict[str, Tensor]:
        """The terms of `weights` without their weights, by name.

        Args:
            tokens: In float32 at least.
            targets: None where no term asks for them.
        """
        raise NotImplementedError
