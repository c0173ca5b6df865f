"""Model names of the released code in timm's registry, such as `featscale_small_12`.

The two methods of the released code have a name for each of its backbones; `pretrained=True`
fetches the released file if there is one. `antioversmooth_vit` and its like take any `method`, with
`method_options`: a config.json that `export-model` wrote has them. All names take timm's keyword
arguments for their backbone, `class_token_in_mean`, and the forms of methods under their names in a
spec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Any, NamedTuple

from timm.models import (
    build_model_with_cfg,
    cait,
    deit,
    generate_default_cfgs,
    register_model,
    swin_transformer,
    vision_transformer,
)
from torch import Tensor, nn

from antioversmooth.methods import Method, method_named
from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.methods.featscale import FeatScale
from antioversmooth.models.placement import add_methods, require_valid_mean_options

_HUB = "peihaowang/vit-anti-oversmoothing"


class _Backbone(NamedTuple):
    """A class of timm, its sizes, and the function that renames a checkpoint's keys to timm's."""

    kind: Callable[..., nn.Module]
    layout: Callable[..., dict[str, Tensor]]
    sizes: dict[str, Any]
    cfg: Mapping[str, Any] = MappingProxyType({"classifier": "head"})
    """Further fields of its entry in timm's registry."""
    features: Mapping[str, Any] = MappingProxyType({"out_indices": 3, "feature_cls": "getter"})
    """Arguments of timm's feature extraction."""


def _vit(depth: int, embed_dim: int, num_heads: int) -> _Backbone:
    sizes = {"patch_size": 16, "embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}
    return _Backbone(
        vision_transformer.VisionTransformer, vision_transformer.checkpoint_filter_fn, sizes
    )


def _cait(
    img_size: int, embed_dim: int, depth: int, num_heads: int, init_values: float
) -> _Backbone:
    sizes = {**_vit(depth, embed_dim, num_heads).sizes, "img_size": img_size}
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
_FAMILIES = {
    "antioversmooth_vit": _BACKBONES["small_12"],
    "antioversmooth_vit_distilled": _BACKBONES["small_12"]._replace(
        kind=deit.VisionTransformerDistilled, cfg={"classifier": ("head", "head_dist")}
    ),
    "antioversmooth_cait": _BACKBONES["cait_S24_224"],
    "antioversmooth_swin": _BACKBONES["swin_small_patch4_window7_224"],
}
"""Names that take any method; the sizes are defaults."""


def _pretrained_cfg(name: str, backbone: _Backbone, released: str | None) -> dict[str, Any]:
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
    if released:
        cfg |= {"hf_hub_id": _HUB, "hf_hub_filename": released}
    return cfg


def _build(
    kind: Callable[..., nn.Module],
    *,
    method: str,
    method_options: Mapping[str, Any] = MappingProxyType({}),
    class_token_in_mean: bool = True,
    **arguments: Any,
) -> nn.Module:
    """Builds the backbone with the method.

    Raises:
        TypeError: The method has no such option; or the arguments have a form of another method,
            which no backbone knows.
        ValueError: No such method, or no such value of an option.
        ModelError: The method, or the form of its mean over tokens, is not defined for the
            backbone.
    """
    fields = type(method_named(method)).form_fields()
    forms = {fields[key]: arguments.pop(key) for key in fields.keys() & arguments.keys()}
    chosen = method_named(method, **forms, **method_options)
    model = kind(**arguments)
    require_valid_mean_options(model, chosen, class_token_in_mean=class_token_in_mean)
    return add_methods(model, [chosen], class_token_in_mean=class_token_in_mean)


def _entrypoint(name: str, backbone: _Backbone, **defaults: Any) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        model: nn.Module = build_model_with_cfg(
            partial(_build, backbone.kind),
            name,
            pretrained,
            pretrained_filter_fn=backbone.layout,
            feature_cfg=dict(backbone.features),
            **{**backbone.sizes, **defaults, **kwargs},
        )
        return model

    create.__name__ = create.__qualname__ = name
    return create


default_cfgs: dict[str, Any] = {}
# timm appends each name
__all__: list[str] = []


def _register(name: str, backbone: _Backbone, released: str | None = None, **defaults: Any) -> None:
    """Adds a name to timm's registry.

    Args:
        released: Name of the file in the released code's repository; None: there is none.
        defaults: Of arguments.
    """
    cfg = _pretrained_cfg(name, backbone, released)
    default_cfgs.update(generate_default_cfgs({name: cfg}))
    globals()[name] = register_model(_entrypoint(name, backbone, **defaults))


_METHODS: tuple[type[Method], ...] = (AttnScale, FeatScale)
for _method, (_built, _backbone) in product(_METHODS, _BACKBONES.items()):
    _register(
        f"{_method.name}_{_built}",
        _backbone,
        _method.released.get(_built),
        method=_method.name,
    )
for _name, _backbone in _FAMILIES.items():
    _register(_name, _backbone)
