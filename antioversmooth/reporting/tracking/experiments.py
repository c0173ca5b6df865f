"""The MLflow experiments of this project, found again after people renamed or deleted them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from antioversmooth.reporting.tracking import database
from antioversmooth.reporting.tracking.checks import is_server
from antioversmooth.text import one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

NAME = "antioversmooth.experiment"
"""Tag of an MLflow experiment: its name when it was created, which people may change."""


@dataclass(frozen=True)
class Home:
    """The MLflow experiment that runs are mirrored into."""

    id: str
    name: str
    """Its name in MLflow."""
    note: str = ""
    """A change to it that a person did not ask for."""


class Experiments:
    """The experiments of a store, read once."""

    def __init__(self, client: MlflowClient, results: Path) -> None:
        self.client, self.results = client, results

    def home(self, name: str) -> Home:
        """The active experiment that was created with this name.

        A deleted one is restored, with its runs. If MLflow refuses that, or if there is none, one
        is created.
        """
        known = self._created_as(name)
        active = [one for one in known if one.lifecycle_stage == "active"]
        if active:
            return Home(active[0].experiment_id, active[0].name)
        reason = ""
        for deleted in known:
            reason = self._restore(deleted)
            if not reason:
                note = "it was deleted in MLflow, and is restored"
                return Home(deleted.experiment_id, deleted.name, note)
        replaced = "it was deleted in MLflow, and is replaced, since MLflow does not restore it"
        return self._create(name, f"{replaced}: {reason}" if reason else "")

    def _created_as(self, name: str) -> list[Experiment]:
        """Experiments with the name in their tag, or with the name itself."""
        found = [one for one in self._tagged if one.tags[NAME] == name]
        if not found and (one := self.client.get_experiment_by_name(name)):
            found = [one]
        return found

    @cached_property
    def _tagged(self) -> list[Experiment]:
        """Experiments that this project created, the newest first."""
        from mlflow.entities import ViewType

        found: list[Experiment] = []
        token = None
        while True:
            page = self.client.search_experiments(
                ViewType.ALL, filter_string=f"tags.`{NAME}` LIKE '%'", page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found

    def _restore(self, deleted: Experiment) -> str:
        """Restores an experiment; returns MLflow's reason where it refuses."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.restore_experiment(deleted.experiment_id)
        except MlflowException as err:
            return one_line(str(err))
        return ""

    def _create(self, name: str, note: str) -> Home:
        """Creates an experiment; one that is deleted keeps its name."""
        names = (name if number == 1 else f"{name} ({number})" for number in count(1))
        free = next(one for one in names if self.client.get_experiment_by_name(one) is None)
        # a server has a place of its own for artifacts
        location = (
            None
            if is_server(database.store_uri(self.results))
            else (self.results.absolute() / "mlartifacts").as_uri()
        )
        created = self.client.create_experiment(free, location, tags={NAME: name})
        return Home(str(created), free, note)
