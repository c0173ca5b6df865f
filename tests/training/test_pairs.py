"""Runs of one seed, with and without a method, are a pair: they share all that the seed decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from processes import tiny
from torch import Tensor, nn

from antioversmooth.methods import METHODS
from antioversmooth.methods.tokens import TokenMethod
from antioversmooth.models.placement import scales
from antioversmooth.runs import Run
from antioversmooth.training.step.dropout import IndexedDropout, IndexedDropouts, IndexedDropPath
from antioversmooth.training.weights.initial import new_model

ROWS = {
    # late insertion leaves its last two blocks to all tokens
    "vit": ("deit_s12", "model.depth=3"),
    "cait": ("cait_s24", "model.class_depth=1"),
    "swin": (
        "swin_s",
        "model.depth=4",
        "model.stage_depths=[2,2]",
        "model.patch_size=1",
        "model.window_size=2",
    ),
}
"""A row of each family, and the overrides that make it small."""
DROPPING = ("recipe.dropout=0.2", "recipe.drop_path=0.4")
MOVED = {"registers": {"cls_token", "pos_embed"}}
"""Weights that a method stores otherwise: here the class token takes over its position."""
IMAGES = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
CASES = [(name, family.value) for name, method in METHODS.items() for family in method.families]

Pair = Callable[[str, str], tuple[nn.Module, nn.Module]]


@pytest.fixture
def pair(make_run: Callable[..., Run]) -> Pair:
    """Makes the models of a seed without and with a method, ready to take the step 3."""

    def model_of(method: str, family: str) -> nn.Module:
        row, *small = ROWS[family]
        run = make_run(row, *tiny(*small, *DROPPING, f"model.method={method}"), seed=5)
        model = new_model(run.experiment, run.seed).train()
        dropouts = IndexedDropouts(model, run.experiment.recipe, seed=run.seed)
        dropouts.draw(3, 0, IMAGES)
        return model

    return lambda method, family: (model_of("none", family), model_of(method, family))


@pytest.mark.parametrize(("method", "family"), CASES)
def test_a_method_changes_no_initial_weight_and_no_mask_of_the_backbone(
    pair: Pair, method: str, family: str
) -> None:
    without, with_method = pair(method, family)
    added = scales(with_method).keys()
    weights = {key: w for key, w in with_method.state_dict().items() if key not in added}
    common = (without.state_dict().keys() & weights.keys()) - MOVED.get(method, set())
    # a method may take parameters of the backbone away, such as one of the two blocks
    assert len(common) > 0.6 * len(without.state_dict())
    differing = [key for key in common if not torch.equal(without.state_dict()[key], weights[key])]
    assert differing == []
    plain, with_method = pair(method, family)
    own, others = factors(plain), factors(with_method)
    assert all(torch.equal(own[name], others[name]) for name in own.keys() & others.keys())
    own, others = masks(plain), masks(with_method)
    if [mask.shape for mask in own.values()] == [mask.shape for mask in others.values()]:
        assert all(torch.equal(own[name], others[name]) for name in own)
    else:
        # one with other tokens has other masks anyway
        assert issubclass(METHODS[method], TokenMethod)


def factors(model: nn.Module) -> dict[str, Tensor]:
    """Those of drop path, by the names of the layers."""
    return {n: m.factors for n, m in model.named_modules() if isinstance(m, IndexedDropPath)}


def masks(model: nn.Module) -> dict[str, Tensor]:
    """Those of dropout, by the names of the layers; [B, elements]."""
    return {n: m.mask.flatten(1) for n, m in model.named_modules() if isinstance(m, IndexedDropout)}


@pytest.mark.parametrize(
    ("method", "family"), [case for case in CASES if METHODS[case[0]].is_exact_at_start]
)
def test_the_first_step_of_a_pair_is_the_same_where_a_method_is_exact_at_its_start(
    pair: Pair, method: str, family: str
) -> None:
    """With dropout and drop path."""
    plain, with_method = (model(IMAGES) for model in pair(method, family))
    # a loss on patch tokens gets those beside the logits
    with_method = with_method[0] if isinstance(with_method, tuple) else with_method
    torch.testing.assert_close(with_method, plain, atol=1e-5, rtol=1e-5)
