"""MLflow's web pages on what has run, kept up to date while they are open."""

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
from antioversmooth.reporting.discover import Discovery
from antioversmooth.reporting.table.observe import observe
from antioversmooth.reporting.tracking import database, mirror
from antioversmooth.reporting.tracking.guard import END_S
from antioversmooth.reporting.tracking.logged_models import LoggedModels
from antioversmooth.reporting.tracking.mirror import Mirrored
from antioversmooth.runs.metrics import VAL_TOP1

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
class Place:
    """Where the pages are served."""

    host: str = LOOPBACK
    """The address of this machine that is listened on; MLflow asks nobody for a password."""
    port: int | None = None
    """0: any that is free; None: MLflow's own, or any that is free where that one is taken."""


def serve(
    results: Path,
    tables: Sequence[Table],
    place: Place,
    *,
    every_s: float,
    models: bool = True,
    out: TextIO,
) -> None:
    """Serves until interrupted (Ctrl-C, or the signals of a closed terminal and of `kill`), and
    leaves no process.

    With `MLFLOW_TRACKING_URI` at a server, none is started: that one is kept up to date.

    Args:
        results: The project's results folder.
        every_s: Seconds between two syncs.
        models: Whether final weights are logged as models, too.
        out: Where the links and later messages go.

    Raises:
        TrackingError: MLflow does not answer, or the server does not start.
        UserError: The port is taken.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        # both then end as Ctrl-C does
        signal.signal(number, signal.default_int_handler)
    uri, follower = database.store_uri(results), _Follower(results, tables, models=models, out=out)
    try:
        if database.is_server(uri):
            _announce(database.shown(uri), follower.numbers(), follower.discovery, out)
            follower.follow(None, every_s)
        else:
            port = free_port(place)
            # before the server, which must not race for the schema
            mirrored = follower.numbers()
            with server(uri, results, Place(place.host, port), out) as (address, process):
                _announce(address, mirrored, follower.discovery, out)
                follower.follow(process, every_s)
    except KeyboardInterrupt:
        print("Ended.", file=out)


def sync_all(discovery: Discovery, tables: Sequence[Table]) -> list[Mirrored]:
    """Mirrors every run of a results folder."""
    return mirror.sync([observe(run) for run in discovery.runs()], tables, discovery.results)


class _Follower:
    """Keeps MLflow up to date with a results folder."""

    def __init__(
        self, results: Path, tables: Sequence[Table], *, models: bool, out: TextIO
    ) -> None:
        self.discovery, self.tables, self.out = Discovery(results), tables, out
        self.models = LoggedModels(results) if models else None
        self._mirrored: list[Mirrored] = []
        self._said = ""

    def numbers(self) -> list[Mirrored]:
        self._mirrored = sync_all(self.discovery, self.tables)
        return self._mirrored

    def follow(self, process: subprocess.Popen[bytes] | None, every_s: float) -> None:
        """Syncs again and again; a sync that fails is reported and tried again."""
        while process is None or process.poll() is None:
            if not self._one_model():
                time.sleep(every_s)
            try:
                self.numbers()
                self._say("")
            except TrackingError as err:
                self._say(str(err))
        raise TrackingError(f"the MLflow server ended by itself, exit code {process.returncode}")

    def _one_model(self) -> bool:
        """Whether one more model was logged: one at a time, so that numbers never wait for all of
        them."""
        if self.models is None:
            return False
        known = set(self.models.problems)
        try:
            logged = self.models.sync(map(observe, self.discovery.runs()), self._mirrored, limit=1)
        except TrackingError as err:
            self._say(str(err))
            return False
        for problem in self.models.problems.keys() - known:
            print(
                f"Not logged as a model: {self.models.problems[problem]}", file=self.out, flush=True
            )
        return bool(logged)

    def _say(self, problem: str) -> None:
        """Says what is wrong once, not at every sync."""
        if problem and problem != self._said:
            print(problem, file=self.out, flush=True)
        self._said = problem


def _announce(
    address: str, mirrored: Sequence[Mirrored], discovery: Discovery, out: TextIO
) -> None:
    for directory, reason in discovery.unreadable.items():
        print(f"Left out: {directory}: {reason}", file=out)
    for experiment in mirrored:
        print(f"{experiment.name}, {experiment.num_runs} runs", file=out)
        for name, link in links(address, experiment).items():
            print(f"  {name:<8}{link}", file=out)
    if not mirrored:
        print(f"Nothing has run yet; {address} shows it when it does.", file=out)
    print("Ctrl-C ends.", file=out, flush=True)


def links(address: str, experiment: Mirrored) -> dict[str, str]:
    """The pages of MLflow that people want of an experiment, in its view for machine learning."""
    here = f"{address}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    # sorted by a number, MLflow lists the seeds beside each other; else folded into their rows,
    # which have no curves; it remembers how runs were sorted last
    first, best = (
        "&orderByKey=attributes.start_time&orderByAsc=true",
        f"&orderByKey={METRIC}&orderByAsc=false",
    )
    found = {"table": here + first, "charts": f"{here}&compareRunsMode=CHART{best}"}
    if 1 < len(experiment.compared) <= COMPARED:
        ids, home = (
            quote(json.dumps(v), safe="") for v in (experiment.compared, [experiment.experiment_id])
        )
        found["compare"] = f"{address}/#/compare-runs?runs={ids}&experiments={home}"
    return found


@contextmanager
def server(
    uri: str, results: Path, place: Place, out: TextIO
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An MLflow server that answers; it and its children end with the block, or with this process
    (guard.py)."""
    address = f"http://{_named(place.host)}:{place.port}"
    print(f"Starting MLflow at {address} ...", file=out, flush=True)
    if place.host != LOOPBACK:
        print(
            "It asks for no password: who reaches this machine's network can read and change it.",
            file=out,
        )
    log = results / "mlflow.db.server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "antioversmooth.reporting.tracking.guard",
                *command(uri, results, place),
            ],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                **database.ENVIRONMENT,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
        )
    try:
        _wait_until_healthy(place, process, log)
        yield address, process
    finally:
        _end(process)


