"""MLflow's web pages about the runs of a results folder, kept up to date while they are open."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from antioversmooth.config import Table
from antioversmooth.errors import TrackingError, UserError
from antioversmooth.reporting.table.observe import observe_all
from antioversmooth.reporting.tracking import checks, database, mirror, supervisor
from antioversmooth.reporting.tracking.logged_models import LoggedModels
from antioversmooth.reporting.tracking.mirror import Mirrored
from antioversmooth.runs.discovery import Discovery
from antioversmooth.runs.metrics import VAL_TOP1
from antioversmooth.text import counted

PORT = 5000
"""MLflow's own."""
LOOPBACK = "127.0.0.1"
START_S = 120.0
"""How long a server may take to answer: 8 s on a quiet machine, 24 s and more on a busy one."""
METRIC = quote(f"metrics.`{VAL_TOP1}`", safe="")
"""The accuracy, as MLflow's addresses write it."""
COMPARED = 24
"""Rows that fit on MLflow's page for comparing."""


@dataclass(frozen=True)
class Address:
    """The address that the pages are served at."""

    host: str = LOOPBACK
    """Address of this machine to listen on; MLflow asks for no password."""
    port: int | None = None
    """0: any free port; None: MLflow's own port, or any free port if that is taken."""


def serve(
    results: Path,
    tables: Sequence[Table],
    address: Address,
    *,
    every_s: float,
    models: bool = True,
    out: TextIO,
) -> None:
    """Serves the pages until Ctrl-C, SIGTERM or SIGHUP, and leaves no process behind.

    If `MLFLOW_TRACKING_URI` names a server, no server is started; that one is kept up to date.

    Args:
        results: The project's results folder.
        every_s: Seconds between two syncs.
        models: Whether final weights are logged as models, too.
        out: For the links and later messages.

    Raises:
        TrackingError: MLflow does not answer, or the server does not start.
        UserError: The port is taken.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        # End as with Ctrl-C.
        signal.signal(number, signal.default_int_handler)
    uri, follower = database.store_uri(results), _Follower(results, tables, models, out)
    try:
        if checks.is_server(uri):
            _announce(checks.without_credentials(uri), follower.sync(), follower.discovery, out)
            follower.follow(None, every_s)
        else:
            port = free_port(address)
            # Before the server starts, which must not race for the schema.
            mirrored = follower.sync()
            with server(uri, results, Address(address.host, port), out) as (url, process):
                _announce(url, mirrored, follower.discovery, out)
                follower.follow(process, every_s)
    except KeyboardInterrupt:
        print("Ended.", file=out)


def sync_all(discovery: Discovery, tables: Sequence[Table]) -> list[Mirrored]:
    """Mirrors every run of a results folder."""
    observed = observe_all(discovery.runs())
    return mirror.sync(observed, tables, discovery.results)


class _Follower:
    """Keeps MLflow up to date with a results folder."""

    def __init__(self, results: Path, tables: Sequence[Table], models: bool, out: TextIO) -> None:
        self.discovery, self.tables, self.out = Discovery(results), tables, out
        self.models = LoggedModels(results) if models else None
        self._mirrored: list[Mirrored] = []
        self._last_problem = ""

    def sync(self) -> list[Mirrored]:
        """Mirrors all runs."""
        self._mirrored = sync_all(self.discovery, self.tables)
        return self._mirrored

    def follow(self, process: subprocess.Popen[bytes] | None, every_s: float) -> None:
        """Syncs periodically; a sync that fails is reported and tried again."""
        while process is None or process.poll() is None:
            if not self._log_one_model():
                time.sleep(every_s)
            try:
                self._report("\n".join(filter(None, (one.problem for one in self.sync()))))
            except TrackingError as err:
                self._report(str(err))
        raise TrackingError(f"the MLflow server ended by itself, exit code {process.returncode}")

    def _log_one_model(self) -> bool:
        """Logs the next model; returns whether there was one.

        One at a time, so that the numbers of runs do not wait for all models.
        """
        if self.models is None:
            return False
        known = set(self.models.problems)
        try:
            observed = observe_all(self.discovery.runs())
            logged = self.models.sync(observed, self._mirrored, limit=1)
        except TrackingError as err:
            self._report(str(err))
            return False
        for run_id in self.models.problems.keys() - known:
            problem = self.models.problems[run_id]
            print(f"Not logged as a model: {problem}", file=self.out, flush=True)
        return bool(logged)

    def _report(self, problem: str) -> None:
        """Prints a problem once, not at every sync, and its end; an empty one ends it."""
        if problem != self._last_problem:
            print(problem or "MLflow is up to date again.", file=self.out, flush=True)
        self._last_problem = problem


def _announce(url: str, mirrored: Sequence[Mirrored], discovery: Discovery, out: TextIO) -> None:
    for directory, reason in discovery.unreadable.items():
        print(f"Left out: {directory}: {reason}", file=out)
    for experiment in mirrored:
        if experiment.problem:
            print(f"{experiment.name}: not mirrored: {experiment.problem}", file=out)
            continue
        note = f" ({experiment.note})" if experiment.note else ""
        print(f"{experiment.name}, {counted(experiment.num_runs, 'run')}{note}", file=out)
        for name, link in links(url, experiment).items():
            print(f"  {name:<8}{link}", file=out)
    if not mirrored:
        print(f"Nothing has run yet; runs will appear at {url}.", file=out)
    print("Ctrl-C ends.", file=out, flush=True)


def links(url: str, experiment: Mirrored) -> dict[str, str]:
    """Links to the pages of an MLflow experiment: its table, its charts, its rows compared."""
    here = f"{url}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    # Sorted by a metric, MLflow lists the seeds; otherwise it folds them into their rows, which
    # have no curves. It remembers the last order, so each link states its own.
    first = "&orderByKey=attributes.start_time&orderByAsc=true"
    best = f"&orderByKey={METRIC}&orderByAsc=false"
    found = {"table": here + first, "charts": f"{here}&compareRunsMode=CHART{best}"}
    if 1 < len(experiment.compared) <= COMPARED:
        ids = quote(json.dumps(experiment.compared), safe="")
        home = quote(json.dumps([experiment.experiment_id]), safe="")
        found["compare"] = f"{url}/#/compare-runs?runs={ids}&experiments={home}"
    return found


@contextmanager
def server(
    uri: str, results: Path, address: Address, out: TextIO
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An MLflow server that answers, as its URL and process.

    The server and its children end with the block, or with this process (supervisor.py).
    """
    # the name under which people reach it
    host = socket.gethostname() if address.host == "0.0.0.0" else address.host
    url = f"http://{host}:{address.port}"
    print(f"Starting MLflow at {url} ...", file=out, flush=True)
    if address.host != LOOPBACK:
        warning = "anyone on this machine's network can read and change it"
        print(f"It asks for no password: {warning}.", file=out)
    log = results / "mlflow.db.server.log"
    supervised = [sys.executable, "-m", supervisor.__name__, *command(uri, results, address)]
    # its errors belong into its log
    own = {"MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    settings = {**database.ENVIRONMENT, **own}
    with log.open("wb") as file:
        process = subprocess.Popen(
            supervised,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **settings},
        )
    try:
        _wait_until_healthy(address, process, log)
        yield url, process
    finally:
        _end(process)


