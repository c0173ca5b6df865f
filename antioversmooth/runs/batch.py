"""The global batch, dealt to processes."""

from __future__ import annotations

from antioversmooth.config import Experiment
from antioversmooth.errors import SpecError
from antioversmooth.runs import memory


def deal(config: Experiment, world_size: int) -> tuple[int, int]:
    """Samples per device and forward pass, and passes per step, of a run.

    Where the spec leaves their number open, as many as fit into `cluster.gpu_mem_gb`, or the fewest
    that stay together. This depends on no device that is there: each process finds the same.

    Raises:
        SpecError: The global batch does not divide over the ranks.
    """
    batch, group = config.recipe.global_batch, config.inseparable
    limit = config.runtime.device_batch
    size, passes = split_batch(batch, world_size, limit=limit, group=group)
    while not limit and size > group and not memory.fits(config, size, passes, world_size):
        size, passes = split_batch(batch, world_size, limit=size - 1, group=group)
    return size, passes


def split_batch(global_batch: int, world_size: int, *, limit: int, group: int) -> tuple[int, int]:
    """Samples per device and forward pass, and passes per step, of a global batch.

    Args:
        limit: Largest number of samples in one pass; 0: no limit.
        group: Samples that must stay on one device together (`Experiment.inseparable`).

    Raises:
        SpecError: It does not divide; names the numbers of processes that do.
    """

    def passes(world: int) -> int | None:
        if global_batch % (world * group):
            return None
        per_rank = global_batch // world
        for number in range(1, per_rank // group + 1):
            if per_rank % (number * group) == 0 and (not limit or per_rank // number <= limit):
                return number
        return None

    accumulation = passes(world_size)
    if accumulation is None:
        fitting = [w for w in range(1, min(global_batch, 4096) + 1) if passes(w)]
        keys = "recipe.mix_group, and the group of model.method_options"
        unit = f" in groups of {group} ({keys})" if group > 1 else ""
        fits = f"it does over {', '.join(map(str, fitting))}"
        raise SpecError(
            f"global_batch {global_batch} does not divide over {world_size} processes{unit};"
            f" {fits if fitting else f'it is no multiple of {group}'}",
            where="recipe.global_batch",
        )
    return global_batch // (world_size * accumulation), accumulation
