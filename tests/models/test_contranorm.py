"""ContraNorm against its equation, and its relation to FeatScale."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from comparison import assert_equal_numbers, gradients
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.contranorm import ContraNorm
from antioversmooth.models import add_method, remove_method
from antioversmooth.models.contrast import spread
from antioversmooth.models.placement import add_methods

VIT = ["vit", "deit_distilled", "vit_registers", "deit3", "beit", "eva"]


class Written(nn.LayerNorm):
    """A layer norm of z, with the matrix built."""

    def forward(self, x: Tensor) -> Tensor:
        unit = x / x.square().sum(-1, keepdim=True).sqrt()
        matrix = torch.einsum("bnc,bmc->bnm", unit, unit).div(self.temperature).exp()
        matrix = matrix / matrix.sum(-1, keepdim=True)
        return super().forward(x - self.scale * torch.einsum("bnm,bmc->bnc", matrix, x))


def written_out(model: nn.Module, scale: float, temperature: float) -> nn.Module:
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in ("norm", "norm1", "norm2") and isinstance(
            module, nn.LayerNorm
        ):
            module.__class__ = Written
            module.scale, module.temperature = scale, temperature
    return model


@pytest.mark.parametrize("kind", VIT)
@pytest.mark.parametrize(("scale", "temperature"), [(0.3, 1.0), (1.5, 0.2)])
def test_outputs_and_gradients_equal_the_equation(
    build: Callable[..., nn.Module], images: Tensor, kind: str, scale: float, temperature: float
) -> None:
    stock = build(kind, drop_path_rate=0.2).double()
    explicit = written_out(stock, scale, temperature)
    ours = add_method(copy.deepcopy(stock), "contranorm", scale=scale, temperature=temperature)
    assert ours.state_dict().keys() == stock.state_dict().keys()
    for training in (False, True):
        found = [gradients(m.train(training), images.double()) for m in (ours, explicit)]
        assert_equal_numbers(*found, 1e-11)


def test_every_layer_norm_over_tokens_is_replaced_and_no_other(
    build: Callable[..., nn.Module],
) -> None:
    model = add_method(build("vit"), "contranorm")
    replaced = [n for n, m in model.named_modules() if type(m).__name__ == "SpreadingNorm"]
    assert replaced == [
        "blocks.0.norm1",
        "blocks.0.norm2",
        "blocks.1.norm1",
        "blocks.1.norm2",
        "norm",
    ]
    pooled = add_method(build("vit_no_class_token"), "contranorm")
    assert not isinstance(pooled.fc_norm, type(model.norm)), "it comes behind the mean over tokens"


def test_a_strength_of_zero_is_the_stock_model_to_the_bit(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    stock = build("vit")
    model = add_methods(copy.deepcopy(stock), [ContraNorm(scale=0.0)])
    assert torch.equal(model(images), stock(images))
    plain = remove_method(model)
    assert [type(m) for m in plain.modules()] == [type(m) for m in stock.modules()]
    with pytest.raises(ModelError, match="ContraNorm"):
        remove_method(add_method(copy.deepcopy(stock), "contranorm"))


def ratio(x: Tensor) -> Tensor:
    """|HC[x]| / |DC[x]|."""
    mean = x.mean(1, keepdim=True)
    return (x - mean).norm() / mean.expand_as(x).norm()


@pytest.mark.parametrize("scale", [0.1, 0.5])
def test_it_is_a_fixed_featscale_in_front_of_the_norm(scale: float) -> None:
    """z = HC[x] + (1 - s) DC[x] where cosines are small: HC gains 1 / (1 - s) over DC."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(384, generator=generator)
    x = (torch.randn(2, 197, 384, generator=generator) + common).double()
    z = spread(x, ContraNorm(scale=scale))
    gain = ratio(z) / ratio(x)
    assert gain.item() == pytest.approx(1 / (1 - scale), rel=2e-3)
    # a FeatScale of s = -scale and t = 0 gives the same tokens
    expected = x - scale * x.mean(1, keepdim=True)
    assert ((z - expected).norm() / expected.norm()).item() < 0.01


@pytest.mark.parametrize(("kind", "family"), [("cait", "cait"), ("swin", "swin")])
def test_other_families_are_refused_by_name(
    build: Callable[..., nn.Module], kind: str, family: str
) -> None:
    with pytest.raises(ModelError, match=family):
        add_method(build(kind), "contranorm")
