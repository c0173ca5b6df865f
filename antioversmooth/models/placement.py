"""Putting the scalings into a built timm model, and taking them out again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from timm.layers.attention import Attention, AttentionRope
from timm.models import beit, eva, swin_transformer, swin_transformer_v2, swin_transformer_v2_cr
from timm.models.cait import ClassAttn, TalkingHeadAttn
from timm.models.vision_transformer_relpos import RelPosAttention
from torch import nn

from antioversmooth.config import ScalingVariant
from antioversmooth.errors import ModelError
from antioversmooth.models import attention as scaled

_ATTENTION: dict[type[nn.Module], type[scaled.ScaledAttention]] = {
    Attention: scaled.ScaledVitAttention,
    AttentionRope: scaled.ScaledRopeAttention,
    RelPosAttention: scaled.ScaledRelPosAttention,
    beit.Attention: scaled.ScaledBeitAttention,
    eva.EvaAttention: scaled.ScaledEvaAttention,
    swin_transformer.WindowAttention: scaled.ScaledWindowAttention,
    swin_transformer_v2.WindowAttention: scaled.ScaledWindowAttentionV2,
    swin_transformer_v2_cr.WindowMultiHeadAttention: scaled.ScaledWindowAttentionV2Cr,
    TalkingHeadAttn: scaled.ScaledTalkingHeads,
}
_MAP_BLOCKS: dict[type[nn.Module], type[nn.Module]] = {
    swin_transformer.SwinTransformerBlock: scaled.FeatScaleSwinBlock,
    swin_transformer_v2.SwinTransformerV2Block: scaled.FeatScaleSwinBlockV2,
    swin_transformer_v2_cr.SwinTransformerV2CrBlock: scaled.FeatScaleSwinBlockV2Cr,
}
_WINDOWS = (
    swin_transformer.WindowAttention,
    swin_transformer_v2.WindowAttention,
    swin_transformer_v2_cr.WindowMultiHeadAttention,
)
_STOCK = {placed: stock for table in (_ATTENTION, _MAP_BLOCKS) for stock, placed in table.items()}

SCALES = ("lamb", "lamb1", "lamb2")
"""Last part of the name of every scale in a state dict."""
_ADDED = (*SCALES, "featscale", "excluded", "folded", "was_fused", "mask_aware")


def add_scaling(
    model: nn.Module,
    *,
    attnscale: bool = False,
    featscale: bool = False,
    variant: ScalingVariant | str = ScalingVariant.released,
    class_token_in_mean: bool = True,
    mask_aware: bool = False,
) -> nn.Module:
    """The model itself, with zero scales in each of its self-attention blocks: its outputs are what
    they were.

    Comes before what lists parameters once: optimizer, DistributedDataParallel.

    Args:
        model: A built model of timm: ViT, DeiT, BEiT, EVA, CaiT, Swin, Swin-V2 or kin; pre-trained
            or not.
        attnscale: Add `<block>.attn.lamb`, one scalar a head.
        featscale: Add `<block>.lamb1` (DC) and `<block>.lamb2` (HC), one number a channel.
        variant: FeatScale's form in ViT-like models: `released` (1 + 2s, 1 + 2t) or `paper` (1 + s,
            1 + t).
        class_token_in_mean: Whether means of ViT-like models run over class, distillation and
            register tokens too.
        mask_aware: Swin's AttnScale: leave pairs that a shifted window masks out of the mean.

    Raises:
        ModelError: An attention layer that this cannot be done for, by name, or a model that is
            data-parallel already; the model is as it was.
        ValueError: No such variant.
    """
    released = _variant(variant) is ScalingVariant.released
    if not (attnscale or featscale):
        return model
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise ModelError(
            "the model is in DistributedDataParallel already, which would not average the gradients"
            " of the scales: add_scaling first"
        )
    attentions = list(_self_attentions(model))
    for name, block, attention in attentions:
        _require_known(name, block, attention)
        _require_linear(name, attention, ("qkv", "v_proj", "proj") if attnscale else ("proj",))
        if attnscale:
            _require_exact(name, attention, mask_aware=mask_aware)
    excluded = 0 if class_token_in_mean else _num_prefix_tokens(model, attentions)
    for _, block, attention in attentions:
        _place(attention, excluded, mask_aware=mask_aware)
        if attnscale:
            _place_attnscale(attention)
        if featscale:
            _place_featscale(block, attention, released)
    _exempt_from_weight_decay(model)
    return model


def _variant(variant: ScalingVariant | str) -> ScalingVariant:
    try:
        return ScalingVariant(variant)
    except ValueError:
        raise ValueError(
            f"variant={variant!r} is not possible: released (1 + 2s, 1 + 2t in ViT-like models) or"
            " paper (1 + s, 1 + t)"
        ) from None


def remove_scaling(model: nn.Module) -> nn.Module:
    """The model itself, as timm builds it, with the same outputs: AttnScale of CaiT folds into its
    talking heads.

    Raises:
        ModelError: Names a scale that is not zero and does not fold: its term differs from image to
            image.
    """
    for name, scale in scales(model).items():
        folds = name.endswith(".lamb") and isinstance(
            model.get_submodule(name.removesuffix(".lamb")), scaled.ScaledTalkingHeads
        )
        if not folds and torch.count_nonzero(scale):
            raise ModelError(
                f"{name} is not zero and cannot be folded into the weights of"
                f" {type(model).__name__}: its term is different for each image; only AttnScale of"
                " CaiT folds. To drop it, set it to zero first; to run the model without this"
                " package, torch.export it"
            )
    for module in list(model.modules()):
        if isinstance(module, scaled.ScaledTalkingHeads) and module.lamb is not None:
            _fold_mixing(module, model.get_submodule("patch_embed"))
        _restore(module)
    vars(model).pop("no_weight_decay", None)
    return model


def scales(model: nn.Module) -> dict[str, nn.Parameter]:
    """The scales of a model by their name in its state dict."""
    return {name: p for name, p in model.named_parameters() if name.rpartition(".")[2] in SCALES}


def _self_attentions(model: nn.Module) -> Iterator[tuple[str, nn.Module, Any]]:
    """Name of the attention layer, the block that it is in, and itself; class attention is left
    out."""
    found = False
    for name, block in model.named_modules():
        attention = block._modules.get("attn")
        if attention is None or isinstance(attention, ClassAttn):
            continue
        found = True
        yield f"{name}.attn", block, attention
    if not found:
        kind = type(model).__name__
        raise ModelError(
            f"{kind} has no block with an attention layer `attn` to scale{_nearest(model)}"
        )


def _nearest(model: nn.Module) -> str:
    """Where a model without `attn` mixes its tokens, if that can be told from names; for the
    message."""
    for name, module in model.named_modules():
        kind = type(module).__name__.lower()
        if (
            "attention" in kind
            or "attn" in kind
            or any(child.startswith("attn") for child in module._modules)
        ):
            return f"; {name} is a {_path(type(module))}, whose algebra is not known here"
    return ""


def _require_known(name: str, block: nn.Module, attention: Any) -> None:
    if isinstance(attention, scaled.ScaledAttention):
        raise ModelError(f"{name} is scaled already; remove_scaling(model) undoes it")
    _require_kind(name, attention, _ATTENTION)
    if isinstance(attention, _WINDOWS):
        _require_kind(name.removesuffix(".attn"), block, _MAP_BLOCKS)


def _require_kind(name: str, module: nn.Module, known: Iterable[type]) -> None:
    if type(module) not in known:
        paths = ", ".join(map(_path, known))
        raise ModelError(
            f"{name} is a {_path(type(module))}, whose algebra is not known here; known are {paths}"
        )


def _require_linear(name: str, attention: Any, parts: Iterable[str]) -> None:
    for part in parts:
        layer = getattr(attention, part, None)
        if layer is not None and not scaled.is_linear(layer):
            raise scaled.exchanged(f"{name}.{part}", layer)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def _require_exact(name: str, attention: Any, *, mask_aware: bool) -> None:
    if mask_aware and attention.attn_drop.p > 0:
        raise ModelError(
            f"AttnScale does not go into {name}: mask_aware and attention dropout exclude each"
            " other"
        )


def _folds(attention: Any) -> bool:
    """Whether AttnScale may wait until the projection: nothing between it and the attention sees
    the difference."""
    return not (
        # dropout would fall on the rescaled entries
        attention.attn_drop.p > 0
        or not isinstance(getattr(attention, "norm", nn.Identity()), nn.Identity)
        or getattr(attention, "gate", None) is not None
        or getattr(attention, "num_kv_groups", 1) > 1
    )


def _num_prefix_tokens(model: Any, attentions: Iterable[tuple[str, nn.Module, Any]]) -> int:
    """Tokens in front of the patches; none where they join later (CaiT), or never (Swin)."""
    if any(isinstance(attention, (TalkingHeadAttn, *_WINDOWS)) for _, _, attention in attentions):
        return 0
    if not hasattr(model, "num_prefix_tokens"):
        raise ModelError(
            f"{type(model).__name__} does not say how many class tokens it has (num_prefix_tokens),"
            " so they cannot stay out of the mean: leave class_token_in_mean at True"
        )
    return int(model.num_prefix_tokens)


def _place(attention: Any, excluded: int, *, mask_aware: bool) -> None:
    _become(attention, _ATTENTION[type(attention)])
    _become(attention.proj, scaled.HeldLinear)
    _become(attention.proj_drop, scaled.HeldDropout)
    attention.register_parameter("lamb", None)
    attention.featscale = None
    attention.excluded = excluded
    attention.folded = not isinstance(attention, scaled.ScaledTalkingHeads)
    if isinstance(attention, scaled.WindowMean):
        attention.mask_aware = mask_aware


def _place_attnscale(attention: Any) -> None:
    attention.lamb = nn.Parameter(attention.proj.weight.new_zeros(attention.num_heads))
    if attention.folded and not _folds(attention):
        attention.folded = False
        # Swin-V2 builds the matrix always
        if hasattr(attention, "fused_attn"):
            attention.was_fused, attention.fused_attn = attention.fused_attn, False
        _become(attention.attn_drop, scaled.RescaledDropout)
        attention.attn_drop.attention = (attention,)


def _place_featscale(block: Any, attention: Any, released: bool) -> None:
    weight = attention.proj.weight
    block.lamb1 = nn.Parameter(weight.new_zeros(weight.shape[0]))
    block.lamb2 = nn.Parameter(weight.new_zeros(weight.shape[0]))
    if type(block) in _MAP_BLOCKS:
        _become(block, _MAP_BLOCKS[type(block)])
        return
    # the released code adds its terms twice in DeiT, once in CaiT and Swin
    doubled = released and not isinstance(attention, scaled.ScaledTalkingHeads)
    attention.featscale = scaled.FeatScale(block, 2 if doubled else 1)


def _exempt_from_weight_decay(model: Any) -> None:
    model.no_weight_decay = partial(
        _without_decay, getattr(model, "no_weight_decay", set), frozenset(scales(model))
    )


def _without_decay(stock: Callable[[], set[str]], added: frozenset[str]) -> set[str]:
    return {*stock(), *added}


def _fold_mixing(attention: scaled.ScaledTalkingHeads, patch_embed: Any) -> None:
    with torch.no_grad():
        weight, bias = attention.mixing(patch_embed.num_patches)
        attention.proj_w.weight.copy_(weight)
        attention.proj_w.bias.copy_(bias)


def _restore(module: Any) -> None:
    if isinstance(module, scaled.ScaledAttention):
        _become(module.proj, nn.Linear)
        _become(module.proj_drop, nn.Dropout)
        if isinstance(module.attn_drop, scaled.RescaledDropout):
            delattr(module.attn_drop, "attention")
            _become(module.attn_drop, nn.Dropout)
        if hasattr(module, "was_fused"):
            module.fused_attn = module.was_fused
    for name in _ADDED:
        if name in vars(module) or name in module._parameters:
            delattr(module, name)
    _become(module, _STOCK.get(type(module), type(module)))


def _become(module: nn.Module, kind: type[nn.Module]) -> None:
    """Exchanges the class of a module for one with the same parameters: names, hooks and references
    stay."""
    module.__class__ = kind
