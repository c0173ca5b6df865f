"""The entry point of the plug-in: names, options and values that it refuses, each by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from antioversmooth.errors import ModelError
from antioversmooth.methods import METHODS, FeatureMethod
from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.methods.branches import BranchMethod
from antioversmooth.methods.norms import NormMethod
from antioversmooth.models import add_method, add_scaling, remove_method

Build = Callable[..., nn.Module]


def test_an_unknown_method_is_refused_with_the_list_and_the_nearest(build: Build) -> None:
    with pytest.raises(ValueError, match="did you mean `featscale`") as caught:
        add_method(build("vit"), "featscal")
    assert all(name in str(caught.value) for name in METHODS)
    with pytest.raises(ValueError, match="'none' is no method; the methods are attnscale"):
        add_method(build("vit"), "none")


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        (None, "None"),
        (3, "a int"),
        (AttnScale(), "a AttnScale"),
        (AttnScale, "the class AttnScale"),
        (["attnscale"], "a list"),
    ],
)
def test_a_method_that_is_no_name_is_refused(build: Build, method: Any, shown: str) -> None:
    with pytest.raises(TypeError, match=f"method is {shown}, not a name: one of attnscale, "):
        add_method(build("vit"), method)


@pytest.mark.parametrize("model", ["deit_small_patch16_224", None, nn.Linear])
def test_a_model_that_is_none_is_refused(model: Any) -> None:
    for call in (
        lambda: add_method(model, "attnscale"),
        lambda: add_method(model, "featscale", layers=["blocks.0"]),
        lambda: add_scaling(model, attnscale=True),
        lambda: remove_method(model),
    ):
        with pytest.raises(TypeError, match="not a model: build one first"):
            call()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("contranorm", {"scale": "x"}, "contranorm: scale='x' is not possible: a finite number"),
        ("contranorm", {"scale": float("inf")}, "scale=inf is not possible: a finite number"),
        ("contranorm", {"scale": float("nan")}, "scale=nan is not possible: a finite number"),
        ("layerscale", {"init": float("inf")}, "init=inf is not possible: a finite number"),
        ("layerscale", {"init": 10**400}, "is not possible: a finite number"),
        ("contranorm", {"scale": -1.0}, "scale=-1.0 is not possible: at least 0"),
        ("attnscale", {"mask_aware": 0.3}, "mask_aware=0.3 is not possible: true or false"),
    ],
)
def test_a_wrong_value_is_named(
    build: Build, method: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        add_method(build("vit"), method, **options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("centred", {"strength": 0.0}),
        ("contranorm", {"scale": 0.0}),
        ("registers", {"count": 0}),
        ("lateinsertion", {"at": 0}),
        ("patchdiversity", {"cosine": 0.0, "contrastive": 0.0, "mixing": 0.0}),
    ],
)
def test_a_call_that_adds_nothing_is_refused(
    build: Build, method: str, options: dict[str, object]
) -> None:
    with pytest.raises(ModelError, match="adds nothing"):
        add_method(build("vit"), method, **options)


def test_a_setting_without_an_effect_is_refused(build: Build) -> None:
    with pytest.raises(ModelError, match="class_token_in_mean has no effect on ContraNorm"):
        add_method(build("vit"), "contranorm", class_token_in_mean=False)
    for method in ("attnscale", "centred"):
        with pytest.raises(ModelError, match="mask_aware has no effect on VisionTransformer"):
            add_method(build("vit"), method, mask_aware=True)
        for backbone in ("swin", "cait"):
            with pytest.raises(ModelError, match="class_token_in_mean has no effect on"):
                add_method(build(backbone), method, class_token_in_mean=False)
    with pytest.raises(ModelError, match="mask_aware has no effect on VisionTransformer"):
        add_scaling(build("vit"), attnscale=True, mask_aware=True)
    with pytest.raises(ModelError, match="mask_aware has no effect without attnscale=True"):
        add_scaling(build("swin"), featscale=True, mask_aware=True)
    with pytest.raises(ModelError, match="variant has no effect without featscale=True"):
        add_scaling(build("vit"), attnscale=True, variant="paper")
    with pytest.raises(ModelError, match="layout and images describe named layers"):
        add_method(build("vit"), "featscale", layout="NLC")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "backbone", ["botnet26t_256", "davit_tiny", "levit_128s", "gcvit_xxtiny", "nest_tiny"]
)
def test_a_backbone_that_is_not_known_is_refused_by_every_method(
    backbone: str, method: str
) -> None:
    """Attention that is none of the known families has no layers of their names, or other maps."""
    with torch.device("meta"):
        model = timm.create_model(backbone)
    before = [type(module) for module in model.modules()]
    with pytest.raises(ModelError) as caught:
        add_method(model, method)
    by_name = issubclass(METHODS[method], (FeatureMethod, NormMethod, BranchMethod))
    assert str(caught.value).endswith("name the layers yourself: layers=[...]") is by_name
    assert [type(module) for module in model.modules()] == before
