"""The paper's inequalities on random attention and on whole models. Never that HC shrinks: the
factors may exceed 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import SOFTMAX
from torch import Tensor, nn

from antioversmooth.analysis import bounds
from antioversmooth.analysis.hooks import AttentionActivations, evaluation_mode, hook_attention
from antioversmooth.analysis.spectra import high_pass, high_pass_norm, low_pass, low_pass_norm
from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.models.scaling import apply_to_matrix, scale_features

sizes = st.sampled_from([2, 3, 5, 9, 16, 197])
seeds = st.integers(0, 2**16)


def draw(
    num_tokens: int, spread: float, seed: int, *, channels: int = 6
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits P, tokens X and W_V."""
    numbers = torch.Generator().manual_seed(seed)
    return (
        spread * torch.randn(1, 1, num_tokens, num_tokens, dtype=torch.float64, generator=numbers),
        torch.randn(1, num_tokens, channels, dtype=torch.float64, generator=numbers),
        torch.randn(channels, channels, dtype=torch.float64, generator=numbers),
    )


def factor_of(logits: Tensor) -> float:
    """sqrt(N e^2a / (e^2a + N - 1)) with a = max |P_ij|, as the theorem is printed."""
    a, num_tokens = logits.abs().max().item(), logits.shape[-1]
    return math.sqrt(num_tokens / (1 + (num_tokens - 1) * math.exp(-2 * a)))


@given(num_tokens=sizes, spread=st.floats(0, 8), seed=seeds)
def test_theorem_3_holds(num_tokens: int, spread: float, seed: int) -> None:
    logits, x, weight = draw(num_tokens, spread, seed)
    left = high_pass_norm(logits.softmax(-1) @ (x @ weight)).item()
    right = torch.linalg.matrix_norm(weight, ord=2).item() * high_pass_norm(x).item()
    tight = bounds.softmax_factor(logits.softmax(-1)).item()
    assert left <= tight * right * (1 + 1e-9)
    assert tight <= factor_of(logits) * (1 + 1e-9), (
        "a is never larger than the one of the theorem's statement"
    )
    assert tight >= 1 - 1e-12


@given(num_tokens=sizes, w=st.floats(-2, 2), seed=seeds)
def test_attnscale_multiplies_the_high_frequencies_by_one_plus_w(
    num_tokens: int, w: float, seed: int
) -> None:
    logits, x, _ = draw(num_tokens, 1.0, seed)
    attention = logits.softmax(-1)
    scaled = apply_to_matrix(attention, AttnScale(), [torch.tensor([w], dtype=torch.float64)])
    torch.testing.assert_close(
        high_pass_norm(scaled @ x),
        abs(1 + w) * high_pass_norm(attention @ x),
        atol=1e-10,
        rtol=1e-10,
    )
    torch.testing.assert_close(scaled.sum(-1), torch.ones_like(scaled[..., 0]), atol=1e-12, rtol=0)


def test_the_factor_is_one_for_uniform_attention_and_at_most_the_root_of_the_tokens() -> None:
    assert bounds.softmax_factor(torch.full((9, 9), 1 / 9)).item() == pytest.approx(1)
    assert bounds.softmax_factor(torch.eye(9)).item() == pytest.approx(3)


@given(num_tokens=sizes, spread=st.floats(0.1, 2), seed=seeds)
def test_theorem_1_high_frequencies_of_powers_vanish(
    num_tokens: int, spread: float, seed: int
) -> None:
    """|HC[A^t z]| / |DC[A^t z]| goes to zero."""
    logits, x, _ = draw(num_tokens, spread, seed)
    # bounds the second eigenvalue away from 1
    attention = logits.clamp(-4, 4).softmax(-1)
    # a DC part that is not zero by chance
    z = x.abs()[:, None]
    far = torch.linalg.matrix_power(attention, 2**18) @ z
    assert (high_pass_norm(far) / low_pass_norm(far)).item() <= 1e-9


