"""Opens MLflow's store for one writer at a time, with one clear message if it does not answer."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from antioversmooth.errors import LaunchError, TrackingError, error_message
from antioversmooth.redact import redact
from antioversmooth.reporting.tracking import checks
from antioversmooth.reporting.tracking.checks import is_server, without_credentials
from antioversmooth.runs import Run
from antioversmooth.runs.lock import hold_lock
from antioversmooth.text import visible

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

ID, DIRECTORY, ROW, TABLE, MIRRORED, MODEL = (
    f"antioversmooth.{key}" for key in ("id", "directory", "row", "table", "mirrored", "model")
)
"""Tags of an MLflow run: the run, its directory, the row or table that it mirrors; its mark; its
logged model."""
PARENT = "mlflow.parentRunId"
TAGS = (ID, DIRECTORY, ROW, TABLE, MIRRORED, MODEL, PARENT)
"""The tags by which runs are found again."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # hides notes about creating tables, and tracebacks of errors that it raises besides
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    # MLflow's defaults wait four minutes for a dead server, twenty for a silent one
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # PostgreSQL's default is the network's, two minutes
    "PGCONNECT_TIMEOUT": "10",
}
"""Set before mlflow is imported, unless the user has set them."""

WRITER_LOCK = "mlflow.db.lock"
"""Held by the process of this project that writes to MLflow."""
WRITER_TIMEOUT_S = 120.0
"""Wait for another writer: a first sync of thousands of runs takes minutes."""


