"""The paper's two equations as pure functions, in the forms that cost next to nothing.

B images, N tokens, C channels, H heads. A is an attention matrix [B, H, N, N], m(.) the mean over
tokens: it *is* the DC part, F^-1 diag(1, 0, ..., 0) F X (paper, section 2.4).

    AttnScale   A_hat = A_LP + (1 + w) (A - A_LP),  A_LP = 11^T / N
                w, one scalar a head: `lamb` [H]
    FeatScale   X_hat = X + k (s DC[X] + t HC[X]),  DC[X] = m(X), HC[X] = X - m(X)
                s and t, one number a channel: `lamb1` [C] and `lamb2` [C]

k is 1 in the paper and 2 in the released DeiT code, which adds its terms twice. All scales start at
zero.

Rows of a softmax sum to one, so A_hat V = (1 + w) A V - w m(V): neither form needs the attention
matrix, and both fold into the projection behind the attention, which leaves one term per image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Projection(NamedTuple):
    """The affine map x @ weight.T + bias + shift that ends an attention layer."""

    weight: Tensor
    """[C_out, C_in]"""
    bias: Tensor | None
    """[C_out]"""
    shift: Tensor | None = None
    """[B, 1 or N, C_out]: the part that is different for each image."""

    def __call__(self, x: Tensor) -> Tensor:
        """[B, N, C_in] -> [B, N, C_out]."""
        y = F.linear(x, self.weight, self.bias)
        return y if self.shift is None else y + self.shift.to(y.dtype)


def token_mean(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """m(x), with the dimensions of the tokens kept as 1.

    A sum, because the backward pass of `mean` writes a tensor as large as x. In float16 it is one
    of float32, for fear of 65504.
    """
    total = x.sum(dim, keepdim=True, dtype=torch.float32 if x.dtype == torch.float16 else None)
    return (total * (total.numel() / x.numel())).to(x.dtype)


def one_plus(scale: Tensor) -> Tensor:
    """1 + scale, in float32 at least: bfloat16 would round a scale of 0.003 away."""
    return 1 + scale.to(torch.promote_types(scale.dtype, torch.float32))


def scale_rows(weight: Tensor, scale: Tensor) -> Tensor:
    """(1 + scale) weight, row by row.

    Args:
        weight: [R, ...]
        scale: [R]
    """
    return (weight * one_plus(scale).view(-1, *[1] * (weight.ndim - 1))).to(weight.dtype)


def attn_scale(projection: Projection, lamb: Tensor, mean_value: Tensor) -> Projection:
    """AttnScale folded into the projection that follows the plain attention output A V.

    Args:
        projection: W_O; its inputs are the heads' channels, one head after the other.
        lamb: w, [H].
        mean_value: m(V), [B, 1, H * head_dim]; N rows instead of one where each query has a mean of
            its own.
    """
    weight, bias, _ = projection
    per_channel = lamb[:, None].expand(-1, weight.shape[1] // lamb.numel()).reshape(-1)
    shift = F.linear(per_channel * mean_value, weight).neg()
    return Projection((weight * one_plus(per_channel)).to(weight.dtype), bias, shift)


def attn_scale_matrix(attention: Tensor, lamb: Tensor, excluded: int = 0) -> Tensor:
    """AttnScale on the attention matrix itself: where dropout falls on the scaled entries, nothing
    else is equal.

    Args:
        attention: A, [B, H, N, N].
        lamb: w, [H].
        excluded: Leading tokens that the mean leaves out.
    """
    low_pass = attention.new_zeros(attention.shape[-1])
    low_pass[excluded:] = 1 / (attention.shape[-1] - excluded)
    return attention + lamb[:, None, None].to(attention.dtype) * (attention - low_pass)


def attn_scale_mixing(
    weight: Tensor, bias: Tensor, lamb: Tensor, num_tokens: int
) -> tuple[Tensor, Tensor]:
    """AttnScale behind CaiT's talking heads, folded into their mixing; exact although mixed rows do
    not sum to one.

    Args:
        weight: [H, H] of `proj_w`.
        bias: [H] of `proj_w`.
        lamb: w, [H].
        num_tokens: N; the folded bias holds for this number only.
    """
    return scale_rows(weight, lamb), scale_rows(bias, lamb) - lamb / num_tokens


def feat_scale_projection(
    projection: Projection, s: Tensor, t: Tensor, mean_input: Tensor
) -> Projection:
    """FeatScale of a projection's output, folded into that projection.

    Args:
        projection: Whose output is scaled.
        s: k times the scale of the DC part, [C_out].
        t: k times the scale of the HC part, [C_out].
        mean_input: m(x) of the projection's input x, [B, 1, C_in].
    """
    weight, bias, shift = projection
    mean_output = Projection(weight, bias, shift)(mean_input)
    per_image = (s - t) * mean_output
    if shift is not None:
        per_image = per_image + (1 + t) * shift
    return Projection(
        scale_rows(weight, t), None if bias is None else scale_rows(bias, t), per_image
    )


def feat_scale(x: Tensor, s: Tensor, t: Tensor, mean: Tensor) -> Tensor:
    """FeatScale of a feature map.

    Args:
        x: [B, ..., C]
        s: k times the scale of the DC part, [C].
        t: k times the scale of the HC part, [C].
        mean: m(x), one row an image, broadcastable to x.
    """
    factor, shift = one_plus(t), (s - t) * mean
    if factor.dtype == x.dtype:
        return x * factor + shift
    # In half precision a factor 1 + t would round a small t away, or turn x into float32.
    return torch.addcmul(x, x, t.to(x.dtype)) + shift.to(x.dtype)
