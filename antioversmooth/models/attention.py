"""timm's attention layers with methods in them.

No forward pass of timm is copied but that of talking heads, which is rewritten. The projection and
the dropout that end an attention layer are *deferred*: called by timm's own forward they return
their input, and `ScaledAttention` applies them itself, with the methods folded in. The modules stay
where and what they were, and so do the keys of the state dict; `placement.py` swaps their classes,
as torch.nn.utils.parametrize does.

A value v is linear in the layer's input x, so m(v) = W_V m(x) + b_V: the mean over tokens is of x,
and costs one read. A method that needs the values themselves has `qkv` deferred, too: timm's
forward then takes queries, keys and values in place of x, and may be called again with other
values.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention, AttentionRope
from timm.models import beit, eva, swin_transformer, swin_transformer_v2, swin_transformer_v2_cr
from timm.models.cait import TalkingHeadAttn
from timm.models.vision_transformer_relpos import RelPosAttention
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from antioversmooth.config import Family
from antioversmooth.errors import ModelError
from antioversmooth.methods import AttentionMethod, FeatureMethod, MeanMethod, Method, Parameter
from antioversmooth.models import scaling
from antioversmooth.models.scaling import Projection


class DeferredLinear(nn.Linear):
    """A linear layer that returns its input; the attention layer around it applies the weights."""

    def forward(self, input: Tensor) -> Tensor:
        return input


class DeferredDropout(nn.Dropout):
    """A dropout that returns its input; the attention layer around it calls `drop`."""

    def forward(self, input: Tensor) -> Tensor:
        return input

    def drop(self, input: Tensor) -> Tensor:
        """Applies the dropout."""
        return super().forward(input)


class BlockFeatures:
    """A FeatureMethod with its parameters, which belong to the block around an attention layer.

    Not a module, so that the block's parameters are not listed twice; copies and pickles along with
    the model.
    """

    def __init__(self, method: FeatureMethod, family: Family, block: Any) -> None:
        self.method, self.family, self.block = method, family, block

    @property
    def parameters(self) -> list[Tensor]:
        """s of the DC and t of the HC part, each [C]."""
        return [getattr(self.block, p.name) for p in self.method.parameters]

    @property
    def times(self) -> int:
        """k, how often the two terms are added."""
        return self.method.times(self.family)

    def scales(self) -> list[Tensor]:
        """k s and k t, as they act."""
        return [self.times * parameter for parameter in self.parameters]


class ScaledAttention(nn.Module):
    """Mixed into an attention layer of timm in front of its own class; adds methods to it.

    `placement.add_methods` sets the attributes; the AttentionMethod's parameters are the layer's.
    """

    method: AttentionMethod | None
    features: BlockFeatures | None
    excluded: int
    """Leading tokens that no mean runs over."""
    explicit: bool
    """Whether the AttentionMethod is applied to the attention matrix, by `ExplicitDropout`."""
    method_constants: Tensor
    """Constants of the AttentionMethod, [count, H], where it has any: a buffer, not saved."""
    first_values: Tensor | None = None
    """v0 of a ValueMethod, [B, N, C], for the time of a call of the block."""
    family = Family.vit
    defers_values = False
    """Whether timm's forward computes the same from queries, keys and values as from its input,
    where `qkv` returns that."""
    features_on_map = False
    """Whether the block applies the FeatureMethod, to the whole feature map."""
    # timm's attributes; None where there is a `v_proj` instead of `qkv`
    qkv: Any
    v_proj: Any
    proj: Any
    proj_drop: Any
    attn_drop: Any

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[B, N, C] -> [B, N, C].

        Raises:
            ModelError: The layer was changed, or is called, in a way that its methods are not exact
                for.
        """
        self._require_form()
        _require_unmasked(**kwargs)
        output, projection = self._attend(x, *args, **kwargs)
        if self.features is None or self.features_on_map:
            dropped: Tensor = self.proj_drop.drop(projection(output))
            return dropped
        (s, t), times = self.features.parameters, self.features.times
        # the DC part is taken after dropout, so there is nothing to fold into
        if self.drops:
            dropped = self.proj_drop.drop(projection(output))
            mean = scaling.token_mean(self.averaged(dropped), 1, times)
            return scaling.scale_features(dropped, s, t, mean, times)
        return scaling.fold_features(projection, s, t, self.mean(output), times)(output)

    def _attend(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Projection]:
        """The input of the projection, [B, N, H * head_dim], and the projection; one of the two has
        the AttentionMethod in it."""
        method = self.method
        if method is not None and method.needs_values and not self.explicit:
            return self._filtered(method, x, *args, **kwargs), self.projection
        # projection and dropout return their input
        output = super().forward(x, *args, **kwargs)
        if method is None or self.explicit:
            return output, self.projection
        assert isinstance(method, MeanMethod)
        mean_value = self.value(self.mean(x, *args, **kwargs))
        return output, scaling.fold_into_projection(
            self.projection, method, self.method_parameters, mean_value
        )

    def _filtered(self, method: AttentionMethod, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The heads' values, filtered, side by side; [B, N, H * head_dim]."""
        unprojected = super().forward
        entering, value = self._split_values(x)

        def attend(values: Tensor) -> Tensor:
            inputs = entering
            if values is not value:
                inputs = torch.cat((entering[..., : -values.shape[-1]], values), -1)
            attended: Tensor = unprojected(inputs, *args, **kwargs)
            return attended

        def mean(values: Tensor) -> Tensor:
            return self.mean(values, *args, **kwargs)

        parameters = scaling.by_channel(self.method_parameters, value.shape[-1])
        return scaling.filter_values(attend, value, method, parameters, mean, self.first_values)

    def _split_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The input of timm's forward, and v, heads side by side; v is its last part where `qkv` is
        deferred."""
        if not self.can_defer_values:
            return x, self.value(x)
        require_unhooked("qkv", self.qkv)
        entering = F.linear(x, *deferred_weights(self, "qkv"))
        return entering, entering[..., -entering.shape[-1] // 3 :]

    @property
    def method_parameters(self) -> list[Tensor]:
        """Parameters and constants of the AttentionMethod, each [H]; none without one."""
        # no error: torch.jit.trace reads all properties
        ours = self.method.parameters if self.method else ()
        trained = [getattr(self, parameter.name) for parameter in ours]
        return [*trained, *getattr(self, "method_constants", ())]

    def acting_parameters(self) -> list[tuple[Parameter, Tensor]]:
        """Parameters of all methods of this layer and its block, with their values as they act."""
        found: list[tuple[Parameter, Tensor]] = []
        if self.method is not None:
            found += [(p, getattr(self, p.name)) for p in self.method.parameters]
        if self.features is not None:
            found += zip(self.features.method.parameters, self.features.scales(), strict=True)
        return found

    def placed_methods(self) -> Iterator[tuple[Method, nn.Module]]:
        """Each method of this layer, with the module that its parameters belong to."""
        if self.method is not None:
            yield self.method, self
        if self.features is not None:
            yield self.features.method, self.features.block

    @property
    def can_defer_values(self) -> bool:
        """Whether timm's forward may be given queries, keys and values."""
        return self.defers_values and self.qkv is not None

    @property
    def filters(self) -> bool:
        """Whether the AttentionMethod acts on values and attention outputs, behind attention
        dropout."""
        return self.method is not None and not self.explicit

    @property
    def projection(self) -> Projection:
        """W_O without any method."""
        return Projection(*deferred_weights(self, "proj"))

    @property
    def drops(self) -> bool:
        """Whether dropout falls on the output of the projection."""
        return self.training and self.proj_drop.p > 0

    def mean(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """m(x), [B, 1, C]; a layer whose queries have different means gives [B, N, C]."""
        return scaling.token_mean(self.averaged(x), 1)

    def averaged(self, x: Tensor) -> Tensor:
        """The tokens that a mean runs over."""
        return x[:, self.excluded :] if self.excluded else x

    def _require_form(self) -> None:
        """Raises ModelError where the layer is no longer the one that its form was chosen for."""
        values = "v_proj" if self.qkv is None else "qkv"
        if self.filters or applies_qkv(self):
            require_linear(values, getattr(self, values))
        if self.method is None:
            return
        if self.filters and self.training and self.attn_drop.p > 0:
            raise ModelError(
                f"attention dropout was set to {self.attn_drop.p:g} after add_method, but"
                f" {self.method.title} must be applied before it: build the model with"
                " attn_drop_rate, then add_method"
            )
        if self.explicit and getattr(self, "fused_attn", False):
            raise ModelError(
                f"fused attention was turned on after add_method, but {self.method.title} needs"
                " the attention matrix here: leave it off, or remove_method first"
            )

    def value(self, x: Tensor) -> Tensor:
        """Values of tokens x, all heads side by side."""
        if self.qkv is None:
            require_linear("v_proj", self.v_proj)
            value: Tensor = self.v_proj(x)
            return value
        require_linear("qkv", self.qkv)
        weight, bias = self.qkv.weight, self.qkv.bias
        width = weight.shape[0] // 3
        v_bias = getattr(self, "v_bias", None) if bias is None else bias[-width:]
        return F.linear(x, weight[-width:], v_bias)


def applies_qkv(attention: Any) -> bool:
    """Whether timm's forward reads the weights of `qkv`, and does not call it (BEiT, EVA,
    Swin-V2)."""
    has_biases = getattr(attention, "q_bias", None) is not None
    return has_biases and attention.qkv is not None and not attention.qkv_bias_separate


def require_linear(name: str, layer: nn.Module) -> None:
    """Raises ModelError where a layer is not x @ weight.T + bias alone, as parametrized and sharded
    ones are."""
    own = type(layer).forward
    # a method that is set at the layer itself comes before that of its class
    if own not in (nn.Linear.forward, DeferredLinear.forward) or "forward" in layer.__dict__:
        raise unsupported_layer(name, layer)


def require_unhooked(name: str, layer: nn.Module) -> None:
    """Raises ModelError where hooks on a layer would not be called, or not with its input."""
    if any(getattr(layer, hooks) for hooks in _HOOKS):
        raise ModelError(
            f"{name} has a hook, which would not see what the layer computes, since a method"
            " applies its weights: remove the hook, or put it on the attention layer; in place of"
            " weight_norm, spectral_norm or prune, use torch.nn.utils.parametrize"
        )


def require_not_parametrized(name: str, layer: nn.Module, what: str) -> None:
    """Raises ModelError where a layer whose class or weights are to change is parametrized."""
    if is_parametrized(layer):
        raise ModelError(
            f"{name} is parametrized, so {what} cannot change it: first call"
            f" torch.nn.utils.parametrize.remove_parametrizations; after {what} add them again"
        )


_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
"""Attributes of a module; its hooks with keywords are in them, too."""


def deferred_weights(attention: Any, name: str) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a layer that returns its input.

    Raises:
        ModelError: It is another one than `add_method` found there.
    """
    layer = getattr(attention, name)
    require_linear(name, layer)
    if not isinstance(layer, DeferredLinear):
        raise ModelError(
            f"{name} was replaced after add_method, which prepared the layer that was there: copy"
            " the new weights into that one, or replace it before add_method"
        )
    return layer.weight, layer.bias


def applied_weights(attention: Any, name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer that is never called.

    Raises:
        ModelError: A call would compute more.
    """
    layer = getattr(attention, name)
    require_linear(name, layer)
    require_unhooked(name, layer)
    return layer.weight, layer.bias


def unsupported_layer(name: str, layer: nn.Module) -> ModelError:
    """The error for a layer that computes more than its weights say."""
    kind = f"{type(layer).__module__}.{type(layer).__name__}"
    if "forward" in layer.__dict__:
        kind += " with a forward method of its own"
    return ModelError(
        f"{name} is a {kind}, but a method needs x @ weight.T + bias here, and nothing beside it:"
        " merge adapters (LoRA) into the weights, or add them by torch.nn.utils.parametrize;"
        " quantize other layers only"
    )


def _require_unmasked(attn_mask: Tensor | None = None, is_causal: bool = False, **_: Any) -> None:
    """Refuses the masks of ViT-like layers; Swin's are positional, as in the released models."""
    if attn_mask is not None or is_causal:
        raise ModelError(
            "a model with a method takes no attention mask, since masked tokens would leak through"
            " means over all tokens. Call it without masks and padded tokens (NaFlexViT: with image"
            " tensors)"
        )


class ExplicitDropout(nn.Dropout):
    """The AttentionMethod on the matrix itself, then attention dropout, as in the released code.

    For layers where dropout falls on rescaled entries, or a norm or a gate precedes the projection.
    """

    attention: tuple[ScaledAttention]
    """The layer whose parameters are used; in a tuple, so that it is not listed as a child."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, H, N, N] -> [B, H, N, N]."""
        layer = self.attention[0]
        assert layer.method is not None
        return super().forward(
            scaling.apply_to_matrix(input, layer.method, layer.method_parameters, layer.excluded)
        )


class ScaledVitAttention(ScaledAttention, Attention):
    """ViT, DeiT, DeiT-III."""

    defers_values = True


class ScaledRopeAttention(ScaledAttention, AttentionRope):
    """EVA and ViT with rotary embeddings."""

    defers_values = True


class ScaledRelPosAttention(ScaledAttention, RelPosAttention):
    """ViT with relative positions."""


class ScaledBeitAttention(ScaledAttention, beit.Attention):
    """BEiT."""


class ScaledEvaAttention(ScaledAttention, eva.EvaAttention):
    """EVA, EVA-02."""


class WindowMean(ScaledAttention):
    """Means within a window of Swin: over all its tokens, or `mask_aware` over the allowed ones."""

    family = Family.swin
    features_on_map = True

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[B * windows, N, C] -> the same; not projected yet with `defers_projection`."""
        if self.defers_projection:
            self._require_form()
            unprojected: Tensor = super(ScaledAttention, self).forward(x, *args, **kwargs)
            return unprojected
        return super().forward(x, *args, **kwargs)

    @property
    def defers_projection(self) -> bool:
        """Whether the block applies the projection, with the whole map's FeatureMethod folded in.

        Not with an AttentionMethod, whose term differs between windows, nor with dropout, which is
        drawn window by window.
        """
        return self.method is None and not self.drops

    @property
    def excludes_masked(self) -> bool:
        """Whether pairs that a shifted window masks stay out of the mean."""
        return isinstance(self.method, MeanMethod) and self.method.mask_aware

    def mean(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B * windows, N, C] -> [B * windows, 1 or N, C].

        Args:
            x: The windows' tokens.
            mask: [windows, N, N], zero where a query may attend to a key; None: everywhere.
        """
        if mask is None or not self.excludes_masked:
            return super().mean(x)
        allowed = (mask == 0).to(x.dtype)
        weights = allowed / allowed.sum(-1, keepdim=True)
        means: Tensor = weights @ x.unflatten(0, (-1, mask.shape[0]))
        return means.flatten(0, 1)


class ScaledWindowAttention(WindowMean, swin_transformer.WindowAttention):
    """Swin."""

    defers_values = True


class ScaledWindowAttentionV2(WindowMean, swin_transformer_v2.WindowAttention):
    """Swin-V2."""


class ScaledWindowAttentionV2Cr(WindowMean, swin_transformer_v2_cr.WindowMultiHeadAttention):
    """Swin-V2-CR, timm's own version of it."""


class ScaledMap(nn.Module):
    """Mixed into a block of Swin: the FeatureMethod on the whole map, behind the merged windows."""

    def _attn(self, x: Tensor) -> Tensor:
        """The attention branch of a block; [B, height, width, C] -> the same."""
        return _scale_map(self, super()._attn(x))  # type: ignore[misc]


class ScaledSwinBlock(ScaledMap, swin_transformer.SwinTransformerBlock):
    """Swin."""


class ScaledSwinBlockV2(ScaledMap, swin_transformer_v2.SwinTransformerV2Block):
    """Swin-V2."""


class ScaledSwinBlockV2Cr(swin_transformer_v2_cr.SwinTransformerV2CrBlock):
    """Swin-V2-CR, whose attention branch has another name."""

    def _shifted_window_attn(self, x: Tensor) -> Tensor:
        stock: Any = super()._shifted_window_attn
        return _scale_map(self, stock(x))


def _scale_map(block: Any, x: Tensor) -> Tensor:
    attention = block.attn
    (s, t), times = attention.features.parameters, attention.features.times
    if attention.defers_projection:
        mean_input = scaling.token_mean(x, (1, 2))
        return scaling.fold_features(attention.projection, s, t, mean_input, times)(x)
    return scaling.scale_features(x, s, t, scaling.token_mean(x, (1, 2), times), times)


class TalkingHeadProducts(TalkingHeadAttn):
    """CaiT's talking heads; heads are mixed by matrix products over [H, N * N].

    timm permutes the attention matrix to put heads last, and back, twice; without that a forward
    pass of CaiT-S24 moves 0.69 of the bytes.
    """

    def mixing(self, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Weight [H, H] and bias [H] that mix the heads after the softmax."""
        return applied_weights(self, "proj_w")

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        # proj_l's bias cancels in the softmax; without it its gradient would be None, and DDP would
        # wait for it
        weight, bias = applied_weights(self, "proj_l")
        logits = _mix_heads(q @ k.transpose(-2, -1), weight * self.scale, bias)
        attention = self.attn_drop(_mix_heads(logits.softmax(dim=-1), *self.mixing(N)))
        unprojected = self.products(attention, v).transpose(1, 2).reshape(B, N, C)
        # both return their input; called for their hooks
        called: Tensor = self.proj_drop(self.proj(unprojected))
        return called

    def products(self, attention: Tensor, value: Tensor) -> Tensor:
        """M v; [B, H, N, N] and [B, H, N, d] -> [B, H, N, d]."""
        return attention @ value


def _mix_heads(attention: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[B, H, N, N] -> [B, H, N, N]: each entry's H heads times weight [H, H], plus bias [H]."""
    B, H, N, _ = attention.shape
    mixed = torch.baddbmm(bias[:, None], weight.expand(B, H, H), attention.reshape(B, H, N * N))
    return mixed.view(B, H, N, N)


class ScaledTalkingHeads(ScaledAttention, TalkingHeadProducts):
    """CaiT; the AttentionMethod comes after the mixing of heads: it folds into it, or filters the
    values by its matrix M, whose rows do not sum to one."""

    family = Family.cait

    def mixing(self, num_tokens: int) -> tuple[Tensor, Tensor]:
        weight, bias = super().mixing(num_tokens)
        if not self.is_mixed:
            return weight, bias
        assert isinstance(self.method, MeanMethod)
        return scaling.fold_into_mixing(
            weight, bias, self.method, self.method_parameters, num_tokens
        )

    @property
    def is_mixed(self) -> bool:
        """Whether the AttentionMethod folds into the mixing of heads."""
        return self.method is not None and not self.method.needs_values

    def products(self, attention: Tensor, value: Tensor) -> Tensor:
        if self.method is None or self.is_mixed or self.explicit:
            return super().products(attention, value)
        per_head = [parameter[:, None, None] for parameter in self.method_parameters]
        return scaling.filter_values(
            attention.matmul, value, self.method, per_head, partial(scaling.token_mean, dim=-2)
        )

    @property
    def filters(self) -> bool:
        return super().filters and not self.is_mixed

    def _attend(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Projection]:
        return TalkingHeadProducts.forward(self, x), self.projection
