"""A training step on GPUs that are not there: fake `cuda` devices, and 16 fake ranks.

A fake tensor has a shape, a type and a device, and no numbers. All of a step runs as on a GPU but
for the kernels: the learner's own code, autocast, autograd, DDP and the optimizer. What would need
the numbers of a device raises an error of `torch._subclasses.fake_tensor`.

autograd's engine wants a real GPU for tensors of one. So fake tensors here show it `meta`, and it
works in the calling thread.
"""

from __future__ import annotations

import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.graph import _engine_run_backward
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from antioversmooth.config import Compiler, Experiment
from antioversmooth.training.data.loading import OK, Batch
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.step import dropout
from antioversmooth.training.step import learner as learners
from antioversmooth.training.step.dropout import IndexedDropouts
from antioversmooth.training.step.learner import Learner
from antioversmooth.training.weights.initial import new_model

WORLD_SIZE = 16
DEVICE = torch.device("cuda", 0)
META = torch.device("meta")
ALIGNMENT = 512
"""Bytes that torch's allocator rounds the size of a tensor up to."""
FLASH_HEAD = 256
"""Largest number of channels of a head that flash attention takes."""
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward"}
Change = Callable[[nn.Module], object]
"""Changes a model before its step: a planted fault."""


@dataclass
class Traced:
    """Operations of a traced step."""

    products: Counter[tuple[str, torch.dtype]] = field(default_factory=Counter)
    """Matrix products and convolutions, by operation and by the type of its first two operands."""
    fused: int = 0
    """Forward passes of fused attention."""
    fused_backward: int = 0
    softmaxes: list[tuple[int, ...]] = field(default_factory=list)
    """Shapes of what explicit attention takes the softmax of."""
    to_host: list[str] = field(default_factory=list)
    """Operations that copied from the device to the host."""
    blocking: list[str] = field(default_factory=list)
    """Copies to the device that the host waits for."""
    reduced_bytes: int = 0
    """Bytes of gradients that this rank exchanged."""
    gradient_bytes: int = 0
    """Bytes of all gradients."""
    peak_bytes: int = 0
    """Most memory of the device in use at a time."""
    device_batch: int = 0


class FakeDevices(FakeTensorMode):
    """Fake tensors whose device is `meta` for autograd, and `cuda` for all else.

    C++ asks for a device by `prim.device`: autograd where it notes an output, right behind the
    operation that made it, and autocast, of the inputs of a later call.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.fresh: set[int] = set()
        """Outputs of the present call of a function of torch."""
        self.autocasts = False
        """Whether autocast is on for the present call of a function of torch."""

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            return self._shown(args[0])
        kwargs = dict(kwargs or {})
        if kwargs.get("device") is not None and torch.device(kwargs["device"]) == META:
            kwargs["device"] = DEVICE
        found = super().dispatch(func, types, args, kwargs)
        outputs = [x for x in tree_iter(found) if isinstance(x, FakeTensor)]
        for x in outputs:
            if x.fake_device == META:
                x.fake_device = DEVICE
        self.fresh |= {id(x) for x in outputs}
        return found

    def _shown(self, x: FakeTensor) -> torch.device:
        if x.fake_device != DEVICE:
            return x.device
        is_asked_by_autocast = self.autocasts and id(x) not in self.fresh
        return DEVICE if is_asked_by_autocast and not self.in_kernel_invocation else META


class Recorder(TorchDispatchMode):
    """Records the operations of a step, and the memory in use."""

    def __init__(self) -> None:
        super().__init__()
        self.traced = Traced()
        self.live_bytes = 0
        self._storages: dict[weakref.ref[Any], int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if func is torch.ops.prim.device.default:
            return found
        inputs = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        outputs = [x for x in tree_iter(found) if isinstance(x, FakeTensor)]
        # what is asked here is no call of the step
        with torch._C.DisableTorchFunction():
            if any(x.is_cuda for x in (*inputs, *outputs)):
                self._note(func, inputs, outputs, _waits(func, args, kwargs))
        return found

    def _note(
        self, func: Any, inputs: list[Tensor], outputs: list[FakeTensor], waits: bool
    ) -> None:
        for x in outputs:
            if x.is_cuda:
                self._count(x)
        name = func.overloadpacket.__name__
        traced, from_device = self.traced, any(x.is_cuda for x in inputs)
        if name in PRODUCTS:
            first = [x for x in inputs if x.ndim > 1][:2]
            kind = torch.promote_types(*(x.dtype for x in first))
            traced.products[name, kind] += 1
        elif name.startswith("_scaled_dot_product"):
            backward = name.endswith("backward")
            traced.fused += not backward
            traced.fused_backward += backward
            traced.products[name, inputs[0].dtype] += 1
        elif name == "_softmax":
            traced.softmaxes.append(tuple(inputs[0].shape))
        elif name == "allreduce_":
            traced.reduced_bytes += sum(x.nbytes for x in inputs)
        written = inputs[:1] if name == "copy_" else outputs
        if from_device and any(not x.is_cuda for x in written):
            traced.to_host.append(name)
        elif waits and any(not x.is_cuda for x in inputs):
            traced.blocking.append(name)

    def _count(self, x: FakeTensor) -> None:
        storage = x.untyped_storage()
        reference = weakref.ref(storage, self._freed)
        if reference not in self._storages:
            size = -(-storage.nbytes() // ALIGNMENT) * ALIGNMENT
            self._storages[reference] = size
            self.live_bytes += size
            self.traced.peak_bytes = max(self.traced.peak_bytes, self.live_bytes)

    def _freed(self, reference: weakref.ref[Any]) -> None:
        self.live_bytes -= self._storages.pop(reference)

    def restart(self) -> Traced:
        """Forgets all but the memory in use; returns what is recorded from now on."""
        self.traced = Traced(peak_bytes=self.live_bytes)
        return self.traced


def _waits(func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an operation is a copy that the host waits for."""
    name = func.overloadpacket.__name__
    non_blocking = args[2] if name == "copy_" and len(args) > 2 else kwargs.get("non_blocking")
    return name in ("copy_", "_to_copy") and not non_blocking


