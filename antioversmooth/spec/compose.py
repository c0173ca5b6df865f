"""A row composed by hydra and typed by OmegaConf: the values that a run will have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from antioversmooth.config import Experiment
from antioversmooth.errors import SpecError

T = TypeVar("T")

_HYDRA_ITSELF = (
    "env",
    "help",
    "hydra_help",
    "hydra_logging",
    "job_logging",
    "launcher",
    "output",
    "sweeper",
)
"""Groups of hydra's own configuration. Nothing of it is used here, and composing it costs a third
of the time."""


def compose(path: Path, overrides: Sequence[str]) -> Experiment:
    """The experiment of a row.

    Raises:
        SpecError: A rule of config/ is broken (`parts` name the keys), or hydra refuses what it is
            given.
    """
    # only here: a help text needs no hydra
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    GlobalHydra.instance().clear()
    # a row's first default: gives every key its type and default
    ConfigStore.instance().store("schema", Experiment)
    without = [f"~hydra/{group}" for group in _HYDRA_ITSELF]
    try:
        with initialize_config_dir(str(path.parent), version_base=None):
            composed = hydra_compose(path.stem, overrides=[*overrides, *without])
        composed["name"] = path.stem
        experiment = OmegaConf.to_object(composed)
    except (HydraException, OmegaConfBaseException) as err:
        cause = err.__cause__ if isinstance(err.__cause__, OmegaConfBaseException) else err
        raise SpecError(str(cause).split("\n\nConfig search path")[0], where=path.name) from err
    assert isinstance(experiment, Experiment)
    return experiment


def typed(schema: type[T], content: dict[str, Any]) -> T:
    """Plain values as a config, for which its rules are checked.

    Raises:
        SpecError: A rule is broken.
        OmegaConfBaseException: A value is missing or of another type.
    """
    made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), content))
    assert isinstance(made, schema)
    return made
