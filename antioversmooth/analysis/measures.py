"""Measuring a model's layers on images that are streamed: beside one batch only sums over images
are held."""

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
    Attended,
    evaluating,
    num_prefix_tokens,
    self_attention_blocks,
    watching_attention,
    watching_tokens,
)
from antioversmooth.analysis.record import Analysis, all_measures
from antioversmooth.analysis.similarity import absolute_cosine, off_diagonal_cosine, similarities
from antioversmooth.models.attention import ScaledAttention

Measured = dict[str, Tensor]
"""By the name of the measure, one value for each image (or window of one): [B, ...]."""


def measure(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    title: str = "",
    weights: str = "",
    devices: Sequence[torch.device] = (),
) -> Analysis:
    """Everything in `record.all_measures()`, on copies of the model: the given one stays as it is.

    Args:
        model: A ViT, BEiT, EVA, CaiT or Swin of timm, with or without the scalings.
        batches: Normalised images, [B, channels, height, width].
        title: Of the model, for people.
        weights: Which weights it has.
        devices: Share the batches; default: every GPU, else the model's own device.
    """
    chosen = list(devices) or _gpus() or [next(model.parameters()).device]
    copies = [copy.deepcopy(model).to(device) for device in chosen]
    source = _Shared(iter(batches))
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
    """What is measured of tokens between two blocks, [B, N, C].

    Args:
        prefix: Tokens in front of the patches, which only the off-diagonal similarity leaves out.
    """
    both = similarities(tokens, prefix)
    return {
        "tokens/similarity": both[:, 0],
        "tokens/off_diagonal": both[:, 1],
        "tokens/amplitude": spectra.amplitudes(tokens),
        "tokens/dc_energy": spectra.low_pass_norm(tokens).square(),
        "tokens/hc_energy": spectra.high_pass_norm(tokens).square(),
    }


def attention_measures(seen: Attended) -> Measured:
    """What is measured of a self-attention layer: its maps, and the theorems where they are about
    such a layer."""
    found = {
        "attention/similarity": absolute_cosine(seen.map),
        "attention/off_diagonal": off_diagonal_cosine(seen.map),
        "attention/spectrum": spectra.map_spectrum(seen.map),
    }
    if bounds.holds_for(seen.layer):
        found |= {
            f"decay/{part}": norms for part, norms in bounds.decay(seen.map, seen.tokens).items()
        }
        found |= {f"bounds/{side}": norms for side, norms in bounds.inequalities(seen).items()}
    return found


def _sums(model: nn.Module, batches: Iterator[Tensor]) -> _Sums:
    """The sums over the batches that this copy of the model gets hold of."""
    sums, prefix, device = _Sums(), num_prefix_tokens(model), next(model.parameters()).device

    def see_tokens(layer: int, tokens: Tensor) -> None:
        sums.add(layer, token_measures(tokens, prefix))

    def see_attention(layer: int, seen: Attended) -> None:
        sums.add(layer, attention_measures(seen))

    with (
        evaluating(model),
        watching_tokens(model, see_tokens),
        watching_attention(model, see_attention),
    ):
        for batch in batches:
            model(batch.to(device, non_blocking=True))
            sums.images += len(batch)
    return sums


def _scales(model: nn.Module) -> Iterator[tuple[str, int, Tensor]]:
    """The learned scales as they act, by layer."""
    blocks: list[Any] = self_attention_blocks(model)
    for layer, block in enumerate(blocks, start=1):
        if not isinstance(block.attn, ScaledAttention):
            continue
        for parameter, value in block.attn.acting_parameters():
            yield f"scales/{parameter.symbol}", layer, value.detach()


class _Sums:
    """Sums and numbers of values, by measure and layer, on the CPU."""

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


class _Shared:
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
