"""FeatScale: X_hat = X + k (s DC[X] + t HC[X]), DC[X] = m(X), HC[X] = X - m(X).

s and t are one number a channel, `lamb1` [C] and `lamb2` [C]. k is 1 in the paper and 2 in the
released DeiT code, which adds its terms twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from antioversmooth.methods.base import CLASS_TOKEN, FeatureMethod, Forms, Parameter
from antioversmooth.methods.family import Family

if TYPE_CHECKING:
    from torch import Tensor


class ScalingVariant(Enum):
    """Which form of FeatScale: the paper's (1 + s, 1 + t), or the released DeiT code's (1 + 2s, 1 +
    2t)."""

    released = "released"
    paper = "paper"


_AS_IT_ACTS = "as it acts (the released form counts it twice)"
_VARIANTS = {
    ScalingVariant.released: "FeatScale's form on DeiT: the released code's, 1 + 2s and 1 + 2t",
    ScalingVariant.paper: "FeatScale's form on DeiT: the paper's, 1 + s and 1 + t",
}


@dataclass(frozen=True)
class FeatScale(FeatureMethod):
    """Scales the DC and the HC part of the outputs of attention layers.

    Raises:
        ValueError: No such variant.
    """

    name: ClassVar[str] = "featscale"
    title: ClassVar[str] = "FeatScale"
    source: ClassVar[str] = "Wang et al., ICLR 2022, arXiv 2203.05962"
    is_exact_at_start: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("lamb1", "s", f"FeatScale's s, of the DC part, {_AS_IT_ACTS}"),
        Parameter("lamb2", "t", f"FeatScale's t, of the HC part, {_AS_IT_ACTS}"),
    )
    forms: ClassVar[Forms] = {
        Family.vit: {"scaling_variant": _VARIANTS, "class_token_in_mean": CLASS_TOKEN}
    }
    released: ClassVar[dict[str, str]] = {
        "small_12": "featscale_small_12.pth",
        "cait_XXS24_224": "featscale_cait_xxs24_224.pth",
    }

    variant: ScalingVariant | str = field(
        default=ScalingVariant.released, metadata={"field": "scaling_variant"}
    )
    """Form in ViT-like models: `released` (1 + 2s, 1 + 2t) or `paper` (1 + s, 1 + t)."""

    def __post_init__(self) -> None:
        try:
            ScalingVariant(self.variant)
        except ValueError:
            raise ValueError(
                f"variant={self.variant!r} is not possible: released (1 + 2s, 1 + 2t in ViT-like"
                " models) or paper (1 + s, 1 + t)"
            ) from None

    def times(self, family: Family) -> int:
        """k; the released code adds its terms twice in DeiT, once in CaiT and Swin."""
        released = ScalingVariant(self.variant) is ScalingVariant.released
        return 2 if released and family is Family.vit else 1

    def textbook(self, x: Tensor, low_pass: Tensor, *parameters: Tensor, times: int) -> Tensor:
        """X + s DC[X] + t HC[X], the two terms added `times` times."""
        s, t = parameters
        added = s * low_pass + t * (x - low_pass)
        for _ in range(times):
            x = x + added
        return x
