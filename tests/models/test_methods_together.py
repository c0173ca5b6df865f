"""Methods that are added one after the other: what goes together, and what is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from itertools import permutations
from typing import Any

import pytest
import torch
from backbones import randomised
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.methods import METHODS
from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.methods.featscale import FeatScale
from antioversmooth.methods.gfsa import GFSA
from antioversmooth.methods.layerscale import LayerScale
from antioversmooth.methods.reattention import ReAttention
from antioversmooth.models import add_method
from antioversmooth.models.placement import add_methods, methods_in, remove_method, scales

Build = Callable[..., nn.Module]
MAPS = ["attnscale", "centred", "gfsa", "neutreno"]
OPTIONS: dict[str, dict[str, Any]] = {"reattention": {"group": 2}, "lateinsertion": {"at": 1}}


def added(model: nn.Module, method: str) -> nn.Module:
    return add_method(model, method, **OPTIONS.get(method, {}))


def classes(model: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in model.modules()]


@pytest.mark.parametrize("form", [{}, {"attn_drop_rate": 0.1}, {"scale_attn_norm": True}])
@pytest.mark.parametrize("method", MAPS)
def test_re_attention_and_a_method_on_the_map_exclude_each_other(
    build: Build, method: str, form: dict[str, Any]
) -> None:
    """The second one would take the place of the first, or move its statistics twice a pass."""
    for first, second in (("reattention", method), (method, "reattention")):
        if "neutreno" in (first, second) and form:
            continue
        model = added(build("vit", **form), first)
        before = classes(model)
        titles = METHODS[first].title, METHODS[second].title
        message = f"the model has {titles[0]} already, and {titles[1]} goes into the same place"
        with pytest.raises(ModelError, match=message):
            added(model, second)
        assert classes(model) == before
    for other in (AttnScale(), GFSA()):
        with pytest.raises(ModelError, match="go into the same place"):
            add_methods(build("vit"), [ReAttention(group=2), other])


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_refused_a_second_time_by_its_name(build: Build, method: str) -> None:
    model = added(build("vit"), method)
    before = classes(model)
    with pytest.raises(ModelError, match=f"the model has {METHODS[method].title} already: begin"):
        added(model, method)
    assert classes(model) == before


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("vit", "layerscale", "rezero"),
        ("vit", "classattention", "registers"),
        ("vit", "registers", "lateinsertion"),
        ("vit", "lateinsertion", "patchdiversity"),
        ("vit", "neutreno", "lateinsertion"),
        ("swin", "featscale", "layerscale"),
        ("swin", "rezero", "featscale"),
    ],
)
def test_the_method_that_has_the_place_is_named(
    build: Build, kind: str, first: str, second: str
) -> None:
    model = added(build(kind), first)
    with pytest.raises(ModelError, match=f"the model has {METHODS[first].title} already, and"):
        added(model, second)


@pytest.mark.parametrize(
    ("kind", "methods"),
    [("vit", METHODS), ("swin", ["attnscale", "featscale", "rezero"])],
)
def test_every_pair_either_acts_or_is_refused(
    build: Build, images: Tensor, kind: str, methods: Iterable[str]
) -> None:
    """An accepted second method leaves the first one's parameters, and all have a part in the
    outputs."""
    for first, second in permutations(methods, 2):
        model = randomised(added(build(kind), first))
        # class attention replaces the last block
        first_block = {name: p for name, p in scales(model).items() if "blocks.0" in name}
        try:
            added(model, second)
        except ModelError:
            continue
        assert {m.name for m in methods_in(model)} == {first, second}
        assert all(scales(model)[name] is parameter for name, parameter in first_block.items())
        if "patchdiversity" not in (first, second):
            model(images).square().sum().backward()
            unused = [name for name, p in model.named_parameters() if p.grad is None]
            assert not unused, (first, second, unused)


def test_features_and_branches_share_no_block_with_windows(build: Build) -> None:
    with pytest.raises(ModelError, match="FeatScale and LayerScale go into the same place"):
        add_methods(build("swin"), [FeatScale(), LayerScale()])
    assert add_methods(build("vit"), [FeatScale(), LayerScale()])


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [("vit", "featscale", "reattention"), ("swin", "layerscale", "attnscale")],
)
def test_the_order_of_calls_does_not_matter(
    build: Build, images: Tensor, kind: str, first: str, second: str
) -> None:
    outputs = []
    for names in ((first, second), (second, first)):
        model = build(kind)
        for name in names:
            torch.manual_seed(0)
            added(model, name)
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                torch.manual_seed(len(name))
                parameter.add_(torch.randn_like(parameter) * 0.1)
        outputs.append(model(images))
    torch.testing.assert_close(*outputs)


def test_a_branch_factor_and_a_zero_scale_come_out_of_swin_together(
    build: Build, images: Tensor
) -> None:
    stock = build("swin")
    model = added(added(copy.deepcopy(stock), "layerscale"), "attnscale")
    expected = model(images)
    remove_method(model)
    torch.testing.assert_close(model(images), expected)
    assert classes(model) == classes(stock)
    assert any(isinstance(module, SwinTransformerBlock) for module in model.modules())


def test_layers_that_are_named_leave_the_places_free(build: Build) -> None:
    model = add_method(build("vit"), "featscale", layers=["patch_embed"])
    assert added(model, "featscale")
