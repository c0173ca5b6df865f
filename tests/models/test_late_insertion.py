"""Late insertion against its textbook form on stock layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_equal_numbers, gradients
from stages import Textbook, prefix_by_layer
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.methods.lateinsertion import LateInsertion
from antioversmooth.methods.patchdiversity import PatchDiversity
from antioversmooth.models import add_method, remove_scaling
from antioversmooth.models.placement import add_methods

Build = Callable[..., nn.Module]


class TextbookLateInsertion(Textbook):
    def __init__(self, model: nn.Module, at: int) -> None:
        super().__init__(model)
        self.at = at

    def forward(self, images: Tensor) -> Tensor:
        prefix, x = self.embedded(images)
        for number, block in enumerate(self.model.blocks):
            if number == self.at:
                x = torch.cat([prefix, x], dim=1)
            x = block(x)
        return self.classified(x)


@pytest.mark.parametrize("kind", ["vit", "deit_distilled"])
def test_late_insertion_equals_its_textbook_form(build: Build, images: Tensor, kind: str):
    ours = add_method(build(kind).double(), "lateinsertion", at=1)
    textbook = TextbookLateInsertion(copy.deepcopy(ours), at=1)
    found = [gradients(model, images.double()) for model in (ours, textbook)]
    assert_equal_numbers(*found, 1e-12)
    assert all(p.grad is not None for p in ours.parameters())


@pytest.mark.parametrize("training", [False, True])
def test_late_insertion_at_0_is_the_plain_model(build: Build, images: Tensor, training: bool):
    stock = build("vit", pos_drop_rate=0.2, proj_drop_rate=0.2, drop_path_rate=0.2).train(training)
    ours = add_methods(copy.deepcopy(stock), [LateInsertion(at=0)])
    assert_equal_numbers(gradients(ours, images), gradients(stock, images), 0)


@pytest.mark.parametrize(
    ("at", "prefix"), [(1, [0, 0, 1, 1]), (2, [0, 0, 0, 1]), (-1, [0, 0, 0, 1])]
)
def test_the_analysis_knows_where_the_class_token_is(images: Tensor, at: int, prefix: list[int]):
    assert prefix_by_layer(images, "lateinsertion", at=at) == prefix


@pytest.mark.parametrize("excluded", [False, True])
def test_means_of_attnscale_run_over_the_tokens_of_each_block(build: Build, excluded: bool):
    model: Any = add_method(build("vit"), "lateinsertion", at=1)
    add_method(model, "attnscale", class_token_in_mean=not excluded)
    assert [block.attn.excluded for block in model.blocks] == [0, int(excluded)]


def test_the_order_of_several_methods_does_not_matter(build: Build):
    methods = [AttnScale(), LateInsertion(at=1)]
    for order in (methods, methods[::-1]):
        model: Any = add_methods(build("vit"), order, class_token_in_mean=False)
        assert [block.attn.excluded for block in model.blocks] == [0, 1]


def test_a_loss_on_patch_tokens_does_not_go_with_it(build: Build):
    with pytest.raises(ModelError, match="Late insertion and Patch diversity go into the same"):
        add_methods(build("vit"), [LateInsertion(at=1), PatchDiversity()])


def test_it_comes_before_methods_whose_means_leave_tokens_out(build: Build):
    model = add_method(build("vit"), "attnscale", class_token_in_mean=False)
    with pytest.raises(ModelError, match="add it first"):
        add_method(model, "lateinsertion", at=1)


@pytest.mark.parametrize(
    ("kind", "at", "message"),
    [
        ("vit", 2, "method_options.at should be from -1 to 1, of 2 blocks, and 0 is the plain"),
        ("vit", -2, "method_options.at should be from -1 to 1"),
        ("vit_no_class_token", 1, "it has no class token"),
        ("vit_registers", 1, "it has 3 registers"),
        ("cait", 1, "Cait"),
        ("beit", 1, "Beit"),
    ],
)
def test_other_models_are_refused_and_stay_as_they_were(
    build: Build, images: Tensor, kind: str, at: int, message: str
):
    model = build(kind)
    before = model(images)
    with pytest.raises(ModelError, match=message):
        add_method(model, "lateinsertion", at=at)
    assert torch.equal(model(images), before)


def test_what_would_silently_compute_something_else_is_refused(build: Build, images: Tensor):
    model: Any = add_method(build("vit"), "lateinsertion", at=1)
    with pytest.raises(ModelError, match="forward_intermediates"):
        model.forward_intermediates(images)
    with pytest.raises(ModelError, match="cannot be folded"):
        remove_scaling(model)
    with pytest.raises(ModelError, match="masks"):
        model(images, is_causal=True)