class Substitutes(TorchFunctionMode):
    """Functions that start CUDA before a fake tensor could answer for them."""

    def __init__(self, devices: FakeDevices) -> None:
        super().__init__()
        self.devices = devices

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # C++ asks for the device of a Python function's output in this way too
        if func is torch.ops.prim.device.default:
            return func(*args)
        self.devices.fresh.clear()
        # within its own kernels autocast is off
        self.devices.autocasts = torch.is_autocast_enabled("cuda")
        kwargs = dict(kwargs or {})
        if func is torch.tensor and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device, non_blocking=True)
        if func is F.scaled_dot_product_attention:
            return fused_attention(*args, **kwargs)
        if func is Tensor.__deepcopy__:
            # torch's own leaves a second storage behind
            original, memo = args
            memo[id(original)] = copied = torch.empty_like(original)
            return copied.requires_grad_(original.requires_grad)
        if func is Tensor.backward:
            # the engine alone, since blocks that it computes again call functions of torch
            with self:
                ones = torch.ones_like(args[0])
                return _engine_run_backward(args[:1], (ones,), False, False, (), True, True)
        return func(*args, **kwargs)


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention by the kernel that torch chooses on a GPU: flash where types and sizes allow it,
    else the memory-efficient one."""
    if torch.is_autocast_enabled("cuda"):
        kind = torch.get_autocast_dtype("cuda")
        query, key, value = (x.to(kind) for x in (query, key, value))
    is_half = query.dtype in (torch.float16, torch.bfloat16)
    ops: Any = torch.ops.aten
    if attn_mask is None and is_half and query.shape[-1] <= FLASH_HEAD:
        found: Tensor = ops._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, scale=scale
        )[0]
        return found
    if attn_mask is not None:
        # the kernel reads aligned rows
        padding = -attn_mask.shape[-1] % 16
        attn_mask = F.pad(attn_mask.to(query.dtype), (0, padding))[..., : key.shape[-2]]
        attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
    outputs = ops._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale
    )
    efficient: Tensor = outputs[0]
    return efficient


class FakeParallel(DistributedDataParallel):
    """DDP whose reductions take no time and are counted."""

    recorder: Recorder

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # torch refuses annotations that are strings
        self.register_comm_hook(None, lambda _, bucket: self._reduce(bucket))

    def _reduce(self, bucket: Any) -> torch.futures.Future[Tensor]:
        gradients = bucket.buffer()
        self.recorder.traced.reduced_bytes += gradients.nbytes
        reduced: torch.futures.Future[Tensor] = torch.futures.Future()
        reduced.set_result(gradients)
        return reduced


@contextmanager
def fake_devices(world_size: int = WORLD_SIZE) -> Iterator[Recorder]:
    """Rank 0 of `world_size` ranks, with a GPU each."""
    # without a GPU, CUDA's device guard is replaced by one that does nothing
    torch._C._ensureCUDADeviceGuardSet()
    recorder, devices, generator = Recorder(), FakeDevices(), torch.Generator
    parallel = "torch.nn.parallel.distributed"
    FakeParallel.recorder = recorder
    is_cuda = property(lambda self: self.fake_device.type == "cuda")
    patches: list[Any] = [
        mock.patch.object(FakeTensor, "is_cuda", is_cuda, create=True),
        mock.patch.object(torch, "Generator", side_effect=lambda device=None: generator()),
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        mock.patch("torch.cuda.is_bf16_supported", return_value=True),
        # whose autocast a block that is computed again restores
        mock.patch("torch.utils.checkpoint._infer_device_type", return_value="cuda"),
        # what DDP compares and sends at its start
        mock.patch(f"{parallel}._verify_param_shape_across_processes"),
        mock.patch(f"{parallel}._sync_module_states"),
        mock.patch.object(learners, "DistributedDataParallel", FakeParallel),
    ]
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world_size)
    try:
        with ExitStack() as stack, warnings.catch_warnings():
            # deepcopy asks fake tensors for their address
            warnings.filterwarnings("ignore", message="Accessing the data pointer")
            for patch in patches:
                stack.enter_context(patch)
            stack.enter_context(devices)
            stack.enter_context(recorder)
            stack.enter_context(Substitutes(devices))
            yield recorder
    finally:
        dist.destroy_process_group()


def move_to_device(model: nn.Module) -> None:
    """Replaces the parameters and buffers of a model by fake ones."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(_on_device(parameter))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _on_device(buffer)


