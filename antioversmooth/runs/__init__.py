"""A run: one experiment with one seed, and its directory, which is the only truth about it.

results/runs/<experiment>/seed<k>-<id8>/
  spec.yaml          the resolved experiment: what a person reads, and what `train` loads
  intent.json        written before anything is submitted: back end, who, when, which code
  attempts.jsonl     one line when an attempt starts and one when it ends, with the reason
  metrics.jsonl      the journal (see journal.py)
  checkpoints/       the last two and the best, each with its checksum
  result.json        written last; its presence is what "done" means
  provenance.json    what the newest attempt ran on, and the data that the run began on
  heartbeat          touched every few seconds while an attempt lives
  logs/attempt<n>/   created exclusively: the number of an attempt is whoever makes its folder
"""

from antioversmooth.runs.batch import split_batch
from antioversmooth.runs.data import began_on, require_same_data
from antioversmooth.runs.directory import Run
from antioversmooth.runs.lifecycle import RunState, state
from antioversmooth.runs.others import older, since_then
from antioversmooth.runs.planning import plan, profile_folder
from antioversmooth.runs.science import ORIGINS, identity, plain, scientific

__all__ = [
    "ORIGINS",
    "Run",
    "RunState",
    "began_on",
    "identity",
    "older",
    "plain",
    "plan",
    "profile_folder",
    "require_same_data",
    "scientific",
    "since_then",
    "split_batch",
    "state",
]
