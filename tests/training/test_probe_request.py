from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from antioversmooth.config import ClusterConfig
from antioversmooth.errors import LaunchError
from antioversmooth.training.probes.request import REQUEST, ProbeRequest

REQUESTED = ProbeRequest(processes_per_node=4, nodes=2, mem_gb=64, runs=["/runs/one"])


def test_a_request_is_read_as_it_was_written_with_its_time(tmp_path: Path) -> None:
    before = time.time()
    REQUESTED.write(tmp_path)
    read = ProbeRequest.read(tmp_path)
    assert read == replace(REQUESTED, login_time=read.login_time)
    assert before <= read.login_time <= time.time()


def test_a_request_promises_what_its_profile_asks_for() -> None:
    promised = {"nodes": 3, "gpus_per_node": 4, "cpus_per_task": 8, "mem_gb": 100, "gpu_mem_gb": 40}
    request = ProbeRequest.of(ClusterConfig(name="x", **promised), runs=["/runs/one"])
    assert request == ProbeRequest(4, 3, 4, 8, 100, ["/runs/one"], gpu_mem_gb=40)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("nodes", "two", "nodes"),
        ("processes_per_node", 0, "processes_per_node"),
        ("runs", [7], "runs"),
        ("limit_s", -1, "limit_s"),
        ("login_time", None, "login_time"),
    ],
)
def test_another_file_of_that_name_is_no_request(
    tmp_path: Path, key: str, value: object, named: str
) -> None:
    REQUESTED.write(tmp_path)
    path = tmp_path / REQUEST
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(LaunchError, match=named):
        ProbeRequest.read(tmp_path)


@pytest.mark.parametrize(("content", "said"), [(None, "is not there"), ("{", "cannot be read")])
def test_a_missing_or_torn_request_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / REQUEST).write_text(content)
    with pytest.raises(LaunchError, match=f"{REQUEST} {said}"):
        ProbeRequest.read(tmp_path)
