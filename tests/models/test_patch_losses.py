"""The three terms of patch diversity against sums that are written out, and the model that feeds
them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_equal_numbers, gradients
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.losses import PatchTargets, PatchTokens
from antioversmooth.methods.patchdiversity import PatchDiversity, contrastive, cosine, mixing
from antioversmooth.models import add_method, remove_scaling

B, N, C, K = 2, 5, 7, 4


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def written_cosine(last: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for image in last:
        for i in range(N):
            for j in range(N):
                if i != j:
                    dot = (image[i] * image[j]).sum()
                    total = total + (dot / image[i].norm() / image[j].norm()).abs()
    return total / (B * N * (N - 1))


def written_contrastive(first: Tensor, last: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for h, g in zip(first.detach(), last, strict=True):
        for i in range(N):
            others = torch.stack([g[j] for j in range(N) if j != i]).mean(0)
            p, r = (h[i] * g[i]).sum(), (h[i] * others).sum()
            total = total - torch.log(p.exp() / (p.exp() + r.exp()))
    return total / (B * N)


def written_mixing(logits: Tensor, targets: PatchTargets) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for b in range(B):
        for i in range(N):
            share = targets.share[b, i]
            label = share * targets.own[b] + (1 - share) * targets.partner[b]
            probability = logits[b, i].exp() / logits[b, i].exp().sum()
            total = total - (label * probability.log()).sum()
    return total / (B * N)


def targets() -> PatchTargets:
    own, partner = (torch.rand(B, K, dtype=torch.float64).softmax(-1) for _ in range(2))
    return PatchTargets(own, partner, torch.rand(B, N, dtype=torch.float64))


def assert_equal_with_gradients(ours: Tensor, written: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, written, atol=1e-12, rtol=0)
    found, expected = (
        torch.autograd.grad(value, inputs, materialize_grads=True, allow_unused=True)
        for value in (ours, written)
    )
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_terms_equal_written_sums_with_all_gradients():
    torch.manual_seed(0)
    first, last, logits = drawn(B, N, C), drawn(B, N, C), drawn(B, N, K)
    soft = targets()
    assert_equal_with_gradients(cosine(last), written_cosine(last), [last])
    both = contrastive(first, last), written_contrastive(first, last)
    assert_equal_with_gradients(*both, [first, last])
    assert_equal_with_gradients(mixing(logits, soft), written_mixing(logits, soft), [logits])


def test_only_terms_with_a_weight_are_computed():
    tokens = PatchTokens(drawn(B, N, C), drawn(B, N, C))
    assert not PatchDiversity(cosine=0, contrastive=0, mixing=0).terms(tokens, None)
    method = PatchDiversity(cosine=0.5, contrastive=0, mixing=0)
    assert method.weights == {"cosine": 0.5}
    assert method.terms(tokens, None).keys() == {"cosine"}


def test_large_products_do_not_overflow():
    last = torch.zeros(1, 2, 4)
    last[0, 1] = 1e4
    first = torch.full((1, 2, 4), 1e4)
    assert math.isfinite(contrastive(first, last))


Build = Callable[..., nn.Module]


@pytest.mark.parametrize("own_head", [True, False])
def test_training_returns_logits_and_patches_and_evaluation_the_plain_logits(
    build: Build, images: Tensor, own_head: bool
):
    stock: Any = build("vit", drop_path_rate=0.3, proj_drop_rate=0.1)
    ours: Any = add_method(copy.deepcopy(stock), "patchdiversity", own_head=own_head)
    assert torch.equal(ours(images), stock(images))
    seen: dict[str, Tensor] = {}
    stock.blocks[0].register_forward_hook(lambda _, __, out: seen.update(first=out[:, 1:]))
    stock.norm.register_forward_hook(lambda _, __, out: seen.update(last=out[:, 1:]))
    torch.manual_seed(3)
    expected = stock.train()(images)
    torch.manual_seed(3)
    logits, tokens = ours.train()(images)
    head = ours.patch_head if own_head else ours.head
    for found, wanted in (
        (logits, expected),
        (tokens.first, seen["first"]),
        (tokens.last, seen["last"]),
        (tokens.logits, head(seen["last"])),
    ):
        assert torch.equal(found, wanted)
    added = ours.state_dict().keys() - stock.state_dict().keys()
    assert added == ({"patch_head.weight", "patch_head.bias"} if own_head else set())


def test_without_the_mixing_term_no_patch_is_classified(build: Build, images: Tensor):
    ours: Any = add_method(build("vit"), "patchdiversity", mixing=0)
    assert ours.train()(images)[1].logits is None
    assert not hasattr(ours, "patch_head")


def test_blocks_are_computed_again_in_the_backward_pass_of_the_terms(build: Build, images: Tensor):
    class Summed(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            logits, tokens = self.model(images)
            return torch.cat([part.flatten() for part in (logits, *tokens)])

    ours: Any = add_method(build("vit"), "patchdiversity").train()
    expected = gradients(Summed(ours), images)
    ours.set_grad_checkpointing()
    assert_equal_numbers(gradients(Summed(ours), images), expected, 0)


def test_the_plain_model_can_be_restored(build: Build, images: Tensor):
    stock: Any = build("vit")
    ours = remove_scaling(add_method(copy.deepcopy(stock), "patchdiversity"))
    assert type(ours) is type(stock)
    assert ours.state_dict().keys() == stock.state_dict().keys()
    assert torch.equal(ours.train()(images), stock.train()(images))


@pytest.mark.parametrize("kind", ["cait", "swin", "deit_distilled", "beit"])
def test_models_that_do_not_return_patches_are_refused(build: Build, kind: str):
    model = build(kind)
    with pytest.raises(ModelError, match=type(model).__name__):
        add_method(model, "patchdiversity")


def test_a_head_that_is_not_linear_is_refused_and_the_model_stays(build: Build) -> None:
    model: Any = build("vit")
    model.head = nn.Sequential(model.head)
    with pytest.raises(ModelError, match=r"its head is a .*Sequential, not a linear layer"):
        add_method(model, "patchdiversity", own_head=True)
    assert type(model) is VisionTransformer
