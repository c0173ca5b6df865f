"""All probes in their order: cheap ones first, then those that need all ranks, then the run."""

from __future__ import annotations

from antioversmooth.finding import Place
from antioversmooth.training.probes import (
    clock,
    disk,
    gpus,
    identity,
    loading,
    network,
    resources,
    shared_folder,
    steps,
    warning_signal,
)
from antioversmooth.training.probes.context import Probe
from antioversmooth.training.probes.request import APPEARS_WITHIN_S, TRAINING_SPEED, ProbeRequest


def _long(request: ProbeRequest) -> float:
    """The time limit of what lists a data set, or trains."""
    return 5 * request.limit_s


def _for_caches(request: ProbeRequest) -> float:
    """The time limit of what waits for caches of a file system, several times."""
    return 4 * request.limit_s


def _with_wait(request: ProbeRequest) -> float:
    return request.limit_s + request.signal_wait_s


def _with_late_ranks(request: ProbeRequest) -> float:
    return request.limit_s + APPEARS_WITHIN_S


MEETING_POINT = Probe("meeting point", network.look_at_meeting_point, limit_s=_with_late_ranks)
ALONE = (
    Probe("software", identity.look),
    Probe("CPUs", resources.look_at_cpus),
    Probe("memory", resources.look_at_memory),
    Probe("shared memory", resources.look_at_shared_memory),
    Probe("open files", resources.look_at_open_files),
    Probe("GPUs", gpus.look, Place.gpus),
    Probe("clock", clock.look),
    Probe("space", disk.look_at_space),
    Probe("interfaces", network.look_at_interfaces),
)
"""Probes that a rank makes by itself."""
TOGETHER = (
    Probe("software of all ranks", identity.compare),
    Probe("clocks of all ranks", clock.compare),
    Probe("GPUs of all ranks", gpus.compare, Place.gpus),
    Probe("shared folder", shared_folder.look_at_visibility, limit_s=_for_caches),
    Probe("flock", shared_folder.look_at_lock, limit_s=_for_caches),
    Probe("rename", shared_folder.look_at_replacement, limit_s=_for_caches),
    Probe("exclusive creation", shared_folder.look_at_creation),
    Probe("appending", shared_folder.look_at_appending, limit_s=_for_caches),
    Probe("checkpoint", disk.look_at_checkpoint, limit_s=_long),
    Probe("all-reduce", network.look_at_all_reduce),
)
"""Probes in which the ranks wait for each other."""
DATA = Probe("data", loading.look_at_data, Place.data, limit_s=_long)
DECODING = Probe("decoding", loading.look_at_decoding, Place.data, limit_s=_long)
"""Probe of the speed of one core, made on all ranks at once."""
STEPS = Probe(TRAINING_SPEED, steps.look, Place.model, limit_s=_long, late=steps.late)
"""Probe of the model of a run, in which the ranks wait for each other, too."""
LAST = Probe("signal", warning_signal.look, limit_s=_with_wait)
