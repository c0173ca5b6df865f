"""Whole analyses: of every family, streamed, on several devices, without a trace in the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tiny import BUILDERS
from torch import Tensor, nn

from antioversmooth.analysis.hooks import evaluation_mode, hook_attention
from antioversmooth.analysis.measures import measure
from antioversmooth.analysis.record import MEASURES, all_measures
from antioversmooth.analysis.similarity import absolute_cosine, token_similarity


def depth_of(value: Any) -> int:
    return 1 + depth_of(value[0]) if isinstance(value, list) else 0


def flat(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from flat(item)
    else:
        yield value


@pytest.mark.parametrize("kind", BUILDERS)
def test_every_family_has_its_measures(
    build: Callable[..., nn.Module], images: Tensor, kind: str
) -> None:
    found = measure(build(kind, attnscale=True, featscale=True), [images]).measures
    theorems = {name for name in all_measures() if name.startswith(("bounds/", "decay/"))}
    learned = {"scales/w", "scales/s", "scales/t"}
    assert found.keys() == (MEASURES.keys() | learned) - (theorems if kind == "cait" else set())
    for name, layers in found.items():
        assert list(layers) == ([0, 1, 2, 3] if name.startswith("tokens/") else [1, 2, 3])
        assert all(depth_of(value) == len(all_measures()[name].axes) for value in layers.values())
        assert all(math.isfinite(number) for value in layers.values() for number in flat(value))


def test_a_stock_model_has_no_scales(build: Callable[..., nn.Module], images: Tensor) -> None:
    found = measure(build("vit"), [images]).measures
    assert not any(name.startswith("scales/") for name in found)


def test_scales_are_the_effective_ones(build: Callable[..., nn.Module], images: Tensor) -> None:
    """The released form counts FeatScale's terms twice in a ViT, once in Swin, where the block
    applies them."""
    for kind, times in (("vit", 2), ("cait", 1), ("swin", 1)):
        model = build(kind, featscale=True)
        first = next(module for module in model.modules() if "lamb1" in module._parameters)
        found = measure(model, [images]).measures
        assert found["scales/s"][1] == pytest.approx((times * first.lamb1).tolist())
        assert found["scales/t"][1] == pytest.approx((times * first.lamb2).tolist())


def test_attention_similarity_is_that_of_the_scaled_maps(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    model = build("vit", attnscale=True)
    maps: list[Tensor] = []
    with evaluation_mode(model), hook_attention(model, lambda _, seen: maps.append(seen.map)):
        model(images)
    found = measure(model, [images]).measures["attention/similarity"]
    for layer, attention in enumerate(maps, start=1):
        assert found[layer] == pytest.approx(absolute_cosine(attention).mean(0).tolist(), abs=1e-6)


def test_token_similarity_is_the_one_that_runs_journal(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    model = build("swin")
    found = measure(model, [images]).measures
    journaled = token_similarity(model, images)
    assert [found["tokens/similarity"][layer] for layer in (1, 2, 3)] == pytest.approx(
        journaled.tokens
    )
    assert [found["tokens/off_diagonal"][layer] for layer in (1, 2, 3)] == pytest.approx(
        journaled.off_diagonal
    )


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_batches_and_devices_do_not_change_the_means(
    build: Callable[..., nn.Module], images: Tensor, kind: str
) -> None:
    model = build(kind, attnscale=True)
    whole = measure(model, [images])
    dealt = measure(model, images.split([2, 1]), devices=[torch.device("cpu")] * 2)
    assert dealt.num_images == whole.num_images == 3
    for name, layers in whole.measures.items():
        for layer, value in layers.items():
            assert list(flat(dealt.measures[name][layer])) == pytest.approx(
                list(flat(value)), rel=1e-4, abs=1e-5
            ), name


def test_batches_are_requested_one_at_a_time(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    """The source may hold a million images: a batch is only made after the one before was seen."""
    model = build("vit")
    passes: list[object] = []
    model.register_forward_hook(Counter(passes))

    def batches() -> Iterator[Tensor]:
        for index, image in enumerate(images.split(1)):
            assert len(passes) == index
            yield image

    assert measure(model, batches()).num_images == 3


class Counter:
    """A hook that counts passes of a model and of all its copies."""

    def __init__(self, passes: list[object]) -> None:
        self.passes = passes

    def __deepcopy__(self, memo: object) -> Counter:
        return self

    def __call__(self, *_: object) -> None:
        self.passes.append(None)


def test_the_model_is_unchanged(build: Callable[..., nn.Module], images: Tensor) -> None:
    model = build("vit", attnscale=True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(model, [images])
    assert model.training
    assert all(module.fused_attn for module in model.modules() if hasattr(module, "fused_attn"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_no_images_is_an_error_and_not_a_division_by_zero(build: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="no images"):
        measure(build("vit"), [])
