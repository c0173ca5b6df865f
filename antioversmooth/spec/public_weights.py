"""Weights that timm publishes for a backbone, by its shape, and those of the released code."""

from __future__ import annotations

import os
from pathlib import Path

from antioversmooth import weight_files
from antioversmooth.config import Family, ModelConfig
from antioversmooth.methods import METHODS

MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]
"""Per channel, on a 0..1 scale: what all of these weights were trained with."""

TAGS = {
    (Family.vit, 12, 192, False): "deit_tiny_patch16_224.fb_in1k",
    (Family.vit, 12, 384, False): "deit_small_patch16_224.fb_in1k",
    (Family.vit, 12, 768, False): "deit_base_patch16_224.fb_in1k",
    (Family.vit, 12, 192, True): "deit_tiny_distilled_patch16_224.fb_in1k",
    (Family.vit, 12, 384, True): "deit_small_distilled_patch16_224.fb_in1k",
    (Family.vit, 12, 768, True): "deit_base_distilled_patch16_224.fb_in1k",
    (Family.cait, 24, 192, False): "cait_xxs24_224.fb_dist_in1k",
    (Family.cait, 36, 192, False): "cait_xxs36_224.fb_dist_in1k",
    (Family.cait, 24, 384, False): "cait_s24_224.fb_dist_in1k",
    (Family.swin, 12, 96, False): "swin_tiny_patch4_window7_224.ms_in1k",
    (Family.swin, 24, 96, False): "swin_small_patch4_window7_224.ms_in1k",
    (Family.swin, 24, 128, False): "swin_base_patch4_window7_224.ms_in1k",
}
"""By family, blocks, channels and distillation token."""
RELEASED = {f"{method.name}_{built}" for method in METHODS.values() for built in method.released}
"""Names that `antioversmooth.models` adds to timm's, with the files of the released code."""


def public_weights(model: ModelConfig) -> str | None:
    """timm's tag of the weights of a backbone; None where there are none."""
    patch = 4 if model.family is Family.swin else 16
    if model.patch_size != patch or model.mlp_ratio != 4:
        return None
    return TAGS.get((model.family, model.depth, model.embed_dim, model.distillation_token))


def is_downloaded(tag: str) -> bool:
    """Whether the weights are in the cache of the Hugging Face hub on this machine."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    return any((cache / f"models--timm--{tag}").glob("snapshots/*/*"))


def require_published(tag: str) -> None:
    """Checks that `timm.create_model` finds weights under a tag. Imports timm for other tags.

    Raises:
        CheckpointError: It finds none.
    """
    known = tag in TAGS.values() or tag in RELEASED or is_downloaded(tag)
    # timm takes seconds to import
    if not known:
        weight_files.require_published(tag)
