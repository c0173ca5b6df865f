"""Similarity between the rows of a matrix, mostly tokens: the usual measure of oversmoothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antioversmooth.analysis.hooks import evaluation_mode, hook_tokens, num_prefix_tokens


@dataclass(frozen=True)
class TokenSimilarity:
    """Mean cosine between the tokens of an image after each self-attention block."""

    tokens: list[float]
    """The authors' definition: absolute values, all pairs including i = j, with the class token
    and registers where the block has them. The diagonal alone contributes 1 / N."""
    off_diagonal: list[float]
    """The definition of follow-up papers: signed, pairs with i != j, patch tokens only."""


def token_similarity(
    model: nn.Module, images: Tensor | Iterable[Tensor], *, batch_size: int = 32
) -> TokenSimilarity:
    """Similarity after each self-attention block, mean over images; leaves the model unchanged.

    Args:
        model: A ViT, CaiT or Swin of timm.
        images: [M, channels, height, width], or an iterable of such batches; one at a time is in
            memory.
        batch_size: Images per forward pass if `images` is a single tensor.
    """
    batches = images.split(batch_size) if isinstance(images, Tensor) else images
    device = next(model.parameters()).device
    sums: dict[int, Tensor] = {}
    count = 0

    def add(layer: int, tokens: Tensor) -> None:
        if layer > 0:
            prefix = num_prefix_tokens(model, layer)
            found = similarities(tokens, prefix).double().sum(0)
            sums[layer] = sums[layer] + found if layer in sums else found

    with evaluation_mode(model), hook_tokens(model, add):
        for batch in batches:
            model(batch.to(device))
            count += len(batch)
    if count == 0:
        raise ValueError("there are no images to measure the similarity on")
    means = torch.stack([sums[layer] for layer in sorted(sums)]) / count
    return TokenSimilarity(tokens=means[:, 0].tolist(), off_diagonal=means[:, 1].tolist())


def similarities(tokens: Tensor, prefix: int = 0) -> Tensor:
    """Both definitions for each image; [B, N, C] -> [B, 2].

    Computed one image at a time, since there are N * N pairs and Swin starts with 3136 tokens.

    Args:
        prefix: Number of tokens before the patches, registers included; the off-diagonal
            definition excludes them.
    """
    pairs = [
        (absolute_cosine(image), off_diagonal_cosine(image[prefix:])) for image in tokens.float()
    ]
    return torch.stack([torch.stack(pair) for pair in pairs])


def absolute_cosine(tokens: Tensor) -> Tensor:
    """Mean of |cos(x_i, x_j)| over all pairs, i = j included; [..., N, C] -> [...]."""
    unit = F.normalize(tokens, dim=-1)
    return (unit @ unit.transpose(-2, -1)).abs().mean((-2, -1))


def off_diagonal_cosine(tokens: Tensor) -> Tensor:
    """Mean of cos(x_i, x_j) over pairs with i != j; [..., N, C] -> [...].

    The cosines of all pairs sum to |sum of unit vectors|^2, those of the diagonal to N.
    """
    num_tokens = tokens.shape[-2]
    total = F.normalize(tokens, dim=-1).sum(-2).square().sum(-1)
    return (total - num_tokens) / (num_tokens * (num_tokens - 1))
