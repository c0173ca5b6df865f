"""Weights are loaded for a purpose: what a file may lack to be trained further, it may not lack to
be evaluated. Numbers that are not finite are refused for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones import BUILDERS, TINY, randomised
from timm.models.cait import Cait
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from antioversmooth.errors import CheckpointError
from antioversmooth.models import add_scaling
from antioversmooth.models.layouts import official_state
from antioversmooth.models.weights import Purpose, load_weights

UNTRAINED = pytest.mark.parametrize("purpose", [Purpose.evaluation, Purpose.conversion])
EVERY = pytest.mark.parametrize("purpose", list(Purpose))
CLASSIFIERS = {
    "vit": ("head.bias", "head.weight"),
    "deit_distilled": ("head.bias", "head.weight", "head_dist.bias", "head_dist.weight"),
    "cait": ("head.bias", "head.weight"),
    "swin": ("head.fc.bias", "head.fc.weight"),
}


def saved(state: dict[str, Any], folder: Path) -> Path:
    torch.save({"model": state}, folder / "weights.pth")
    return folder / "weights.pth"


def unchanged(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.fixture
def large(request: pytest.FixtureRequest) -> nn.Module:
    """A model of a kind with nine classes; the files have five."""
    kinds: dict[str, Any] = {
        "vit": VisionTransformer,
        "deit_distilled": VisionTransformerDistilled,
        "cait": Cait,
        "swin": SwinTransformer,
    }
    options = TINY if request.param != "swin" else {
        "img_size": 32, "patch_size": 2, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4),
        "window_size": 4,
    }  # fmt: skip
    return kinds[request.param](**{**options, "num_classes": 9})


@UNTRAINED
@pytest.mark.parametrize(
    ("large", "kind"), [(kind, kind) for kind in CLASSIFIERS], indirect=["large"]
)
def test_a_classifier_of_other_classes_is_refused_unless_it_is_trained(
    large: nn.Module, kind: str, purpose: Purpose, tmp_path: Path
):
    path = saved(official_state(BUILDERS[kind]()), tmp_path)
    before = {key: value.clone() for key, value in large.state_dict().items()}
    message = r"weights\.pth has a classifier of 5 classes, and this model one of 9\. .* 5 classes"
    with pytest.raises(CheckpointError, match=message):
        load_weights(large, path, purpose=purpose)
    assert unchanged(large, before)
    report = load_weights(large, path, purpose=Purpose.training)
    assert report.reset == CLASSIFIERS[kind]


def test_only_the_classifier_of_the_distillation_token_differing_is_refused(tmp_path: Path):
    state = BUILDERS["deit_distilled"]().state_dict()
    state |= {
        "head_dist.weight": torch.zeros(7, TINY["embed_dim"]),
        "head_dist.bias": torch.ones(7),
    }
    with pytest.raises(CheckpointError, match="a classifier of 7 classes, and this model one of 5"):
        load_weights(BUILDERS["deit_distilled"](), saved(state, tmp_path))


@UNTRAINED
def test_what_may_be_missing_to_train_may_not_be_missing_to_evaluate(
    purpose: Purpose, tmp_path: Path
):
    state = BUILDERS["vit"]().state_dict()
    del state["head.weight"], state["blocks.1.mlp.fc1.bias"]
    path = saved(state, tmp_path)
    with pytest.raises(CheckpointError, match=r"lacks blocks\.1\.mlp\.fc1\.bias, head\.weight"):
        load_weights(BUILDERS["vit"](), path, purpose=purpose, allow_missing=["*"])
    report = load_weights(
        BUILDERS["vit"](), path, purpose=Purpose.training, allow_missing=["head.*", "blocks.1.*"]
    )
    assert report.missing == ("blocks.1.mlp.fc1.bias", "head.weight")


def test_a_baseline_is_not_evaluated_as_a_scaled_model(tmp_path: Path):
    """Scales of zero change nothing: the accuracy would be the baseline's, under another name."""
    path = saved(BUILDERS["vit"]().state_dict(), tmp_path)
    model = add_scaling(BUILDERS["vit"](), attnscale=True)
    with pytest.raises(CheckpointError, match=r"lacks blocks\.0\.attn\.lamb.*model\.method=none"):
        load_weights(model, path)
    for purpose in (Purpose.training, Purpose.conversion):
        report = load_weights(model, path, purpose=purpose)
        assert report.missing == ("blocks.0.attn.lamb", "blocks.1.attn.lamb")


