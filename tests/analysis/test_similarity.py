"""The cosine measures against loops over pairs, and on models whose tokens are known."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from timm.models.cait import Cait
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from antioversmooth.analysis.similarity import absolute_cosine, off_diagonal_cosine, token_similarity
from antioversmooth.models import add_scaling

TINY = {"img_size": 32, "patch_size": 8, "num_classes": 5, "embed_dim": 24, "depth": 3, "num_heads": 3}
MODELS = {
    "vit": lambda: VisionTransformer(**TINY, reg_tokens=1),
    "cait": lambda: Cait(**TINY),
    "swin": lambda: SwinTransformer(32, 4, embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=4),
}
KIND = pytest.mark.parametrize("kind", MODELS)


def images(count: int = 5) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tokens_after_blocks(model: nn.Module, batch: Tensor) -> list[Tensor]:
    """[M, N, C] after each self-attention block, by calling timm's modules one by one."""
    if isinstance(model, SwinTransformer):
        x, seen = model.patch_embed(batch), []
        for stage in model.layers:
            x = stage.downsample(x)
            for block in stage.blocks:
                x = block(x)
                seen.append(x.flatten(1, 2))
        return seen
    if isinstance(model, Cait):
        x, seen = model.patch_embed(batch) + model.pos_embed, []
    else:
        x, seen = model._pos_embed(model.patch_embed(batch)), []
    for block in model.blocks:
        x = block(x)
        seen.append(x)
    return seen


def loop(tokens: Tensor, *, absolute: bool, diagonal: bool) -> float:
    """Mean cosine over pairs of one image [N, C], pair by pair."""
    values = []
    for i, x in enumerate(tokens):
        for j, y in enumerate(tokens):
            cosine = F.cosine_similarity(x, y, dim=0).item()
            if diagonal or i != j:
                values.append(abs(cosine) if absolute else cosine)
    return sum(values) / len(values)


@KIND
def test_both_definitions_equal_loops_over_pairs(kind: str):
    torch.manual_seed(0)
    model = MODELS[kind]().eval()
    measured = token_similarity(model, images(2))
    with torch.no_grad():
        reference = tokens_after_blocks(model, images(2))
    assert len(measured.tokens) == len(measured.off_diagonal) == 3
    prefix = 2 if kind == "vit" else 0  # class and register token
    for layer, tokens in enumerate(reference):
        absolute = [loop(t, absolute=True, diagonal=True) for t in tokens]
        signed = [loop(t[prefix:], absolute=False, diagonal=False) for t in tokens]
        assert measured.tokens[layer] == pytest.approx(sum(absolute) / 2, abs=1e-5)
        assert measured.off_diagonal[layer] == pytest.approx(sum(signed) / 2, abs=1e-5)


@KIND
def test_batches_of_any_size_give_the_same_means(kind: str):
    torch.manual_seed(0)
    model = add_scaling(MODELS[kind](), attnscale=True)
    whole = token_similarity(model, images(), batch_size=5)
    for streamed in (token_similarity(model, images(), batch_size=2), token_similarity(model, iter(images().split(3)))):
        assert streamed.tokens == pytest.approx(whole.tokens, abs=1e-6)
        assert streamed.off_diagonal == pytest.approx(whole.off_diagonal, abs=1e-6)


def test_equal_tokens_are_wholly_alike():
    tokens = torch.randn(1, 1, 8).expand(2, 6, 8)
    assert absolute_cosine(tokens).tolist() == pytest.approx([1.0, 1.0])
    assert off_diagonal_cosine(tokens).tolist() == pytest.approx([1.0, 1.0])


def test_orthogonal_tokens_leave_the_diagonal():
    """The floor of 1 / N under the authors' definition."""
    assert absolute_cosine(torch.eye(8)).item() == pytest.approx(1 / 8)
    assert off_diagonal_cosine(torch.eye(8)).item() == pytest.approx(0.0, abs=1e-7)


def test_opposite_tokens_differ_between_the_definitions():
    tokens = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert absolute_cosine(tokens).item() == pytest.approx(1.0)
    assert off_diagonal_cosine(tokens).item() == pytest.approx(-1.0)


@KIND
def test_measuring_leaves_the_model_alone(kind: str):
    model = MODELS[kind]().train()
    token_similarity(model, images(1))
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_dropout_is_off_while_measuring():
    torch.manual_seed(0)
    model = VisionTransformer(**TINY, proj_drop_rate=0.5).train()
    assert token_similarity(model, images(1)) == token_similarity(model, images(1))


def test_no_images_are_an_error():
    with pytest.raises(ValueError, match="no images"):
        token_similarity(MODELS["vit"](), [])


def test_broken_numbers_are_shown_and_not_hidden():
    model = VisionTransformer(**TINY)
    nn.init.constant_(model.blocks[1].mlp.fc2.bias, math.nan)
    similarity = token_similarity(model, images(1)).tokens
    assert [math.isnan(value) for value in similarity] == [False, True, True]
