"""Attention maps of models of every family, checked by the output of the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import BUILDERS, SOFTMAX
from torch import Tensor, nn

from antioversmooth.analysis.hooks import (
    AttentionActivations,
    evaluation_mode,
    hook_attention,
    hook_tokens,
)
from antioversmooth.models.attention import ScaledAttention

KIND = pytest.mark.parametrize("kind", BUILDERS)


def attention_of(model: nn.Module, images: Tensor) -> list[AttentionActivations]:
    seen: list[AttentionActivations] = []
    with (
        evaluation_mode(model),
        hook_attention(model, lambda layer, attention: seen.append(attention)),
    ):
        model(images)
    return seen


def recombined(seen: AttentionActivations) -> Tensor:
    """Output of a layer with the recorded map: map times values, projected."""
    layer = seen.layer
    values = (
        ScaledAttention.value(layer, seen.tokens)
        .unflatten(-1, (layer.num_heads, -1))
        .transpose(1, 2)
    )
    heads = (seen.map @ values).transpose(1, 2).flatten(2)
    return nn.functional.linear(heads, layer.proj.weight, layer.proj.bias)


@KIND
@pytest.mark.parametrize("scaling", [{}, {"attnscale": True}], ids=["stock", "attnscale"])
def test_the_recorded_map_is_the_one_that_multiplies_the_values(
    build: Callable[..., nn.Module], images: Tensor, kind: str, scaling: dict[str, bool]
) -> None:
    for seen in attention_of(build(kind, **scaling), images):
        torch.testing.assert_close(recombined(seen), seen.output, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "scaling"),
    [
        ("vit_registers", {"class_token_in_mean": False}),
        ("swin", {"mask_aware": True}),
        ("swin_v2", {}),
    ],
)
def test_the_map_follows_the_tokens_of_the_mean(
    build: Callable[..., nn.Module], images: Tensor, kind: str, scaling: dict[str, bool]
) -> None:
    for seen in attention_of(build(kind, attnscale=True, **scaling), images):
        torch.testing.assert_close(recombined(seen), seen.output, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", SOFTMAX)
def test_rows_of_maps_sum_to_one_with_and_without_attnscale(
    build: Callable[..., nn.Module], images: Tensor, kind: str
) -> None:
    for seen in attention_of(build(kind, attnscale=True), images):
        for attention in (seen.map, seen.unscaled):
            torch.testing.assert_close(
                attention.sum(-1), torch.ones_like(attention[..., 0]), atol=1e-5, rtol=0
            )
        assert not torch.allclose(seen.map, seen.unscaled)


@KIND
def test_hooks_change_neither_the_model_nor_its_outputs(
    build: Callable[..., nn.Module], images: Tensor, kind: str
) -> None:
    model = build(kind, attnscale=True, featscale=True).train()
    fused = [getattr(module, "fused_attn", None) for module in model.modules()]
    before = model(images)
    with (
        evaluation_mode(model),
        hook_tokens(model, lambda *_: None),
        hook_attention(model, lambda *_: None),
    ):
        torch.testing.assert_close(model(images), before, atol=1e-4, rtol=1e-4)
    assert model.training
    assert [getattr(module, "fused_attn", None) for module in model.modules()] == fused
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model(images), before)
    assert model(images).requires_grad


def test_a_model_that_fails_midway_is_left_without_hooks(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    model = build("vit")

    def fail(layer: int, seen: Any) -> None:
        raise RuntimeError("seen enough")

    with pytest.raises(RuntimeError, match="seen enough"), hook_attention(model, fail):
        model(images)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(getattr(module, "fused_attn", True) for module in model.modules())


@KIND
def test_tokens_are_recorded_before_the_first_block_and_after_each(
    build: Callable[..., nn.Module], images: Tensor, kind: str
) -> None:
    seen: dict[int, tuple[int, ...]] = {}
    model = build(kind)
    with (
        evaluation_mode(model),
        hook_tokens(model, lambda layer, tokens: seen.update({layer: tuple(tokens.shape)})),
    ):
        model(images)
    assert list(seen) == [0, 1, 2, 3]
    patches = {"vit_registers": 20, "cait": 16, "swin": 256, "swin_v2": 256, "swin_v2_cr": 256}.get(
        kind, 17
    )
    assert seen[0][:2] == (3, patches)
    assert seen[3][:2] == (3, 64 if kind.startswith("swin") else patches)
