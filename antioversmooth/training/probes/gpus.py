"""GPUs of a node: as many as promised, usable by this torch, and free."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch

from antioversmooth.config import Precision
from antioversmooth.finding import Finding, Place
from antioversmooth.training.probes.context import Context, ok, warning, wrong
from antioversmooth.training.run.distributed import DRIVER, processor_name

SIZE_TOLERANCE = 0.05
"""Share by which the memory of a GPU may differ from its maker's number of GB."""
OWN_BYTES = 2**30
"""Memory of a GPU that a driver and this process may take."""


def look(context: Context) -> Iterator[Finding]:
    """Counts the GPUs of this rank, and computes on its own."""
    promised = context.request.gpus_per_node
    if not torch.cuda.is_available():
        yield from _without(context, promised)
        return
    count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    # with --gpus-per-task each task sees its own only
    if count not in (1, promised):
        yield warning(
            "GPUs",
            f"{context.host} shows {count} GPUs to rank {context.info.rank}, and the profile says"
            f" {promised} (CUDA_VISIBLE_DEVICES={visible})",
            "set cluster.gpus_per_node to the number of each node",
            Place.gpus,
            gpus=count,
        )
    index = context.info.local_rank % count
    torch.cuda.set_device(index)
    yield _describe(index)
    yield from compare_size(context, torch.cuda.get_device_properties(index).total_memory)
    yield from _memory(context, index)
    yield from _computes(context, index)
    if not all(torch.cuda.can_device_access_peer(index, n) for n in range(count) if n != index):
        yield warning(
            "GPU peers",
            f"GPU {index} of {context.host} cannot read the memory of its peers",
            "gradients go through the host, which is slower; containers need --ipc=host for it",
            Place.gpus,
        )


def compare(context: Context) -> Iterator[Finding]:
    """Finds ranks that share a GPU."""
    own = None
    if torch.cuda.is_available():
        index = context.info.local_rank % torch.cuda.device_count()
        own = str(torch.cuda.get_device_properties(index).uuid)
    together = context.exchange.gather([context.host, own])
    if not context.is_main or own is None:
        return
    shared = sorted({host for host, gpu in together if together.count([host, gpu]) > 1})
    if shared:
        yield wrong(
            "GPUs",
            f"several ranks have one GPU, on {', '.join(shared)}",
            "each rank needs a GPU of its own: cluster.gpus_per_node must be what the nodes have,"
            " and cluster.setup must leave CUDA_VISIBLE_DEVICES as SLURM sets it",
            Place.gpus,
        )


def _without(context: Context, promised: int) -> Iterator[Finding]:
    if not promised:
        cpu = processor_name() or "a CPU"
        yield ok("GPUs", f"none are asked for: {context.host} trains on {cpu}", Place.gpus, gpus=0)
        return
    if not DRIVER.exists():
        text = f"{context.host} has no NVIDIA driver, and the profile promises {promised} GPUs"
        advice = "choose a partition with GPUs (cluster.partition), or cluster.gpus_per_node=0"
    elif not torch.version.cuda:
        text = f"torch {torch.__version__} of {context.host} is built without CUDA"
        advice = "install torch with CUDA, or cluster.gpus_per_node=0"
    else:
        text = (
            f"torch {torch.__version__} (CUDA {torch.version.cuda}) sees no GPU of {context.host};"
            f" its driver is {_driver()}; CUDA_VISIBLE_DEVICES is"
            f" {os.environ.get('CUDA_VISIBLE_DEVICES')}"
        )
        advice = (
            "the driver may be too old for this CUDA, or the job has no GPU (cluster.gres,"
            " cluster.gpus_per_node)"
        )
    yield wrong("GPUs", text, advice, Place.gpus, gpus=0)


def _driver() -> str:
    try:
        return DRIVER.read_text().splitlines()[0]
    except (OSError, IndexError):
        return "unknown"


def _describe(index: int) -> Finding:
    properties = torch.cuda.get_device_properties(index)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    values = {
        "gpus": torch.cuda.device_count(),
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "driver": _driver(),
    }
    text = (
        f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, torch's CUDA"
        f" {torch.version.cuda}, driver: {_driver()}"
    )
    if "MIG" in properties.name or "MIG-" in visible:
        return warning(
            "GPUs",
            f"{text}; it is a part of a GPU (MIG)",
            "NCCL does not connect parts of one GPU: train on one rank, or on whole GPUs",
            Place.gpus,
            **values,
        )
    return ok("GPUs", text, Place.gpus, **values)


def compare_size(context: Context, found_bytes: int) -> Iterator[Finding]:
    """Compares the memory of a GPU with `cluster.gpu_mem_gb`."""
    promised, found = context.request.gpu_mem_gb, found_bytes / 2**30
    if promised and not 1 - SIZE_TOLERANCE < found / promised < 1 + SIZE_TOLERANCE:
        yield warning(
            "GPU memory",
            f"a GPU of {context.host} has {found:.1f} GiB, and cluster.gpu_mem_gb is {promised:g}",
            f"set cluster.gpu_mem_gb={found:.0f}, so that samples a pass are chosen for this GPU",
            Place.gpus,
            memory_bytes=found_bytes,
        )


def _memory(context: Context, index: int) -> Iterator[Finding]:
    free, total = torch.cuda.mem_get_info(index)
    used = total - free - torch.cuda.memory_reserved(index)
    if used > OWN_BYTES:
        yield warning(
            "GPU memory",
            f"GPU {index} of {context.host} has {used / 2**30:.1f} of {total / 2**30:.0f} GiB in"
            " use by others",
            "nvidia-smi on the node names the processes; SLURM keeps jobs apart with"
            " ConstrainDevices in cgroup.conf",
            Place.gpus,
            used_bytes=used,
        )


def _computes(context: Context, index: int) -> Iterator[Finding]:
    """Multiplies matrices of small whole numbers, whose product is exact."""
    device = torch.device("cuda", index)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randint(-4, 5, (512, 512), generator=generator).double() for _ in range(2))
    expected = (left @ right).float()
    for dtype in (torch.float32, torch.bfloat16):
        if dtype is torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
            yield from _without_bfloat16(context, index)
            continue
        product = (left.to(device, dtype) @ right.to(device, dtype)).float().cpu()
        # bfloat16 has 8 bits of precision, and parts of a sum, of some hundreds, may be rounded too
        relative, absolute = (2**-7, 4) if dtype is torch.bfloat16 else (0, 0)
        if not torch.allclose(product, expected, rtol=relative, atol=absolute):
            yield wrong(
                "GPUs",
                f"GPU {index} of {context.host} multiplies wrongly in {dtype}",
                "exclude the node (cluster.exclude), and report it",
                Place.gpus,
            )


def _without_bfloat16(context: Context, index: int) -> Iterator[Finding]:
    precisions = {run.experiment.recipe.precision for run in context.runs}
    if not precisions or Precision.bfloat16 in precisions:
        yield warning(
            "GPUs",
            f"GPU {index} of {context.host} has no bfloat16 in hardware",
            "train with recipe.precision=float16, which is another run",
            Place.gpus,
        )
