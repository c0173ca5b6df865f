"""Re-attention: M = BN(Theta A), heads mixed and normalised, in place of the attention matrix A.

BN subtracts the mean of each head over images, queries and keys. Rows of a softmax sum to one, so
this is the mean of 11^T / N as well: in training M is centred attention with its heads mixed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from antioversmooth.errors import ModelError


class HeadMixing(nn.Module):
    """M of an attention layer, in float32 at least: entries of flat maps differ by very little.

    Args:
        group: Consecutive images that share the statistics of training, so that these do not
            depend on the number of images in a forward pass.
    """

    running_mean: Tensor
    running_var: Tensor
    pending: Tensor
    updates: bool = True
    """Whether a forward pass in training moves the running statistics, as that of BatchNorm2d; a
    loop with several forward passes a step, on several devices, calls `update` instead."""
    eps = 1e-5
    momentum = 0.1

    def __init__(self, num_heads: int, group: int) -> None:
        super().__init__()
        self.group = group
        # as torch starts a convolution with kernels of one pixel
        bound = num_heads**-0.5
        self.theta = nn.Parameter(torch.empty(num_heads, num_heads).uniform_(-bound, bound))
        self.gain = nn.Parameter(torch.ones(num_heads))
        self.shift = nn.Parameter(torch.zeros(num_heads))
        self.register_buffer("running_mean", torch.zeros(num_heads))
        self.register_buffer("running_var", torch.ones(num_heads))
        # sums of means and of variances since the last update, and the number of groups
        self.register_buffer("pending", torch.zeros(2 * num_heads + 1), persistent=False)

    def forward(self, attention: Tensor) -> Tensor:
        """[B, H, N, N] -> the same, in the same type.

        Raises:
            ModelError: In training, B is not a multiple of `group`.
        """
        with _without_autocast(attention.device):
            precise = attention.to(torch.promote_types(attention.dtype, torch.float32))
            return self._mixed(precise).to(attention.dtype)

    def _mixed(self, attention: Tensor) -> Tensor:
        theta = self.theta.to(attention.dtype)
        mixed = (theta @ attention.flatten(2)).view_as(attention)
        if not self.training:
            running = self.running_mean[:, None, None], self.running_var[:, None, None]
            return self._normalised(mixed, *running)
        self._require_whole_groups(len(mixed))
        groups = mixed.unflatten(0, (-1, self.group))
        return self._normalised(groups, *self._statistics(groups)).flatten(0, 1)

    def _require_whole_groups(self, images: int) -> None:
        if images % self.group:
            raise ModelError(
                f"a batch of {images} images is not a multiple of re-attention's group of"
                f" {self.group} images: drop a smaller last batch, or choose another group"
            )

    def _normalised(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        gain, shift, mean, variance = (
            values.to(x.dtype) for values in (self.gain, self.shift, mean, variance)
        )
        scale = gain[:, None, None] * (variance + self.eps).rsqrt()
        return x * scale + (shift[:, None, None] - mean * scale)

    def _statistics(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Means and variances, [G, 1, H, 1, 1], of groups [G, B / G, H, N, N]; notes them."""
        variance, mean = torch.var_mean(groups, (1, 3, 4), correction=0, keepdim=True)
        with torch.no_grad():
            count = groups[0, :, 0].numel()
            unbiased = variance * (count / (count - 1))
            sums = [statistic.sum(0).flatten() for statistic in (mean, unbiased)]
            self.pending += torch.cat([*sums, mean.new_full((1,), len(groups))])
            if self.updates:
                self.update()
        return mean, variance

    @torch.no_grad()
    def update(self) -> None:
        """Moves the running statistics towards the mean over all groups since the last update."""
        mean, variance = (self.pending[:-1] / self.pending[-1]).chunk(2)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.pending.zero_()


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    # meta has shapes only, and no autocast
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class MixingDropout(nn.Dropout):
    """Attention dropout, then the mixing of heads, as released."""

    mixing: tuple[HeadMixing]
    """The attention layer's; in a tuple, so that it is not listed as a child."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, H, N, N] -> the same."""
        mixed: Tensor = self.mixing[0](super().forward(input))
        return mixed
