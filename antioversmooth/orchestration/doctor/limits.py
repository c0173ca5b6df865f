"""Limits of partition and account beside what the profile asks for, and SLURM's own word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration.doctor.site import Site, found_on_login
from antioversmooth.orchestration.slurm import client, facts, script
from antioversmooth.orchestration.slurm.limits import submit_limit

UNLIMITED = {"", "UNLIMITED", "ALL", "(null)", "N/A"}


def partitions(site: Site) -> Iterator[Finding]:
    """Whether each partition of the profile is up, and allows what the profile asks for."""
    there = {fields["PartitionName"]: fields for fields in facts.partitions()}
    default = next((n for n, fields in there.items() if fields.get("Default") == "YES"), "")
    for name in (site.cluster.partition or default).split(","):
        if name not in there:
            text = f"there is no partition {name!r}; there are {', '.join(sorted(there))}"
            yield found_on_login("partition", Level.wrong, text, "set cluster.partition")
            continue
        problems = list(_refusals(there[name], site))
        has = _partition_facts(there[name])
        if problems:
            text = f"{name}: {'; '.join(problems)} ({has})"
            advice = "change these fields of the profile, or its partition"
            yield found_on_login("partition", Level.wrong, text, advice)
        else:
            yield found_on_login("partition", Level.ok, f"{name}: {has}")


def _refusals(fields: Mapping[str, str], site: Site) -> Iterator[str]:
    """Reasons why a partition would not run the profile's jobs."""
    cluster = site.cluster
    if (state := fields.get("State", "UP")) != "UP":
        yield f"it is {state}"
    limit = minutes(fields.get("MaxTime", ""))
    if limit is not None and cluster.time_min > limit:
        yield f"cluster.time_min={cluster.time_min} is above its limit of {limit:g} minutes"
    nodes = [fields.get(key, "") for key in ("MaxNodes", "TotalNodes")]
    most = min((int(number) for number in nodes if number.isdecimal()), default=None)
    if most is not None and cluster.nodes > most:
        yield f"cluster.nodes={cluster.nodes} is above its {most} nodes"
    for key, field, value in (
        ("Accounts", "account", cluster.account),
        ("Qos", "qos", cluster.qos),
    ):
        allowed = fields.get(f"Allow{key}", "")
        if value and allowed not in UNLIMITED and value not in allowed.split(","):
            yield f"cluster.{field}={value} is not among {allowed}"
        if value and value in fields.get(f"Deny{key}", "").split(","):
            yield f"cluster.{field}={value} is denied"


def _partition_facts(fields: Mapping[str, str]) -> str:
    facts = {
        "time limit": fields.get("MaxTime", ""),
        "nodes": fields.get("TotalNodes", ""),
        "nodes of a job": fields.get("MaxNodes", ""),
        "preemption": fields.get("PreemptMode", ""),
        "grace": "" if fields.get("GraceTime", "0") == "0" else f"{fields['GraceTime']} s",
    }
    return ", ".join(f"{name} {value.lower()}" for name, value in facts.items() if value)


def minutes(text: str) -> float | None:
    """Minutes of a time of SLURM, as in 1-12:00:00; None without a limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, mins, seconds = (int(part or 0) for part in found.groups())
    return 1440 * days + 60 * hours + mins + seconds / 60


def accounts(site: Site) -> Iterator[Finding]:
    """Limits of the user's account and quality of service, where SLURM enforces any."""
    enforced = facts.configuration().get("AccountingStorageEnforce", "none").split(",")
    if enforced == ["none"]:
        return
    ours = facts.associations()
    names = sorted({one["Account"] for one in ours})
    cluster = site.cluster
    if cluster.account and cluster.account not in names:
        text = f"cluster.account={cluster.account} is none of yours: {', '.join(names)}"
        yield found_on_login("account", Level.wrong, text, "set cluster.account")
        return
    rules = [one for one in ours if cluster.account in (None, one["Account"])]
    if cluster.qos:
        known = {one["Name"]: one for one in facts.qualities_of_service()}
        if cluster.qos not in known:
            text = f"there is no cluster.qos={cluster.qos}: {', '.join(sorted(known))}"
            yield found_on_login("account", Level.wrong, text, "set cluster.qos")
            return
        rules.append(known[cluster.qos])
    yield _limits_of_user(names, rules, len(site.runs))


def _limits_of_user(
    names: Sequence[str], rules: Sequence[Mapping[str, str]], num_runs: int
) -> Finding:
    """The lowest limits on jobs, beside the number of runs."""
    limits: dict[str, int] = {}
    for key in ("MaxJobs", "MaxSubmit"):
        values = [int(rule[key]) for rule in rules if rule[key].isdecimal()]
        limits |= {key: min(values)} if values else {}
    text = ", ".join([*names, *(f"{key} {value}" for key, value in limits.items())])
    most = limits.get("MaxSubmit", num_runs)
    if num_runs <= most:
        return found_on_login("account", Level.ok, text)
    advice = f"launch with --follow --max-queued {most}: others are submitted as these end"
    text = f"{text}: fewer than the {num_runs} runs"
    return found_on_login("account", Level.warning, text, advice)


def acceptance(site: Site) -> Iterator[Finding]:
    """SLURM's word on a job of the profile at its full size, without one."""
    job = script.BatchJob(
        name="doctor", folder=site.results.absolute(), cluster=site.cluster, code=Path("/"),
        program=(), wait_s=60,
    )  # fmt: skip
    refusal = client.test_only(script.render(job))
    if limit := submit_limit(refusal):
        text = f"SLURM accepts no further job of yours now: {limit}"
        advice = "wait until others have ended; a launch with --follow does"
        yield found_on_login("sbatch --test-only", Level.warning, text, advice)
    elif refusal:
        text = f"SLURM would refuse a job of this profile: {refusal}"
        advice = "change the profile; a launch with --dry-run shows the script"
        yield found_on_login("sbatch --test-only", Level.wrong, text, advice)
    else:
        text = "SLURM would accept a job of this profile"
        yield found_on_login("sbatch --test-only", Level.ok, text)


def requeue(site: Site) -> Iterator[Finding]:
    """Whether jobs ask to be requeued, and the site's default for jobs that say nothing."""
    default = facts.configuration().get("JobRequeue", "1")
    if not site.cluster.requeue:
        text = "cluster.requeue=false: a turn submits its successor from the node"
        yield found_on_login("requeue", Level.ok, text)
    elif default == "0":
        text = "the site's default is JobRequeue=0; jobs of this profile ask for it (--requeue)"
        advice = "where the job below cannot be requeued: set cluster.requeue=false"
        yield found_on_login("requeue", Level.warning, text, advice)
