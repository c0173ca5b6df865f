"""Coefficients of methods, folded into the weights around an attention layer.

B images, N tokens, C channels, H heads; m(.) is the mean over tokens. It *is* the DC part,
F^-1 diag(1, 0, ..., 0) F X (paper, section 2.4). The equations are in `antioversmooth.methods`:
y = c0 v + c1 A v + c2 A A v - c3 m(v) per head, and X_hat = X + k (s DC[X] + t HC[X]) per
channel.

With c1 and c3 alone, and with s and t, they are affine in what enters or leaves the projection W_O,
apart from one term per image. So they cost next to nothing: the weights are scaled once a step, and
no tensor of the features' size is written. With c0 and c2 the values are filtered in front of the
projection, by the fused attention again: A A v is A (A v).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from antioversmooth.methods import AttentionMethod, MeanMethod
from antioversmooth.methods.base import at_least_float32
from antioversmooth.methods.values import ValueMethod


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


def token_mean(x: Tensor, dim: int | tuple[int, ...], times: int = 1) -> Tensor:
    """`times` m(x), with the dimensions of the tokens kept as 1.

    A sum, because the backward pass of `mean` writes a tensor as large as x. float16 is summed in
    float32: it overflows at 65504.
    """
    total = x.sum(dim, keepdim=True, dtype=torch.float32 if x.dtype == torch.float16 else None)
    return (total * (times * total.numel() / x.numel())).to(x.dtype)


def scale_rows(weight: Tensor, factor: Tensor | float) -> Tensor:
    """Factor times weight, row by row, in the type of the weight.

    Args:
        weight: [R, ...]
        factor: [R], or the same for all rows.
    """
    if isinstance(factor, Tensor):
        factor = factor.view(-1, *[1] * (weight.ndim - 1))
    return (weight * factor).to(weight.dtype)


def fold_into_projection(
    projection: Projection,
    method: MeanMethod,
    parameters: Sequence[Tensor],
    mean_value: Tensor,
) -> Projection:
    """c1 A v - c3 m(v), folded into the projection that follows the attention output A v.

    Args:
        projection: W_O; its inputs are the heads' channels, one head after the other.
        parameters: Of the method, each [H].
        mean_value: m(v), [B, 1, H * head_dim]; N rows instead of one where each query has a mean of
            its own.
    """
    weight, bias, _ = projection
    per_channel = by_channel(parameters, weight.shape[1])
    shift = F.linear(method.mean(*per_channel) * mean_value, weight).neg()
    return Projection((weight * method.attended(*per_channel)).to(weight.dtype), bias, shift)


def by_channel(parameters: Sequence[Tensor], channels: int) -> list[Tensor]:
    """Parameters of heads, each [H], for the heads' channels side by side, [H * head_dim]."""
    return [p[:, None].expand(-1, channels // len(p)).reshape(-1) for p in parameters]


def filter_values(
    attend: Callable[[Tensor], Tensor],
    value: Tensor,
    method: AttentionMethod,
    parameters: Sequence[Tensor],
    mean: Callable[[Tensor], Tensor],
    first: Tensor | None = None,
) -> Tensor:
    """c0 v + A (c1 v + c2 A v) - c3 m(v) + c4 v0.

    Args:
        attend: A v of values v.
        value: v, of any layout.
        parameters: Of the method, broadcastable to v.
        mean: m(v) of values v.
        first: v0 of a ValueMethod, of the layout of v.
    """
    attended, c1 = attend(value), method.attended(*parameters)
    if method.attends_twice:
        entering = c1 * value + method.attended_twice(*parameters) * attended
        filtered = attend(entering.to(value.dtype))
    else:
        filtered = c1 * attended
    if method.has_own:
        filtered = filtered + method.own(*parameters) * value
    if isinstance(method, MeanMethod):
        filtered = filtered - method.mean(*parameters) * mean(value)
    if isinstance(method, ValueMethod):
        assert first is not None, "the block has the values of the first layer"
        filtered = filtered + method.first(*parameters) * first
    return filtered.to(value.dtype)


def apply_to_matrix(
    attention: Tensor, method: AttentionMethod, parameters: Sequence[Tensor], excluded: int = 0
) -> Tensor:
    """The explicit form: the method applied to the attention matrix itself.

    Args:
        attention: A, [B, H, N, N].
        parameters: Of the method, each [H].
        excluded: Leading tokens that the mean leaves out.
    """
    low_pass = attention.new_zeros(attention.shape[-1])
    low_pass[excluded:] = 1 / (attention.shape[-1] - excluded)
    per_head = [p[:, None, None].to(attention.dtype) for p in parameters]
    return method.matrix(attention, low_pass, *per_head)


def fold_into_mixing(
    weight: Tensor,
    bias: Tensor,
    method: MeanMethod,
    parameters: Sequence[Tensor],
    num_tokens: int,
) -> tuple[Tensor, Tensor]:
    """c1 M - c3 A_LP after CaiT's talking heads M, folded into their mixing.

    Exact, although mixed rows do not sum to one.

    Args:
        weight: [H, H] of `proj_w`.
        bias: [H] of `proj_w`.
        parameters: Of the method, each [H].
        num_tokens: N; the folded bias holds for this number only.
    """
    return (
        scale_rows(weight, method.attended(*parameters)),
        scale_rows(bias, method.attended(*parameters)) - method.mean(*parameters) / num_tokens,
    )


def fold_features(
    projection: Projection, s: Tensor, t: Tensor, mean_input: Tensor, times: int = 1
) -> Projection:
    """X + k (s DC[X] + t HC[X]) of a projection's output X, folded into that projection.

    Args:
        s: Scale of the DC part, [C_out].
        t: Scale of the HC part, [C_out].
        mean_input: m(x) of the projection's input x, [B, 1, C_in].
        times: k.
    """
    weight, bias, shift = projection
    factor = _factor(t, times)
    per_image = (s - t) * times * projection(mean_input)
    if shift is not None:
        per_image = per_image + factor * shift
    return Projection(
        scale_rows(weight, factor),
        None if bias is None else scale_rows(bias, factor),
        per_image,
    )


def scale_features(x: Tensor, s: Tensor, t: Tensor, mean: Tensor, times: int = 1) -> Tensor:
    """X + k (s DC[X] + t HC[X]) of a feature map.

    Args:
        x: [B, ..., C]
        s: Scale of the DC part, [C].
        t: Scale of the HC part, [C].
        mean: k m(x), one row an image, broadcastable to x.
        times: k.
    """
    factor, shift = _factor(t, times), (s - t) * mean
    if factor.dtype == x.dtype:
        return x * factor + shift
    # In half precision a factor 1 + k t would round a small t away, or turn x into float32.
    return torch.addcmul(x, x, t.to(x.dtype), value=times) + shift.to(x.dtype)


def _factor(t: Tensor, times: int) -> Tensor:
    """1 + k t in one operation, in float32 at least."""
    return torch.rsub(at_least_float32(t), 1, alpha=-times)
