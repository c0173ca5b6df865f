"""Peak memory of a GPU in a training step, from a config and without torch.

    bytes = weights * parameters + images * (sizes of an image . bytes of each)

What weights and optimizer take is counted here; what a forward and backward pass adds is linear in
a few sizes, with coefficients of each family and method that were traced on fake GPUs
(`memory_table`). Of a model, method or recipe that is not in the table the memory is not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from antioversmooth.config import ClusterConfig, Compiler, Experiment, Family, Precision
from antioversmooth.methods import METHODS
from antioversmooth.methods.options import differing
from antioversmooth.runs.arithmetic import num_parameters, stages
from antioversmooth.runs.memory_table import COEFFICIENTS

GIB = 2**30
RESERVED_GIB = 1.5
"""Memory of a GPU for CUDA's context, the workspaces of its libraries and NCCL's buffers."""
RESERVED_SHARE = 0.08
"""Share of a GPU's memory that its driver and gaps between tensors may take."""
Sizes = tuple[float, ...]


def unknown_because(config: Experiment) -> str | None:
    """The key whose value makes the memory of a training step unknown; None where it is known."""
    return next(_unknown(config), None)


def _unknown(config: Experiment) -> Iterator[str]:
    model, recipe, runtime = config.model, config.recipe, config.runtime
    if recipe.epochs == 0:
        yield "recipe.epochs"
    if recipe.teacher is not None:
        yield "recipe.teacher"
    if recipe.optimizer != "adamw":
        yield "recipe.optimizer"
    if recipe.attention_dropout > 0:
        yield "recipe.attention_dropout"
    if runtime.compile is not Compiler.none:
        yield "runtime.compile"
    # whole numbers and switches choose the form of a method, others its strength
    options = differing(METHODS.get(model.method), model.method_options)
    yield from (f"model.method_options.{k}" for k, v in options.items() if isinstance(v, int))
    if _key(config) not in COEFFICIENTS:
        half = replace(config, recipe=replace(recipe, precision=Precision.float16))
        yield "recipe.precision" if _key(half) in COEFFICIENTS else "model.method"


def _key(config: Experiment) -> tuple[str, str, str]:
    """Family, method, and arithmetic of the passes; again: with blocks that are computed twice."""
    arithmetic = "float32" if config.recipe.precision is Precision.float32 else "half"
    if config.runtime.gradient_checkpointing:
        arithmetic += ", again"
    return config.model.family.value, config.model.method, arithmetic


def image_sizes(config: Experiment) -> Sizes:
    """Sizes of an image in a pass: pixels; tokens times channels, hidden channels of the MLP times
    tokens and entries of the attention matrices, of the first block and then of all blocks."""
    model = config.model
    extra = 1 + model.distillation_token if model.family is Family.vit else 0
    blocks = []
    for stage in stages(model):
        tokens, keys = stage.num_tokens + extra, stage.num_keys + extra
        heads = model.num_heads * stage.width / model.embed_dim
        hidden = model.mlp_ratio * stage.width
        of_block = (tokens * stage.width, tokens * hidden, heads * tokens * keys)
        blocks.append((stage.num_blocks, of_block))
    sums = (sum(number * of[i] for number, of in blocks) for i in range(3))
    return (config.data.in_channels * model.image_size**2, *blocks[0][1], *sums)


def held_bytes(config: Experiment, parameters: float) -> float:
    """Bytes of a model's weights, their moving average and AdamW's two moments."""
    return 4 * (3 + (config.recipe.ema_decay is not None)) * parameters


def peak_bytes(config: Experiment, images: int, passes: int, world_size: int) -> float | None:
    """Most memory of a rank's tensors in a training step; None where it is not known.

    Args:
        images: Of a rank's pass.
        passes: Passes of a step.
    """
    if unknown_because(config):
        return None
    parameters, sizes = num_parameters(config), image_sizes(config)
    of_parameter, *of_sizes = COEFFICIENTS[_key(config)]
    of_image = sum(size * factor for size, factor in zip(sizes, of_sizes, strict=True))
    if config.recipe.dropout > 0:
        # masks of one byte: behind the embedding, and of each block's tokens twice and MLP once
        of_image += sizes[1] + 2 * sizes[4] + sizes[5]
        if config.model.method == "featscale":
            # which scales what was dropped from, and holds both
            of_number = 4 if config.recipe.precision is Precision.float32 else 2
            of_image += of_number * sizes[1 if config.runtime.gradient_checkpointing else 4]
    gradients = 4 * parameters
    # DDP's buckets, and the sum over the passes before
    waiting = gradients * ((world_size > 1) + (passes > 1))
    in_pass = of_parameter * parameters + images * of_image
    return held_bytes(config, parameters) + max(gradients, waiting + in_pass)


def room_bytes(cluster: ClusterConfig) -> float | None:
    """Bytes that tensors may take of a GPU of `cluster.gpu_mem_gb`; None where nothing is stated,
    or there are no GPUs."""
    if cluster.gpu_mem_gb is None or not cluster.gpus_per_node:
        return None
    return GIB * ((1 - RESERVED_SHARE) * cluster.gpu_mem_gb - RESERVED_GIB)


def gpu_gib(peak: float) -> int:
    """The smallest `cluster.gpu_mem_gb`, in whole GiB, that has room for a peak in bytes."""
    return math.ceil((peak / GIB + RESERVED_GIB) / (1 - RESERVED_SHARE))


def fits(config: Experiment, images: int, passes: int, world_size: int) -> bool:
    """Whether a training step fits into the stated memory, as far as both are known."""
    room = room_bytes(config.cluster)
    peak = peak_bytes(config, images, passes, world_size)
    return room is None or peak is None or peak <= room


def gib(size: float) -> str:
    """For people: 3.4 GiB."""
    return f"{size / GIB:.3g} GiB"
