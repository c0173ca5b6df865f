"""A run: one experiment with one seed, and its directory, which is the only truth about it.

results/runs/<experiment>/seed<k>-<id8>/
  spec.yaml          the resolved experiment: what a person reads, and what `train` loads
  intent.json        written before anything is submitted: back end, who, when, which code
  intents.jsonl      all launches; intent.json is the newest of them
  attempts.jsonl     one line when an attempt starts and one when it ends, with the reason
  metrics.jsonl      the journal (see journal.py)
  checkpoints/       the last two and the best, each with its checksum
  result.json        written last; its presence is what "done" means
  provenance.json    what the newest attempt ran on, and the data that the run began on
  heartbeat          touched every few seconds while an attempt lives
  logs/attempt<n>/   created exclusively: the number of an attempt is whoever makes its folder
  logs/launcher.log  what its processes print on this machine before an attempt has logs of its own
  launch.lock        held by whoever starts the run, and by what that started (see lock.py)
  lock               held by the process that trains it
  process.json       on this machine: the process that trains it (see orchestration/process.py)
  cancelled          touched when a person wants a run on this machine to end
  jobs.jsonl         on SLURM: each job, how it ended, what a person asked for (see orchestration/jobs.py)
  slurm/             on SLURM: the batch script, and what its jobs print before an attempt has logs of its own
  analysis/          measurements and pictures of its layers, where somebody ran `antioversmooth analyze`
"""

from antioversmooth.runs.batch import split_batch
from antioversmooth.runs.data import recorded_data, require_same_data
from antioversmooth.runs.directory import Run
from antioversmooth.runs.identity import ORIGINS, identity, identity_fields, to_json
from antioversmooth.runs.lifecycle import RunState, state
from antioversmooth.runs.others import explain_identity_change, sibling_runs
from antioversmooth.runs.planning import plan, profile_folder, with_dependencies

__all__ = [
    "ORIGINS",
    "Run",
    "RunState",
    "explain_identity_change",
    "identity",
    "identity_fields",
    "plan",
    "profile_folder",
    "recorded_data",
    "require_same_data",
    "sibling_runs",
    "split_batch",
    "state",
    "to_json",
    "with_dependencies",
]