def _on_device(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=DEVICE)


def trace(
    config: Experiment, *, world_size: int = WORLD_SIZE, change: Change | None = None
) -> Traced:
    """One training step of a rank, with optimizer states as after any other step.

    Raises:
        DataDependentOutputException: The step reads a number of the device.
        DynamicOutputShapeException: A shape depends on such a number.
    """
    micro_batches = MicroBatches.of(config, seed=0, rank=0, world_size=world_size)
    size, side, channels = micro_batches.size, config.model.image_size, config.data.in_channels
    # building reads numbers, and shapes of masks are found on meta tensors
    with META:
        model, shadow = new_model(config, seed=0), new_model(config, seed=0)
    copied = IndexedDropouts(shadow, config.recipe, seed=0).shapes
    image_shape = torch.Size((size, channels, side, side))
    shapes = dropout._mask_shapes(copied, image_shape) if copied is not None else {}
    planned = mock.patch.object(dropout, "_mask_shapes", return_value=shapes)
    with planned, mock.patch.object(dropout, "copy"), fake_devices(world_size) as recorder:
        move_to_device(model)
        model.set_grad_checkpointing(config.runtime.gradient_checkpointing)  # type: ignore[operator]
        if change is not None:
            change(model)
        learner = Learner(
            model,
            config.recipe,
            config.data,
            micro_batches,
            Ranks(RankInfo(0, world_size, 0, 8, "slurm"), DEVICE, None),
            teacher=None,
            compiler=Compiler.none,
            seed=0,
        )
        # autograd's own nodes of parameters, made before autocast asks for their device
        nodes = [p.expand_as(p).grad_fn for p in model.parameters() if p.requires_grad]
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        learner.optimizer.step()
        learner.optimizer.zero_grad()
        images = torch.empty(size, channels, side, side, dtype=torch.uint8)
        labels = torch.empty(size, dtype=torch.int64)
        batch = Batch(images, labels, torch.full((size,), OK))
        traced = recorder.restart()
        learner.train_step(0, repeat(batch))
        del nodes
        traced.device_batch = size
        traced.gradient_bytes = sum(p.nbytes for p in model.parameters())
        return traced
