"""timm's backbones with the methods of `antioversmooth.methods` in them."""

# importing it adds the released names to timm's registry
from antioversmooth.models import entrypoints as entrypoints
from antioversmooth.models.factory import build_model
from antioversmooth.models.placement import (
    add_method,
    add_scaling,
    remove_method,
    remove_scaling,
)

__all__ = ["add_method", "add_scaling", "build_model", "remove_method", "remove_scaling"]
