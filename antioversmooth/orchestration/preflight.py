"""Checks before a launch: a queue, or the third hour of a table, is a poor place to fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from antioversmooth import files, weight_files
from antioversmooth.config import ClusterConfig, ContainerConfig, DataConfig, Experiment
from antioversmooth.datasets.current import CurrentData
from antioversmooth.datasets.facts import check_facts
from antioversmooth.datasets.layouts.packaged import PACKAGED
from antioversmooth.errors import CheckpointError, LaunchError, SpecError, and_more
from antioversmooth.orchestration.backend import Backend
from antioversmooth.orchestration.devices import Placement, cpus
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.notify import command as notify
from antioversmooth.runs import Run, deal, machine, memory, require_same_data
from antioversmooth.runs.arithmetic import num_parameters
from antioversmooth.runs.checkpoints import BYTES_PER_PARAMETER, CHECKPOINTS_OF_A_RUN
from antioversmooth.runs.draws import launch_refused_reason
from antioversmooth.runs.identity import origin
from antioversmooth.runs.record import RunRecord, read_records
from antioversmooth.runs.recorded_data import describe_change, describe_unreadable, measured_data
from antioversmooth.spec.public_weights import require_published

RECORD_BYTES = 300
"""Bytes of a record of metrics.jsonl."""


def check(records: Sequence[RunRecord], backend: Backend, results: Path) -> None:
    """Raises if a run cannot start, as far as this machine can tell; nothing is made.

    Raises:
        SpecError: A global batch does not divide over the processes, or a step does not fit into
            the stated memory of a GPU.
        DataError: Data that a run needs is not where its spec says.
        CheckpointError: The same of a file of weights; or a run was begun with other draws.
        LaunchError: Results cannot be written, there is no space for the checkpoints, bash cannot
            read the lines of `cluster.setup`, there is no program `cluster.notify`, the image of
            a container is missing, or this machine, which trains them, lacks shared memory, open
            files or a compiler.
    """
    runs = [record.run for record in records]
    check_machine(runs, backend)
    check_profiles([run.experiment.cluster for run in runs], submits=backend.submits)
    check_inputs(runs)
    check_draws(records)
    check_writable(results)
    check_space(runs, results)


def check_machine(runs: Sequence[Run], backend: Backend) -> None:
    """Checks that runs can be placed, and what this machine has if it trains them.

    Raises:
        SpecError: A global batch does not divide over the processes, or a step does not fit into
            the stated memory of a GPU.
        LaunchError: Shared memory, open files or a compiler are missing.
    """
    for run in runs:
        placement = backend.placement(run.experiment)
        check_gpu_memory(run.experiment, placement)
        if not backend.submits:
            try:
                _check_machine(run.experiment, placement)
            except LaunchError as err:
                raise LaunchError(f"{run.name}: {err}") from err


def _check_machine(config: Experiment, placement: Placement) -> None:
    processes = placement.processes
    machine.check_compiler(config.runtime.compile, on_gpu=placement.on_gpu)
    needs = machine.loading_needs(
        config,
        world_size=processes,
        processes=processes,
        cpus=max(1, cpus() // processes),
        device_batch=placement.device_batch,
        accumulation=placement.accumulation,
        in_memory=config.data.source.in_memory,
    )
    machine.check_shared_memory(needs.shared_bytes, needs.workers)
    machine.check_open_files(needs.all_workers)


def check_gpu_memory(config: Experiment, placement: Placement) -> None:
    """Checks that a training step fits into `cluster.gpu_mem_gb`, as far as both are known.

    Raises:
        SpecError: It does not; names what would.
    """
    peak, room = placement.peak_bytes, memory.room_bytes(config.cluster)
    if peak is None or room is None or peak <= room:
        return
    stated = config.runtime.device_batch
    key = f"runtime.device_batch = {stated}" if stated else "cluster.gpu_mem_gb"
    fewest = "" if stated else ", the fewest that stay together,"
    wider = f"GPUs of {memory.gpu_gib(peak)} GiB or more"
    raise SpecError(
        f"a step with micro-batches of {placement.device_batch} samples{fewest} needs"
        f" {memory.gib(peak)} of GPU memory. With cluster.gpu_mem_gb ="
        f" {config.cluster.gpu_mem_gb:g}, tensors may take {memory.gib(max(room, 0))}; CUDA, NCCL"
        " and gaps between tensors take the rest."
        f" What fits: {'; '.join([*_fitting(config, placement.processes), wider])}",
        where=f"{config.name}: {key}",
    )


def _fitting(config: Experiment, processes: int) -> Iterator[str]:
    """Values of `runtime` with which a step fits, and the run stays the same."""
    room = memory.room_bytes(config.cluster) or 0
    for again in (False, True):
        runtime = replace(config.runtime, device_batch=0, gradient_checkpointing=again)
        changed = replace(config, runtime=runtime)
        size, passes = deal(changed, processes)
        peak = memory.peak_bytes(changed, size, passes, processes)
        if peak is not None and peak <= room:
            words = [f"runtime.device_batch={size}"] * (size != config.runtime.device_batch)
            words += ["runtime.gradient_checkpointing=true"] * again
            yield f"{' '.join(words)} (takes {memory.gib(peak)})"


def check_profiles(clusters: Sequence[ClusterConfig], *, submits: bool) -> None:
    """Checks what cluster profiles name: programs, lines for bash, images.

    Raises:
        LaunchError: One of them is not there, or cannot be read.
    """
    notify.check(clusters)
    if submits:
        check_setup(cluster.setup for cluster in clusters)
        check_images(cluster.container for cluster in clusters if cluster.container)


def check_setup(setups: Iterable[Sequence[str]]) -> None:
    """Raises LaunchError where bash cannot read the lines of a profile: in a job, it would run
    those before the mistake."""
    for text in {"\n".join(lines) for lines in setups}:
        command = [shutil.which("bash") or "true", "-n", "-c", text]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            complaint = done.stderr.splitlines()[0].rpartition("-c: ")[2]
            raise LaunchError(f"cluster.setup: bash cannot read its lines: {complaint}")


def check_images(containers: Iterable[ContainerConfig]) -> None:
    """Raises LaunchError where the file of an image is not there; an address is not asked."""
    for container in containers:
        if container.is_file and not Path(container.image).exists():
            raise LaunchError(f"cluster.container.image: there is no {container.image}")


def check_inputs(runs: Sequence[Run]) -> None:
    """Checks that data and weights are where the specs say, and what they say.

    Raises:
        DataError: The data of a run.
        CheckpointError: A file that a run takes weights from.
    """
    for run in runs:
        check_weights(run)
    readers: dict[str, list[Run]] = {}
    for run in runs:
        readers.setdefault(repr(run.experiment.data_read), []).append(run)
    for group in readers.values():
        check_data(group[0].experiment.data_read, [run for run in group if run.has_checkpoint()])


def check_weights(run: Run) -> None:
    """Checks that the files are there, and whole, that a run takes weights from, and that timm
    publishes those that it names.

    Raises:
        CheckpointError: One is not, or is of other classes.
    """
    for field in ("init_from", "teacher"):
        kind, tag = origin(run.experiment, field)
        if kind == "timm":
            require_published(tag)
    for field in run.files:
        # what it started from is not read again
        if field == "teacher" or not run.has_checkpoint():
            run.require_file(field)
            path = Path(origin(run.experiment, field)[1])
            weight_files.require_whole(path)
            if _evaluates(run):
                weight_files.require_classes(path, run.experiment.data.num_classes)


def check_draws(records: Sequence[RunRecord]) -> None:
    """Raises CheckpointError where runs cannot go on with this code's draws.

    One that has a job or a process goes on with the code that it was launched with.
    """
    reasons = {record.run.id: launch_refused_reason(record) for record in records}
    known = query_statuses([record for record in records if reasons[record.run.id]])
    refused = [reasons[run_id] for run_id, status in known.items() if not status.state.is_live]
    if refused:
        raise CheckpointError("\n".join(refused))


def check_data(data: DataConfig, begun: Sequence[Run] = ()) -> None:
    """Checks that data is there, and is what its spec says and what runs began on.

    No image is decoded. Data that only the nodes have is checked there.
    """
    found: Mapping[str, int | str]
    if data.source in PACKAGED:
        found = PACKAGED[data.source].facts()
        check_facts(data, found)
    elif data.on_nodes_only and data.root and not Path(data.root).exists():
        return
    else:
        # NumPy, for the names of a million files
        from antioversmooth.datasets.dataset import open_dataset
        from antioversmooth.datasets.decoded import training_images

        there = open_dataset(data)
        if not data.on_nodes_only or Path(data.cache_root or "").exists():
            training_images(data, there)
        found = there.checksums() if begun else {}
    for run in begun:
        require_same_data(run, found)


def changed_data(records: Sequence[RunRecord]) -> list[str]:
    """Warnings about done runs whose images are others now, or may be: in another folder.

    Those whose weights are evaluated count, too.
    """
    lines, current = [], CurrentData(thorough=True)
    known = {record.run.id: record for record in records}
    evaluated = {
        run.id: run
        for run in (record.run.upstream for record in records if _evaluates(record.run))
        if run is not None and run.id not in known
    }
    for record in (*read_records(evaluated.values()), *known.values()):
        run, result, data = record.run, record.result, record.run.experiment.data
        if result is None:
            continue
        found = current.facts(data)
        change = describe_change(result, found)
        then = measured_data(result).get("root")
        if change:
            lines.append(
                f"{run.name} is done, {change}; put the previous images back into {data.root}, or"
                " give those that are there now a data.name of their own, which makes another run"
            )
        elif unreadable := describe_unreadable(found):
            lines.append(f"{run.name} is done, {unreadable}")
        elif change is None and then and data.root and not _is_same(then, data.root):
            lines.append(
                f"{run.name} is done, with the images of {then}; data.root is {data.root} now. A"
                " folder does not identify a run: if these are other images, give them a data.name"
                " of their own, which makes another run"
            )
    return [*lines, *on_other_images(records, current)]


def on_other_images(records: Sequence[RunRecord], current: CurrentData) -> list[str]:
    """Warnings about runs that would begin on other images than done runs of the same data.name,
    which a table compares with them. One done run of each spec is looked at."""
    planned = {record.run.dir for record in records}
    begun = [r.run for r in records if r.result is None and not r.attempts]
    groups: dict[tuple[Path, str], list[Run]] = {}
    for run in (run for run in begun if not _evaluates(run)):
        groups.setdefault((run.dir.parents[1], repr(run.experiment.data)), []).append(run)
    lines = []
    for (folder, _), runs in groups.items():
        data = runs[0].experiment.data
        changes: dict[str, list[str]] = {}
        for place, result in _one_of_each_spec(folder, planned):
            measured = measured_data(result)
            # other counts are said to be other data
            told = {key: getattr(data, key) for key in ("name", "num_train", "num_val")}
            if told != {key: measured.get(key) for key in told}:
                continue
            if change := describe_change(result, current.facts(data)):
                changes.setdefault(change, []).append(place)
        lines += [
            f"{and_more([run.name for run in runs], 3)}: would train on other images than"
            f" {and_more(names, 3)}, done with the same data.name and {change}; put the previous"
            f" images back into {data.root}, or give those that are there now a data.name of"
            " their own"
            for change, names in changes.items()
        ]
    return lines


def _one_of_each_spec(folder: Path, planned: Set[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Directory and result of a run that is not planned, of each spec that has one."""
    for spec in sorted(folder.glob("*")):
        found = (path for path in sorted(spec.glob("seed*-*/result.json")))
        if path := next((path for path in found if path.parent not in planned), None):
            yield f"{spec.name}/{path.parent.name}", dict(files.read_mapping(path))


