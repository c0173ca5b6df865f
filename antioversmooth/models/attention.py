"""timm's attention layers with the paper's scalings in them.

No forward pass of timm is copied but that of talking heads, which is rewritten. The projection and
the dropout that end an attention layer are *held*: called by timm's own forward they pass their
input through, and `ScaledAttention` applies them itself, with the scalings folded in. The modules
stay where and what they were, and so do the keys of the state dict; `placement.py` exchanges their
classes, as torch.nn.utils.parametrize does.

A value v is linear in the layer's input x, so m(v) = W_V m(x) + b_V: the mean over tokens is of x,
and costs one read.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention, AttentionRope
from timm.models import beit, eva, swin_transformer, swin_transformer_v2, swin_transformer_v2_cr
from timm.models.cait import TalkingHeadAttn
from timm.models.vision_transformer_relpos import RelPosAttention
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.models import scaling
from antioversmooth.models.scaling import Projection


class HeldLinear(nn.Linear):
    """A linear layer that its caller passes through; whoever holds it applies the weights."""

    def forward(self, input: Tensor) -> Tensor:
        return input


class HeldDropout(nn.Dropout):
    """A dropout that its caller passes through; whoever holds it applies it."""

    def forward(self, input: Tensor) -> Tensor:
        return input

    def drop(self, input: Tensor) -> Tensor:
        """What the caller was to do with it."""
        return super().forward(input)


class FeatScale:
    """Where an attention layer finds the scales of its output: they belong to the block around it.

    Not a module, so that the block's parameters are not listed twice; copies and pickles along with
    the model.
    """

    def __init__(self, block: Any, repeats: int) -> None:
        self.block = block
        self.repeats = repeats

    def scales(self) -> tuple[Tensor, Tensor]:
        """(s, t): of the DC and of the HC part, each [C] and times the `repeats` of the variant."""
        return self.repeats * self.block.lamb1, self.repeats * self.block.lamb2


class ScaledAttention(nn.Module):
    """Mixed into an attention layer of timm in front of its own class; adds AttnScale, FeatScale or
    both.

    Attributes set by `placement.add_scaling`: lamb: AttnScale's w, [H]; None without AttnScale.
        featscale: None without FeatScale, or where the block applies it (Swin). excluded: Leading
        tokens that no mean runs over. folded: AttnScale goes into the projection; else it was
        applied to the attention matrix already, by
            `RescaledDropout` or by the mixing of talking heads.
    """

    lamb: nn.Parameter | None
    featscale: FeatScale | None
    excluded: int
    folded: bool
    # from here on timm's own; qkv is None where there is a `v_proj` instead
    qkv: Any
    v_proj: Any
    proj: Any
    proj_drop: Any
    attn_drop: Any

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[B, N, C] -> [B, N, C].

        Raises:
            ModelError: The layer was changed, or is called, in a way that the scalings are not
                right for.
        """
        self._require_form()
        _require_unmasked(**kwargs)
        # [B, N, H * head_dim]: both held modules passed it through
        output = super().forward(x, *args, **kwargs)
        projection = self.projection
        if self.lamb is not None and self.folded:
            mean_value = self.value(self.mean(x, *args, **kwargs))
            projection = scaling.attn_scale(projection, self.lamb, mean_value)
        if self.featscale is None:
            dropped: Tensor = self.proj_drop.drop(projection(output))
            return dropped
        s, t = self.featscale.scales()
        # the DC part is that of what dropout leaves: nothing to fold into
        if self.drops:
            dropped = self.proj_drop.drop(projection(output))
            return scaling.feat_scale(dropped, s, t, self.mean(dropped))
        return scaling.feat_scale_projection(projection, s, t, self.mean(output))(output)

    @property
    def projection(self) -> Projection:
        """W_O, as it stands."""
        return Projection(self.proj.weight, self.proj.bias)

    @property
    def drops(self) -> bool:
        """Whether dropout falls on what the projection gives."""
        return self.training and self.proj_drop.p > 0

    def mean(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """m(x), [B, 1, C]; a layer whose queries have different means gives [B, N, C]."""
        return scaling.token_mean(x[:, self.excluded :], 1)

    def _require_form(self) -> None:
        """Holds the layer to the linear layers, the dropout and the kind of attention that its form
        was chosen for."""
        if not isinstance(self.proj, HeldLinear):
            raise exchanged("proj", self.proj)
        if self.lamb is None:
            return
        values = "v_proj" if self.qkv is None else "qkv"
        if self.folded and not is_linear(getattr(self, values)):
            raise exchanged(values, getattr(self, values))
        if self.folded and self.training and self.attn_drop.p > 0:
            raise ModelError(
                f"attention dropout was set to {self.attn_drop.p:g} behind AttnScale's back, which"
                " must be applied in front of it: build the model with attn_drop_rate, then"
                " add_scaling"
            )
        if not self.folded and getattr(self, "fused_attn", False):
            raise ModelError(
                "fused attention was turned on behind AttnScale's back, which needs the attention"
                " matrix here: leave it off, or remove_scaling first"
            )

    def value(self, x: Tensor) -> Tensor:
        """The values of tokens x, all heads side by side."""
        if self.qkv is None:
            value: Tensor = self.v_proj(x)
            return value
        weight, bias = self.qkv.weight, self.qkv.bias
        width = weight.shape[0] // 3
        v_bias = getattr(self, "v_bias", None) if bias is None else bias[-width:]
        return F.linear(x, weight[-width:], v_bias)


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is x @ weight.T + bias and nothing else, as parametrized and sharded ones
    still are."""
    return type(layer).forward is nn.Linear.forward


def exchanged(name: str, layer: nn.Module) -> ModelError:
    """For a layer whose weights are not all that it computes: the scalings read them, and would
    miss the rest."""
    kind = f"{type(layer).__module__}.{type(layer).__name__}"
    return ModelError(
        f"{name} is a {kind}, where the scalings need x @ weight.T + bias and nothing beside it:"
        " merge adapters (LoRA) into the weights, or add them by torch.nn.utils.parametrize"
    )


def _require_unmasked(attn_mask: Tensor | None = None, is_causal: bool = False, **_: Any) -> None:
    """Refuses the masks of ViT-like layers; Swin's are positional, and part of what was
    released."""
    if attn_mask is not None or is_causal:
        raise ModelError(
            "the scalings take means over all tokens, and a mask keeps some from others: they would"
            " leak through the mean. Call the model without attention masks and padded tokens"
            " (NaFlexViT: with image tensors)"
        )


class RescaledDropout(nn.Dropout):
    """The explicit path: AttnScale on the matrix itself, then attention dropout, as in the released
    code.

    Taken where dropout falls on rescaled entries, or where a norm or a gate stands before the
    projection.
    """

    attention: tuple[ScaledAttention]
    """The layer whose `lamb` it is; in a tuple, so that it is not listed as a child."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, H, N, N] -> [B, H, N, N]."""
        layer = self.attention[0]
        assert layer.lamb is not None
        return super().forward(scaling.attn_scale_matrix(input, layer.lamb, layer.excluded))


class ScaledVitAttention(ScaledAttention, Attention):
    """ViT, DeiT, DeiT-III."""


class ScaledRopeAttention(ScaledAttention, AttentionRope):
    """EVA and ViT with rotary embeddings."""


class ScaledRelPosAttention(ScaledAttention, RelPosAttention):
    """ViT with relative positions."""


class ScaledBeitAttention(ScaledAttention, beit.Attention):
    """BEiT."""


class ScaledEvaAttention(ScaledAttention, eva.EvaAttention):
    """EVA, EVA-02."""


class WindowMean(ScaledAttention):
    """AttnScale within a window of Swin: over all its tokens as released, or over those that its
    mask allows.

    Attributes set by `placement.add_scaling`:
        mask_aware: Whether pairs that a shifted window masks stay out of the mean.
    """

    mask_aware: bool

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[B * windows, N, C] -> the same; not projected yet where the block does that, as it says
        in `leaves_off`."""
        if self.leaves_off:
            merged_later: Tensor = super(ScaledAttention, self).forward(x, *args, **kwargs)
            return merged_later
        return super().forward(x, *args, **kwargs)

    @property
    def leaves_off(self) -> bool:
        """Whether the projection waits until windows are merged, where FeatScale of the whole map
        folds into it.

        AttnScale's term is different for each window, and dropout is drawn window by window: with
        these it does not.
        """
        return self.lamb is None and not self.drops

    def mean(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B * windows, N, C] -> [B * windows, 1 or N, C].

        Args:
            x: The windows' tokens.
            mask: [windows, N, N], zero where a query may attend to a key; None: everywhere.
        """
        if mask is None or not self.mask_aware:
            return super().mean(x)
        allowed = (mask == 0).to(x.dtype)
        weights = allowed / allowed.sum(-1, keepdim=True)
        means: Tensor = weights @ x.unflatten(0, (-1, mask.shape[0]))
        return means.flatten(0, 1)


class ScaledWindowAttention(WindowMean, swin_transformer.WindowAttention):
    """Swin."""


class ScaledWindowAttentionV2(WindowMean, swin_transformer_v2.WindowAttention):
    """Swin-V2."""


class ScaledWindowAttentionV2Cr(WindowMean, swin_transformer_v2_cr.WindowMultiHeadAttention):
    """Swin-V2-CR, timm's own version of it."""


class FeatScaleSwinBlock(swin_transformer.SwinTransformerBlock):
    """Swin: FeatScale over the whole map, after windows are merged, the shift is undone and padding
    is cut off."""

    def _attn(self, x: Tensor) -> Tensor:
        """timm's name for the attention branch of a block; [B, height, width, C] -> the same."""
        stock: Any = super()._attn
        return _feat_scale_map(self, stock(x))


class FeatScaleSwinBlockV2(swin_transformer_v2.SwinTransformerV2Block):
    """Swin-V2: as Swin."""

    def _attn(self, x: Tensor) -> Tensor:
        """timm's name for the attention branch of a block; [B, height, width, C] -> the same."""
        stock: Any = super()._attn
        return _feat_scale_map(self, stock(x))


class FeatScaleSwinBlockV2Cr(swin_transformer_v2_cr.SwinTransformerV2CrBlock):
    """Swin-V2-CR: as Swin."""

    def _shifted_window_attn(self, x: Tensor) -> Tensor:
        """timm's name for the attention branch of a block; [B, height, width, C] -> the same."""
        stock: Any = super()._shifted_window_attn
        return _feat_scale_map(self, stock(x))


def _feat_scale_map(block: Any, x: Tensor) -> Tensor:
    mean = scaling.token_mean(x, (1, 2))
    if not block.attn.leaves_off:
        return scaling.feat_scale(x, block.lamb1, block.lamb2, mean)
    return scaling.feat_scale_projection(block.attn.projection, block.lamb1, block.lamb2, mean)(x)


class TalkingHeadProducts(TalkingHeadAttn):
    """CaiT's talking heads without their projection, both mixings of heads as matrix products over
    [H, N * N].

    timm permutes the attention matrix to put heads last, and back, twice; without that a forward
    pass of CaiT-S24 moves 0.69 of the bytes.
    """

    def mixing(self, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Weight [H, H] and bias [H] that mix the heads after the softmax."""
        return self.proj_w.weight, self.proj_w.bias

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        # proj_l's bias cancels in the softmax; without it its gradient would be None, and DDP would
        # wait for it
        logits = _mix_heads(
            q @ k.transpose(-2, -1), self.proj_l.weight * self.scale, self.proj_l.bias
        )
        attention = self.attn_drop(_mix_heads(logits.softmax(dim=-1), *self.mixing(N)))
        output: Tensor = (attention @ v).transpose(1, 2).reshape(B, N, C)
        # what follows, proj and proj_drop, is held anyway
        return output


def _mix_heads(attention: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[B, H, N, N] -> [B, H, N, N]: each entry's H heads times weight [H, H], plus bias [H]."""
    B, H, N, _ = attention.shape
    mixed = torch.baddbmm(bias[:, None], weight.expand(B, H, H), attention.reshape(B, H, N * N))
    return mixed.view(B, H, N, N)


class ScaledTalkingHeads(ScaledAttention, TalkingHeadProducts):
    """CaiT; AttnScale comes after the mixing of heads, and folds into it."""

    def mixing(self, num_tokens: int) -> tuple[Tensor, Tensor]:
        weight, bias = super().mixing(num_tokens)
        if self.lamb is None:
            return weight, bias
        return scaling.attn_scale_mixing(weight, bias, self.lamb, num_tokens)
