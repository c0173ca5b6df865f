"""Keys and sizes of weights in the official code of DeiT, CaiT and Swin, and in timm's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import cait, swin_transformer, swin_transformer_v2, vision_transformer
from torch import Tensor, nn

State = dict[str, Tensor]

_SWIN_BUFFERS = ("attn_mask", "relative_position_index")


_WRAPPERS = re.compile(r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Names that torch's wrappers of modules add to keys, at any depth."""


def without_wrappers(key: str) -> str:
    """A key without the names of torch's wrappers: of torch.compile, for example."""
    return _WRAPPERS.sub("", key)


def prefixes(keys: Collection[str], expected: Collection[str]) -> list[str]:
    """Beginnings of keys before the model's own names: the empty one, `model.`, `module.net.`.

    Args:
        keys: Of the source; with each prefix that counts most of a model's names.
        expected: The model's own.
    """
    votes = Counter(
        key.removesuffix(name) for key in keys for name in _endings(key) if name in expected
    )
    most = min(len(expected), len(keys)) / 2
    return [prefix for prefix, count in votes.items() if count > most]


def _endings(key: str) -> Iterator[str]:
    """A key, and the key without its first parts: a.b.c, b.c, c."""
    while key:
        yield key
        key = key.partition(".")[2]


def layout_of(model: nn.Module) -> Callable[[State, nn.Module], State]:
    """The function that turns official keys and sizes into the model's own."""
    layouts: dict[type[nn.Module], Callable[..., State]] = {
        cait.Cait: _resample_cait,
        swin_transformer.SwinTransformer: swin_transformer.checkpoint_filter_fn,
        swin_transformer_v2.SwinTransformerV2: swin_transformer_v2.checkpoint_filter_fn,
        vision_transformer.VisionTransformer: partial(
            vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True
        ),
    }
    return next(
        (layout for kind, layout in layouts.items() if isinstance(model, kind)),
        lambda state, _: dict(state),
    )


def _resample_cait(state: State, model: Any) -> State:
    """Resamples CaiT's position embedding, which has no class token; timm does it for ViTs only."""
    if "pos_embed" not in state or state["pos_embed"].shape == model.pos_embed.shape:
        return dict(state)
    grid = list(model.patch_embed.grid_size)
    return {
        **state,
        "pos_embed": resample_abs_pos_embed(state["pos_embed"], new_size=grid, num_prefix_tokens=0),
    }


def official_state(model: nn.Module) -> State:
    """The weights under the keys of the official code of DeiT, CaiT and Swin, on the CPU.

    Only Swin's differ from timm's: its patch merging ends a stage instead of starting the next one,
    its classifier is `head`, and the buffers that windows need are part of the state.
    """
    state = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    if not isinstance(model, swin_transformer.SwinTransformer):
        return state
    buffers = {key: b.cpu() for key, b in model.named_buffers() if key.endswith(_SWIN_BUFFERS)}
    return {**{_official_swin_key(key): value for key, value in state.items()}, **buffers}


def _official_swin_key(key: str) -> str:
    key = re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key)
    return key.replace("head.fc.", "head.")