def command(uri: str, results: Path, place: Place) -> list[str]:
    """The server's command line: one worker, which with job execution off makes 2 processes rather
    than 10."""
    store = [
        "--backend-store-uri",
        uri,
        "--artifacts-destination",
        str(results.absolute() / "mlartifacts"),
    ]
    network = ["--host", place.host, "--port", str(place.port), "--workers", "1"]
    # MLflow refuses requests under a name that it was not told
    if place.host != LOOPBACK:
        names = dict.fromkeys(
            ["localhost", LOOPBACK, place.host, socket.gethostname(), socket.getfqdn()]
        )
        network += ["--allowed-hosts", ",".join(f"{name}:*" for name in names)]
    return [sys.executable, "-m", "mlflow", "server", *network, *store]


def _named(host: str) -> str:
    """What people reach an address of this machine by."""
    return socket.gethostname() if host == "0.0.0.0" else host


def free_port(place: Place) -> int:
    """The port to listen on.

    Raises:
        UserError: The one that was asked for is taken, or the address is none of this machine.
    """
    wanted, problem = [PORT, 0] if place.port is None else [place.port], OSError()
    for port in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((place.host, port))
            except OSError as err:
                problem = err
                continue
            return int(probe.getsockname()[1])
    is_port = problem.errno in (errno.EADDRINUSE, errno.EACCES)
    way_out = (
        "--port 0 takes any port that is free"
        if is_port
        else "--host takes an address of this machine"
    )
    raise UserError(f"cannot listen at {place.host}:{wanted[0]}: {problem.strerror}; {way_out}")


def _wait_until_healthy(place: Place, process: subprocess.Popen[bytes], log: Path) -> None:
    address = f"http://{LOOPBACK if place.host == '0.0.0.0' else place.host}:{place.port}"
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{address}/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise TrackingError(f"the MLflow server does not answer at {address}; its log is {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the server's whole session: by its guard, else by force."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(END_S + 5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
