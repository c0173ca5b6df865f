"""The fall-back for machines that allow no namespaces, on a cluster of its own whichever kind the others are."""

from __future__ import annotations

import os
import subprocess

from conftest import private_cluster
from lab import Lab, ends


def test_two_nodes_on_one_loopback_train_and_leave_nothing(slurm_is_there: None) -> None:
    with private_cluster(nodes=2, accounting=False, proctrack="linuxproc", shared=True) as (private, folder):
        lab = Lab(private, folder)
        run = lab.reference()
        assert run.attempts()[0]["world_size"] == 2
        assert ends(run) == ["completed"]
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in listing
    assert not folder.exists()
    assert os.environ.get("SLURM_CONF") != str(folder / "cluster/etc/slurm.conf")
