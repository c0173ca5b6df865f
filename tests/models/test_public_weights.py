"""The public weights that rows are fine-tuned from are those of backbones of the same shape."""

from __future__ import annotations

import pytest
import timm
import torch

from antioversmooth.config import Family
from antioversmooth.spec.public_weights import MEAN, STD, TAGS


@pytest.mark.parametrize(("shape", "tag"), TAGS.items(), ids=TAGS.values())
def test_the_weights_of_a_shape_are_those_of_timms_model(
    shape: tuple[Family, int, int, bool], tag: str
) -> None:
    family, depth, channels, distilled = shape
    assert timm.is_model_pretrained(tag)
    config = timm.get_pretrained_cfg(tag)
    assert config is not None
    assert (list(config.mean), list(config.std)) == (MEAN, STD)
    with torch.device("meta"):
        model = timm.create_model(tag)
    if family is Family.swin:
        blocks = [block for stage in model.layers for block in stage.blocks]
    else:
        blocks = list(model.blocks)
    assert (len(blocks), model.embed_dim) == (depth, channels)
    assert (
        getattr(model, "num_prefix_tokens", 0)
        == {
            Family.vit: 2 if distilled else 1,
            Family.cait: 1,
            Family.swin: 0,
        }[family]
    )
