"""Types and rules of a spec, one dataclass for each section. Values are YAML under `experiments/`.

A docstring under each field gives its meaning and unit; docs/spec.md and the JSON Schema show it.
`option` declares a field with its constraints (`constraints`) and its part in a run's identity:
    identity=False          where and how a run runs: never part of the identity.
    identity_default=value  a field that was added after runs existed: not part of the identity
                            while it has this value, whatever its default becomes later.
"""

from antioversmooth.config.cluster import ClusterConfig, ProcessStarter
from antioversmooth.config.constraints import MISSING
from antioversmooth.config.data import DataConfig, DataSource
from antioversmooth.config.experiment import Experiment
from antioversmooth.config.figure import Figure, FigureRow, Panel, PanelKind, ReferenceCurve
from antioversmooth.config.model import Family, Initialisation, ModelConfig, Scaling, ScalingVariant
from antioversmooth.config.recipe import Distillation, Precision, RecipeConfig, ScheduleUnit
from antioversmooth.config.runtime import Compiler, RuntimeConfig
from antioversmooth.config.table import PaperValue, Table, TableRow
from antioversmooth.config.types import make

__all__ = [
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
    "make",
]
