"""How alike the tokens of an image are, after each self-attention block: the measure of oversmoothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.models.cait import LayerScaleBlockClassAttn
from torch import Tensor, nn


@dataclass(frozen=True)
class TokenSimilarity:
    """Mean cosine between the tokens of an image, by self-attention block, the first at the input side."""

    tokens: list[float]
    """The authors' definition: absolute values, all pairs with i = j among them, the class token too.
    The diagonal puts a floor of 1 / N under it."""
    off_diagonal: list[float]
    """The form of follow-ups: signed, pairs with i != j only, patch tokens only."""


def token_similarity(model: nn.Module, images: Tensor | Iterable[Tensor], *, batch_size: int = 32) -> TokenSimilarity:
    """Similarity after each self-attention block, mean over images; the model's mode and gradients stay as they are.

    Args:
        model: A ViT, CaiT or Swin of timm.
        images: [M, channels, height, width], or batches of that shape, of which one at a time is held.
        batch_size: Images per forward pass where `images` is a single tensor.
    """
    batches = images.split(batch_size) if isinstance(images, Tensor) else images
    device = next(model.parameters()).device
    sums: Tensor | None = None
    count = 0
    with _evaluating(model), _watching(model) as seen:
        for batch in batches:
            seen.clear()
            model(batch.to(device))
            values = torch.stack(seen)
            sums = values if sums is None else sums + values
            count += len(batch)
    if sums is None:
        raise ValueError("there are no images to measure the similarity on")
    means = sums / count
    return TokenSimilarity(tokens=means[:, 0].tolist(), off_diagonal=means[:, 1].tolist())


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


def self_attention_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks whose tokens attend to one another, in the order they run; CaiT's class attention is none."""
    return [
        module
        for module in model.modules()
        if "attn" in module._modules and not isinstance(module, LayerScaleBlockClassAttn)
    ]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


@contextmanager
def _watching(model: nn.Module) -> Iterator[list[Tensor]]:
    """A list that a forward pass fills: for each block both similarities [2], summed over the images of the batch."""
    seen: list[Tensor] = []

    def watch(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sums = [_image_similarities(tokens.float(), prefix) for tokens in output]
        seen.append(torch.stack(sums).sum(0).double())

    maps = getattr(model, "output_fmt", "NLC") == "NHWC"  # Swin's blocks give [B, height, width, C]
    prefix = 0 if maps or hasattr(model, "blocks_token_only") else getattr(model, "num_prefix_tokens", 0)
    hooks = [block.register_forward_hook(watch) for block in self_attention_blocks(model)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _image_similarities(tokens: Tensor, prefix: int) -> Tensor:
    """Both definitions for one image [N, C] or [height, width, C]: one at a time, since pairs are N * N."""
    tokens = tokens.flatten(0, -2)
    return torch.stack([absolute_cosine(tokens), off_diagonal_cosine(tokens[prefix:])])
