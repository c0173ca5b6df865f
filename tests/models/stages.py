"""A vision transformer whose blocks are called one after the other, for tests of token methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from backbones import TINY
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from antioversmooth.analysis.hooks import hook_tokens, num_prefix_tokens
from antioversmooth.analysis.measures import measure
from antioversmooth.analysis.similarity import off_diagonal_cosine, token_similarity
from antioversmooth.config import Family, ModelConfig
from antioversmooth.config.model import Initialisation
from antioversmooth.models import add_method


class Textbook(nn.Module):
    """Blocks that are called one after the other, on the parameters of a placed model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def embedded(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Prefix tokens [B, P, C] and patch tokens [B, N, C], each with its position."""
        m, count = self.model, len(images)
        patches = m.patch_embed.proj(images).flatten(2).transpose(1, 2)
        prefix = [m.cls_token, m.dist_token] if hasattr(m, "dist_token") else [m.cls_token]
        prefix = torch.cat([token.expand(count, 1, -1) for token in prefix], 1)
        given = prefix.shape[1]
        return prefix + m.pos_embed[:, :given], patches + m.pos_embed[:, given:]

    def classified(self, tokens: Tensor) -> Tensor:
        m, normed = self.model, self.model.norm(tokens)
        if not hasattr(m, "dist_token"):
            return m.head(normed[:, 0])
        return (m.head(normed[:, 0]) + m.head_dist(normed[:, 1])) / 2

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return self.model.named_parameters(*args, **kwargs)


def vit_spec(method: str, depth: int = 2, **options: Any) -> ModelConfig:
    """A tiny ViT with Xavier initialisation, and a method in it."""
    return ModelConfig(
        family=Family.vit,
        depth=depth,
        embed_dim=24,
        num_heads=3,
        image_size=32,
        patch_size=8,
        init=Initialisation.xavier,
        method=method,
        method_options=options,
    )


def prefix_by_layer(images: Tensor, method: str, **options: Any) -> list[int]:
    """Tokens beside the 16 patches, before the first block and after each of three; asserts that
    the analysis counts them so, and leaves them out of the similarity of patch tokens."""
    torch.manual_seed(0)
    model = add_method(VisionTransformer(**{**TINY, "depth": 3}), method, **options).eval()
    tokens: dict[int, Tensor] = {}
    with torch.no_grad(), hook_tokens(model, tokens.__setitem__):
        model(images)
    layers = range(4)
    found = [num_prefix_tokens(model, layer) for layer in layers]
    assert [tokens[layer].shape[1] - 16 for layer in layers] == found
    patches = [off_diagonal_cosine(tokens[layer][:, -16:]).mean().item() for layer in (1, 2, 3)]
    assert token_similarity(model, images).off_diagonal == pytest.approx(patches, abs=1e-6)
    assert measure(model, [images]).measures["tokens/similarity"].keys() == set(layers)
    return found
