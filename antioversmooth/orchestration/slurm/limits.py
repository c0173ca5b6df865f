"""Limits on the number of jobs, in the words in which SLURM refuses a job."""

from __future__ import annotations

import re

_LIMIT_WORD = re.compile(r"\b(?:Assoc|QOS|Max|Grp)[A-Za-z]+")
"""SLURM's words for limits: AssocMaxSubmitJobLimit, MaxSubmitJobsPerAccount, QOSGrpCpuLimit."""
_OF_JOBS = re.compile(r"Submit|JobCount|MaxJobs|GrpJobs")
"""Part of those words that are about the number of jobs, not about their size."""
_LIMIT_TEXTS = {
    r"job submit limit|too many (\w+ ){0,2}jobs|limit of \d+ (\w+ )?jobs": "submitted jobs",
    r"max(imum)? (number|count) of (\w+ ){0,2}jobs|job limit (is )?(reached|exceeded)": (
        "submitted jobs"
    ),
    r"(already have|max(imum)? of|at most|more than) \d+ ((queued|pending|running|active) )?jobs": (
        "submitted jobs"
    ),
    r"unable to accept job|resource temporarily unavailable": "MaxJobCount",
}
"""Patterns of texts of sbatch, or of a site's filter before it, without such a word."""


def submit_limit(why: str) -> str:
    """The limit on jobs in the queue that SLURM refuses a job for; empty for other reasons.

    A limit on the size of one job is another reason: such a job is never accepted. SLURM's sentence
    on an "accounting/QOS policy" names both kinds, and only the word before it tells which.
    """
    if words := _LIMIT_WORD.findall(why):
        return next((word for word in words if _OF_JOBS.search(word)), "")
    texts = (limit for text, limit in _LIMIT_TEXTS.items() if re.search(text, why, re.IGNORECASE))
    return next(texts, "")