@given(num_tokens=sizes, spread=st.floats(0.1, 2), seed=seeds)
def test_corollary_2_products_of_different_layers_are_low_pass_too(
    num_tokens: int, spread: float, seed: int
) -> None:
    """|HC[A_t ... A_2 A_1 z]| / |DC[...]| goes to zero, each A another one."""
    x = draw(num_tokens, spread, seed)[1].abs()[:, None]
    entered = (high_pass_norm(x) / low_pass_norm(x)).item()
    for layer in range(60):
        logits, _, _ = draw(num_tokens, spread, seed + 1 + layer)
        # bounds what one layer can leave away from all of it
        x = logits.clamp(-1, 1).softmax(-1) @ x
    assert (high_pass_norm(x) / low_pass_norm(x)).item() <= 1e-6 * entered


@given(num_tokens=sizes, seed=seeds, repeats=st.sampled_from([1, 2]))
def test_featscale_multiplies_the_high_frequencies_by_at_most_the_largest_one_plus_t(
    num_tokens: int, seed: int, repeats: int
) -> None:
    x = draw(num_tokens, 1.0, seed)[1]
    s, t = (repeats * torch.randn(x.shape[-1], dtype=torch.float64) for _ in "st")
    scaled = scale_features(x, s, t, x.mean(1, keepdim=True))
    torch.testing.assert_close(high_pass(scaled), (1 + t) * high_pass(x), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(low_pass(scaled), (1 + s) * low_pass(x), atol=1e-10, rtol=1e-10)
    assert high_pass_norm(scaled).item() <= (1 + t).abs().max().item() * high_pass_norm(
        x
    ).item() * (1 + 1e-9)


def test_decay_is_that_of_explicit_powers() -> None:
    logits, x, _ = draw(197, 1.0, 0)
    found = bounds.decay(logits.softmax(-1), x)
    for power in range(bounds.POWERS):
        explicit = torch.linalg.matrix_power(logits.softmax(-1), power) @ x[:, None]
        torch.testing.assert_close(
            found["hc"][..., power], high_pass_norm(explicit), atol=1e-9, rtol=1e-9
        )
        torch.testing.assert_close(
            found["dc"][..., power], low_pass_norm(explicit), atol=1e-9, rtol=1e-9
        )
    ratios = found["hc"] / found["dc"]
    assert (ratios[..., 1:] < ratios[..., :-1]).all()
    assert ratios[..., -1].item() < 1e-3 * ratios[..., 0].item()


def inequalities(model: nn.Module, images: Tensor) -> list[dict[str, Tensor]]:
    found: list[dict[str, Tensor]] = []
    with (
        evaluation_mode(model),
        hook_attention(model, lambda _, seen: found.append(bounds.inequalities(seen))),
    ):
        model(images)
    return found


@pytest.mark.parametrize("kind", SOFTMAX)
@pytest.mark.parametrize(
    "scaling", [{}, {"attnscale": True}, {"attnscale": True, "featscale": True}]
)
def test_whole_models_stay_below_the_bounds(
    build: Callable[..., nn.Module], images: Tensor, kind: str, scaling: dict[str, bool]
) -> None:
    for sides in inequalities(build(kind, **scaling), images):
        assert sides["violations"].max() == 0
        for level in ("head", "layer", "residual"):
            assert (sides[f"{level}/measured"] <= sides[f"{level}/bound"] * (1 + 1e-4) + 1e-4).all()


def test_a_layer_that_breaks_the_bound_is_counted(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    """A map and an output three thousand times what the weights make of them."""

    def exaggerated(_: int, seen: AttentionActivations) -> None:
        louder = AttentionActivations(
            seen.layer, seen.tokens, seen.unscaled, 3000 * seen.map, 3000 * seen.output
        )
        assert (bounds.inequalities(louder)["violations"] == 1).all()

    model = build("vit")
    with evaluation_mode(model), hook_attention(model, exaggerated):
        model(images)


def test_theorems_are_measured_only_on_layers_that_they_cover(
    build: Callable[..., nn.Module],
) -> None:
    assert bounds.holds_for(build("vit", attnscale=True).blocks[0].attn)
    assert not bounds.holds_for(build("cait").blocks[0].attn), "talking heads mix after the softmax"
    assert not bounds.holds_for(
        build("swin", attnscale=True, mask_aware=True).layers[0].blocks[0].attn
    )
