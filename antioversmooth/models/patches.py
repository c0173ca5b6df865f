"""A vision transformer that returns its patch tokens in training, for the terms of a LossMethod."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models.vision_transformer import VisionTransformer, init_weights_vit_timm
from torch import Tensor, nn

from antioversmooth.methods.losses import LossMethod, PatchTokens


class PatchVisionTransformer(VisionTransformer):
    """The plain model in evaluation mode, and with its parameters, but those of `patch_head`."""

    loss_method: LossMethod
    patch_head: nn.Linear
    """Classifier of patches, where the method has one; only training uses it."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """[B, channels, side, side] -> logits [B, classes]; in training (logits, PatchTokens)."""
        if not self.training:
            return super().forward(x, *args, **kwargs)
        with_first_block: Any = partial(self.forward_intermediates, indices=[0], output_fmt="NLC")
        features, (first,) = with_first_block(x, *args, **kwargs)
        last = features[:, self.num_prefix_tokens :]
        patch_logits = (
            self._patch_classifier()(last) if self.loss_method.classifies_patches else None
        )
        return self.forward_head(features), PatchTokens(first, last, patch_logits)

    def _patch_classifier(self) -> nn.Module:
        return self.patch_head if self.loss_method.has_own_head else self.head

    def add_patch_head(self) -> None:
        """Adds a new classifier of patches, or replaces it."""
        weight: Any = self.head.weight
        classes, channels = weight.shape
        self.patch_head = nn.Linear(channels, classes, device=weight.device, dtype=weight.dtype)
        self.patch_head.apply(init_weights_vit_timm)
        self.patch_head.train(self.training)

    def get_classifier(self) -> Any:
        """All classifiers, whose rows are the classes."""
        return (self.head, self.patch_head) if self.loss_method.has_own_head else self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces all classifiers."""
        super().reset_classifier(num_classes, global_pool)
        if self.loss_method.has_own_head and num_classes > 0:
            self.add_patch_head()
