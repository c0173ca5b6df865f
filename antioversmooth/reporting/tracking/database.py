"""Opens MLflow's store for one writer at a time, with one clear message if it does not answer."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from antioversmooth.errors import TrackingError
from antioversmooth.redact import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

ID, ROW, TABLE, MIRRORED, MODEL = (
    f"antioversmooth.{key}" for key in ("id", "row", "table", "mirrored", "model")
)
"""Tags of an MLflow run: the run, row or table that it mirrors; its mark; its logged model."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # hides the notes about creating tables
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # MLflow's defaults wait four minutes for a dead server, twenty for a silent one
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Set before mlflow is imported, unless the user has set them."""


def store_uri(results: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or a SQLite file in the project's results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results.absolute() / 'mlflow.db'}"


def is_server(uri: str) -> bool:
    """Whether a URI names a server, which stores artifacts itself."""
    return uri.startswith(("http://", "https://"))


def without_credentials(uri: str) -> str:
    """The URI without user name and password."""
    credentials, at, _ = urlsplit(uri).netloc.rpartition("@")
    return uri.replace(credentials + at, "", 1)


@contextmanager
def open_client(results: Path) -> Iterator[MlflowClient]:
    """A client whose store exists and is locked against other processes of this project.

    The lock makes "find the run, or create it" safe. It also keeps two processes from creating the
    schema of a new SQLite file at the same time, which breaks MLflow.

    Args:
        results: The project's results folder.

    Raises:
        TrackingError: The store does not answer, or refuses a request.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # takes seconds to import
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = store_uri(results)
    if problem := _path_problem(uri):
        advice = "move the project, or set MLFLOW_TRACKING_URI to a server's"
        raise TrackingError(f"{problem}; {advice}")
    results.mkdir(parents=True, exist_ok=True)
    with (results / "mlflow.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            client = MlflowClient(uri)
            # Creates the schema, or fails if nothing answers.
            client.search_experiments(max_results=1)
            yield client
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as err:
            # ImportError: the driver of the database is not installed
            raise TrackingError(
                f"MLflow at {without_credentials(uri)}: {_reason(err, uri)}. Run directories and"
                " tables are complete without it; run `antioversmooth sync` when it is back"
            ) from err


def _path_problem(uri: str) -> str:
    """Why MLflow cannot open a SQLite store: it misreads some paths; empty if it can."""
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
    """The system's reason why a server does not answer, or the first line of the error."""
    text = str(err).strip()
    if is_server(uri) and (refused := re.search(r"\[Errno -?\d+\] ([\w ]+)", text)):
        return f"it does not answer ({refused[1]})"
    line = next(iter(text.splitlines()), type(err).__name__).rstrip(". ")
    return redact(line.replace(uri, without_credentials(uri)))


def experiment_id(client: MlflowClient, name: str, results: Path) -> str:
    """The id of the MLflow experiment with this name, created if it is missing."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = (results.absolute() / "mlartifacts").as_uri()
    if is_server(store_uri(results)):
        return str(client.create_experiment(name))
    return str(client.create_experiment(name, artifact_location=location))


def runs(client: MlflowClient, experiment_ids: Sequence[str]) -> list[MlflowRun]:
    """All runs of MLflow experiments, from all pages of the search."""
    found: list[MlflowRun] = []
    token = None
    while True:
        page = client.search_runs(list(experiment_ids), max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
