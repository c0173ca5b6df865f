"""Both definitions of similarity against sums over pairs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from antioversmooth.analysis.similarity import (
    absolute_cosine,
    off_diagonal_cosine,
    similarities,
    token_similarity,
)


@given(num_tokens=st.integers(2, 12), channels=st.integers(1, 6), seed=st.integers(0, 2**16))
def test_both_definitions_are_means_over_pairs(num_tokens: int, channels: int, seed: int) -> None:
    x = torch.randn(
        num_tokens, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    pairs = {
        (i, j): F.cosine_similarity(x[i], x[j], dim=0).item()
        for i, j in itertools.product(range(num_tokens), repeat=2)
    }
    everything = [abs(cosine) for cosine in pairs.values()]
    different = [cosine for (i, j), cosine in pairs.items() if i != j]
    assert absolute_cosine(x).item() == pytest.approx(sum(everything) / len(everything), abs=1e-9)
    assert off_diagonal_cosine(x).item() == pytest.approx(sum(different) / len(different), abs=1e-9)


def test_the_diagonal_puts_a_floor_under_the_authors_definition() -> None:
    orthogonal = torch.eye(8)
    assert absolute_cosine(orthogonal).item() == pytest.approx(1 / 8)
    assert off_diagonal_cosine(orthogonal).item() == pytest.approx(0, abs=1e-7)


def test_equal_tokens_are_wholly_similar_and_opposite_ones_only_in_absolute_value() -> None:
    equal = torch.ones(4, 3)
    opposite = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    assert absolute_cosine(equal).item() == pytest.approx(1)
    assert off_diagonal_cosine(equal).item() == pytest.approx(1)
    assert absolute_cosine(opposite).item() == pytest.approx(1)
    assert off_diagonal_cosine(opposite).item() == pytest.approx(-1)


def test_only_the_off_diagonal_definition_excludes_the_class_token() -> None:
    patches = torch.randn(1, 5, 4)
    with_class = torch.cat([torch.randn(1, 1, 4), patches], dim=1)
    found = similarities(with_class, prefix=1)[0]
    assert found[0].item() == pytest.approx(absolute_cosine(with_class[0]).item())
    assert found[1].item() == pytest.approx(off_diagonal_cosine(patches[0]).item())


@pytest.mark.parametrize("kind", ["vit", "cait", "swin"])
def test_similarity_of_a_model_does_not_depend_on_the_batches(
    build: Callable[..., nn.Module], images: Tensor, kind: str
) -> None:
    model = build(kind)
    together, alone = token_similarity(model, images), token_similarity(model, images, batch_size=1)
    assert together.tokens == pytest.approx(alone.tokens, abs=1e-5)
    assert together.off_diagonal == pytest.approx(alone.off_diagonal, abs=1e-5)
    assert len(together.tokens) == 3


def test_no_images_is_an_error_and_not_a_division_by_zero(build: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="no images"):
        token_similarity(build("vit"), [])
