"""What a spec says: one dataclass per concern, a docstring under each field with its unit and the
"of what".

Values live in YAML under `experiments/`; here are the types, and the rules that a single config can
check by itself. A rule that fails raises `SpecError` with the dotted key and the value, and says
what would be right.

Field metadata decides what identifies a run (see `runs.identity`):
    identity=False   where and how it runs, not what it computes: left out.
    neutral=value    the field was added after runs existed: left out while it has this value, so that those
                     runs keep their identity. The value is that of the day it was added, whatever
                     the default becomes later.
"""

from antioversmooth.config.cluster import ClusterConfig, ProcessStarter
from antioversmooth.config.constraints import MISSING
from antioversmooth.config.data import DataConfig, DataSource
from antioversmooth.config.experiment import Experiment
from antioversmooth.config.figure import Figure, FigureRow, Panel, PanelKind, ReferenceCurve
from antioversmooth.config.model import Family, Initialisation, ModelConfig, Scaling, ScalingVariant
from antioversmooth.config.recipe import Distillation, Precision, RecipeConfig, ScheduleUnit
from antioversmooth.config.rules import absolute
from antioversmooth.config.runtime import Compiler, RuntimeConfig
from antioversmooth.config.table import CONFIDENCES, PaperValue, Table, TableRow
from antioversmooth.config.types import make

__all__ = [
    "CONFIDENCES",
    "MISSING",
    "ClusterConfig",
    "Compiler",
    "DataConfig",
    "DataSource",
    "Distillation",
    "Experiment",
    "Family",
    "Figure",
    "FigureRow",
    "Initialisation",
    "ModelConfig",
    "Panel",
    "PanelKind",
    "PaperValue",
    "Precision",
    "ProcessStarter",
    "RecipeConfig",
    "ReferenceCurve",
    "RuntimeConfig",
    "Scaling",
    "ScalingVariant",
    "ScheduleUnit",
    "Table",
    "TableRow",
    "absolute",
    "make",
]
