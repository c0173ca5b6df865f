"""The released code's model names in timm's registry: `timm.create_model("featscale_small_12")`.

Each takes timm's keyword arguments for its backbone, and `scaling_variant`, `class_token_in_mean`
and `mask_aware` of `add_scaling`. `pretrained=True` fetches the released file where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from timm.models import (
    build_model_with_cfg,
    cait,
    generate_default_cfgs,
    register_model,
    swin_transformer,
    vision_transformer,
)
from torch import Tensor, nn

from antioversmooth.config import ScalingVariant
from antioversmooth.models.placement import add_scaling

_HUB = "peihaowang/vit-anti-oversmoothing"
_RELEASED = {
    "attnscale_small_12": "attnscale_small_12.pth",
    "featscale_small_12": "featscale_small_12.pth",
    "attnscale_cait_XXS24_224": "attnscale_cait_xxs24_224.pth",
    "featscale_cait_XXS24_224": "featscale_cait_xxs24_224.pth",
}


class _Backbone(NamedTuple):
    """A class of timm, its sizes, and what turns a checkpoint's keys into timm's."""

    kind: Callable[..., nn.Module]
    layout: Callable[..., dict[str, Tensor]]
    sizes: dict[str, Any]
    cfg: Mapping[str, Any] = MappingProxyType({"classifier": "head"})
    """What its entry in timm's registry says besides."""
    features: Mapping[str, Any] = MappingProxyType({"out_indices": 3, "feature_cls": "getter"})
    """How timm takes features from it."""


def _vit(depth: int, embed_dim: int, num_heads: int) -> _Backbone:
    sizes = {"patch_size": 16, "embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}
    return _Backbone(
        vision_transformer.VisionTransformer, vision_transformer.checkpoint_filter_fn, sizes
    )


def _cait(
    img_size: int, embed_dim: int, depth: int, num_heads: int, init_values: float
) -> _Backbone:
    sizes = {
        "img_size": img_size,
        "patch_size": 16,
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
    }
    return _Backbone(cait.Cait, cait.checkpoint_filter_fn, {**sizes, "init_values": init_values})


_SWIN_SMALL = {
    "patch_size": 4,
    "window_size": 7,
    "embed_dim": 96,
    "depths": (2, 2, 18, 2),
    "num_heads": (3, 6, 12, 24),
}
_BACKBONES = {
    "small_12": _vit(12, 384, 6),
    "small_24": _vit(24, 384, 6),
    "base_12": _vit(12, 768, 12),
    "base_24": _vit(24, 768, 12),
    "cait_XXS24_224": _cait(224, 192, 24, 4, 1e-5),
    "cait_XXS24": _cait(384, 192, 24, 4, 1e-5),
    "cait_XXS36_224": _cait(224, 192, 36, 4, 1e-5),
    "cait_XXS36": _cait(384, 192, 36, 4, 1e-5),
    "cait_XS24": _cait(384, 288, 24, 6, 1e-5),
    "cait_S24_224": _cait(224, 384, 24, 8, 1e-5),
    "cait_S24": _cait(384, 384, 24, 8, 1e-5),
    "cait_S36": _cait(384, 384, 36, 8, 1e-6),
    "cait_M36": _cait(384, 768, 36, 16, 1e-6),
    "cait_M48": _cait(448, 768, 48, 16, 1e-6),
    "swin_small_patch4_window7_224": _Backbone(
        swin_transformer.SwinTransformer,
        swin_transformer.checkpoint_filter_fn,
        _SWIN_SMALL,
        {"classifier": "head.fc", "pool_size": (7, 7)},
        {"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
    ),
}


def _names() -> Iterator[tuple[str, str, _Backbone]]:
    """Registered name, method and backbone."""
    for method in ("attnscale", "featscale"):
        for name, backbone in _BACKBONES.items():
            yield f"{method}_{name}", method, backbone


def _pretrained_cfg(name: str, backbone: _Backbone) -> dict[str, Any]:
    size = backbone.sizes.get("img_size", 224)
    cfg = {
        "input_size": (3, size, size),
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "crop_pct": 1.0 if "cait" in name else 0.875,
        "first_conv": "patch_embed.proj",
        "license": "mit",
        **backbone.cfg,
    }
    if name in _RELEASED:
        cfg |= {"hf_hub_id": _HUB, "hf_hub_filename": _RELEASED[name]}
    return cfg


def _scaled(
    kind: Callable[..., nn.Module],
    method: str,
    *,
    scaling_variant: ScalingVariant | str = ScalingVariant.released,
    class_token_in_mean: bool = True,
    mask_aware: bool = False,
    **sizes: Any,
) -> nn.Module:
    return add_scaling(
        kind(**sizes),
        attnscale=method == "attnscale",
        featscale=method == "featscale",
        variant=scaling_variant,
        class_token_in_mean=class_token_in_mean,
        mask_aware=mask_aware,
    )


def _entrypoint(name: str, method: str, backbone: _Backbone) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        model: nn.Module = build_model_with_cfg(
            partial(_scaled, backbone.kind, method),
            name,
            pretrained,
            pretrained_filter_fn=backbone.layout,
            feature_cfg=dict(backbone.features),
            **{**backbone.sizes, **kwargs},
        )
        return model

    create.__name__ = create.__qualname__ = name
    return create


default_cfgs = generate_default_cfgs(
    {name: _pretrained_cfg(name, backbone) for name, _, backbone in _names()}
)
# timm adds each name
__all__: list[str] = []
for _name, _method, _backbone in _names():
    globals()[_name] = register_model(_entrypoint(_name, _method, _backbone))
