"""Loading processes that fail, and machines that have too little for them: the run ends at once and
says what to do."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.errors import LaunchError
from antioversmooth.runs import Run, machine
from antioversmooth.training.data import loading
from antioversmooth.training.data.augmentation import train_transform
from antioversmooth.training.data.sampling import View
from antioversmooth.training.data.workers import loading_failures, start_worker


@pytest.fixture(autouse=True)
def _own_handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets the loading processes of a test end before those of another test are listened to."""
    before = signal.getsignal(signal.SIGCHLD)
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    yield
    gc.collect()
    signal.signal(signal.SIGCHLD, before)


class Items(Dataset[Any]):
    """Items of a function that runs in a loading process."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __len__(self) -> int:
        return 8

    def __getitem__(self, _: int) -> Any:
        return self.make()


def load(make: Callable[[], Any]) -> list[Any]:
    """All items, made by a loading process."""
    with loading_failures() as failures:
        return list(
            DataLoader(
                Items(make),
                batch_size=None,
                num_workers=1,
                worker_init_fn=partial(start_worker, failures),
            )
        )


def last_files(left: int) -> torch.Tensor:
    """A tensor from a process that may open so many further files."""
    gc.collect()
    opened, (_, most) = len(os.listdir("/proc/self/fd")), resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(most, opened + left)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    return torch.zeros(1000)


def killed_by(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def failing_thread() -> torch.Tensor:
    def fail() -> None:
        raise ValueError("this thread has failed")

    threading.Thread(target=fail).start()
    return torch.zeros(1)


# torch raises wherever this process is, and that may be where a socket is about to be closed
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (partial(last_files, 0), LaunchError, r"too many open files: .*ulimit -n"),
        # the tensor is made, and cannot be sent: its connection ends before the reason comes
        (partial(last_files, 2), LaunchError, r"too many open files: .*ulimit -n"),
        (partial(killed_by, signal.SIGKILL), RuntimeError, "worker .*the kernel kills .*dmesg"),
        (partial(killed_by, signal.SIGBUS), RuntimeError, "memory that is gone.*--shm-size|worker"),
        (partial(os._exit, 3), RuntimeError, "worker .*exited unexpectedly"),
        (threading.Lock, RuntimeError, "a loading process failed: TypeError: cannot pickle"),
        (failing_thread, RuntimeError, "failed: ValueError: this thread has failed"),
    ],
    ids=["open files", "files to send", "SIGKILL", "SIGBUS", "exit", "unpicklable", "thread"],
)
def test_a_loading_process_that_fails_ends_the_wait_with_the_reason(
    make: Callable[[], Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        load(make)


def test_the_end_of_another_loading_process_does_not_disturb_the_one_that_is_reported() -> None:
    with pytest.raises(RuntimeError), loading_failures():
        raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL


def test_a_failure_that_is_no_loading_processs_is_as_it_was() -> None:
    for error in (RuntimeError("size mismatch"), OSError(28, "No space left on device")):
        with pytest.raises(type(error)) as caught, loading_failures():
            raise error
        assert caught.value is error


def in_small_memory(size: str, *command: str) -> subprocess.CompletedProcess[str]:
    """A command that has so much shared memory; skips the test where namespaces are not allowed."""
    unshare = ["unshare", "-rm"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("needs namespaces of mounts: root, or user namespaces")
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    return subprocess.run(
        [*unshare, "sh", "-c", mount, "sh", sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )


LOADS = """
import sys
sys.path.insert(0, "tests/training")
import torch
from test_workers import load
load(lambda: torch.zeros(1_000_000))
"""


def test_a_batch_that_finds_no_shared_memory_is_not_waited_for() -> None:
    ended = in_small_memory("64k", "-c", LOADS)
    assert "LaunchError: no shared memory is left" in ended.stderr
    assert "--shm-size" in ended.stderr


def test_an_attempt_without_shared_memory_ends_before_its_first_batch(
    folder_run: Callable[..., Run],
) -> None:
    run = folder_run("runtime.workers=2")
    ended = in_small_memory("16k", "-m", "antioversmooth.training", str(run.dir))
    assert ended.returncode == 2
    (attempt,) = run.attempts()
    assert "2 loading processes a device need 68 KiB of shared memory" in attempt.message
    assert "runtime.workers" in attempt.message


def test_a_killed_loading_process_ends_the_attempt_and_the_next_one_resumes(
    folder_run: Callable[..., Run],
) -> None:
    run = folder_run("runtime.workers=2", "recipe.epochs=400", "runtime.checkpoint_every_s=0")
    command = [sys.executable, "-m", "antioversmooth.training", str(run.dir)]
    with subprocess.Popen(command, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}) as rank:
        while run.last_step() < 3:
            assert rank.poll() is None
            time.sleep(0.05)
        workers = Path(f"/proc/{rank.pid}/task/{rank.pid}/children").read_text().split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        assert rank.wait() == 1
    (attempt,) = run.attempts()
    assert "where memory runs out the kernel kills such processes" in attempt.message


def test_shared_memory_is_counted_in_whole_pages_for_each_batch_ahead(
    folder_run: Callable[..., Run],
) -> None:
    data, page = folder_run().experiment.data, resource.getpagesize()

    def pages(views: int, workers: int, batches: int) -> float:
        asked = machine.shared_bytes(data, 32, views, workers=workers, batches=batches)
        return asked / page

    # three channels of 32 x 32 bytes a view, and two numbers
    of_batch, semaphores = -(-4 * 3072 // page) + 2, 8 + 3 * 3
    assert pages(4, 3, 100) == 8 * of_batch + semaphores
    assert pages(4, 3, 2) == 2 * of_batch + semaphores
    assert pages(4, 0, 100) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_error_of_the_thread_that_copies_batches_to_a_gpu_is_raised() -> None:
    def fail() -> None:
        raise OSError(24, "Too many open files")

    def report() -> None:
        """As torch does, which has such a thread only beside a GPU."""
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        raise RuntimeError("Pin memory thread exited unexpectedly")

    with pytest.raises(LaunchError, match="ulimit -n"), loading_failures():
        report()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_an_image_is_not_damaged_because_no_file_can_be_opened(
    folder_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    config = folder_run().experiment
    images = open_dataset(config.data).train

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(loading, "open_image", refuse)
    views = loading.ViewDataset(images, train_transform(config.recipe, config.data, 8), seed=0)
    with pytest.raises(OSError, match=os.strerror(number)):
        views[View(0, 0)]


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        machine.raise_open_files(64)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64 * 11
        machine.raise_open_files(0)
        with pytest.raises(LaunchError, match=r"need \d+ open files; .* may open .*ulimit -n"):
            machine.raise_open_files(before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
