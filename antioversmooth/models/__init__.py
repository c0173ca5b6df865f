"""The paper's two scalings, and timm's backbones with them in place."""

# its import puts the released names into timm's registry
from antioversmooth.models import registry as registry
from antioversmooth.models.factory import build_model
from antioversmooth.models.placement import add_scaling, remove_scaling

__all__ = ["add_scaling", "build_model", "remove_scaling"]
