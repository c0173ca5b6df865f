"""Sizes of a model from its config, without torch, to about a percent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from antioversmooth.config import Experiment, Family, ModelConfig


@dataclass(frozen=True)
class Stage:
    """Blocks of one width."""

    num_blocks: int
    width: int
    num_tokens: int
    num_keys: int
    """Tokens that each token attends to."""


def stages(model: ModelConfig) -> Iterator[Stage]:
    """The stages of a backbone: those of Swin, else one; without class attention."""
    if model.family is not Family.swin:
        yield Stage(model.depth, model.embed_dim, model.num_tokens, model.num_tokens)
        return
    for index, depth in enumerate(model.stage_depths):
        num_tokens = model.num_tokens // 4**index
        width = model.embed_dim * 2**index
        yield Stage(depth, width, num_tokens, min(model.window_size**2, num_tokens))


def num_block_parameters(model: ModelConfig, width: int) -> float:
    """Parameters of one block: four projections and the MLP."""
    return (4 + 2 * model.mlp_ratio) * width**2


def num_parameters(config: Experiment) -> float:
    """About the number of parameters: weight matrices and the position embedding."""
    model, found = config.model, list(stages(config.model))
    blocks = sum(s.num_blocks * num_block_parameters(model, s.width) for s in found)
    if model.family is Family.cait:
        blocks += model.class_depth * num_block_parameters(model, model.embed_dim)
    # a patch of 2 x 2 tokens becomes one of twice the width
    merging = sum(8 * s.width**2 for s in found[:-1])
    embedding = config.data.in_channels * model.patch_size**2
    if model.family is not Family.swin:
        embedding += model.num_tokens
    heads = 2 if model.distillation_token else 1
    return (
        blocks
        + merging
        + embedding * model.embed_dim
        + heads * config.data.num_classes * found[-1].width
    )


def multiply_adds(model: ModelConfig) -> float:
    """Multiply-adds of the blocks for one image, forward.

    The patch embedding, class attention and the head add less than 5 %.
    """
    return sum(
        s.num_blocks
        * s.num_tokens
        * (num_block_parameters(model, s.width) + 2 * s.num_keys * s.width)
        for s in stages(model)
    )