def _evaluates(run: Run) -> bool:
    """Whether it trains nothing."""
    return run.experiment.recipe.epochs == 0


def _is_same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def fresh_starts(records: Sequence[RunRecord]) -> list[str]:
    """Warnings about runs that have been trained, and would start from nothing."""
    return [
        record.run.no_checkpoint_message(record.last_step)
        for record in records
        if record.attempts and not record.all_checkpoints and record.last_step
        if record.result is None and not record.status.state.is_live
    ]


def make_results_folder(results: Path) -> None:
    """Makes the results folder; raises LaunchError where it cannot be made or written to."""
    check_writable(results)
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise LaunchError(f"cannot make the results folder {results}: {err.strerror}") from err


def check_writable(results: Path) -> None:
    """Raises LaunchError where the results folder cannot be made or written to; makes nothing."""
    there, choose = _existing_folder(results), "choose another with cluster.results=/path"
    if not there.is_dir():
        wrong = f"{there} is no folder"
        raise LaunchError(f"cannot make the results folder {results}: {wrong}; {choose}")
    if os.access(there, os.W_OK | os.X_OK):
        return
    if there != results:
        wrong = f"{there} is not writable"
        raise LaunchError(f"cannot make the results folder {results}: {wrong}; {choose}")
    raise LaunchError(f"the results folder {results} is not writable; {choose}")


def _existing_folder(results: Path) -> Path:
    """The results folder, or the nearest folder above it that exists."""
    return next(path for path in (results, *results.absolute().parents) if os.path.lexists(path))


def check_space(runs: Sequence[Run], results: Path) -> None:
    """Raises LaunchError where the files of these runs would not fit; nothing is made."""
    needed = disk_bytes(runs)
    free = shutil.disk_usage(_existing_folder(results)).free
    if needed > free:
        raise LaunchError(
            f"{results} has {free / 2**20:,.0f} MiB free; {CHECKPOINTS_OF_A_RUN} checkpoints and"
            f" the journal of each run need about {needed / 2**20:,.0f} MiB; make room, or choose"
            " another folder with cluster.results=/path"
        )


def disk_bytes(runs: Sequence[Run]) -> int:
    """About the bytes of the checkpoints and the journals of runs."""
    parameters = sum(num_parameters(run.experiment) for run in runs)
    records = sum(
        run.experiment.total_steps // run.experiment.runtime.log_every
        + run.experiment.recipe.epochs * (1 + run.experiment.model.depth)
        for run in runs
    )
    return round(CHECKPOINTS_OF_A_RUN * BYTES_PER_PARAMETER * parameters) + RECORD_BYTES * records
