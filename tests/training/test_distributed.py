from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from antioversmooth.config import RuntimeConfig
from antioversmooth.errors import LaunchError
from antioversmooth.training.run import distributed
from antioversmooth.training.run.distributed import RankInfo, first_host, rank_from_env

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SLURM = {
    "SLURM_JOB_ID": "24001",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NODELIST": "node[03-04]",
}


def test_a_process_without_a_launcher_is_alone() -> None:
    assert rank_from_env({}) == RankInfo(0, 1, 0, 1, "alone")


def test_torchrun_decides_also_inside_a_slurm_job() -> None:
    assert rank_from_env({**SLURM, **TORCHRUN}) == RankInfo(3, 4, 1, 2, "torchrun")


def test_a_slurm_step_with_a_task_per_rank() -> None:
    assert rank_from_env(SLURM) == RankInfo(2, 4, 0, 2, "slurm", ("node03", 20001))


def test_a_launcher_may_name_the_meeting_point() -> None:
    assert rank_from_env({**SLURM, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "777"}).master == (
        "10.0.0.1",
        777,
    )


def test_a_shell_inside_an_allocation_is_alone() -> None:
    assert (
        rank_from_env({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}).world_size
        == 1
    )


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("node[03-07,9],login1", "node03"),
        ("gpu[5,7]", "gpu5"),
        ("rack2-n[010-012]-ib,rack3", "rack2-n010-ib"),
    ],
)
def test_the_first_host_of_a_compact_list(nodelist: str, host: str) -> None:
    assert first_host(nodelist) == host


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(LaunchError, match="names no node"):
        first_host("")


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
@pytest.mark.parametrize(
    ("given", "driver", "refused"), [("0,1", True, True), ("", True, False), ("0", False, False)]
)
def test_a_gpu_that_torch_cannot_use_is_no_reason_to_train_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, driver: bool, refused: bool
) -> None:
    """Without a driver there is no GPU, whatever a scheduler counts."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(distributed, "DRIVER", tmp_path)
    if not driver:
        monkeypatch.setattr(distributed, "DRIVER", tmp_path / "nowhere")
    context = (
        pytest.raises(LaunchError, match=f"GPU {given}, and torch .* sees none")
        if refused
        else nullcontext()
    )
    with context, distributed.process_group(RuntimeConfig()) as ranks:
        assert ranks.device.type == "cpu"
