"""Spectra along the token axis: N tokens are N samples, and the unitary DFT F is [N, N].

The DC part of X is F^-1 diag(1, 0, ..., 0) F X = (1/N) 11^T X, the mean over tokens; HC[X] is the
rest (paper, section 2.4). All functions accept leading dimensions for images and heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def frequencies(num_tokens: int) -> range:
    """The frequencies of a spectrum, including DC: -98 to 97 for 197 tokens.

    As in the authors' plot, an odd number of tokens loses the highest positive frequency.
    """
    return range(-(num_tokens // 2), num_tokens // 2)


def amplitudes(x: Tensor) -> Tensor:
    """L2 norm of each row of F X, by `frequencies`; [..., N, C] -> [..., N or N - 1]."""
    norms: Tensor = torch.fft.fftshift(
        torch.fft.fft(x.float(), dim=-2, norm="ortho").norm(dim=-1), dim=-1
    )
    return norms[..., : len(frequencies(x.shape[-2]))]


def map_spectrum(attention: Tensor) -> Tensor:
    """L2 norm of each row of S = F A F^T, by `frequencies`; [..., N, N] -> [..., N or N - 1].

    F^T is unitary and preserves the norm of a row, so it suffices to compute the rows of F A.
    """
    return amplitudes(attention)


def low_pass(x: Tensor) -> Tensor:
    """DC[X]: the mean over tokens; [..., N, C] -> [..., 1, C]."""
    return x.mean(-2, keepdim=True)


def high_pass(x: Tensor) -> Tensor:
    """HC[X] = X - DC[X]; [..., N, C] -> the same."""
    return x - low_pass(x)


def norm(x: Tensor) -> Tensor:
    """Frobenius norm of the last two dimensions."""
    frobenius: Tensor = torch.linalg.matrix_norm(x)
    return frobenius


def low_pass_norm(x: Tensor) -> Tensor:
    """|DC[X]|_F; [..., N, C] -> [...]."""
    num_tokens: int = x.shape[-2]
    return norm(low_pass(x)) * math.sqrt(num_tokens)


def high_pass_norm(x: Tensor) -> Tensor:
    """|HC[X]|_F; [..., N, C] -> [...]."""
    return norm(high_pass(x))
