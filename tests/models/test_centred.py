"""Centred attention against its equation with the matrix built."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from backbones import BUILDERS
from comparison import assert_equal_numbers, gradients
from torch import Tensor, nn

from antioversmooth.analysis.hooks import hook_attention
from antioversmooth.errors import ModelError
from antioversmooth.methods.centred import Centred
from antioversmooth.models import add_method, remove_method
from antioversmooth.models.placement import add_methods
from benchmarks.textbook import share_random_scales, textbook


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize(("strength", "attention_dropout"), [(1.0, 0.0), (0.4, 0.2)])
def test_outputs_and_gradients_equal_the_equation(
    build: Callable[..., nn.Module],
    images: Tensor,
    kind: str,
    strength: float,
    attention_dropout: float,
) -> None:
    stock = build(kind, attn_drop_rate=attention_dropout).double()
    explicit = textbook(stock, centred={"strength": strength}).double()
    ours = add_method(copy.deepcopy(stock), "centred", strength=strength)
    share_random_scales(ours, explicit)
    for training in (False, True):
        found = [gradients(m.train(training), images.double()) for m in (ours, explicit)]
        assert_equal_numbers(*found, 1e-11)


def test_the_class_token_may_stay_out_of_the_mean(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    stock = build("vit_registers").double()
    explicit = textbook(stock, centred=True, excluded=4).double()
    ours = add_method(copy.deepcopy(stock), "centred", class_token_in_mean=False)
    share_random_scales(ours, explicit)
    found = [gradients(m, images.double()) for m in (ours, explicit)]
    assert_equal_numbers(*found, 1e-11)


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_rows_of_its_maps_sum_to_zero(
    build: Callable[..., nn.Module], images: Tensor, kind: str
) -> None:
    maps: list[Tensor] = []
    model = add_method(build(kind), "centred")
    with hook_attention(model, lambda _, seen: maps.append(seen.map)), torch.no_grad():
        model(images)
    assert len(maps) >= 2
    for found in maps:
        torch.testing.assert_close(found.sum(-1), torch.zeros(found.shape[:-1]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "cait", "swin"])
def test_a_strength_of_zero_is_the_stock_model(
    build: Callable[..., nn.Module], images: Tensor, kind: str
) -> None:
    stock = build(kind)
    model = add_methods(copy.deepcopy(stock), [Centred(strength=0.0)])
    torch.testing.assert_close(model(images), stock(images))


def test_it_folds_into_talking_heads_and_nowhere_else(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    stock = build("cait")
    model = add_method(copy.deepcopy(stock), "centred")
    expected = model(images)
    plain = remove_method(model)
    assert [type(m) for m in plain.modules()] == [type(m) for m in stock.modules()]
    torch.testing.assert_close(plain(images), expected)
    for kind in ("vit", "swin"):
        with pytest.raises(ModelError, match="Centred attention"):
            remove_method(add_method(build(kind), "centred"))
