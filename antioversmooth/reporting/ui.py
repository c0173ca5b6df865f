"""MLflow's web pages on what has run, kept up to date while they are open."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from urllib.error import URLError
from urllib.request import urlopen

from antioversmooth.config import Table
from antioversmooth.errors import TrackingError
from antioversmooth.reporting import mirror, tracking
from antioversmooth.reporting.discover import Discovery
from antioversmooth.reporting.mirror import Mirrored
from antioversmooth.reporting.observe import observe

START_S = 120.0
"""How long a server may take to answer: 8 s on a quiet machine, 24 s and more on a busy one."""
END_S = 10.0
"""How long it may take to end before it is killed."""


def serve(results: Path, tables: Sequence[Table], *, port: int, every_s: float, out: TextIO) -> None:
    """Serves until interrupted (Ctrl-C, or the signals of a closed terminal and of `kill`), and leaves no process.

    With `MLFLOW_TRACKING_URI` at a server, none is started: that one is kept up to date.

    Args:
        results: The project's results folder.
        every_s: Seconds between two syncs.
        out: Where the links and later messages go.

    Raises:
        TrackingError: MLflow does not answer, or the server does not start.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # both then end as Ctrl-C does
    uri, discovery = tracking.store_uri(results), Discovery(results)
    try:
        mirrored = sync_all(discovery, tables)  # before the server, which must not race for the schema
        if tracking.is_server(uri):
            _announce(tracking.shown(uri), mirrored, discovery, out)
            _follow(discovery, tables, None, every_s, out)
        else:
            with server(uri, results, port, out) as (address, process):
                _announce(address, mirrored, discovery, out)
                _follow(discovery, tables, process, every_s, out)
    except KeyboardInterrupt:
        print("Ended.", file=out)


def sync_all(discovery: Discovery, tables: Sequence[Table]) -> list[Mirrored]:
    """Mirrors every run of a results folder."""
    return mirror.sync([observe(run) for run in discovery.runs()], tables, discovery.results)


def _announce(address: str, mirrored: Sequence[Mirrored], discovery: Discovery, out: TextIO) -> None:
    for directory, reason in discovery.unreadable.items():
        print(f"Left out: {directory}: {reason}", file=out)
    for experiment in mirrored:
        runs = f"{address}/#/experiments/{experiment.experiment_id}/runs"
        print(f"{experiment.name}, {experiment.num_runs} runs", file=out)
        print(f"  table   {runs}?workflowType=machine_learning", file=out)
        print(f"  charts  {runs}?compareRunsMode=CHART&workflowType=machine_learning", file=out)
    if not mirrored:
        print(f"Nothing has run yet; {address} shows it when it does.", file=out)
    print("Ctrl-C ends.", file=out, flush=True)


def _follow(
    discovery: Discovery, tables: Sequence[Table], process: subprocess.Popen[bytes] | None, every_s: float, out: TextIO
) -> None:
    """Syncs again and again; a sync that fails is reported and tried again."""
    while process is None or process.poll() is None:
        time.sleep(every_s)
        try:
            sync_all(discovery, tables)
        except TrackingError as err:
            print(err, file=out, flush=True)
    raise TrackingError(f"the MLflow server ended by itself, exit code {process.returncode}")


@contextmanager
def server(uri: str, results: Path, port: int, out: TextIO) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An MLflow server on loopback that answers; it and its children end with the block."""
    port = free_port(port)
    address = f"http://127.0.0.1:{port}"
    print(f"Starting MLflow at {address} ...", file=out, flush=True)
    log = results / "mlflow.db.server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(uri, results, port),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **tracking.ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    try:
        _wait_until_healthy(address, process, log)
        yield address, process
    finally:
        _end(process)


def command(uri: str, results: Path, port: int) -> list[str]:
    """The server's command line: one worker, which with job execution off makes 2 processes rather than 10."""
    store = ["--backend-store-uri", uri, "--artifacts-destination", str(results.absolute() / "mlartifacts")]
    network = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [sys.executable, "-m", "mlflow", "server", *network, *store]


def free_port(wanted: int) -> int:
    """The wanted port of loopback, or another one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise TrackingError("no port of 127.0.0.1 is free")


def _wait_until_healthy(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{address}/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise TrackingError(f"the MLflow server does not answer at {address}; its log is {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the server's whole session: it starts workers of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