def store_uri(results: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or a SQLite file in the project's results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{results.absolute() / 'mlflow.db'}"


def is_own(results: Path) -> bool:
    """Whether the store lies in the results folder."""
    path = checks.database_file(store_uri(results))
    return path is not None and path.parent.resolve() == results.resolve()


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
    busy = (
        f"another sync, launch or ui has held {results / WRITER_LOCK} for {WRITER_TIMEOUT_S:.0f} s"
    )
    uri = store_uri(results)
    with refusals(results):
        checks.require_usable(uri)
        with hold_lock(results, WRITER_LOCK, timeout_s=WRITER_TIMEOUT_S, message=busy):
            yield _connect(uri)


def _connect(uri: str) -> MlflowClient:
    """A client of a store that answers; a new store gets its schema."""
    # takes seconds to import
    from mlflow import MlflowClient

    if not is_server(uri):
        from mlflow.store.db import utils

        # MLflow opens a database ten times, with waits of two minutes together
        utils.MAX_RETRY_COUNT = 1
    client = MlflowClient(uri)
    require_answer(client)
    return client


def require_answer(client: MlflowClient) -> None:
    """Asks the store for something, which raises MLflow's error where it does not answer."""
    client.search_experiments(max_results=1)


@contextmanager
def refusals(results: Path) -> Iterator[None]:
    """Makes one message of whatever MLflow and its database raise.

    Raises:
        TrackingError: With the store, the reason and the next step.
    """
    try:
        yield
    except TrackingError:
        raise
    except _errors() as err:
        uri = store_uri(results)
        reason = _reason(err, uri)
        raise TrackingError(
            f"MLflow at {without_credentials(uri)}: {reason}; {_advice(reason, uri)}."
            " Run directories and tables are complete without it"
        ) from err


def _errors() -> tuple[type[Exception], ...]:
    """The errors of MLflow, of what it builds upon, and of the checks before."""
    # ImportError: the driver of the database is not installed
    known = (LaunchError, sqlite3.Error, OSError, ImportError)
    # the checks refuse a store before MLflow is imported
    if "mlflow" not in sys.modules:
        return known
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (*known, CommandError, MlflowException, SQLAlchemyError)


_REASON_LENGTH = 300
"""Most characters of a reason: a server may answer with a web page."""


def _reason(err: Exception, uri: str) -> str:
    """The system's reason why a server does not answer, or the first sentence of the error."""
    text = error_message(err).strip()
    if is_server(uri):
        if refused := re.search(r"\[Errno -?\d+\] ([\w ]+)", str(err)):
            return f"it does not answer ({refused[1]})"
        if isinstance(err, TimeoutError) or "timed out" in text:
            return "it does not answer in time"
        if failing := re.search(r"too many (5\d\d) error responses", text):
            return f"it answers with error {failing[1]}"
    line = next(iter(text.splitlines()), type(err).__name__).rstrip(". ")
    sentence = re.split(r"\. (?=[A-Z])", line.replace(uri, without_credentials(uri)))[0]
    return redact(re.sub(r"^\([\w.]+\) ", "", sentence)[:_REASON_LENGTH])


_DELETE = (
    "move the file away, with mlartifacts/ beside it, and sync: MLflow's runs are written again"
    " from the run directories"
)
_ELSEWHERE = "set MLFLOW_TRACKING_URI to a SQLite file or to an MLflow server"
_ADVICE = {
    "malformed|not a database": _DELETE,
    "is locked": "another process has it open: end that one, or sync later",
    "another sync": "wait for it, or end it",
    "readonly|read-only|denied|not permitted|unable to open": (
        f"make the file and its folder writable, or {_ELSEWHERE}"
    ),
    "is full|No space|quota": "free some space, and run `antioversmooth sync`",
    r"\b40[13]\b": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a token",
    r"\b404\b|JSON|no web server": "another program answers at MLFLOW_TRACKING_URI: correct it",
    "No module named": f"install that driver, or {_ELSEWHERE}",
    "No such file|folder|directory|filesystem|unsupported|databricks": _ELSEWHERE,
}
"""The next step for a reason that matches a pattern."""


def _advice(reason: str, uri: str) -> str:
    """The next step of a person who reads the reason."""
    if found := re.search(r"found version (\w+)|revision identified by '(\w+)'", reason):
        return _schema_advice(found[1] or found[2], uri)
    later = "run `antioversmooth sync` when it is back"
    return next((step for sign, step in _ADVICE.items() if re.search(sign, reason)), later)


def _schema_advice(revision: str, uri: str) -> str:
    """The next step where the schema of a database is another version's."""
    import mlflow

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(migrations.glob(f"{revision}_*.py")):
        return f"run `mlflow db upgrade {without_credentials(uri)}`, or {_DELETE}"
    newer = f"a newer MLflow than {mlflow.__version__} wrote it: install that one"
    return f"{newer}, or {_DELETE}"


@dataclass(frozen=True)
class Held:
    """A run of MLflow's, with the tags by which it is found again."""

    id: str
    tags: Mapping[str, str]
    is_deleted: bool = False


def place(run: Run) -> str:
    """The directory of a run as its tag has it, however it was reached."""
    return visible(f"{_real_path(run.dir.parent)}/{run.dir.name}")


@cache
def _real_path(folder: Path) -> Path:
    return folder.resolve()


def held_runs(client: MlflowClient, results: Path, experiment_id: str) -> list[Held]:
    """All runs of an MLflow experiment, also deleted ones.

    MLflow's search makes an object of every parameter and metric, 80 of a run. Of a SQLite file
    only the tags are read.
    """
    if path := checks.database_file(store_uri(results)):
        return _read_tags(path, experiment_id)
    from mlflow.entities import ViewType

    found: list[Held] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], "", ViewType.ALL, 1000, page_token=token)
        found += [held(run) for run in page]
        token = page.token
        if not token:
            return found


def held(run: MlflowRun) -> Held:
    """The same of a run that MLflow gave."""
    tags = {key: value for key, value in run.data.tags.items() if key in TAGS}
    return Held(run.info.run_id, tags, run.info.lifecycle_stage == "deleted")


def _read_tags(path: Path, experiment_id: str) -> list[Held]:
    """The runs of an experiment, from the tables that MLflow has had since its first version."""
    question = f"""
        SELECT runs.run_uuid, runs.lifecycle_stage, tags.key, tags.value
        FROM runs LEFT JOIN tags
          ON tags.run_uuid = runs.run_uuid AND tags.key IN ({",".join("?" * len(TAGS))})
        WHERE runs.experiment_id = ? ORDER BY runs.run_uuid
    """
    found: dict[str, Held] = {}
    with closing(sqlite3.connect(path)) as connection:
        for run_id, stage, key, value in connection.execute(question, (*TAGS, experiment_id)):
            tags = dict(found[run_id].tags) if run_id in found else {}
            if key:
                tags[key] = value
            found[run_id] = Held(run_id, tags, stage == "deleted")
    return list(found.values())
