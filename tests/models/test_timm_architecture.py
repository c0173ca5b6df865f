"""The name and the arguments under which timm builds the model of a spec."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import timm
import torch
from backbones import randomised
from torch import nn

from antioversmooth import spec
from antioversmooth.config import Experiment
from antioversmooth.errors import ModelError
from antioversmooth.methods import METHODS, Family
from antioversmooth.models import build_model
from antioversmooth.models.architecture import architecture

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
ROWS = {Family.vit: "deit_s12", Family.cait: "cait_xxs24", Family.swin: "swin_s"}
SMALL = ["profile=mini", "model.embed_dim=16", "model.num_heads=2"]
SIZES = {
    Family.vit: ["model.depth=3"],
    Family.cait: ["model.depth=2"],
    Family.swin: ["model.depth=3", "model.stage_depths=[1,2]"],
}
DISTILLED = ["model.distillation_token=true"]
FORMS = {
    "class token out of the mean": ["method=attnscale", "model.class_token_in_mean=false"],
    "paper's form": ["method=featscale", "model.scaling_variant=paper"],
    "order": ["method=gfsa", "model.method_options.order=4"],
    "attention dropout": ["method=attnscale", "recipe.attention_dropout=0.1"],
    "distilled": ["method=attnscale", *DISTILLED],
    "distilled, plain": DISTILLED,
}
CASES = [
    *((family, ["method=none"]) for family in Family),
    *(
        (family, [f"method={name}"])
        for name, family in product(METHODS, Family)
        if family in METHODS[name].families
    ),
    *((Family.vit, overrides) for overrides in FORMS.values()),
    (Family.swin, ["method=attnscale", "model.mask_aware=true"]),
]


def experiment(family: Family, overrides: list[str]) -> Experiment:
    row = EXPERIMENTS / f"{ROWS[family]}.yaml"
    return spec.load_experiment(row, [*SMALL, *SIZES[family], *overrides])


def logits(model: nn.Module, side: int) -> torch.Tensor:
    images = torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: torch.Tensor = model.eval()(images)
    return found


@pytest.mark.parametrize(("family", "overrides"), CASES)
def test_timm_builds_the_same_function_from_the_name_and_json(
    family: Family, overrides: list[str]
) -> None:
    config = experiment(family, overrides)
    torch.manual_seed(0)
    dropout = config.recipe.attention_dropout
    ours = randomised(
        build_model(config.model, num_classes=10, in_channels=1, attention_dropout=dropout)
    )
    found = architecture(config.model, attention_dropout=dropout)
    arguments = json.loads(json.dumps(found.arguments))
    theirs = timm.create_model(found.name, num_classes=10, in_chans=1, **arguments)
    theirs.load_state_dict(ours.state_dict())
    side = config.model.image_size
    assert torch.equal(logits(theirs, side), logits(ours, side))


def test_a_method_that_the_backbone_does_not_have_is_refused_by_name() -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match="'gsfa' is no method; did you mean `gfsa`"):
            timm.create_model("antioversmooth_vit", method="gsfa")
        with pytest.raises(ModelError, match="ContraNorm"):
            timm.create_model("antioversmooth_swin", method="contranorm")
