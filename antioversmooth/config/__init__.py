"""Types and rules of a spec, one dataclass for each section. Values are YAML under `experiments/`.

A docstring under each field gives its meaning and unit; docs/spec.md and the JSON Schema show it.
`option` declares a field with its constraints (`constraints`) and its part in a run's identity:
    identity=False          where and how a run runs: never part of the identity.
    identity=function       part of the identity where the function of the config is true: where
                            the field has an effect. Elsewhere an `identity_default` leaves it
                            out, and without one its default (or `without_effect`) stands for it.
    acts_in=function        the same by a function of the whole experiment, where another section
                            decides whether the field has an effect.
    identity_default=value  a field that was added after runs existed: not part of the identity
                            while it has this value, whatever its default becomes later.
    identified=function     the value that is part of the identity, where it is not the field's.
    formerly=key            the key of the field in identities, and in specs that runs recorded
                            before it had its name.
"""

from antioversmooth.config.cluster import ClusterConfig, GpuRequest, ProcessStarter
from antioversmooth.config.container import ContainerConfig, ContainerRuntime
from antioversmooth.config.data import DataConfig, DataSource
from antioversmooth.config.experiment import Experiment
from antioversmooth.config.figure import Figure, FigureRow, Panel, PanelKind, ReferenceCurve
from antioversmooth.config.model import Initialisation, ModelConfig
from antioversmooth.config.recipe import (
    FAST,
    CutmixBox,
    Distillation,
    Precision,
    RecipeConfig,
    RepeatedViews,
    ScheduleUnit,
)
from antioversmooth.config.runtime import Compiler, RuntimeConfig
from antioversmooth.config.table import PaperValue, Table, TableRow
from antioversmooth.config.types import as_recorded, make
from antioversmooth.constraints import MISSING
from antioversmooth.methods import Family
from antioversmooth.methods.featscale import ScalingVariant

__all__ = [
    "FAST",
    "MISSING",
    "ClusterConfig",
    "Compiler",
    "ContainerConfig",
    "ContainerRuntime",
    "CutmixBox",
    "DataConfig",
    "DataSource",
    "Distillation",
    "Experiment",
    "Family",
    "Figure",
    "FigureRow",
    "GpuRequest",
    "Initialisation",
    "ModelConfig",
    "Panel",
    "PanelKind",
    "PaperValue",
    "Precision",
    "ProcessStarter",
    "RecipeConfig",
    "ReferenceCurve",
    "RepeatedViews",
    "RuntimeConfig",
    "ScalingVariant",
    "ScheduleUnit",
    "Table",
    "TableRow",
    "as_recorded",
    "make",
]