@UNTRAINED
@pytest.mark.parametrize("kind", [VisionTransformer, Cait])
def test_patches_of_another_size_are_another_model(
    kind: type[nn.Module], purpose: Purpose, tmp_path: Path
):
    """Images of another size are not: position embeddings are resampled, and it is reported."""
    path = saved(kind(**TINY).state_dict(), tmp_path)
    message = r"other shapes of patch_embed\.proj\.weight \[24, 3, 8, 8\] for \[24, 3, 4, 4\]"
    with pytest.raises(CheckpointError, match=message):
        load_weights(kind(**{**TINY, "patch_size": 4}), path, purpose=purpose)
    report = load_weights(kind(**{**TINY, "img_size": 48}), path, purpose=purpose)
    assert report.resampled == ("pos_embed",)


@EVERY
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("kind", "key", "named"),
    [
        ("vit", "norm.weight", "norm.weight"),
        ("cait", "blocks.1.gamma_1", "blocks.1.gamma_1"),
        ("swin", "head.bias", "head.fc.bias"),
        ("vit", "pos_embed", "pos_embed"),
    ],
)
def test_values_that_are_not_finite_are_refused_with_their_tensor(
    purpose: Purpose, value: float, kind: str, key: str, named: str, tmp_path: Path
):
    state = official_state(randomised(BUILDERS[kind]()))
    state[key] = state[key].clone()
    state[key].view(-1)[:2] = value
    model = BUILDERS[kind]()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    message = rf"not finite numbers in {named} \(2 of {state[key].numel()}\): .* another checkpoint"
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, saved(state, tmp_path), purpose=purpose)
    assert unchanged(model, before)


def test_numbers_that_only_the_file_can_hold_are_not_finite_in_the_model(tmp_path: Path):
    state = BUILDERS["vit"]().state_dict()
    state["norm.bias"] = torch.full_like(state["norm.bias"], 1e300, dtype=torch.float64)
    with pytest.raises(CheckpointError, match=r"norm\.bias \(24 of 24\)"):
        load_weights(BUILDERS["vit"](), saved(state, tmp_path))


@EVERY
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.mul(100).to(torch.int8), "int8"),
        (lambda t: t > 0, "bool"),
        (lambda t: t.to(torch.complex64), "complex64"),
        (lambda t: t.to("meta"), "meta"),
        (lambda t: t.to_sparse(), "sparse_coo"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "qint8"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantiz.*")
def test_numbers_of_another_kind_are_refused(
    purpose: Purpose, change: Callable[[Tensor], Tensor], named: str, tmp_path: Path
):
    state = BUILDERS["vit"]().state_dict()
    state["norm.weight"] = change(state["norm.weight"])
    with pytest.raises(CheckpointError, match=rf"other numbers in norm\.weight .*{named}.*32"):
        load_weights(BUILDERS["vit"](), saved(state, tmp_path), purpose=purpose)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_loaded(dtype: torch.dtype, tmp_path: Path):
    trained = randomised(BUILDERS["vit"]())
    path = saved({key: t.to(dtype) for key, t in trained.state_dict().items()}, tmp_path)
    model = BUILDERS["vit"]()
    load_weights(model, path)
    expected = {key: t.to(dtype).to(torch.float32) for key, t in trained.state_dict().items()}
    assert unchanged(model, expected)
