"""SLURM's reasons for a job that waits, in words; its list: JOB REASON CODES in squeue's manual."""

from __future__ import annotations

import re

from antioversmooth.orchestration.slurm.client import Job
from antioversmooth.runs.record import RunRecord

DEPENDENCY_FAILED = "DependencyNeverSatisfied"
"""SLURM's reason of a job that waits for one that failed."""

_REASONS = {
    "None": "SLURM has not looked at it yet",
    "Priority": "jobs of higher priority run first",
    "Resources": "it is next, and waits for free nodes",
    "SchedDefer": "SLURM looks at it in its next round",
    DEPENDENCY_FAILED: "the job that it waits for did not succeed: launch again",
    "JobHeldUser": "you hold it (scontrol release {id})",
    "JobHeldAdmin": "an administrator holds it",
    "JobHoldMaxRequeue": "it was requeued too often and is held (scontrol release {id})",
    "launch failed requeued held": "its node could not start it (scontrol release {id} retries)",
    "user env retrieval failed requeued held": (
        "its node could not read your environment (scontrol release {id} retries)"
    ),
    "job requeued in held state": "it was requeued and is held (scontrol release {id})",
    "JobLaunchFailure": "its node could not start it",
    "PartitionNodeLimit": "it requests more nodes than the partition allows for one job",
    "PartitionTimeLimit": "cluster.time_min is longer than the partition allows",
    "PartitionConfig": "it requests more than the partition has",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition is inactive",
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved",
    "Nodes required for job are DOWN": "nodes that it needs are down, drained or reserved",
    "NodeDown": "a node that it needs is down",
    "FrontEndDown": "the cluster's front end is down",
    "Reservation": "it waits for its reservation (cluster.sbatch.reservation)",
    "ReservationDeleted": "its reservation was deleted (cluster.sbatch.reservation)",
    "Licenses": "it waits for licences",
    "PowerNotAvail": "it waits for electrical power",
    "PowerReserved": "it waits for electrical power that is reserved",
    "Cleaning": "its last turn is being cleaned up",
    "Prolog": "a prolog of its nodes is running",
    "DeadLine": "it cannot end before its deadline (cluster.sbatch.deadline)",
    "FedJobLock": "another cluster of the federation is deciding on it",
    "InactiveLimit": "SLURM's limit on inactive jobs is reached",
    "SystemFailure": "SLURM, its file system or its network failed",
    "BadConstraints": "no node has what cluster.constraint asks for",
    "InvalidAccount": "cluster.account is not one of yours",
    "AccountNotAllowed": "cluster.account may not use this partition",
    "InvalidQOS": "cluster.qos is not one of yours",
    "QOSNotAllowed": "cluster.qos may not be used with this account or partition",
    "QOSUsageThreshold": "your share of computing time is too low for cluster.qos",
    "MaxMemPerLimit": "it requests more memory than the cluster allows (cluster.mem_gb)",
}
_KINDS = (
    ("BurstBuffer", "it waits for a burst buffer"),
    ("QOSMin", "it requests less than cluster.qos demands of a job"),
    (
        "(?:Assoc|QOS|Max).*Per(?:Job|Node)",
        "it requests more than your account or quality of service allows for one job, and never"
        " starts like this",
    ),
    (
        "(?:Assoc|QOS)Grp.*(?<!Run)(?:Minutes|WallLimit)",
        "the computing time of your account or quality of service is used up",
    ),
    (
        "QOS|Assoc|Max|Grp|AccountingPolicy",
        "a limit of your account or quality of service is reached",
    ),
)
"""Beginnings of reasons that are many: the first one that fits."""


def describe_pending_reason(record: RunRecord, job: Job, *, has_run: bool) -> str:
    """Why a job waits, with SLURM's word in brackets and the time from which it may start.

    Args:
        has_run: Whether the job was running before.
    """
    word = _word(job)
    text = _text(record, word, has_run=has_run).format(id=job.id)
    when = "" if job.start in ("N/A", "") else f", not before {job.start}"
    return f"{text} [{word}]{when}"


def is_held(job: Job) -> bool:
    """Whether a job waits for a person who releases it."""
    states = ("REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
    return job.state in states or re.search("held|HoldMaxRequeue", job.reason, re.I) is not None


def _word(job: Job) -> str:
    """SLURM's reason without what follows it: nodes, or a sentence."""
    return job.reason.strip("()").split(",")[0].replace("_", " ")


def _text(record: RunRecord, word: str, *, has_run: bool) -> str:
    if word == "BeginTime":
        if has_run:
            return "SLURM delays a requeued job for a moment"
        is_asked = record.run.experiment.cluster.sbatch.get("begin") is not None
        return f"it waits for its begin time{' (cluster.sbatch.begin)' if is_asked else ''}"
    if word == "Dependency":
        is_needed = any(needed.result() is None for needed in record.run.dependencies)
        return (
            "a run that it needs is not finished" if is_needed else "its last job is still ending"
        )
    kinds = (text for beginning, text in _KINDS if re.match(beginning, word))
    return _REASONS.get(word) or next(kinds, "it waits")
