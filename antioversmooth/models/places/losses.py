"""Placing a LossMethod: in training the model also returns its patch tokens."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.losses import LossMethod
from antioversmooth.models.patches import PatchVisionTransformer
from antioversmooth.models.supported import path_of


def require_supported(model: Any, method: LossMethod) -> None:
    """Raises ModelError where the model does not return patch tokens, or classifies none."""
    refused = f"{method.title} does not go into this {type(model).__name__}"
    if type(model) is not VisionTransformer:
        raise ModelError(f"{refused}: it is defined for timm's VisionTransformer alone")
    if method.classifies_patches and model.num_classes == 0:
        raise ModelError(f"{refused}: it has no classes")
    if method.has_own_head and not isinstance(model.head, nn.Linear):
        kind = path_of(type(model.head))
        raise ModelError(f"{refused}: its head is a {kind}, not a linear layer")


def place(model: Any, method: LossMethod, **_: bool) -> None:
    """Lets a supported model return its patch tokens, and gives them a classifier."""
    if method.has_own_head:
        PatchVisionTransformer.add_patch_head(model)
    model.loss_method = method
    model.__class__ = PatchVisionTransformer


def require_removable(model: nn.Module) -> None:
    """The forward pass in evaluation is the plain model's, so nothing is in the way."""


def restore(model: Any) -> None:
    """Removes the classifier of patches, and restores timm's class."""
    if isinstance(model, PatchVisionTransformer):
        if model.loss_method.has_own_head:
            del model.patch_head
        del model.loss_method
        model.__class__ = VisionTransformer  # type: ignore[assignment]
