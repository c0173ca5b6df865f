"""SLURM's commands on this machine, their versions beside the controller's, and accounting."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping

from antioversmooth.errors import LaunchError
from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration.doctor.site import Site, found_on_login
from antioversmooth.orchestration.slurm import facts

NEEDED = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
OLDEST_TESTED, NEWEST_TESTED = (20, 11), (25, 11)
"""Releases of SLURM whose output is known, the first and the last."""
SHORT_MEMORY_S = 60
"""A controller that forgets ended jobs faster than this has forgotten them at the next look."""


def clients(_: Site) -> Iterator[Finding]:
    """Whether SLURM's commands are here, answer, and agree with the controller."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        text = f"{', '.join(missing)} not on PATH"
        advice = "load SLURM's module, or log in to a machine that submits jobs"
        yield found_on_login("SLURM's commands", Level.wrong, text, advice)
        return
    here, config = release(facts.version()), facts.configuration()
    there = release(config.get("SLURM_VERSION", ""))
    yield _versions(here, there, config.get("ClusterName", ""))
    yield _accounting(config)


def release(text: str) -> tuple[int, int] | None:
    """Year and month of a release of SLURM in the words of a command; None without one."""
    found = re.search(r"\b(\d\d)\.(\d\d)\b", text)
    return (int(found[1]), int(found[2])) if found else None


def _versions(here: tuple[int, int] | None, there: tuple[int, int] | None, cluster: str) -> Finding:
    check = "SLURM's commands"
    if here is None or there is None:
        text = "the version of SLURM is not in the words of `sbatch --version` and `scontrol`"
        advice = "is a program of the site in front of them? runs may work nevertheless"
        return found_on_login(check, Level.warning, text, advice)
    text = f"cluster {cluster}, SLURM {_words(there)}"
    if here != there:
        text += f", and the commands here are of {_words(here)}"
        advice = "load the module of the controller's release"
        return found_on_login(check, Level.wrong if here > there else Level.warning, text, advice)
    if not OLDEST_TESTED <= there <= NEWEST_TESTED:
        advice = f"tested are {_words(OLDEST_TESTED)} to {_words(NEWEST_TESTED)}"
        return found_on_login(check, Level.warning, text, advice)
    return found_on_login(check, Level.ok, text)


def _words(version: tuple[int, int]) -> str:
    return "{:02}.{:02}".format(*version)


def _accounting(config: Mapping[str, str]) -> Finding:
    check = "accounting"
    memory = re.match(r"\d+", config.get("MinJobAge", ""))
    forgets = f"SLURM forgets a job {memory[0]} s after its end" if memory else ""
    if config.get("AccountingStorageType", "").endswith("none"):
        advice = (
            "nothing to do: run directories hold what is needed. A job that dies unseen while no"
            " launcher looks is `lost` rather than `node-fail` or `out-of-memory`"
        )
        return found_on_login(check, Level.warning, f"none; {forgets}", advice)
    try:
        facts.require_accounting()
    except LaunchError as err:
        advice = "runs work without it; ask your site why sacct fails"
        return found_on_login(check, Level.warning, str(err), advice)
    if memory and int(memory[0]) < SHORT_MEMORY_S:
        return found_on_login(check, Level.ok, f"sacct answers, which is needed: {forgets}")
    return found_on_login(check, Level.ok, f"sacct answers; {forgets}")
