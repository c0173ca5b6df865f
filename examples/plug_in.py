"""Adds AttnScale to a timm model, and draws the similarity of its tokens and attention maps."""

from pathlib import Path

import timm
import torch

from antioversmooth.analysis import measures
from antioversmooth.analysis.drawing import write_picture
from antioversmooth.analysis.overview import overview_pictures
from antioversmooth.models import add_method

# pretrained=True downloads the weights from the hub
model = timm.create_model("deit_tiny_patch16_224", pretrained=False)
# w is one parameter per head; it starts at 0, where the model is unchanged
add_method(model, "attnscale")
images = torch.randn(4, 3, 224, 224)
analysis = measures.measure(model, [images], title="DeiT-Ti + AttnScale")
similarity, *others = overview_pictures(analysis)
print(*write_picture(similarity, Path("plug_in")), sep="\n")
