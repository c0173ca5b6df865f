"""Patch diversity: three terms of the training loss that keep patch tokens apart.

h and g are the tokens of N patches behind the first block and behind the last, z their logits:

    cosine        mean over i != j of |cos(g_i, g_j)|
    contrastive   mean over i of -log(e^p / (e^p + e^r)),  p = h_i . g_i,  r = h_i . m_i
                  m_i = mean over j != i of g_j
    mixing        mean over i of the cross entropy of z_i and the label of what patch i shows

h carries no gradient. A patch on the edge of CutMix's box shows both images, by area.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from antioversmooth.constraints import at_least, option
from antioversmooth.methods.family import Family
from antioversmooth.methods.losses import LossMethod, PatchTargets, PatchTokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PatchDiversity(LossMethod):
    """Adds up to three terms on patch tokens to the training loss."""

    name: ClassVar[str] = "patchdiversity"
    title: ClassVar[str] = "Patch diversity"
    source: ClassVar[str] = "Gong et al., 2021, arXiv 2104.12753"

    cosine: float = option(1.0, at_least(0))
    """Weight of the similarity of the last block's patch tokens."""
    contrastive: float = option(1.0, at_least(0))
    """Weight of the contrast between a patch and the others."""
    mixing: float = option(1.0, at_least(0))
    """Weight of the classification of patches; above 0 it needs CutMix."""
    own_head: bool = option(True)
    """Whether patches have a classifier of their own, or that of the class token."""

    @property
    def weights(self) -> dict[str, float]:
        """Of the terms that are on."""
        named = {name: getattr(self, name) for name in ("cosine", "contrastive", "mixing")}
        return {name: weight for name, weight in named.items() if weight > 0}

    @property
    def classifies_patches(self) -> bool:
        """With the mixing term."""
        return self.mixing > 0

    @property
    def has_own_head(self) -> bool:
        """With the mixing term, as the option says."""
        return self.classifies_patches and self.own_head

    @property
    def idle_options(self) -> tuple[str, ...]:
        """The classifier of no mixing term."""
        return () if self.classifies_patches else ("own_head",)

    def terms(self, tokens: PatchTokens, targets: PatchTargets | None) -> dict[str, Tensor]:
        """The terms that are on."""
        found = {}
        if self.cosine > 0:
            found["cosine"] = cosine(tokens.last)
        if self.contrastive > 0:
            found["contrastive"] = contrastive(tokens.first, tokens.last)
        if self.mixing > 0:
            assert tokens.logits is not None
            assert targets is not None
            found["mixing"] = mixing(tokens.logits, targets)
        return found

    def sentences(self, family: Family) -> Iterator[str]:
        """The weights, and what the released code has in place of them."""
        weights = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        yield (
            f"Patch diversity: the paper's losses (weights {weights or 'all 0'}) on DeiT's recipe;"
            " the released code has other losses, talking heads and another recipe"
        )


def cosine(last: Tensor) -> Tensor:
    """Mean of |cos(g_i, g_j)| over pairs i != j; [B, N, C] -> []."""
    unit = last / last.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    pairs = (unit @ unit.transpose(1, 2)).abs()
    count = last.shape[1]
    others = pairs.sum((1, 2)) - pairs.diagonal(dim1=1, dim2=2).sum(1)
    similarity: Tensor = others.mean() / (count * (count - 1))
    return similarity


def contrastive(first: Tensor, last: Tensor) -> Tensor:
    """Mean of log(1 + e^(r - p)); [B, N, C] and [B, N, C] -> [].

    Args:
        first: h; no gradient goes there.
    """
    h = first.detach()
    others = (last.sum(1, keepdim=True) - last) / (last.shape[1] - 1)
    difference = (h * (others - last)).sum(-1)
    return difference.logaddexp(difference.new_zeros(())).mean()


def mixing(logits: Tensor, targets: PatchTargets) -> Tensor:
    """Mean cross entropy of the patches' logits [B, N, classes]; -> [].

    It is linear in the label, so no label is written for each patch.
    """
    log = logits.log_softmax(-1)
    own, partner = ((log @ label[:, :, None])[..., 0] for label in (targets.own, targets.partner))
    return -(targets.share * own + (1 - targets.share) * partner).mean()
