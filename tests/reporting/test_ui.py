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
from fabricated import Lab

from antioversmooth.errors import TrackingError, UserError
from antioversmooth.reporting.tracking import ui
from antioversmooth.reporting.tracking.mirror import Mirrored
from antioversmooth.reporting.tracking.ui import Address

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
    monkeypatch.setattr(
        ui, "command", lambda uri, results, place: [sys.executable, "-c", code, str(place.port)]
    )


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_server_and_its_children_end_with_the_block(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, ANSWERING)
    with ui.server("sqlite://", results, anywhere(), io.StringIO()) as (address, process):
        with urlopen(f"{address}/health") as answer:
            assert answer.read() == b"OK"
        child = int((results / "mlflow.db.server.log").read_text().splitlines()[0])
        assert alive(child)
    assert not alive(process.pid)
    assert not alive(child)


def test_a_server_that_dies_is_one_message_with_its_log(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "raise SystemExit(3)")
    with (
        pytest.raises(
            TrackingError, match=r"does not answer .* its log is .*mlflow\.db\.server\.log"
        ),
        ui.server("sqlite://", results, anywhere(), io.StringIO()),
    ):
        pass


def anywhere() -> Address:
    return Address(port=ui.free_port(Address(port=0)))


KILLED = """
import io, sys
from pathlib import Path
from antioversmooth.reporting.tracking import ui
ui.command = lambda uri, results, address: [sys.executable, "-c", sys.argv[2], str(address.port)]
address = ui.Address(port=ui.free_port(ui.Address(port=0)))
with ui.server("sqlite://", Path(sys.argv[1]), address, io.StringIO()) as served:
    print(served[1].pid, flush=True)
    sys.stdin.read()
"""


def test_a_server_and_its_children_end_though_kill_9_took_who_asked_for_it(results: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(results), ANSWERING]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        supervisor = int(process.stdout.readline())
        child = int((results / "mlflow.db.server.log").read_text().splitlines()[0])
        assert alive(supervisor)
        assert alive(child)
        process.kill()
    deadline = time.monotonic() + 60
    while (alive(supervisor) or alive(child)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(supervisor)
    assert not alive(child)


@pytest.fixture
def used_port() -> Iterator[int]:
    """A port that another process listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_requested_port_that_is_in_use_is_one_message(used_port: int) -> None:
    with pytest.raises(
        UserError, match=rf"cannot listen at 127\.0\.0\.1:{used_port}: .*in use; --port 0 takes any"
    ):
        ui.free_port(Address(port=used_port))


def test_mlflows_own_port_is_replaced_if_it_is_in_use(
    used_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "PORT", used_port)
    assert ui.free_port(Address()) != used_port


def test_only_loopback_is_listened_on_by_default() -> None:
    command = ui.command("sqlite:////x", Path("/r"), Address(port=5000))
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "--allowed-hosts" not in command


def test_where_others_may_reach_it_requests_by_the_machines_name_are_allowed() -> None:
    command = ui.command("sqlite:////x", Path("/r"), Address("0.0.0.0", 5000))
    allowed = command[command.index("--allowed-hosts") + 1].split(",")
    assert {f"{socket.gethostname()}:*", "127.0.0.1:*", "localhost:*"} <= set(allowed)


def test_links_lead_to_mlflows_view_for_machine_learning() -> None:
    experiment = Mirrored("table2", "7", num_runs=4, num_changed=0, compared=("a1", "b2"))
    runs = "http://127.0.0.1:5000/#/experiments/7/runs?workflowType=machine_learning"
    assert ui.links("http://127.0.0.1:5000", experiment) == {
        "table": f"{runs}&orderByKey=attributes.start_time&orderByAsc=true",
        "charts": (
            f"{runs}&compareRunsMode=CHART&orderByKey=metrics.%60val%2Ftop1%60&orderByAsc=false"
        ),
        "compare": (
            "http://127.0.0.1:5000/#/compare-runs?runs=%5B%22a1%22%2C%20%22b2%22%5D&experiments=%5B%227%22%5D"
        ),
    }


@pytest.fixture
def serving(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """`antioversmooth ui` on a lab with a finished run."""
    lab.finish(lab.run("deep"), 90.0)
    command = [sys.executable, "-u", "-m", "antioversmooth", "ui", "--port", "0", "--every", "1"]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    with subprocess.Popen(
        command, cwd=lab.root, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        # terminate, not kill: it has to end its server
        process.terminate()


@pytest.mark.slow
def test_the_real_server_shows_runs_follows_them_and_ends_with_ctrl_c(
    lab: Lab, serving: subprocess.Popen[str]
) -> None:
    assert serving.stdout is not None
    lines = [serving.stdout.readline() for _ in range(5)]
    address = lines[0].split()[3]
    assert "small (mini: Digits), 1 run\n" in lines[1]
    assert f"{address}/#/experiments/1/runs?workflowType=machine_learning" in lines[2]
    shown = runs(address)
    assert shown.keys() == {"Row deep", "deep seed 0"}
    with urlopen(
        f"{address}/api/2.0/mlflow/artifacts/list?run_id={shown['deep seed 0']}"
    ) as answer:
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
    request = Request(
        f"{address}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"}
    )
    with urlopen(request) as answer:
        found = [run["info"] for run in json.load(answer)["runs"]]
    return {info["run_name"]: info["run_id"] for info in found}
