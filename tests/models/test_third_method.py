"""A method that only its own module knows is found by all that handles methods."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from backbones import BUILDERS
from comparison import assert_equal_numbers, gradients
from third_methods import Differences, LearnedCentring
from torch import Tensor, nn

from antioversmooth.analysis.measures import measure
from antioversmooth.config import Family, ModelConfig
from antioversmooth.errors import CheckpointError, ModelError
from antioversmooth.methods import METHODS
from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.methods.featscale import FeatScale
from antioversmooth.models import add_method, add_scaling, build_model, remove_scaling
from antioversmooth.models.placement import add_methods, scales
from antioversmooth.models.state_files import save_weights
from antioversmooth.models.weights import Purpose, load_weights
from antioversmooth.reporting.table import deviations
from benchmarks.textbook import share_random_scales, textbook


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enters the two methods as `methods/registry.py` would."""
    for method in (LearnedCentring, Differences):
        monkeypatch.setitem(METHODS, method.name, method)


def third_spec(**options: object) -> ModelConfig:
    spec = ModelConfig(
        family=Family.vit, depth=2, embed_dim=24, num_heads=3, image_size=32, patch_size=8
    )
    vars(spec).update(options, method="learned_centring", method_options={})
    return spec


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("attention_dropout", [0.0, 0.2])
def test_it_equals_its_textbook_form_in_every_family(
    build: Callable[..., nn.Module], images: Tensor, kind: str, attention_dropout: float
):
    stock = build(kind, attn_drop_rate=attention_dropout).double()
    explicit = textbook(stock, learned_centring=True).double()
    ours = add_method(copy.deepcopy(stock), "learned_centring")
    torch.testing.assert_close(ours(images.double()), stock(images.double()))
    share_random_scales(ours, explicit)
    for training in (False, True):
        found = [gradients(m.train(training), images.double()) for m in (ours, explicit)]
        assert_equal_numbers(*found, 1e-12)


def test_it_goes_with_featscale_and_not_with_attnscale(
    build: Callable[..., nn.Module], images: Tensor
):
    explicit = textbook(build("vit"), learned_centring=True, featscale=True, doubled=True)
    ours = add_methods(build("vit"), [LearnedCentring(), FeatScale()])
    share_random_scales(ours, explicit)
    assert_equal_numbers(gradients(ours, images), gradients(explicit, images), 1e-5)
    with pytest.raises(ModelError, match="AttnScale and Learned centring go into the same place"):
        add_methods(build("vit"), [AttnScale(), LearnedCentring()])


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("attention_dropout", [0.0, 0.2])
def test_a_method_with_the_values_themselves_equals_its_textbook_form(
    build: Callable[..., nn.Module], images: Tensor, kind: str, attention_dropout: float
):
    stock = build(kind, attn_drop_rate=attention_dropout).double()
    ours, explicit = (
        add_method(copy.deepcopy(stock), "differences"),
        textbook(stock, differences=True),
    )
    for training in (False, True):
        found = [gradients(m.train(training), images.double()) for m in (ours, explicit)]
        assert_equal_numbers(*found, 1e-12)
    with pytest.raises(ModelError, match=r"Differences of \S+\.attn .*cannot be folded"):
        remove_scaling(ours)


def test_it_is_removed_at_zero_folded_into_cait_and_refused_elsewhere(
    build: Callable[..., nn.Module], images: Tensor
):
    stock = build("vit")
    restored = remove_scaling(add_method(copy.deepcopy(stock), "learned_centring"))
    assert torch.equal(restored(images), stock(images))
    assert [type(m) for m in restored.modules()] == [type(m) for m in stock.modules()]
    model = add_method(build("vit"), "learned_centring")
    share_random_scales(model)
    with pytest.raises(ModelError, match=r"blocks\.0\.attn\.centring is not zero"):
        remove_scaling(model)
    talking = add_method(build("cait"), "learned_centring")
    share_random_scales(talking)
    expected = talking(images)
    torch.testing.assert_close(remove_scaling(talking)(images), expected, atol=1e-5, rtol=1e-5)
    assert not scales(talking)


def test_its_parameters_have_no_weight_decay(build: Callable[..., nn.Module]):
    model = add_method(build("vit"), "learned_centring")
    names = {"blocks.0.attn.centring", "blocks.1.attn.centring"}
    assert scales(model).keys() == names
    assert names <= model.no_weight_decay()


def test_weights_go_through_a_file_and_may_lack_only_its_parameters(
    build: Callable[..., nn.Module], images: Tensor, tmp_path: Path
):
    trained = add_method(build("vit"), "learned_centring")
    share_random_scales(trained)
    for name in ("weights.safetensors", "weights.pth"):
        save_weights(trained, tmp_path / name)
        model = add_method(build("vit"), "learned_centring")
        load_weights(model, tmp_path / name)
        assert torch.equal(model(images), trained(images))
    with pytest.raises(CheckpointError, match=r"model\.method"):
        load_weights(add_scaling(build("vit"), attnscale=True), tmp_path / "weights.pth")
    save_weights(build("vit"), tmp_path / "stock.pth")
    scaled = add_method(build("vit"), "learned_centring")
    report = load_weights(scaled, tmp_path / "stock.pth", purpose=Purpose.training)
    assert set(report.missing) == {"blocks.0.attn.centring", "blocks.1.attn.centring"}


def test_a_spec_that_names_it_builds_it_with_its_options_and_notes():
    spec = third_spec(class_token_in_mean=False)
    model = build_model(spec, num_classes=5)
    assert model.blocks[0].attn.method == LearnedCentring()
    assert model.blocks[0].attn.excluded == 1
    assert list(deviations.of_model(spec)) == [
        "DeiT's mean over tokens leaves the class token out; the released code includes it"
    ]


def test_the_analysis_records_its_learned_parameters(
    build: Callable[..., nn.Module], images: Tensor
):
    model = add_method(build("vit"), "learned_centring")
    share_random_scales(model)
    found = measure(model, [images], devices=[torch.device("cpu")])
    learned = [pytest.approx(block.attn.centring.tolist()) for block in model.blocks]
    assert [found.measures["scales/c"][layer] for layer in (1, 2)] == learned
    assert set(found.measures["bounds/violations"].values()) == {0.0}
    assert "scales/c,1,0,," in found.csv()
    assert '"scales/c": ["head"]' in found.json()


def test_an_unknown_method_or_option_is_refused_with_those_that_exist(
    build: Callable[..., nn.Module],
):
    with pytest.raises(ValueError, match="'learned_centering' is no method; did you mean"):
        add_method(build("vit"), "learned_centering")
    with pytest.raises(
        TypeError, match="learned_centring has no option strength; there is mask_aware"
    ):
        add_method(build("vit"), "learned_centring", strength=1)


def test_add_scaling_without_a_method_is_refused_with_the_two_names(
    build: Callable[..., nn.Module],
):
    with pytest.raises(ModelError, match=r"attnscale=True, featscale=True or both"):
        add_scaling(build("vit"))


def test_no_two_methods_share_a_name_of_a_parameter():
    """Weights of one method would load as those of another without a word."""
    names = [p.name for method in METHODS.values() for p in method.parameters]
    assert len(names) == len(set(names))
