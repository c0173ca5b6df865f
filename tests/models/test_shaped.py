"""Shaped attention against its equation with the matrix built."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from backbones import BUILDERS
from comparison import assert_equal_numbers, gradients
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.models import add_method, remove_method
from antioversmooth.models.placement import scales
from benchmarks.textbook import share_random_scales, textbook


@pytest.mark.parametrize(
    ("kind", "attention_dropout"),
    [*((kind, 0.0) for kind in BUILDERS), *((kind, 0.2) for kind in ("vit", "cait", "swin"))],
)
def test_outputs_and_gradients_equal_the_equation(
    build: Callable[..., nn.Module], images: Tensor, kind: str, attention_dropout: float
) -> None:
    stock = build(kind, attn_drop_rate=attention_dropout).double()
    explicit = textbook(stock, shaped=True).double()
    ours = add_method(copy.deepcopy(stock), "shaped")
    share_random_scales(ours, explicit)
    for training in (False, True):
        found = [gradients(m.train(training), images.double()) for m in (ours, explicit)]
        assert_equal_numbers(*found, 1e-11)


def test_the_class_token_may_stay_out_of_the_mean(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    stock = build("vit_registers").double()
    explicit = textbook(stock, shaped=True, excluded=4).double()
    ours = add_method(copy.deepcopy(stock), "shaped", class_token_in_mean=False)
    share_random_scales(ours, explicit)
    found = [gradients(m, images.double()) for m in (ours, explicit)]
    assert_equal_numbers(*found, 1e-11)


def own_values(layer: nn.Module, x: Tensor) -> Tensor:
    """Output of the layer where each token attends to itself alone; [B, N, C]."""
    channels = x.shape[-1]
    qkv, proj = layer.qkv, layer.proj
    value = nn.functional.linear(x, qkv.weight[-channels:], qkv.bias[-channels:])
    return nn.functional.linear(value, proj.weight, proj.bias)


def test_at_its_start_attention_returns_its_values_where_queries_are_zero(
    build: Callable[..., nn.Module],
) -> None:
    layer = add_method(build("vit"), "shaped").blocks[0].attn
    x = torch.randn(2, 17, 24)
    assert not torch.allclose(layer(x), own_values(layer, x), atol=1e-3)
    with torch.no_grad():
        layer.qkv.weight[:24] = 0
        layer.qkv.bias[:24] = 0
    torch.testing.assert_close(layer(x), own_values(layer, x))


def test_minus_one_in_two_of_its_parameters_is_plain_attention(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    for kind in ("vit", "cait", "swin"):
        stock = build(kind)
        model = add_method(copy.deepcopy(stock), "shaped")
        assert len(scales(model)) == 3 * (4 if kind == "swin" else 2)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(("own_offset", "mean_offset")):
                    parameter.fill_(-1)
        torch.testing.assert_close(model(images), stock(images))


@pytest.mark.parametrize("kind", ["vit", "cait", "swin"])
def test_it_is_not_removed_at_its_start(build: Callable[..., nn.Module], kind: str) -> None:
    with pytest.raises(ModelError, match=r"Shaped attention of \S+\.attn cannot be folded"):
        remove_method(add_method(build(kind), "shaped"))


def test_checkpointing_and_compilation_change_nothing(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    model = add_method(build("vit"), "shaped").train()
    share_random_scales(model)
    expected = gradients(model, images)
    model.set_grad_checkpointing()
    assert_equal_numbers(gradients(model, images), expected, 1e-6)
    model.set_grad_checkpointing(False)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), expected["logits"])
