"""Builds the model that a spec describes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from timm.layers.weight_init import trunc_normal_
from timm.models.cait import Cait
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from antioversmooth.config import Family, Initialisation, ModelConfig
from antioversmooth.methods import method_of
from antioversmooth.models.placement import add_methods


def build_model(
    config: ModelConfig,
    *,
    num_classes: int,
    in_channels: int = 3,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.0,
) -> nn.Module:
    """Builds a timm backbone at the sizes of the spec, with its method in it.

    [B, in_channels, size, size] -> logits. Under `torch.device("meta")` it has shapes only.

    Args:
        dropout: After position embedding, attention projection and in MLPs.
        attention_dropout: On attention weights.
        drop_path: Stochastic depth of the last block, rising linearly from 0; CaiT: of every block.
    """
    position_dropout = {} if config.family is Family.swin else {"pos_drop_rate": dropout}
    backbone = _class_of(config)(
        in_chans=in_channels,
        num_classes=num_classes,
        proj_drop_rate=dropout,
        attn_drop_rate=attention_dropout,
        drop_path_rate=drop_path,
        **position_dropout,
        **sizes(config),
    )
    _initialise(backbone, config)
    initialised = {*backbone.modules()}
    method = method_of(config)
    add_methods(
        backbone, [] if method is None else [method], class_token_in_mean=config.class_token_in_mean
    )
    # behind the backbone's, so that those start as without the method
    _initialise_linear([m for m in backbone.modules() if m not in initialised], config)
    return backbone


def sizes(config: ModelConfig) -> dict[str, Any]:
    """Arguments of timm's class for the sizes of the spec; timm's names of the family take them,
    too."""
    common = {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "embed_dim": config.embed_dim,
        "mlp_ratio": config.mlp_ratio,
    }
    if config.family is Family.swin:
        stages = range(len(config.stage_depths))
        return {
            **common,
            "depths": tuple(config.stage_depths),
            "num_heads": tuple(config.num_heads * 2**stage for stage in stages),
            "window_size": config.window_size,
        }
    common |= {"depth": config.depth, "num_heads": config.num_heads}
    if config.family is Family.cait:
        return {
            **common,
            "depth_token_only": config.class_depth,
            "init_values": config.layer_scale_init,
        }
    return common


def _class_of(config: ModelConfig) -> Callable[..., nn.Module]:
    if config.family is Family.vit and config.distillation_token:
        return VisionTransformerDistilled
    return {Family.vit: VisionTransformer, Family.cait: Cait, Family.swin: SwinTransformer}[
        config.family
    ]


def _initialise(backbone: nn.Module, config: ModelConfig) -> None:
    """Redraws weights that start otherwise than in timm."""
    if getattr(backbone, "pos_embed", None) is not None:
        trunc_normal_(backbone.pos_embed, std=config.position_embedding_std)
    if config.class_token_std is not None:
        trunc_normal_(backbone.cls_token, std=config.class_token_std)
    _initialise_linear(backbone.modules(), config)


def _initialise_linear(modules: Iterable[nn.Module], config: ModelConfig) -> None:
    """Redraws linear layers where the spec says Xavier."""
    if config.init is not Initialisation.xavier:
        return
    for module in modules:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
