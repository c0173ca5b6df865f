"""Methods that lie beside attention layers, in training: their masks, and their compilation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from processes import tiny
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from antioversmooth.models.placement import scales
from antioversmooth.runs import Run
from antioversmooth.training.step.dropout import IndexedDropouts
from antioversmooth.training.weights.initial import new_model

DROPPING = ("recipe.dropout=0.2", "recipe.drop_path=0.4", "recipe.attention_dropout=0.1")
GROUPS = {"reattention": ("model.method_options.group=4",)}
BATCH = 8

Built = tuple[nn.Module, IndexedDropouts]


@pytest.fixture
def built(make_run: Callable[..., Run]) -> Callable[[str], Built]:
    """Makes the tiny model of a method in training mode, with random parameters of the method."""

    def make(method: str) -> Built:
        options = (f"model.method={method}", *GROUPS.get(method, ()))
        run = make_run("deit_s12", *tiny(*DROPPING, "recipe.mix_group=4", *options))
        model = new_model(run.experiment, seed=0).train()
        for parameter in scales(model).values():
            nn.init.normal_(parameter)
        return model, IndexedDropouts(model, run.experiment.recipe, seed=0)

    return make


def passes(model: Callable[[Tensor], Tensor], dropouts: IndexedDropouts, size: int) -> Tensor:
    """Outputs for a global batch in passes of one size."""
    images = torch.randn(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for first in range(0, BATCH, size):
        part = images[first : first + size]
        dropouts.draw(3, first, part)
        found.append(model(part))
    return torch.cat(found)


@pytest.mark.parametrize("method", ["layerscale", "rezero", "contranorm", "reattention"])
def test_a_sample_gets_the_same_mask_in_whatever_pass_it_is_compiled_or_not(
    built: Callable[[str], Built], method: str
) -> None:
    """One draw a sample, none from torch's own generators, and no break in the compiled graph."""
    model, dropouts = built(method)
    before = torch.get_rng_state()
    whole = passes(model, dropouts, BATCH)
    torch.testing.assert_close(passes(model, dropouts, 4), whole, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(passes(model.eval(), dropouts, 4), whole, atol=1e-2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(model.train(), backend=counter, fullgraph=True, dynamic=False)
    torch.testing.assert_close(passes(compiled, dropouts, BATCH), whole, atol=1e-5, rtol=1e-5)
    assert counter.frame_count == 1
