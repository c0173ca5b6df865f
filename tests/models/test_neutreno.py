"""NeuTRENO against blocks that are written out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from backbones import TINY
from comparison import assert_equal_numbers, gradients
from stages import Textbook
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.methods.featscale import FeatScale
from antioversmooth.methods.lateinsertion import LateInsertion
from antioversmooth.methods.neutreno import NeuTRENO
from antioversmooth.models import add_method, remove_method
from antioversmooth.models.placement import add_methods

Build = Callable[..., nn.Module]


class Written(Textbook):
    """A stock model with y = A v + lam (v0 - v) behind its first block, the matrix built."""

    def __init__(self, model: Any, strength: float) -> None:
        super().__init__(model)
        self.strength = strength

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        x, first = torch.cat(self.embedded(images), 1), None
        for block in self.model.blocks:
            attended, value = self.attended(block.attn, block.norm1(x))
            first = value if first is None else first
            mixed = attended + self.strength * (first - value)
            x = x + block.drop_path1(block.attn.proj(mixed.transpose(1, 2).flatten(2)))
            x = x + block.drop_path2(block.mlp(block.norm2(x)))
        return self.classified(x)

    def attended(self, attention: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """A v and v, each [B, H, N, d]."""
        heads = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        matrix = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
        return matrix @ v, v


@pytest.mark.parametrize(("kind", "modes"), [("vit", (False, True)), ("deit_distilled", (False,))])
@pytest.mark.parametrize("strength", [0.6, 1.7])
def test_outputs_and_gradients_equal_the_equation(
    build: Build, images: Tensor, kind: str, modes: tuple[bool, ...], strength: float
) -> None:
    stock = build(kind, drop_path_rate=0.2).double()
    ours = add_method(copy.deepcopy(stock), "neutreno", strength=strength)
    assert ours.state_dict().keys() == stock.state_dict().keys()
    explicit = Written(stock, strength)
    for training in modes:
        found = [gradients(m.train(training), images.double()) for m in (ours, explicit)]
        assert_equal_numbers(*found, 1e-11)


def test_a_strength_of_zero_is_the_stock_model(build: Build, images: Tensor) -> None:
    stock = build("vit").double()
    model = add_methods(copy.deepcopy(stock), [NeuTRENO(strength=0.0)])
    torch.testing.assert_close(model(images.double()), stock(images.double()))


def test_checkpointing_and_compilation_change_nothing(build: Build, images: Tensor) -> None:
    model: Any = add_method(build("vit"), "neutreno").train()
    expected = gradients(model, images)
    model.set_grad_checkpointing()
    assert_equal_numbers(gradients(model, images), expected, 1e-6)
    model.set_grad_checkpointing(False)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), expected["logits"])


def test_two_passes_in_flight_do_not_mix_their_values(build: Build, images: Tensor) -> None:
    model: Any = add_method(build("vit"), "neutreno")
    model.set_grad_checkpointing()
    expected = [
        gradients(model, one)["blocks.0.attn.qkv.weight"].clone() for one in images[:, None]
    ]
    model.zero_grad()
    outputs = [model(one) for one in images[:, None]]
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(model.blocks[0].attn.qkv.weight.grad, sum(expected))
    assert all(block.attn.first_values is None for block in model.blocks)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("cait", {}, "Cait"),
        ("swin", {}, "SwinTransformer"),
        ("beit", {}, "Beit"),
        ("vit", {"attn_drop_rate": 0.1}, "dropout on attention weights"),
        ("vit_parallel", {}, "attn"),
    ],
)
def test_other_models_are_refused_and_stay_as_they_were(
    build: Build, images: Tensor, kind: str, options: dict[str, float], message: str
) -> None:
    model = build(kind, **options)
    before = model(images)
    with pytest.raises(ModelError, match=message):
        add_method(model, "neutreno")
    assert torch.equal(model(images), before)


def test_what_would_silently_compute_something_else_is_refused(
    build: Build, images: Tensor
) -> None:
    model: Any = add_method(build("vit"), "neutreno")
    with pytest.raises(ModelError, match="forward_intermediates"):
        model.forward_intermediates(images)
    with pytest.raises(ModelError, match="masks"):
        model(images, is_causal=True)
    with pytest.raises(ModelError, match="NeuTRENO"):
        remove_method(model)
    for other in (AttnScale(), LateInsertion(at=1)):
        with pytest.raises(ModelError, match="go into the same place"):
            add_methods(build("vit"), [NeuTRENO(), other])


def test_it_goes_with_featscale(build: Build, images: Tensor) -> None:
    """As in the paper; at its start FeatScale changes nothing."""
    before = add_method(build("vit"), "neutreno")(images)
    model = add_methods(build("vit"), [NeuTRENO(), FeatScale()])
    torch.testing.assert_close(model(images), before)


def test_a_single_block_has_no_place_for_it() -> None:
    model = VisionTransformer(**{**TINY, "depth": 1})
    with pytest.raises(ModelError, match="depth should be at least 2 with NeuTRENO"):
        add_method(model, "neutreno")
