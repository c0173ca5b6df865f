"""What each method that adds tokens or blocks to a vision transformer has in common."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from backbones import randomised
from comparison import assert_equal_numbers, gradients
from stages import vit_spec
from torch import Tensor

from antioversmooth.methods import METHODS
from antioversmooth.methods.tokens import TokenMethod
from antioversmooth.models import build_model
from antioversmooth.models.placement import scales

NAMES = [name for name, method in METHODS.items() if issubclass(method, TokenMethod)]


def built(method: str) -> Any:
    """Twelve blocks with the method and its default options."""
    torch.manual_seed(0)
    return build_model(vit_spec(method, depth=12), num_classes=5).eval()


@pytest.mark.parametrize("method", NAMES)
def test_blocks_are_computed_again_in_the_backward_pass(images: Tensor, method: str):
    ours = randomised(built(method))
    expected = gradients(ours, images)
    calls: list[int] = []
    ours.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    ours.set_grad_checkpointing()
    assert_equal_numbers(gradients(ours, images), expected, 0)
    assert len(calls) == 2


@pytest.mark.parametrize("method", NAMES)
def test_copies_and_pickles_compute_the_same(images: Tensor, method: str):
    ours = randomised(built(method))
    expected = ours(images)
    assert torch.equal(copy.deepcopy(ours)(images), expected)
    assert torch.equal(pickle.loads(pickle.dumps(ours))(images), expected)


@pytest.mark.parametrize("method", NAMES)
def test_the_backbone_starts_as_without_the_method(method: str):
    """So differences between rows of one seed are paired."""
    plain, ours = built("none").state_dict(), built(method).state_dict()
    shared = plain.keys() & ours.keys() - {"cls_token", "pos_embed"}
    assert {"blocks.0.mlp.fc1.weight", "head.weight"} <= shared
    assert all(torch.equal(ours[key], plain[key]) for key in shared)


@pytest.mark.parametrize("method", NAMES)
def test_they_add_ordinary_layers_and_tokens_but_no_scales(method: str):
    ours = built(method)
    assert not scales(ours)
    assert all(parameter.requires_grad for parameter in ours.parameters())
