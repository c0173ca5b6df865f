"""MLflow, opened: which store, by one writer at a time, and with one clear message where it does
not answer."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from antioversmooth.errors import TrackingError
from antioversmooth.redact import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

ID, ROW, TABLE, MIRRORED, MODEL = (
    f"antioversmooth.{key}" for key in ("id", "row", "table", "mirrored", "model")
)
"""Tags: the run directory, the row or the table that an MLflow run stands for; its mark; its logged
model."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # hides the notes about creating tables
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # MLflow's defaults wait four minutes for a dead server, twenty for a silent one
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Set where the user has not set them, before mlflow is imported."""


def store_uri(results: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or a SQLite file in the project's results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results.absolute() / 'mlflow.db'}"


def is_server(uri: str) -> bool:
    """Whether a URI names a server, which keeps artifacts itself."""
    return uri.startswith(("http://", "https://"))


def shown(uri: str) -> str:
    """The URI without the name and password that it may carry."""
    parts = urlsplit(uri)
    return (
        urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        if "@" in parts.netloc
        else uri
    )


@contextmanager
def opened(results: Path) -> Iterator[MlflowClient]:
    """A client whose store exists and that nobody else of this project writes to meanwhile.

    The lock is what makes "find the run, else create it" safe, and keeps two processes from
    creating the schema of a new SQLite file at once, which MLflow does not survive.

    Args:
        results: The project's results folder.

    Raises:
        TrackingError: The store does not answer, or refuses.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # takes seconds to import
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = store_uri(results)
    if why := _unfit(uri):
        raise TrackingError(f"{why}; move the project, or set MLFLOW_TRACKING_URI to a server's")
    results.mkdir(parents=True, exist_ok=True)
    with (results / "mlflow.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            client = MlflowClient(uri)
            # creates the schema, or finds out that nobody answers
            client.search_experiments(max_results=1)
            yield client
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as err:
            # ImportError: the driver of the database is not installed
            raise TrackingError(
                f"MLflow at {shown(uri)}: {_reason(err, uri)}. Run directories and tables are"
                " complete without it; once it is back, `antioversmooth sync` brings it up to date"
            ) from err


def _unfit(uri: str) -> str:
    """What keeps MLflow from a SQLite store, empty where nothing does: of some paths it takes a
    part for another."""
    if not uri.startswith("sqlite:"):
        return ""
    # MLflow writes the working directory unescaped into a new store
    if {"'", '"'} <= set(str(Path.cwd())):
        return f"MLflow cannot make a store where the path has both kinds of quotes: {Path.cwd()}"
    if "MLFLOW_TRACKING_URI" not in os.environ and re.search(r"\?|%[0-9A-Fa-f]{2}", uri):
        return (
            "MLflow cannot keep a store where the path has a question mark, or a percent sign"
            f" before digits: {uri}"
        )
    return ""


def _reason(err: Exception, uri: str) -> str:
    """Why it cannot be reached, in few words where the system has some, else the first line of what
    was said."""
    text = str(err).strip()
    if is_server(uri) and (refused := re.search(r"\[Errno -?\d+\] ([\w ]+)", text)):
        return f"it does not answer ({refused[1]})"
    line = next(iter(text.splitlines()), type(err).__name__).rstrip(". ")
    return redact(line.replace(uri, shown(uri)))


def experiment_id(client: MlflowClient, name: str, results: Path) -> str:
    """The id of the MLflow experiment of this name; made where it is missing."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    if is_server(store_uri(results)):
        return str(client.create_experiment(name))
    return str(
        client.create_experiment(
            name, artifact_location=(results.absolute() / "mlartifacts").as_uri()
        )
    )


def runs(client: MlflowClient, experiment_ids: Sequence[str]) -> list[MlflowRun]:
    """All runs of MLflow experiments, however many."""
    found: list[MlflowRun] = []
    token = None
    while True:
        page = client.search_runs(list(experiment_ids), max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