def command(uri: str, results: Path, address: Address) -> list[str]:
    """The server's command line.

    One worker with job execution off: 2 processes instead of 10.
    """
    artifacts = str(results.absolute() / "mlartifacts")
    store = ["--backend-store-uri", uri, "--artifacts-destination", artifacts]
    network = ["--host", address.host, "--port", str(address.port), "--workers", "1"]
    # MLflow refuses requests for host names that are not on its list.
    if address.host != LOOPBACK:
        names = ["localhost", LOOPBACK, address.host, socket.gethostname(), socket.getfqdn()]
        network += ["--allowed-hosts", ",".join(f"{name}:*" for name in dict.fromkeys(names))]
    return [sys.executable, "-m", "mlflow", "server", *network, *store]


def free_port(address: Address) -> int:
    """The port to listen on.

    Raises:
        UserError: The requested port is taken, or the address does not belong to this machine.
    """
    wanted, problem = [PORT, 0] if address.port is None else [address.port], OSError()
    for port in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, port))
            except OSError as err:
                problem = err
                continue
            return int(probe.getsockname()[1])
    advice = "--host takes an address of this machine"
    if problem.errno in (errno.EADDRINUSE, errno.EACCES):
        advice = "--port 0 takes any free port"
    raise UserError(f"cannot listen at {address.host}:{wanted[0]}: {problem.strerror}; {advice}")


def _wait_until_healthy(address: Address, process: subprocess.Popen[bytes], log: Path) -> None:
    url = f"http://{LOOPBACK if address.host == '0.0.0.0' else address.host}:{address.port}"
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{url}/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise TrackingError(f"the MLflow server does not answer at {url}; its log is {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the server's session: through its supervisor, or by SIGKILL if that takes too long."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(supervisor.END_S + 5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
