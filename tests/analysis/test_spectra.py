"""Frequencies against an explicit DFT matrix."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from antioversmooth.analysis import spectra

TOKENS = pytest.mark.parametrize("num_tokens", [5, 16, 197])


def dft(num_tokens: int) -> Tensor:
    """F_jk = exp(-2 pi i jk / N) / sqrt(N), as scipy.linalg.dft(N, scale='sqrtn')."""
    index = torch.arange(num_tokens, dtype=torch.float64)
    angle = -2 * math.pi * torch.outer(index, index) / num_tokens
    return torch.polar(torch.full_like(angle, num_tokens**-0.5), angle)


@TOKENS
def test_the_spectrum_of_a_map_is_that_of_the_authors_code(num_tokens: int) -> None:
    """S = F A F^T; norms of its rows, the second half before the first, one bin fewer where N is
    odd."""
    attention = torch.randn(num_tokens, num_tokens, dtype=torch.float64).softmax(-1)
    transform = dft(num_tokens)
    rows = (transform @ attention.to(transform.dtype) @ transform.T).norm(dim=-1)
    ordered = [rows[frequency % num_tokens] for frequency in spectra.frequencies(num_tokens)]
    torch.testing.assert_close(
        spectra.map_spectrum(attention).double(), torch.stack(ordered), atol=1e-5, rtol=1e-5
    )


def test_frequencies_of_197_tokens_are_those_of_the_authors_plot() -> None:
    assert list(spectra.frequencies(197)) == [*range(-98, 0), *range(98)]
    assert len(spectra.frequencies(196)) == 196


shapes = st.tuples(st.integers(1, 3), st.integers(2, 40), st.integers(1, 8))


@given(shape=shapes, seed=st.integers(0, 2**16))
def test_dc_is_the_inverse_dft_of_frequency_zero_and_hc_of_the_rest(
    shape: tuple[int, int, int], seed: int
) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    transform = dft(shape[1])
    only_zero = torch.zeros(shape[1], 1, dtype=transform.dtype)
    only_zero[0] = 1
    dc = (transform.conj().T @ (only_zero * (transform @ x.to(transform.dtype)))).real
    torch.testing.assert_close(spectra.low_pass(x).expand_as(x), dc, atol=1e-12, rtol=0)
    torch.testing.assert_close(spectra.high_pass(x), x - dc, atol=1e-12, rtol=0)


@given(shape=shapes, seed=st.integers(0, 2**16))
def test_energies_add_up(shape: tuple[int, int, int], seed: int) -> None:
    """DC and HC are orthogonal, and a unitary transform keeps the energy (an even N loses no bin to
    the slicing)."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    total = spectra.norm(x).square()
    parts = spectra.low_pass_norm(x).square() + spectra.high_pass_norm(x).square()
    torch.testing.assert_close(parts, total, atol=1e-4, rtol=1e-4)
    if shape[1] % 2 == 0:
        torch.testing.assert_close(
            spectra.amplitudes(x).square().sum(-1), total, atol=1e-4, rtol=1e-4
        )


def test_the_amplitude_of_dc_is_its_norm() -> None:
    x = torch.randn(2, 16, 4)
    torch.testing.assert_close(
        spectra.amplitudes(x)[:, 8], spectra.low_pass_norm(x), atol=1e-5, rtol=1e-5
    )
