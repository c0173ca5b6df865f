"""Checks of MLflow's store before MLflow opens it, which costs seconds.

MLflow itself tries again for minutes where a file is damaged or a server is silent, and then shows
the last of many errors.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from http.client import HTTPException, InvalidURL
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from antioversmooth.errors import TrackingError
from antioversmooth.installation import remedy
from antioversmooth.redact import redact

ANSWER_S = 10.0
"""How long a server may take to answer."""
LOCKED_S = 5.0
"""How long another process may keep a SQLite file locked; MLflow's own writes take milliseconds."""


def is_server(uri: str) -> bool:
    """Whether a URI names a server, which stores artifacts itself."""
    return uri.startswith(("http://", "https://"))


def without_credentials(uri: str) -> str:
    """The URI without user name and password, and without the values of secrets in its query."""
    return redact(_without_user(uri))


def _without_user(uri: str) -> str:
    credentials, at, _ = uri.partition("://")[2].partition("/")[0].rpartition("@")
    return uri.replace(credentials + at, "", 1)


def require_usable(uri: str) -> None:
    """Asks a server, or opens a SQLite file, as MLflow will; other stores are left to MLflow.

    Raises:
        TrackingError: MLflow is not installed, or cannot keep its store at this path.
        OSError: The server does not answer, or the path is a folder.
        sqlite3.Error: The file is damaged, locked, or not to be written.
    """
    if find_spec("mlflow") is None:
        raise TrackingError(
            f"MLflow is not installed: {remedy('mlflow')}. Run directories and tables are complete"
            " without it"
        )
    if is_server(uri):
        _ask_server(uri)
    elif uri.startswith("sqlite:"):
        _require_possible_path(uri)
        if path := database_file(uri):
            _open_database(path)


def database_file(uri: str) -> Path | None:
    """The file of a SQLite store; None where the store is another."""
    if not uri.startswith("sqlite:"):
        return None
    # imported here: it takes a tenth of a second
    from sqlalchemy import make_url

    path = make_url(uri).database
    return Path(path) if path and path != ":memory:" and not path.startswith("file:") else None


def _ask_server(uri: str) -> None:
    """Asks for a page of the server: any answer will do, MLflow reads the next ones."""
    try:
        base = re.split("[?#]", _without_user(uri))[0].rstrip("/")
        with urlopen(f"{base}/health", timeout=ANSWER_S):
            pass
    except HTTPError:
        pass
    except URLError as err:
        # certificates are MLflow's to judge: it has options for them
        if isinstance(err.reason, OSError) and "CERTIFICATE" not in str(err.reason):
            raise err.reason from err
    except (ValueError, InvalidURL) as err:
        raise TrackingError(f"MLFLOW_TRACKING_URI names no server: {err}") from err
    except HTTPException as err:
        raise ConnectionError("no web server answers") from err


def _open_database(path: Path) -> None:
    """Opens a SQLite file for writing, as far as it exists."""
    if path.is_dir():
        raise IsADirectoryError("it is a folder")
    if not path.exists():
        return
    place = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(place, uri=True, timeout=LOCKED_S, isolation_level=None)
    with closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT name FROM sqlite_master").fetchall()
        connection.execute("ROLLBACK")


def _require_possible_path(uri: str) -> None:
    """Refuses a path that MLflow misreads."""
    problem = ""
    # MLflow writes the working directory unescaped into a new store
    if {"'", '"'} <= set(str(Path.cwd())):
        problem = f"make a store where the path has both kinds of quotes: {Path.cwd()}"
    elif "MLFLOW_TRACKING_URI" not in os.environ and re.search(r"\?|%[0-9A-Fa-f]{2}", uri):
        signs = "a question mark, or a percent sign before digits"
        problem = f"keep a store where the path has {signs}: {uri}"
    if problem:
        advice = "move the project, or set MLFLOW_TRACKING_URI to a server's"
        raise TrackingError(f"MLflow cannot {problem}; {advice}")
