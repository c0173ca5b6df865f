"""A training step of every full-size row on fake GPUs: nothing waits, and types are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from fake_devices import WORLD_SIZE, Traced, trace
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from antioversmooth import spec
from antioversmooth.config import Experiment, Family
from antioversmooth.runs import memory

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TABLES = ("table2", "remedies")
IN_FLOAT32 = {"patchdiversity": {"bmm"}, "reattention": {"mm"}}
"""Products that are computed in float32 on purpose: terms of a loss, and heads mixed by
re-attention."""
VIT_CALLS: dict[str, Callable[[int], int]] = {
    # A v and A A v
    "gfsa": lambda depth: 2 * depth,
    # ContraNorm attends in every norm: two a block, and the last
    "contranorm": lambda depth: 3 * depth + 1,
    "reattention": lambda depth: 0,
}
"""Calls of fused attention in a ViT of so many layers, where there is not one a layer."""

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="here is a real GPU")


def trained_rows() -> Iterator[Experiment]:
    """The rows of the tables that train, each model and recipe once."""
    request = spec.load([EXPERIMENTS / "tables" / f"{name}.yaml" for name in TABLES], [])
    seen = set()
    for run in request.plan([0], Path("results")):
        config = run.experiment
        key = repr((config.model, config.recipe))
        if config.recipe.epochs and key not in seen:
            seen.add(key)
            yield config


ROWS = {config.name: config for config in trained_rows()}


@pytest.mark.parametrize("name", ROWS)
def test_a_step_never_waits_multiplies_in_half_precision_and_exchanges_gradients_once(
    name: str,
) -> None:
    config = ROWS[name]
    # what reads a number of the device raises an error here
    found = trace(config)
    assert found.device_batch == config.recipe.global_batch // WORLD_SIZE
    assert (found.to_host, found.blocking) == ([], [])
    wide = {product for product, kind in found.products if kind is not torch.float16}
    assert wide == IN_FLOAT32.get(config.model.method, set())
    # re-attention's layers exchange their statistics too: a mean and a variance a head, and a count
    statistics = 4 * (2 * config.model.num_heads + 1) * config.model.depth
    beside = statistics if config.model.method == "reattention" else 0
    assert found.reduced_bytes == found.gradient_bytes + beside
    assert found.fused == found.fused_backward == fused_layers(config)
    assert len(found.softmaxes) == explicit_layers(config)
    predicted = memory.peak_bytes(config, found.device_batch, 1, WORLD_SIZE)
    assert predicted == pytest.approx(found.peak_bytes, rel=0.02)


def fused_layers(config: Experiment) -> int:
    """Calls of fused attention: timm's Swin takes none for its windows."""
    model = config.model
    if model.family is Family.vit:
        return VIT_CALLS.get(model.method, lambda depth: depth)(model.depth)
    return model.class_depth if model.family is Family.cait else 0


def explicit_layers(config: Experiment) -> int:
    """Layers that need the attention matrix: talking heads and re-attention mix its heads."""
    model = config.model
    if model.family is Family.swin:
        return sum(model.stage_depths)
    mixes = model.family is Family.cait or model.method == "reattention"
    return model.depth if mixes else 0


def small(*overrides: str, images: int = 16) -> Experiment:
    """Two blocks of DeiT-S.

    Args:
        images: Of a rank.
    """
    batch = f"recipe.global_batch={images * WORLD_SIZE}"
    given = ["model.depth=2", batch, "recipe.mix_group=16", *overrides]
    return spec.load_experiment(EXPERIMENTS / "deit_s12.yaml", given)


@pytest.fixture(scope="module")
def sound() -> Traced:
    return trace(small())


def behind_first_block(fault: Callable[[Tensor], object]) -> Callable[[Any], None]:
    """Adds something to compute behind the first block."""

    def add(model: Any) -> None:
        model.blocks[0].register_forward_hook(lambda block, inputs, x: fault(x))

    return add


def read_a_number(x: Tensor) -> None:
    x.sum().item()


def choose_by_value(x: Tensor) -> None:
    x[x > 0]


def copy_to_the_host(x: Tensor) -> None:
    x.detach().cpu()


def multiply_in_float32(x: Tensor) -> Tensor:
    with torch.autocast("cuda", enabled=False):
        return x.float() @ torch.ones(x.shape[-1], x.shape[-1], device=x.device)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (read_a_number, DataDependentOutputException),
        (choose_by_value, DynamicOutputShapeException),
    ],
)
def test_a_step_that_reads_a_number_is_found(
    fault: Callable[[Tensor], object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        trace(small(), change=behind_first_block(fault))


def test_a_copy_to_the_host_is_found(sound: Traced) -> None:
    assert sound.to_host == []
    assert trace(small(), change=behind_first_block(copy_to_the_host)).to_host == ["_to_copy"]


def test_a_product_in_float32_is_found(sound: Traced) -> None:
    assert {kind for _, kind in sound.products} == {torch.float16}
    found = trace(small(), change=behind_first_block(multiply_in_float32))
    # forward, and backward to its input
    assert sum(n for (_, kind), n in found.products.items() if kind is torch.float32) == 2


def test_explicit_attention_is_found_and_takes_more_memory(sound: Traced) -> None:
    def unfuse(model: Any) -> None:
        model.blocks[0].attn.fused_attn = False

    found = trace(small(), change=unfuse)
    assert (sound.fused, sound.softmaxes) == (2, [])
    assert (found.fused, found.softmaxes) == (1, [(16, 6, 197, 197)])
    # two matrices of half precision at least
    assert found.peak_bytes > sound.peak_bytes + 2 * 2 * 16 * 6 * 197**2


def test_a_second_exchange_of_a_gradient_is_found(sound: Traced) -> None:
    def exchange_again(model: nn.Module) -> None:
        weight: Any = model.get_parameter("head.weight")
        weight.register_post_accumulate_grad_hook(lambda parameter: dist.all_reduce(parameter.grad))

    assert sound.reduced_bytes == sound.gradient_bytes
    found = trace(small(), change=exchange_again)
    assert found.reduced_bytes == found.gradient_bytes + 4 * 1000 * 384


def test_gradients_are_exchanged_once_a_step_of_several_micro_batches() -> None:
    found = trace(small("runtime.device_batch=16", images=32))
    assert found.device_batch == 16
    assert found.reduced_bytes == found.gradient_bytes


def test_memory_grows_by_the_images_of_a_micro_batch(sound: Traced) -> None:
    double, accumulated = (
        trace(small(f"runtime.device_batch={size}", images=32)).peak_bytes for size in (0, 16)
    )
    # gradients of the first pass wait beside DDP's buckets for the second
    expected = sound.peak_bytes + sound.gradient_bytes
    assert accumulated == pytest.approx(expected, rel=0.01)
    assert double > 1.3 * sound.peak_bytes
