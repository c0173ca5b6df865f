"""All measures of a model's layers, over a stream of images.

Memory holds one batch, and sums over the images before it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from antioversmooth.analysis import bounds, spectra
from antioversmooth.analysis.hooks import (
    AttentionActivations,
    evaluation_mode,
    hook_attention,
    hook_tokens,
    num_prefix_tokens,
    self_attention_blocks,
)
from antioversmooth.analysis.record import Analysis, all_measures
from antioversmooth.analysis.similarity import absolute_cosine, off_diagonal_cosine, similarities
from antioversmooth.models.attention import ScaledAttention

Measured = dict[str, Tensor]
"""Values for each image (or window of one), [B, ...], by the name of the measure."""


def measure(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    title: str = "",
    weights: str = "",
    devices: Sequence[torch.device] = (),
) -> Analysis:
    """All of `record.all_measures()`, on copies of the model: the model itself is unchanged.

    Args:
        model: A ViT, BEiT, EVA, CaiT or Swin of timm, with or without the scalings.
        batches: Normalised images, [B, channels, height, width].
        title: Title of the model, for people.
        weights: Name of its weights.
        devices: Devices that share the batches; default: all GPUs, else the model's own device.
    """
    chosen = list(devices) or _gpus() or [next(model.parameters()).device]
    copies = [copy.deepcopy(model).to(device) for device in chosen]
    source = _SharedIterator(iter(batches))
    with ThreadPoolExecutor(len(copies)) as threads:
        first, *others = threads.map(lambda replica: _sums(replica, source), copies)
    for other in others:
        first.merge(other)
    if first.images == 0:
        raise ValueError("there are no images to measure on")
    measures: dict[str, dict[int, Any]] = {name: {} for name in all_measures()}
    for name, layer, value in [*first.means(), *_scales(model)]:
        measures[name][layer] = value.tolist()
    found = {name: dict(sorted(values.items())) for name, values in measures.items() if values}
    return Analysis(title, weights, first.images, len(self_attention_blocks(model)), found)


def token_measures(tokens: Tensor, prefix: int = 0) -> Measured:
    """Measures of the tokens between two blocks, [B, N, C]: of all tokens, prefix included.

    Args:
        prefix: Number of tokens before the patches (class, distillation, registers); only the
            off-diagonal similarity excludes them.
    """
    both = similarities(tokens, prefix)
    return {
        "tokens/similarity": both[:, 0],
        "tokens/off_diagonal": both[:, 1],
        "tokens/amplitude": spectra.amplitudes(tokens),
        "tokens/dc_energy": spectra.low_pass_norm(tokens).square(),
        "tokens/hc_energy": spectra.high_pass_norm(tokens).square(),
    }


def attention_measures(activations: AttentionActivations) -> Measured:
    """Measures of a self-attention layer: of its maps, and of the theorems if they cover it."""
    found = {
        "attention/similarity": absolute_cosine(activations.map),
        "attention/off_diagonal": off_diagonal_cosine(activations.map),
        "attention/spectrum": spectra.map_spectrum(activations.map),
    }
    if bounds.holds_for(activations.layer):
        decay = bounds.decay(activations.map, activations.tokens)
        found |= {f"decay/{part}": norms for part, norms in decay.items()}
        sides = bounds.inequalities(activations)
        found |= {f"bounds/{side}": norms for side, norms in sides.items()}
    return found


def _sums(model: nn.Module, batches: Iterator[Tensor]) -> _Sums:
    """Sums over the batches that this copy of the model takes from the iterator."""
    sums, device = _Sums(), next(model.parameters()).device

    def add_tokens(layer: int, tokens: Tensor) -> None:
        sums.add(layer, token_measures(tokens, num_prefix_tokens(model, layer)))

    def add_attention(layer: int, activations: AttentionActivations) -> None:
        sums.add(layer, attention_measures(activations))

    tokens, attention = hook_tokens(model, add_tokens), hook_attention(model, add_attention)
    with evaluation_mode(model), tokens, attention:
        for batch in batches:
            model(batch.to(device, non_blocking=True))
            sums.images += len(batch)
    return sums


def _scales(model: nn.Module) -> Iterator[tuple[str, int, Tensor]]:
    """The effective scales, by layer."""
    blocks: list[Any] = self_attention_blocks(model)
    for layer, block in enumerate(blocks, start=1):
        if not isinstance(block.attn, ScaledAttention):
            continue
        for parameter, value in block.attn.acting_parameters():
            yield f"scales/{parameter.symbol}", layer, value.detach()


class _Sums:
    """Sums and counts of values, by measure and layer, on the CPU."""

    def __init__(self) -> None:
        self.images = 0
        self._sums: dict[tuple[str, int], tuple[Tensor, int]] = {}

    def add(self, layer: int, measured: Measured) -> None:
        for name, values in measured.items():
            self._add((name, layer), values.double().sum(0).cpu(), len(values))

    def merge(self, other: _Sums) -> None:
        self.images += other.images
        for key, (total, count) in other._sums.items():
            self._add(key, total, count)

    def means(self) -> Iterator[tuple[str, int, Tensor]]:
        for (name, layer), (total, count) in self._sums.items():
            yield name, layer, total / count

    def _add(self, key: tuple[str, int], total: Tensor, count: int) -> None:
        before, counted = self._sums.get(key, (torch.zeros(()), 0))
        self._sums[key] = before + total, counted + count


class _SharedIterator:
    """One iterator for several threads."""

    def __init__(self, batches: Iterator[Tensor]) -> None:
        self._batches = batches
        self._lock = Lock()

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        with self._lock:
            return next(self._batches)


def _gpus() -> list[torch.device]:
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
