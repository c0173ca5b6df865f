"""Small models of each family, as timm builds them."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
from timm.models.beit import Beit
from timm.models.cait import Cait
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import nn

TINY = {
    "img_size": 32,
    "patch_size": 8,
    "num_classes": 5,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
}
TINY_SWIN = {
    "img_size": 32,
    "patch_size": 2,
    "num_classes": 5,
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "window_size": 4,
}


def randomised(model: nn.Module) -> nn.Module:
    """Weights large enough that attention is not uniform and gammas matter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "vit": lambda **kw: VisionTransformer(**TINY, **kw),
    "deit_distilled": lambda **kw: VisionTransformerDistilled(**TINY, **kw),
    "vit_registers": lambda **kw: VisionTransformer(**TINY, reg_tokens=3, **kw),
    "vit_no_class_token": lambda **kw: VisionTransformer(
        **TINY, class_token=False, global_pool="avg", **kw
    ),
    "vit_parallel": lambda **kw: VisionTransformer(
        **TINY, block_fn=timm.models.vision_transformer.ParallelThingsBlock, **kw
    ),
    "deit3": lambda **kw: VisionTransformer(**TINY, no_embed_class=True, init_values=0.5, **kw),
    "beit": lambda **kw: Beit(**TINY, init_values=0.5, use_rel_pos_bias=True, **kw),
    "eva": lambda **kw: Eva(**TINY, use_rot_pos_emb=True, swiglu_mlp=True, **kw),
    "eva_unfused": lambda **kw: Eva(**TINY, qkv_fused=False, use_rot_pos_emb=True, **kw),
    "eva_rope": lambda **kw: Eva(**TINY, attn_type="rope", use_rot_pos_emb=True, **kw),
    "cait": lambda **kw: Cait(**TINY, init_values=0.5, **kw),
    "swin": lambda **kw: SwinTransformer(**TINY_SWIN, **{"drop_path_rate": 0.0, **kw}),
    "swin_v2": lambda **kw: SwinTransformerV2(**TINY_SWIN, **{"drop_path_rate": 0.0, **kw}),
}
