"""A SLURM that holds thousands of jobs and answers at once, to measure what its users cost.

`python -S simulated_slurm.py <client> <options>` answers with all state in $SIMULATED_SLURM:
    jobs.json       the jobs, as mappings from a letter of squeue's format to a text
    submitted       one line for each job that was submitted since
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

CLIENTS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo")
_SBATCH = """\
#!/bin/sh
case "$*" in
  *--version*) echo slurm-wlm 24.05.1; exit ;;
  *--test-only*) exit ;;
esac
echo "$*" >>"$SIMULATED_SLURM/submitted"
read -r id <"$SIMULATED_SLURM/next"
echo $((id + 1)) >"$SIMULATED_SLURM/next"
echo "$id"
"""
"""In a shell's words: a launch starts it ten thousand times."""
_OTHERS = """\
#!/bin/sh
[ -s "$SIMULATED_SLURM/jobs.json" ] || exit 0
exec {python} -S -E {program} {client} "$@"
"""


def install(folder: Path, jobs: Iterable[Mapping[str, str]] = ()) -> dict[str, str]:
    """Writes the clients and their state; returns the environment in which they are found.

    Args:
        jobs: As `job` makes them.
    """
    folder.mkdir()
    held = list(jobs)
    for client in CLIENTS:
        text = _OTHERS.format(python=sys.executable, program=Path(__file__), client=client)
        program = folder / client
        program.write_text(_SBATCH if client == "sbatch" else text)
        program.chmod(0o755)
    (folder / "jobs.json").write_text(json.dumps(held) if held else "")
    (folder / "next").write_text(f"{len(held) + 1}\n")
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SIMULATED_SLURM": str(folder)}


def job(number: int, name: str, *, runs: bool) -> dict[str, str]:
    """A job that runs or waits, by the letters of squeue's format."""
    state = {"T": "RUNNING", "r": "None", "N": f"node{number % 97}", "S": "2026-01-01T00:00:00"}
    waits = {"T": "PENDING", "r": "Priority", "N": "", "S": "N/A"}
    return {"i": str(number), "A": str(number), "j": name, "u": "me", **(state if runs else waits)}


def main(client: str, options: list[str]) -> None:
    """Answers as a client does; only squeue knows anything."""
    given = dict(option[2:].split("=", 1) for option in options if "=" in option)
    if client != "squeue":
        return
    text = Path(os.environ["SIMULATED_SLURM"], "jobs.json").read_text()
    for held in json.loads(text):
        is_meant = all(
            held[letter] in given[key].split(",")
            for key, letter in (("name", "j"), ("jobs", "i"))
            if key in given
        )
        if is_meant:
            parts = re.split(r"%([A-Za-z])", given["format"])
            print("".join(held.get(p, "") if i % 2 else p for i, p in enumerate(parts)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
