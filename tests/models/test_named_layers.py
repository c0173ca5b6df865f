"""Methods on layers that a call names: in every layout, as in known places, and what is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import timm
import torch
from backbones import BUILDERS, randomised
from comparison import assert_equal_numbers, gradients
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.featscale import FeatScale
from antioversmooth.models import add_method, remove_method
from antioversmooth.models.placement import scales

CHANNELS_LAST = {
    "NCHW": (0, 2, 3, 1),
    "NHWC": (0, 1, 2, 3),
    "NLC": (0, 1, 2),
    "NCL": (0, 2, 1),
}
"""The axes of [B, ..., C] in each layout."""


class Mixer(nn.Module):
    """A convolution whose output has one of the layouts."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout, self.conv = layout, nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return {
            "NCHW": x,
            "NHWC": x.permute(0, 2, 3, 1),
            "NLC": x.flatten(2).transpose(1, 2),
            "NCL": x.flatten(2),
        }[self.layout]


class Network(nn.Module):
    """A network of no kind that is known here, with what cannot be named beside it."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
        self.mixer, self.head = Mixer(layout), nn.Linear(6, 5)
        self.pair, self.unused, self.windows = Pair(), nn.Identity(), nn.Flatten(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.stem(images))
        self.pair(x)
        self.windows(x)
        x = self.mixer(x).permute(CHANNELS_LAST[self.mixer.layout])
        return self.head(x.flatten(1, -2).square().mean(1))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Written(nn.Module):
    """FeatScale as its paper writes it, of the tokens behind a layer."""

    def __init__(self, layer: Mixer, times: int) -> None:
        super().__init__()
        self.layer, self.times, self.layout = layer, times, layer.layout
        self.lamb1, self.lamb2 = (nn.Parameter(torch.zeros(6)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        axes = CHANNELS_LAST[self.layout]
        last = self.layer(x).permute(axes)
        tokens = last.flatten(1, -2)
        mean = tokens.mean(1, keepdim=True)
        method = FeatScale()
        scaled = method.textbook(tokens, mean, self.lamb1, self.lamb2, times=self.times)
        return scaled.view(last.shape).permute([axes.index(dim) for dim in range(len(axes))])


@pytest.fixture
def network() -> Callable[[str], nn.Module]:
    def build_one(layout: str) -> nn.Module:
        torch.manual_seed(0)
        return randomised(Network(layout)).eval()

    return build_one


@pytest.mark.parametrize("layout", CHANNELS_LAST)
@pytest.mark.parametrize(("variant", "times"), [("released", 2), ("paper", 1)])
def test_outputs_and_gradients_equal_the_equation_in_every_layout(
    network: Callable[[str], nn.Module], images: Tensor, layout: str, variant: str, times: int
) -> None:
    stock, explicit = network(layout).double(), network(layout).double()
    ours = copy.deepcopy(stock)
    add_method(ours, "featscale", layers=["mixer"], images=images.double(), variant=variant)
    assert torch.equal(ours(images.double()), stock(images.double()))
    explicit.mixer = Written(explicit.mixer, times).double()
    for name in ("lamb1", "lamb2"):
        values = torch.linspace(-0.5, 0.7, 6).double()
        for model in (ours, explicit):
            getattr(model.mixer, name).data.copy_(values)
    expected = gradients(explicit, images.double())
    found = gradients(ours, images.double())
    expected = {name.replace("mixer.layer", "mixer"): value for name, value in expected.items()}
    assert_equal_numbers(found, expected, 1e-12)


@pytest.mark.parametrize(
    ("method", "layers", "options"),
    [
        ("featscale", "blocks.*.attn", {}),
        ("layerscale", ["blocks.*.attn", "blocks.*.mlp"], {"init": 0.3}),
        ("rezero", ["blocks.*.attn", "blocks.*.mlp"], {}),
        ("contranorm", ["blocks.*.norm?", "norm"], {"scale": 0.4}),
    ],
)
def test_the_known_places_of_a_method_may_be_named(
    build: Callable[..., nn.Module],
    images: Tensor,
    method: str,
    layers: str | list[str],
    options: dict[str, float],
) -> None:
    known = add_method(build("vit").double(), method, **options)
    named = add_method(build("vit").double(), method, layers=layers, **options)
    generator = torch.Generator().manual_seed(2)
    renamed = dict(zip(_in_order(named), _in_order(known), strict=True))
    for ours, theirs in zip(_in_order(named), _in_order(known), strict=True):
        values = torch.randn(scales(named)[ours].shape, generator=generator).double()
        for model, name in ((named, ours), (known, theirs)):
            scales(model)[name].data.copy_(values)
    found = gradients(named, images.double())
    found = {renamed.get(name, name): value for name, value in found.items()}
    assert_equal_numbers(found, gradients(known, images.double()), 1e-11)
    assert scales(named).keys() <= named.no_weight_decay()


def _in_order(model: nn.Module) -> list[str]:
    """Names of a method's parameters: block by block, attention first."""
    order = {"attn": 0, "ls1": 0, "mlp": 1, "ls2": 1}
    parts = {name: name.split(".") for name in scales(model)}
    return sorted(parts, key=lambda n: (parts[n][1], order.get(parts[n][2], 0), parts[n][-1]))


