"""AttnScale in a timm model, and the similarity of its tokens and attention maps by layer."""

from pathlib import Path

import timm
import torch

from antioversmooth.analysis import drawing, measures, overview
from antioversmooth.models import add_scaling

# True: the weights of the hub
model = timm.create_model("deit_tiny_patch16_224", pretrained=False)
# w is a parameter of each head; it starts at 0, where the model is what it was
add_scaling(model, attnscale=True)
images = torch.randn(4, 3, 224, 224)
analysis = measures.measure(model, [images], title="DeiT-Ti + AttnScale")
similarity, *others = overview.pictures(analysis)
print(*drawing.write(similarity, Path("plug_in")), sep="\n")
