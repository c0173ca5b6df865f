"""The end of a turn of doctor's job, called by the batch script with FOLDER CODE STARTED.

It does what the end of a run's job does: it asks SLURM from the node, and has the job requeued,
once. The next turn records that it started.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from antioversmooth import files
from antioversmooth.errors import AntiOversmoothError, LaunchError
from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration.slurm import client
from antioversmooth.orchestration.slurm.epilogue import read_stage

FIRST_TURN = "first_turn.json"
"""In the folder of the job: how its first turn ended."""
FINDINGS = "batch.jsonl"
"""In the folder of the job: what its batch script found."""
SCRIPT = "job.sh"
"""In the folder of the job: its batch script."""


def main(arguments: list[str]) -> int:
    folder, code, started = Path(arguments[0]), int(arguments[1]), float(arguments[2])
    job_id = os.environ["SLURM_JOB_ID"]
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
        waited = started - files.read_mapping(folder / FIRST_TURN).get("ended", started)
        text = f"the job went back into the queue, and started again {waited:.0f} s later"
        _add(folder, Finding("requeue", Level.ok, text, values={"waited_s": waited}))
        return 0
    ends_again = "--no-requeue" in (folder / SCRIPT).read_text()
    first = {"code": code, "ended": time.time(), "host": socket.gethostname()}
    files.write_json(folder / FIRST_TURN, {**first, "requeue": not ends_again})
    if setup := read_stage(folder, job_id, code)[1]:
        advice = "try it on a node; runs would end there, too"
        _add(folder, Finding("setup", Level.wrong, setup, advice))
    _add(folder, _ask(folder, job_id, submits=ends_again))
    for finding in _blind_nodes(folder, job_id):
        _add(folder, finding)
    if not ends_again and (refusal := client.requeue(job_id)):
        text = f"this cluster does not requeue jobs: {refusal}"
        advice = "set cluster.requeue=false: a turn then submits its successor from the node"
        _add(folder, Finding("requeue", Level.wrong, text, advice))
    return code


def _ask(folder: Path, job_id: str, *, submits: bool) -> Finding:
    """Whether the commands of SLURM work on this node, which the end of a turn needs."""
    check, host = "SLURM on the nodes", socket.gethostname()
    try:
        client.jobs_numbered([job_id])
        refusal = client.test_only((folder / SCRIPT).read_text()) if submits else ""
    except AntiOversmoothError as err:
        refusal = str(err)
    if refusal:
        advice = (
            "runs that end early do not go on by themselves there: the next launch submits them, or"
            " a `--follow` that you leave running"
        )
        return Finding(check, Level.warning, f"{host}: {refusal}", advice)
    return Finding(check, Level.ok, f"{host}: a batch script can ask SLURM")


def _blind_nodes(folder: Path, job_id: str) -> Iterator[Finding]:
    """A finding for each node that does not see a folder, where ranks have written nothing."""
    request = json.loads((folder / "request.json").read_text())
    world_size = request["nodes"] * request["processes_per_node"]
    if len(list(folder.glob("rank*.jsonl"))) >= world_size:
        return
    needed = {str(folder / "request.json"): str(folder), sys.executable: sys.prefix}
    look = "; ".join(
        f"test -e {shlex.quote(path)} || echo blind: $(hostname) {shlex.quote(place)}"
        for path, place in needed.items()
    )
    try:
        said = client.run_on_nodes(job_id, request["nodes"], "sh", "-c", look)
    except LaunchError as err:
        print(err, file=sys.stderr)
        return
    for host, place in re.findall(r"^blind: (\S+) (.*)$", said, re.MULTILINE):
        text = f"{host} does not see {place}"
        advice = (
            "results (cluster.results=/path) and Python must lie where all nodes see them; leave"
            " the node out with cluster.exclude, and tell your site"
        )
        yield Finding("shared folder", Level.wrong, text, advice, {"host": host})


def _add(folder: Path, finding: Finding) -> None:
    with (folder / FINDINGS).open("a") as file:
        file.write(f"{finding.to_line()}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
