"""The name and the arguments by which timm builds the model of a spec."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from antioversmooth.config import Family, ModelConfig
from antioversmooth.methods import method_of
from antioversmooth.methods.options import with_defaults
from antioversmooth.models.factory import sizes


class Architecture(NamedTuple):
    """Arguments of timm.create_model."""

    name: str
    arguments: dict[str, Any]

    @property
    def needs_package(self) -> bool:
        """Whether timm knows the name only once `antioversmooth.models` is imported."""
        return self.name.startswith("antioversmooth_")


def architecture(
    config: ModelConfig, *, folded: bool = False, attention_dropout: float = 0.0
) -> Architecture:
    """The architecture of a model: timm's own where it has no method.

    Args:
        folded: Whether the method was folded into the weights.
        attention_dropout: Of its training; above 0 a method takes its explicit form, in evaluation
            too, which rounds otherwise.
    """
    kind = "vit_distilled" if config.distillation_token else config.family.value
    method = method_of(config)
    if method is None or folded:
        return Architecture(_PLAIN[kind], sizes(config))
    forms = {field: getattr(config, field) for field in method.forms.get(config.family, {})}
    arguments = {
        **sizes(config),
        "method": method.name,
        "method_options": with_defaults(type(method), config.method_options),
        **{key: v.value if isinstance(v, Enum) else v for key, v in forms.items()},
        **({"attn_drop_rate": attention_dropout} if attention_dropout else {}),
    }
    return Architecture(f"antioversmooth_{kind}", arguments)


_PLAIN = {
    Family.vit.value: "deit_small_patch16_224",
    "vit_distilled": "deit_small_distilled_patch16_224",
    Family.cait.value: "cait_s24_224",
    Family.swin.value: "swin_small_patch4_window7_224",
}
"""timm's names of the backbones; their arguments give the sizes."""
