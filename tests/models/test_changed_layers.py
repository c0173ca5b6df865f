"""Linear layers whose weights a method applies: what is put in their place, beside them or onto
them acts, or is refused by name."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from antioversmooth.errors import ModelError
from antioversmooth.methods import METHODS
from antioversmooth.models import add_method, remove_method

TALKING = ["attnscale", "featscale", "gfsa", "laplacian", "centred", "shaped"]
"""Methods of CaiT's attention layers."""
APPLIED = [
    *[("cait", method, part) for method in TALKING for part in ("proj_l", "proj_w", "proj")],
    ("swin", "featscale", "proj"),
    ("vit", "gfsa", "qkv"),
    ("vit", "laplacian", "qkv"),
    ("vit", "neutreno", "qkv"),
    ("beit", "featscale", "qkv"),
    ("eva_unfused", "attnscale", "v_proj"),
    ("swin_v2", "featscale", "qkv"),
]
EACH = pytest.mark.parametrize(("kind", "method", "part"), APPLIED)


class Doubled(nn.Linear):
    """More than x @ weight.T + bias, in a subclass as adapters are."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Half(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


def first_attention(model: nn.Module) -> nn.Module:
    return next(module.attn for module in model.modules() if "attn" in module._modules)


def copied(layer: nn.Module, kind: type[nn.Linear]) -> nn.Linear:
    bias = layer.bias is not None
    new = kind(layer.in_features, layer.out_features, bias=bias)
    new.load_state_dict(layer.state_dict())
    return new


def answer(call: Callable[[], object]) -> object:
    """Result of a call, or the message of its `ModelError`."""
    try:
        return call()
    except ModelError as err:
        return str(err)


@EACH
def test_another_type_of_layer_is_refused(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str, part: str
):
    model = add_method(build(kind), method)
    attention = first_attention(model)
    setattr(attention, part, copied(getattr(attention, part), Doubled))
    with pytest.raises(ModelError, match=rf"{part} is a test_changed_layers\.Doubled, but"):
        model(images)
    stock = build(kind)
    attention = first_attention(stock)
    setattr(attention, part, copied(getattr(attention, part), Doubled))
    with pytest.raises(ModelError, match=rf"attn\.{part} is a test_changed_layers\.Doubled, but"):
        add_method(stock, method)


@EACH
def test_a_forward_method_of_the_layer_itself_is_refused(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str, part: str
):
    """As accelerate sets it."""
    model = add_method(build(kind), method)
    layer = getattr(first_attention(model), part)
    layer.forward = torch.zeros_like
    with pytest.raises(ModelError, match=rf"{part} is a .* with a forward method of its own, but"):
        model(images)


@EACH
def test_a_new_linear_layer_acts_or_is_refused(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str, part: str
):
    model = add_method(build(kind), method)
    expected = model(images)
    attention = first_attention(model)
    setattr(attention, part, copied(getattr(attention, part), nn.Linear))
    found = answer(lambda: model(images))
    if isinstance(found, str):
        assert f"{part} was replaced after add_method" in found
    else:
        torch.testing.assert_close(found, expected)


HOOKS: dict[str, Callable[[nn.Module], object]] = {
    "forward": lambda m: m.register_forward_hook(lambda *_: None),
    "forward, keywords": lambda m: m.register_forward_hook(lambda *_: None, with_kwargs=True),
    "pre": lambda m: m.register_forward_pre_hook(lambda *_: None),
    "pre, keywords": lambda m: m.register_forward_pre_hook(lambda *_: None, with_kwargs=True),
    "backward": lambda m: m.register_full_backward_hook(lambda *_: None),
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    ("kind", "method", "part"),
    [
        *[("cait", method, part) for method in TALKING for part in ("proj_l", "proj_w")],
        ("vit", "gfsa", "qkv"),
        ("swin", "laplacian", "qkv"),
    ],
)
def test_a_hook_that_would_not_be_called_is_refused(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str, part: str, hook: str
):
    model = add_method(build(kind), method)
    HOOKS[hook](getattr(first_attention(model), part))
    with pytest.raises(ModelError, match=rf"{part} has a hook, which would not see"):
        model(images)


@pytest.mark.parametrize("part", ["proj_l", "proj_w"])
def test_a_hook_that_a_method_would_silence_is_refused(
    build: Callable[..., nn.Module], images: Tensor, part: str
):
    """Old forms of weight norm and pruning are hooks."""
    stock = build("cait")
    nn.utils.spectral_norm(getattr(first_attention(stock), part)).eval()
    expected = stock(images)
    with pytest.raises(ModelError, match=rf"blocks\.0\.attn\.{part} has a hook"):
        add_method(stock, "attnscale")
    assert torch.equal(stock(images), expected)


@pytest.mark.parametrize("kind", ["vit", "swin", "cait"])
@pytest.mark.parametrize("method", ["attnscale", "featscale", "gfsa"])
def test_a_hook_on_the_projection_sees_its_input(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str
):
    def inputs(model: nn.Module) -> Tensor:
        seen: list[Tensor] = []
        first_attention(model).proj.register_forward_hook(lambda _, args, __: seen.append(args[0]))
        model(images)
        return seen[0]

    stock = build(kind)
    expected = inputs(copy.deepcopy(stock))
    found = inputs(add_method(stock, method))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


# without those whose forward pass of timm does not support quantized layers
@pytest.mark.parametrize("kind", ["vit", "deit_distilled", "cait", "swin", "eva_unfused"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_quantized_layers_act_or_are_refused(
    build: Callable[..., nn.Module], images: Tensor, kind: str, order: str
):
    def quantized(model: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})

    def plain(method: str) -> nn.Module:
        return add_method(build(kind), method)

    def run(method: str) -> Tensor:
        if order == "before":
            return add_method(quantized(build(kind)), method)(images)
        return quantized(plain(method))(images)

    go_in = [name for name in METHODS if not isinstance(answer(partial(plain, name)), str)]
    assert {"attnscale", "featscale"} <= set(go_in)
    for method in go_in:
        found = answer(partial(run, method))
        assert not isinstance(found, str) or "quantized" in found, (method, found)


@pytest.mark.parametrize(
    ("kind", "method", "part"),
    [("vit", "attnscale", "proj"), ("vit", "gfsa", "qkv"), ("swin", "featscale", "proj")],
)
def test_a_parametrized_layer_whose_class_would_change_is_refused(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str, part: str
):
    stock = build(kind)
    parametrize.register_parametrization(getattr(first_attention(stock), part), "weight", Half())
    expected = stock(images)
    with pytest.raises(ModelError, match=rf"{part} is parametrized, so add_method cannot"):
        add_method(stock, method)
    assert torch.equal(stock(images), expected)


@pytest.mark.parametrize(
    ("kind", "method", "part"),
    [
        ("vit", "attnscale", "attn.proj"),
        ("swin", "featscale", "attn.proj"),
        ("cait", "attnscale", "attn.proj_w"),
        ("vit", "rezero", "mlp.fc2"),
    ],
)
def test_a_parametrized_layer_is_not_folded_into(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str, part: str
):
    """A value that is written to its computed weight is lost."""
    model = add_method(build(kind), method)
    block = next(module for module in model.modules() if "attn" in module._modules)
    parametrize.register_parametrization(block.get_submodule(part), "weight", Half())
    expected = model(images)
    with pytest.raises(ModelError, match=rf"{part} is parametrized, so remove_method cannot"):
        remove_method(model)
    assert torch.equal(model(images), expected)


def test_a_replaced_projection_is_not_taken_for_the_previous_one(
    build: Callable[..., nn.Module], images: Tensor
):
    model = add_method(build("vit"), "featscale")
    model.blocks[0].attn.proj = copied(model.blocks[0].attn.proj, Doubled)
    with pytest.raises(ModelError, match=r"proj is a test_changed_layers\.Doubled"):
        remove_method(model)
