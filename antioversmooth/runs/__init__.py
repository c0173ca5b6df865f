"""Runs, one experiment with one seed each, and their directories: the only truth about them.

identity and planning make runs of experiments; directory is a run on disk, and lists its files;
journal, attempts, metrics, jobs, checkpoints and result are the formats of those files; record
reads all of them once; status is the one enum of a run's state; siblings and recorded_data compare
a run with others and with its data; lock keeps a second launcher or trainer away; machine asks for
what training needs besides devices.
"""

from antioversmooth.runs.batch import deal, split_batch
from antioversmooth.runs.directory import Run
from antioversmooth.runs.identity import ORIGINS, flatten, identity, identity_fields, to_json
from antioversmooth.runs.planning import plan, profile_folder, with_dependencies
from antioversmooth.runs.record import RunRecord
from antioversmooth.runs.recorded_data import recorded_data, require_same_data
from antioversmooth.runs.status import RunState, RunStatus

__all__ = [
    "ORIGINS",
    "Run",
    "RunRecord",
    "RunState",
    "RunStatus",
    "deal",
    "flatten",
    "identity",
    "identity_fields",
    "plan",
    "profile_folder",
    "recorded_data",
    "require_same_data",
    "split_batch",
    "to_json",
    "with_dependencies",
]
