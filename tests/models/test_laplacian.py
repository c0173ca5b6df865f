"""Laplacian heads against their equation with the matrix built."""

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
from antioversmooth.models import add_method, remove_method
from benchmarks.textbook import share_random_scales, textbook


@pytest.mark.parametrize(
    ("kind", "heads", "attention_dropout"),
    [
        *((kind, 0.5, 0.0) for kind in BUILDERS),
        *((kind, 1.0, 0.2) for kind in ("vit", "cait", "swin")),
    ],
)
def test_outputs_and_gradients_equal_the_equation(
    build: Callable[..., nn.Module],
    images: Tensor,
    kind: str,
    heads: float,
    attention_dropout: float,
) -> None:
    stock = build(kind, attn_drop_rate=attention_dropout).double()
    explicit = textbook(stock, laplacian={"heads": heads}).double()
    ours = add_method(copy.deepcopy(stock), "laplacian", heads=heads)
    share_random_scales(ours, explicit)
    for training in (False, True):
        found = [gradients(m.train(training), images.double()) for m in (ours, explicit)]
        assert_equal_numbers(*found, 1e-11)


@pytest.mark.parametrize(("heads", "count"), [(0.1, 1), (0.5, 1), (0.7, 2), (1.0, 3)])
def test_rows_of_the_first_heads_sum_to_zero_and_those_of_the_others_to_one(
    build: Callable[..., nn.Module], images: Tensor, heads: float, count: int
) -> None:
    maps: list[Tensor] = []
    model = add_method(build("vit"), "laplacian", heads=heads)
    with hook_attention(model, lambda _, seen: maps.append(seen.map)), torch.no_grad():
        model(images)
    expected = (torch.arange(3) >= count).float()[:, None].expand(len(images), 3, 17)
    for found in maps:
        torch.testing.assert_close(found.sum(-1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "cait", "swin"])
def test_nothing_is_trained_or_saved_and_it_is_not_removed(
    build: Callable[..., nn.Module], kind: str
) -> None:
    stock = build(kind)
    model = add_method(copy.deepcopy(stock), "laplacian")
    assert dict(model.named_parameters()).keys() == dict(stock.named_parameters()).keys()
    assert model.state_dict().keys() == stock.state_dict().keys()
    with pytest.raises(ModelError, match="Laplacian heads of"):
        remove_method(model)


@pytest.mark.parametrize("heads", [0.0, 1.5])
def test_shares_that_are_none_are_refused(build: Callable[..., nn.Module], heads: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        add_method(build("vit"), "laplacian", heads=heads)


def test_checkpointing_compilation_and_copies_change_nothing(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    model = add_method(build("vit"), "laplacian").train()
    expected = gradients(model, images)
    assert torch.equal(copy.deepcopy(model)(images), expected["logits"])
    model.set_grad_checkpointing()
    assert_equal_numbers(gradients(model, images), expected, 1e-6)
    model.set_grad_checkpointing(False)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), expected["logits"])
