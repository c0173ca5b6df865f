"""The shell lines of a batch script around the program that srun starts.

The lines of `cluster.setup` run in a subshell. Only srun and its processes take anything over from
it: variables, limits, the umask. Options, traps, aliases, functions and an early end there do not
reach the lines of this module, and the end of the script runs in any case.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from antioversmooth.orchestration.slurm.environment import MPI, PYTHON, RANK, SRUN, SRUN_PREFIXES

MASTER = '"$_master:$_port"'
"""Address and port where the ranks meet."""
_PORT = "$((20000 + (SLURM_JOB_ID + 997 * ${SLURM_RESTART_COUNT:-0}) % 12000))"
_PROGRAM = "/usr/bin/env"
"""Starts a program, also where a function has its name."""
_FIRST_HOST = "${SLURM_JOB_NODELIST%%[[,]*}[[:alnum:]._-]*"
"""Pattern of the name of a job's first host, in the words of bash."""
_TURN = '"SLURM_JOB_ID=$SLURM_JOB_ID" "SLURM_RESTART_COUNT=${SLURM_RESTART_COUNT:-0}"'
"""The job and its turn as SLURM sets them, which `setup` may not."""
STAGE = '"$SLURM_JOB_ID"_stage.txt'
"""Name of the file in which a job writes how far it came: `hosts` and the output of scontrol where
that names none, `setup` and the last command of that, or `srun` and its exit code."""


def lines_before(code: str, folder: str, setup: Sequence[str]) -> list[str]:
    """Lines before the program; they open the subshell that `lines_after` closes.

    Args:
        code: The quoted folder of the package that the job runs.
        folder: The quoted folder of the job's output.
        setup: Lines of the profile.
    """
    unset = " ".join(f"-u {name}" for name in (*RANK, *PYTHON))
    prefixes = " ".join(f"${{!{prefix}@}}" for prefix in (*SRUN_PREFIXES, *MPI))
    return [
        "# BASH_ENV may set options and traps of this shell; a site's login or prolog, of srun",
        "set +eu; trap - ERR DEBUG EXIT",
        f"unset {prefixes} {' '.join(SRUN)}",
        f"[ -d {code} ] || exit 1  # without a snapshot, Python imports an installed package",
        # a site's scontrol may print notices, too: the first host has the list's first letters
        f'_said=$({_PROGRAM} scontrol show hostnames "$SLURM_JOB_NODELIST" 2>&1)',
        f'_master=$({_PROGRAM} grep -m 1 -xE "{_FIRST_HOST}" <<< "$_said")',
        # jobs and their turns differ in the port: a program of somebody else may hold one
        f"_port={_PORT}  # below the ephemeral ports of Linux",
        "_srun=$(type -P srun || echo srun)",
        # a program, so no function of `setup` takes the place of what it starts; without
        # PYTHONSAFEPATH, `-m` imports from the current folder first
        f"_env=({_PROGRAM} {unset} PYTHONSAFEPATH=1 {_TURN})",
        f"_stage={folder}/{STAGE}",
        f"_setup={shlex.quote(chr(10).join(setup))}",
        f"started=$({_PROGRAM} date +%s)",
        "trap : TERM  # the ranks save and exit; the epilogue must still run",
        "(  # whatever `setup` does to its shell, it does not do to the rest of this script",
        '[ "$_master" ] || { echo "hosts $_said" >| "$_stage"; exit 1; }',
        'echo setup >| "$_stage"',
        r"""trap '[ "$BASH_COMMAND" = "eval \"\$_setup\"" ] || _last=$BASH_COMMAND' DEBUG""",
        """trap '[ "${_ran-}" ] || echo "setup $_last" >| "$_stage"' EXIT""",
        'eval "$_setup"',
        "set +eu; trap - DEBUG ERR; trap : TERM; _ran=1",
    ]


def srun_line(code: str, options: Sequence[str], program: str) -> str:
    """The command that starts the program in each task."""
    ranks = 'MASTER_ADDR="$_master" MASTER_PORT="$_port"'
    srun = f'"$_srun" {shlex.join(options)}'
    return f"{_environment(code)} {ranks} \\\n  {srun} \\\n  {program}"


def _environment(code: str) -> str:
    """The beginning of a command that runs the snapshot, whatever launched the job before."""
    return f'"${{_env[@]}}" PYTHONPATH={code}"${{PYTHONPATH:+:$PYTHONPATH}}"'


ASKS_SLURM = [
    "sh",
    "-c",
    'env squeue --noheader --jobs="$SLURM_JOB_ID" && command -v scontrol && command -v sbatch',
]
"""A command that succeeds where SLURM's clients are and reach their cluster."""


def lines_after(code: str, command: str, inside: str = "", can_be_inside: str = "") -> list[str]:
    """Lines after the program.

    Args:
        command: A command that runs at the end, with the exit code of srun and the time when the
            job started, in seconds since 1970; empty: none.
        inside: The same command in a container; empty: without one.
        can_be_inside: `ASKS_SLURM` in the container: the command needs SLURM.
    """
    end, end_inside = (
        f'{_environment(code)} {one} "$code" "$started"' for one in (command, inside)
    )
    lines = ['code=$?; echo "srun $code" >| "$_stage"; exit "$code"', ")", "code=$?"]
    if not command:
        return [*lines, 'exit "$code"']
    if not inside:
        return [*lines, end]
    condition = f"if {can_be_inside} > /dev/null 2>&1; then"
    return [*lines, condition, f"  {end_inside}", "else", f"  {end}", "fi"]
