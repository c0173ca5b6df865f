"""Layer norms that spread tokens first: z = x - s softmax(x_n x_n^T / tau) x.

x_n is x divided by the L2 norm of each token, so the logits are cosines divided by tau. Fused
attention computes the term, with one head of C channels; at s = 0 it is left out.
"""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers.norm import LayerNorm
from torch import Tensor

from antioversmooth.methods.norms import NormMethod


def spread(x: Tensor, method: NormMethod) -> Tensor:
    """z of tokens x; [B, N, C] -> the same."""
    if method.scale == 0:
        return x
    unit = F.normalize(x, dim=-1)
    # one head
    query, value = unit[:, None], x[:, None]
    mixed = F.scaled_dot_product_attention(query, query, value, scale=1 / method.temperature)
    return x - method.scale * mixed[:, 0]


class SpreadingNorm(LayerNorm):
    """timm's layer norm of spread tokens."""

    method: NormMethod

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> the same."""
        normed: Tensor = super().forward(spread(x, self.method))
        return normed
