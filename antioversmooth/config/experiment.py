"""One row of a table: all parts of a spec together."""

from __future__ import annotations

from dataclasses import dataclass, field

from antioversmooth.config.checks import MISSING, off_identity, rules
from antioversmooth.config.cluster import ClusterConfig
from antioversmooth.config.data import DataConfig
from antioversmooth.config.model import ModelConfig, Scaling
from antioversmooth.config.recipe import RecipeConfig
from antioversmooth.config.runtime import RuntimeConfig


@dataclass
class Experiment:
    """One table row: what to run."""

    name: str = off_identity()
    """The spec's file name without ending; names the run directory."""
    title: str = off_identity("")
    """For people: DeiT-S, 12 layers, + AttnScale."""
    profile: str = off_identity("imagenet")
    """imagenet, or mini: every row shrunk to minutes on a CPU."""
    revision: int = 1
    """Raised by hand when the code's meaning changes, so that old runs are no longer this
    experiment."""
    model: ModelConfig = MISSING
    """The model."""
    data: DataConfig = MISSING
    """The data."""
    recipe: RecipeConfig = MISSING
    """The training."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig, metadata={"identity": False})
    """How it runs."""
    cluster: ClusterConfig = field(default=MISSING, metadata={"identity": False})
    """Where it runs."""

    def __post_init__(self) -> None:
        with rules() as require:
            steps = self.data.num_train // self.recipe.global_batch
            require(
                self.recipe.epochs == 0 or steps > 0,
                "recipe.global_batch",
                self.recipe.global_batch,
                f"at most data.num_train = {self.data.num_train}",
            )
            excluding = self.model.mask_aware and self.model.scaling is Scaling.attnscale
            require(
                not excluding or self.recipe.attention_dropout == 0,
                "recipe.attention_dropout",
                self.recipe.attention_dropout,
                "0 with model.mask_aware, whose AttnScale has no form that dropout falls on",
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last, partial batch is dropped."""
        return self.data.num_train // self.recipe.global_batch

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.recipe.epochs
