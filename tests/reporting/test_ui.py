"""`ui` with a stand-in for MLflow's server, and once with the real one."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from conftest import Lab

from antioversmooth.errors import TrackingError
from antioversmooth.reporting import ui

ANSWERING = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"OK")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path


def use(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Replaces MLflow's server by a program that gets the port."""
    monkeypatch.setattr(ui, "command", lambda uri, results, port: [sys.executable, "-c", code, str(port)])


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_server_and_its_children_end_with_the_block(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, ANSWERING)
    with ui.server("sqlite://", results, 0, io.StringIO()) as (address, process):
        with urlopen(f"{address}/health") as answer:
            assert answer.read() == b"OK"
        child = int((results / "mlflow.db.server.log").read_text().splitlines()[0])
        assert alive(child)
    assert not alive(process.pid)
    assert not alive(child)


def test_a_server_that_dies_is_one_message_with_its_log(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "raise SystemExit(3)")
    with (
        pytest.raises(TrackingError, match=r"does not answer .* its log is .*mlflow\.db\.server\.log"),
        ui.server("sqlite://", results, 0, io.StringIO()),
    ):
        pass


def test_a_port_that_is_taken_is_replaced() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ui.free_port(port) != port


def test_only_loopback_listens() -> None:
    command = ui.command("sqlite:////x", Path("/r"), 5000)
    assert command[command.index("--host") + 1] == "127.0.0.1"


@pytest.fixture
def serving(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """`antioversmooth ui` on a lab with a finished run."""
    lab.finish(lab.run("deep"), 90.0)
    command = [sys.executable, "-u", "-m", "antioversmooth", "ui", "--port", "0", "--every", "1"]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    with subprocess.Popen(command, cwd=lab.root, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield process
        process.terminate()  # not kill: it has a server to end


@pytest.mark.slow
def test_the_real_server_shows_runs_follows_them_and_ends_with_ctrl_c(lab: Lab, serving: subprocess.Popen[str]) -> None:
    assert serving.stdout is not None
    lines = [serving.stdout.readline() for _ in range(5)]
    address = lines[0].split()[3]
    assert "small (mini: Digits), 1 runs" in lines[1]
    assert f"{address}/#/experiments/1/runs?workflowType=machine_learning" in lines[2]
    shown = runs(address)
    assert shown.keys() == {"Row deep", "deep seed 0"}
    with urlopen(f"{address}/api/2.0/mlflow/artifacts/list?run_id={shown['deep seed 0']}") as answer:
        assert "spec.yaml" in [item["path"] for item in json.load(answer)["files"]]
    lab.finish(lab.run("wide"), 91.0)
    while "wide seed 0" not in runs(address) and serving.poll() is None:
        time.sleep(0.5)
    serving.send_signal(signal.SIGINT)
    assert serving.stdout.read().endswith("Ended.\n")
    assert serving.wait() == 0
    with pytest.raises(OSError, match="refused"):
        urlopen(f"{address}/health")


def runs(address: str) -> dict[str, str]:
    """The runs that the server shows: their MLflow ids by name."""
    body = json.dumps({"experiment_ids": ["1"]}).encode()
    request = Request(f"{address}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"})
    with urlopen(request) as answer:
        found = [run["info"] for run in json.load(answer)["runs"]]
    return {info["run_name"]: info["run_id"] for info in found}
