"""Models of each family, as small as they get."""

from __future__ import annotations

from collections.abc import Callable

from timm.models.beit import Beit
from timm.models.cait import Cait
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr
from timm.models.vision_transformer import VisionTransformer
from torch import nn

SIZES = {
    "img_size": 32,
    "patch_size": 8,
    "num_classes": 5,
    "embed_dim": 24,
    "depth": 3,
    "num_heads": 3,
}
WINDOWS = {
    "img_size": 32,
    "patch_size": 2,
    "num_classes": 5,
    "embed_dim": 8,
    "depths": (2, 1),
    "num_heads": (2, 4),
}
WINDOWS |= {"window_size": 4, "drop_path_rate": 0.0}


def without_dropout(model: nn.Module) -> nn.Module:
    """The model without what its position biases drop in training, always."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: VisionTransformer(**SIZES),
    "vit_registers": lambda: VisionTransformer(**SIZES, reg_tokens=3),
    "beit": lambda: Beit(**SIZES, use_rel_pos_bias=True),
    "eva": lambda: Eva(**SIZES, qkv_fused=False, use_rot_pos_emb=True),
    "cait": lambda: Cait(**SIZES, init_values=0.5),
    "swin": lambda: SwinTransformer(**WINDOWS),
    "swin_v2": lambda: SwinTransformerV2(**WINDOWS),
    "swin_v2_cr": lambda: without_dropout(SwinTransformerV2Cr(**WINDOWS)),
}
SOFTMAX = [kind for kind in BUILDERS if kind != "cait"]
"""Those whose maps are a softmax, which the theorems are about."""