def test_the_size_of_images_and_the_layout_are_found_for_a_model_of_timm() -> None:
    model = timm.create_model("convnext_atto", num_classes=5).train()
    add_method(model, "featscale", layers="stages.*.blocks.*.conv_dw")
    assert scales(model)["stages.3.blocks.1.conv_dw.lamb1"].shape == (320,)
    assert len(scales(model)) == 2 * 12
    assert all(module.training for module in model.modules())


def test_a_named_layer_is_copied_and_pickled_with_its_method(
    network: Callable[[str], nn.Module], images: Tensor
) -> None:
    model = add_method(network("NHWC"), "featscale", layers="mixer", images=images)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    before = model(images)
    copied.mixer.lamb2.data.fill_(0.5)
    assert torch.equal(model(images), before)
    assert not torch.allclose(copied(images), before)
    assert copied.state_dict().keys() == model.state_dict().keys()


def test_a_method_that_is_off_is_removed_and_another_is_named(
    network: Callable[[str], nn.Module], images: Tensor
) -> None:
    stock = network("NCHW")
    model = add_method(copy.deepcopy(stock), "featscale", layers="mixer", images=images)
    model.mixer.lamb1.data.fill_(0.5)
    with pytest.raises(ModelError, match="FeatScale of mixer cannot be folded"):
        remove_method(model)
    model.mixer.lamb1.data.zero_()
    remove_method(model)
    assert model.state_dict().keys() == stock.state_dict().keys()
    assert not model.mixer._forward_hooks


REFUSED = {
    "mixxer": "this Network has no layer mixxer; did you mean `mixer`",
    "*.token_mixer": r"has no layer \*\.token_mixer",
    "unused": "unused is not called in a forward pass",
    "pair": "pair gives a tuple, not one tensor",
    "windows": r"windows gives \[18, 32, 32\] for 3 images",
    "head": r"head gives \[3, 5\], and its channels are not clear",
}


@pytest.mark.parametrize("layer", REFUSED)
def test_a_layer_that_does_not_fit_is_refused_and_the_model_stays(
    network: Callable[[str], nn.Module], images: Tensor, layer: str
) -> None:
    model = network("NCHW").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ModelError, match=REFUSED[layer]):
        add_method(model, "featscale", layers=["mixer", layer], images=images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("attnscale", {}, "AttnScale needs more of a model .* contranorm, featscale, layerscale"),
        ("patchdiversity", {}, "Patch diversity needs more"),
        ("featscale", {"layout": "NLC"}, r"mixer gives \[3, 6, 32, 32\], which is not NLC"),
        ("featscale", {"class_token_in_mean": False}, "has no effect on named layers"),
        ("featscale", {"layers": []}, "layers is empty"),
        ("featscale", {"images": torch.zeros(2, 4, 8, 8)}, r"a trial .* \[2, 4, 8, 8\] failed"),
        ("featscale", {"images": None}, "does not say what images it takes"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(
    network: Callable[[str], nn.Module],
    images: Tensor,
    method: str,
    options: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(ModelError, match=message):
        add_method(network("NCHW"), method, **{"layers": ["mixer"], "images": images, **options})


def test_a_layout_that_is_not_clear_is_declared(images: Tensor) -> None:
    model = Network("NCHW")
    model.norm = nn.Identity()
    with pytest.raises(ModelError, match=r"its channels are not clear; .* one of NHWC, NCHW"):
        add_method(model, "featscale", layers="mixer", images=images)
    add_method(model, "featscale", layers="mixer", images=images, layout="NCHW")
    assert model.mixer.lamb1.shape == (6,)
    with pytest.raises(ModelError, match="mixer has FeatScale already"):
        add_method(model, "featscale", layers="mixer", images=images, layout="NCHW")
    with pytest.raises(ValueError, match="layout='NWHC' is not possible"):
        add_method(model, "featscale", layers="mixer", images=images, layout="NWHC")


def test_windows_of_swin_are_no_layer_to_name() -> None:
    with pytest.raises(ModelError, match="parts of images, such as windows"):
        add_method(BUILDERS["swin"](), "featscale", layers="layers.*.attn")
