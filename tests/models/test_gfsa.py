"""GFSA against its equation with the product of the matrix built."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from backbones import BUILDERS
from comparison import assert_equal_numbers, gradients
from torch import Tensor, nn

from antioversmooth.errors import CheckpointError, ModelError
from antioversmooth.models import add_method, add_scaling, remove_method
from antioversmooth.models.attention import DeferredLinear
from antioversmooth.models.placement import scales
from antioversmooth.models.state_files import save_weights
from antioversmooth.models.weights import load_weights
from benchmarks.textbook import share_random_scales, textbook


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize(("order", "attention_dropout"), [(3, 0.0), (4, 0.2)])
def test_outputs_and_gradients_equal_the_equation(
    build: Callable[..., nn.Module],
    images: Tensor,
    kind: str,
    order: int,
    attention_dropout: float,
) -> None:
    stock = build(kind, attn_drop_rate=attention_dropout).double()
    explicit = textbook(stock, gfsa={"order": order}).double()
    ours = add_method(copy.deepcopy(stock), "gfsa", order=order)
    torch.testing.assert_close(ours(images.double()), stock(images.double()))
    share_random_scales(ours, explicit)
    for training in (False, True):
        found = [gradients(m.train(training), images.double()) for m in (ours, explicit)]
        assert_equal_numbers(*found, 1e-11)


class Counting(torch.overrides.TorchFunctionMode):
    """Counts calls of fused attention, and products of two square matrices."""

    fused = squares = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.nn.functional.scaled_dot_product_attention:
            self.fused += 1
        if function in (torch.matmul, Tensor.matmul, Tensor.__matmul__):
            self.squares += args[0].shape == args[1].shape and args[0].shape[-2:] == (17, 17)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("kind", "fused"), [("vit", 4), ("eva_rope", 4), ("cait", 2)])
def test_attention_runs_twice_in_each_layer_and_its_matrix_is_not_squared(
    build: Callable[..., nn.Module], images: Tensor, kind: str, fused: int
) -> None:
    model = add_method(build(kind), "gfsa")
    with Counting() as counted:
        model(images)
    # CaiT's are its class attention: talking heads have no fused form
    assert counted.fused == fused
    assert counted.squares == 0


def test_checkpointing_and_compilation_change_nothing(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    model = add_method(build("vit"), "gfsa").train()
    share_random_scales(model)
    expected = gradients(model, images)
    model.set_grad_checkpointing()
    assert_equal_numbers(gradients(model, images), expected, 1e-6)
    model.set_grad_checkpointing(False)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), expected["logits"])


def test_it_is_removed_at_zero_and_refused_elsewhere(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    for kind in ("vit", "cait", "swin"):
        stock = build(kind)
        model = add_method(copy.deepcopy(stock), "gfsa")
        assert len(scales(model)) == (4 if kind == "swin" else 2)
        plain = remove_method(model)
        assert [type(m) for m in plain.modules()] == [type(m) for m in stock.modules()]
        assert not any(isinstance(m, DeferredLinear) for m in plain.modules())
        assert torch.equal(plain(images), stock(images))
        model = add_method(copy.deepcopy(stock), "gfsa")
        share_random_scales(model)
        with pytest.raises(ModelError, match=r"attn\.high_order is not zero"):
            remove_method(model)


def test_weights_with_attnscales_name_are_not_loaded_as_its_own(
    build: Callable[..., nn.Module], tmp_path: Path
) -> None:
    """Released weights of GFSA have that name."""
    trained = add_scaling(build("vit"), attnscale=True)
    share_random_scales(trained)
    save_weights(trained, tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match=r"model\.method .*to attn\.high_order"):
        load_weights(add_method(build("vit"), "gfsa"), tmp_path / "released.pth")
    state = trained.state_dict()
    renamed = {key.replace("attn.lamb", "attn.high_order"): value for key, value in state.items()}
    torch.save(renamed, tmp_path / "renamed.pth")
    model = add_method(build("vit"), "gfsa")
    load_weights(model, tmp_path / "renamed.pth")
    assert torch.equal(model.blocks[1].attn.high_order, trained.blocks[1].attn.lamb)
