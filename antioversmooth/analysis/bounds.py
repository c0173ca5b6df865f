"""The paper's theorems on high frequencies, as follow-up papers quote them, with measured values.

    Theorem 1     |HC[A^t z]| / |DC[A^t z]| -> 0 for A = softmax(P)
    Theorem 3     |HC[A X W_V]|_F <= sqrt(N e^2a / (e^2a + N - 1)) |W_V|_2 |HC[X]|_F
                  with a = max |P_ij|
    Proposition 4 |HC[MSA(X)]|_F <= s1 s2 H sqrt(...) |HC[X]|_F
                  with s1 >= |W_V|_2, s2 >= |W_O|_2 of every head
    Proposition 5 |HC[X + MSA(X)]|_F <= (1 + s1 s2 H sqrt(...)) |HC[X]|_F

The factors tend to sqrt(N) as a grows, and that of Proposition 5 always exceeds 1: they are upper
bounds on the high frequencies that *remain*, and do not imply that these decrease.

Scalings. HC[A_hat X] = (1 + w) HC[A X], since HC[1 m(X)] = 0, and HC[X_hat] = (1 + t) HC[X]:
AttnScale multiplies the factor of a head by |1 + w|, FeatScale that of the layer by max |1 + t|.
Biases are equal for all tokens, and have no HC.

B images (Swin: windows), N tokens, C channels, H heads.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models.cait import TalkingHeadAttn
from torch import Tensor, nn

from antioversmooth.analysis.hooks import AttentionActivations
from antioversmooth.analysis.spectra import high_pass_norm, low_pass_norm, norm
from antioversmooth.models.attention import ScaledAttention, WindowMean
from antioversmooth.models.reattention import MixingDropout

POWERS = 7
"""Powers t = 0 to 6 of A^t; with random logits HC vanishes by then."""
ROUNDING = 1e-5
"""Relative tolerance of the inequalities: HC is a difference of float32 numbers."""


def holds_for(layer: Any) -> bool:
    """Whether the theorems cover the layer: softmax attention followed by V and W_O only."""
    plain = (
        isinstance(getattr(layer, "norm", nn.Identity()), nn.Identity)
        and getattr(layer, "gate", None) is None
    )
    # with masks excluded, the mean differs by token
    masked = isinstance(layer, WindowMean) and layer.excludes_masked
    method = layer.method if isinstance(layer, ScaledAttention) else None
    return (
        plain
        and not masked
        and not (method is not None and method.needs_values)
        and getattr(layer, "num_kv_groups", 1) == 1
        and not isinstance(layer, TalkingHeadAttn)
        and not isinstance(layer.attn_drop, MixingDropout)
    )


def decay(attention: Tensor, z: Tensor, powers: int = POWERS) -> dict[str, Tensor]:
    """Norms of HC and DC of A^t z for t = 0, 1, ... (Theorem 1); each [B, H, powers].

    Args:
        attention: A, [B, H, N, N].
        z: [B, N, C]
    """
    x = z[:, None].expand(-1, attention.shape[1], -1, -1)
    high, low = [], []
    for _ in range(powers):
        high.append(high_pass_norm(x))
        low.append(low_pass_norm(x))
        x = attention @ x
    return {"hc": torch.stack(high, -1), "dc": torch.stack(low, -1)}


def softmax_factor(attention: Tensor) -> Tensor:
    """sqrt(N e^2a / (e^2a + N - 1)) of each head; [..., N, N] -> [...].

    The softmax is invariant to a constant added to a row of P, and the theorem holds for every such
    P: a is computed for the P with centred rows, where it is smallest.
    """
    N = attention.shape[-1]
    logits = attention.log()
    # infinite if a mask, or underflow, makes an entry zero
    a = (logits.amax(-1) - logits.amin(-1)).amax(-1) / 2
    return (N / (1 + (N - 1) * torch.exp(-2 * a))).sqrt()


def head_weights(layer: Any) -> tuple[Tensor, Tensor]:
    """W_V and W_O of each head, as [H, head_dim, C] and [H, C, head_dim]."""
    H = layer.num_heads
    joint = layer.qkv is not None
    value = layer.qkv.weight.chunk(3)[-1] if joint else layer.v_proj.weight
    return value.unflatten(0, (H, -1)), layer.proj.weight.unflatten(1, (H, -1)).transpose(0, 1)


def inequalities(activations: AttentionActivations) -> dict[str, Tensor]:
    """Both sides of Theorem 3 and Propositions 4 and 5 for each image, as norms.

    Returns:
        input: |HC[X]|_F, [B]. head/measured, head/bound: Theorem 3, [B, H]. layer/...,
        residual/...: Propositions 4 and 5, [B]. violations: share of the inequalities that are
        violated beyond rounding, [B].
    """
    layer, tokens = activations.layer, activations.tokens
    w_value, w_output = head_weights(layer)
    value_norms, output_norms = (torch.linalg.matrix_norm(w, ord=2) for w in (w_value, w_output))
    attn_gain, feat_gain = gains(layer)
    entering = high_pass_norm(tokens)
    factor = attn_gain * softmax_factor(activations.unscaled)
    heads = activations.map @ (tokens[:, None] @ w_value.transpose(1, 2))
    layer_factor = (
        feat_gain * value_norms.max() * output_norms.max() * layer.num_heads * factor.amax(1)
    )
    sides = {
        "head": (heads, factor * value_norms * entering[:, None]),
        "layer": (activations.output, layer_factor * entering),
        "residual": (tokens + activations.output, (1 + layer_factor) * entering),
    }
    found = {"input": entering}
    for name, (x, bound) in sides.items():
        found |= {f"{name}/measured": high_pass_norm(x), f"{name}/bound": bound}
    violated = [_violated(x, bound) for x, bound in sides.values()]
    return {**found, "violations": torch.stack(violated, -1).mean(-1)}


def gains(layer: Any) -> tuple[Tensor | float, Tensor | float]:
    """Factors by which methods scale HC: |c1| of each head, and max |1 + t| over channels."""
    if not isinstance(layer, ScaledAttention):
        return 1.0, 1.0
    attn_gain: Tensor | float = 1.0
    if layer.method is not None:
        factor: Any = layer.method.attended(*layer.method_parameters)
        attn_gain = abs(factor)
    if layer.features is None or layer.features_on_map:
        return attn_gain, 1.0
    return attn_gain, (1 + layer.features.scales()[1]).abs().max()


def _violated(x: Tensor, bound: Tensor) -> Tensor:
    """Share of heads whose HC exceeds the bound, for each image; [B]."""
    beyond = high_pass_norm(x) > bound * (1 + ROUNDING) + ROUNDING * norm(x)
    return beyond.float().flatten(1).mean(1) if beyond.ndim > 1 else beyond.float()
