"""The algebra of the two scalings, for random shapes, types and scales."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.methods.base import one_plus
from antioversmooth.models import scaling
from antioversmooth.models.scaling import Projection

shapes = st.tuples(
    # images
    st.integers(1, 3),
    # heads
    st.integers(1, 4),
    # tokens
    st.integers(2, 17),
    # channels of a head
    st.integers(1, 5),
    # seed
    st.integers(0, 2**31),
)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
dtypes = st.sampled_from(list(TOLERANCE))


def random_attention(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A [B, H, N, N], rows a softmax, and V [B, H, N, d]."""
    images, heads, tokens, channels, seed = shape
    torch.manual_seed(seed)
    attention = (3 * torch.randn(images, heads, tokens, tokens, dtype=dtype)).softmax(-1)
    return attention, torch.randn(images, heads, tokens, channels, dtype=dtype)


def side_by_side(x: Tensor) -> Tensor:
    """[B, H, N, d] -> [B, N, H * d]."""
    return x.transpose(1, 2).flatten(2)


@given(shapes, dtypes)
def test_rows_of_rescaled_attention_sum_to_one(shape: tuple[int, ...], dtype: torch.dtype):
    attention, _ = random_attention(shape, dtype)
    lamb = torch.randn(shape[1], dtype=dtype)
    rescaled = scaling.apply_to_matrix(attention, AttnScale(), [lamb])
    torch.testing.assert_close(
        rescaled.sum(-1), torch.ones_like(rescaled[..., 0]), atol=TOLERANCE[dtype], rtol=0
    )


@given(shapes, dtypes)
def test_folded_attnscale_equals_the_rescaled_matrix(shape: tuple[int, ...], dtype: torch.dtype):
    attention, value = random_attention(shape, dtype)
    lamb = torch.randn(shape[1], dtype=dtype)
    width = shape[1] * shape[3]
    weight, bias = torch.randn(7, width, dtype=dtype), torch.randn(7, dtype=dtype)
    folded = scaling.fold_into_projection(
        Projection(weight, bias), AttnScale(), [lamb], side_by_side(value).mean(1, keepdim=True)
    )
    explicit = F.linear(
        side_by_side(scaling.apply_to_matrix(attention, AttnScale(), [lamb]) @ value), weight, bias
    )
    torch.testing.assert_close(
        folded(side_by_side(attention @ value)), explicit, atol=30 * TOLERANCE[dtype], rtol=1e-4
    )


@given(shapes, dtypes)
def test_attnscale_after_talking_heads_folds_into_their_mixing(
    shape: tuple[int, ...], dtype: torch.dtype
):
    """Also where the mixed rows do not sum to one."""
    attention, _ = random_attention(shape, dtype)
    heads, tokens = shape[1], shape[2]
    weight, bias, lamb = (
        torch.randn(*s, dtype=dtype) for s in ((heads, heads), (heads,), (heads,))
    )

    def mix(w: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("gh,bhij->bgij", w, attention) + b[:, None, None]

    explicit = scaling.apply_to_matrix(mix(weight, bias), AttnScale(), [lamb])
    folded = mix(*scaling.fold_into_mixing(weight, bias, AttnScale(), [lamb], tokens))
    torch.testing.assert_close(folded, explicit, atol=10 * TOLERANCE[dtype], rtol=1e-4)


@given(shapes, dtypes)
def test_folded_featscale_equals_the_feature_map_scaled(shape: tuple[int, ...], dtype: torch.dtype):
    images, heads, tokens, channels, seed = shape
    torch.manual_seed(seed)
    x = torch.randn(images, tokens, channels, dtype=dtype)
    weight, bias, s, t = (
        torch.randn(*size, dtype=dtype)
        for size in ((heads, channels), (heads,), (heads,), (heads,))
    )
    projection = Projection(weight, bias, torch.randn(images, 1, heads, dtype=dtype))
    y = projection(x)
    low_pass = y.mean(1, keepdim=True)
    explicit = y + s * low_pass + t * (y - low_pass)
    folded = scaling.fold_features(projection, s, t, x.mean(1, keepdim=True))(x)
    torch.testing.assert_close(folded, explicit, atol=30 * TOLERANCE[dtype], rtol=1e-4)
    torch.testing.assert_close(
        scaling.scale_features(y, s, t, low_pass), explicit, atol=30 * TOLERANCE[dtype], rtol=1e-4
    )


@given(shapes)
def test_zero_scales_change_nothing(shape: tuple[int, ...]):
    attention, value = random_attention(shape, torch.float32)
    heads, width = shape[1], shape[1] * shape[3]
    x = side_by_side(attention @ value)
    projection = Projection(torch.randn(6, width), torch.randn(6))
    zero_heads, zero = torch.zeros(heads), torch.zeros(6)
    assert torch.equal(scaling.apply_to_matrix(attention, AttnScale(), [zero_heads]), attention)
    assert torch.equal(
        scaling.fold_into_projection(
            projection, AttnScale(), [zero_heads], x.mean(1, keepdim=True)
        )(x),
        projection(x),
    )
    assert torch.equal(
        scaling.fold_features(projection, zero, zero, x.mean(1, keepdim=True))(x),
        projection(x),
    )


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**31))
def test_mean_over_tokens_is_the_zero_frequency_part(tokens: int, channels: int, seed: int):
    """DC[X] = F^-1 diag(1, 0, ..., 0) F X, along the tokens."""
    torch.manual_seed(seed)
    x = torch.randn(2, tokens, channels, dtype=torch.float64)
    spectrum = torch.fft.fft(x, dim=1)
    spectrum[:, 1:] = 0
    mean = scaling.token_mean(x, 1).expand_as(x)
    torch.testing.assert_close(torch.fft.ifft(spectrum, dim=1).real, mean, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_small_scales_and_large_sums(dtype: torch.dtype):
    weight = torch.randn(64, 64, dtype=dtype)
    scaled = scaling.scale_rows(weight, one_plus(torch.full((64,), 0.003, dtype=dtype)))
    assert scaled.dtype == dtype
    assert (scaled != weight).float().mean() > 0.3
    # the sum is 300,000; the largest float16 is 65,504
    large = torch.full((1, 5000, 2), 60.0, dtype=dtype)
    torch.testing.assert_close(
        scaling.token_mean(large, 1), torch.full((1, 1, 2), 60.0, dtype=dtype), atol=0.5, rtol=0
    )
