"""AttnScale: A_hat = A_LP + (1 + w) (A - A_LP), w one scalar a head, `attn.lamb` [H].

Rows of a softmax sum to one, so A_hat V = (1 + w) A V - w m(V): the attention matrix is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from antioversmooth.methods.base import CLASS_TOKEN, Forms, MeanMethod, Parameter, one_plus
from antioversmooth.methods.family import Family

if TYPE_CHECKING:
    from torch import Tensor

_MASKS = {
    False: "Swin's AttnScale takes its mean over masked pairs of shifted windows too, as released",
    True: (
        "Swin's AttnScale leaves masked pairs of shifted windows out of its mean; the released code"
        " includes them"
    ),
}


@dataclass(frozen=True)
class AttnScale(MeanMethod):
    """Scales the high-pass part of attention matrices."""

    name: ClassVar[str] = "attnscale"
    title: ClassVar[str] = "AttnScale"
    source: ClassVar[str] = "Wang et al., ICLR 2022, arXiv 2203.05962"
    is_exact_at_start: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("lamb", "w", "AttnScale's w"),)
    forms: ClassVar[Forms] = {
        Family.vit: {"class_token_in_mean": CLASS_TOKEN},
        Family.swin: {"mask_aware": _MASKS},
    }
    released: ClassVar[dict[str, str]] = {
        "small_12": "attnscale_small_12.pth",
        "cait_XXS24_224": "attnscale_cait_xxs24_224.pth",
    }

    def attended(self, *parameters: Tensor) -> Tensor:
        """1 + w."""
        (w,) = parameters
        return one_plus(w)

    def mean(self, *parameters: Tensor) -> Tensor:
        """w."""
        (w,) = parameters
        return w

    def matrix(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """A + w (A - A_LP)."""
        (w,) = parameters
        return attention + w * (attention - low_pass)

    def textbook(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """A_LP + (1 + w) (A - A_LP)."""
        (w,) = parameters
        high_pass = attention - low_pass
        return low_pass + (1 + w) * high_pass
