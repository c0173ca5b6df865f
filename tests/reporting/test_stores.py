"""Stores that MLflow cannot use: each is one message with the next step, before MLflow waits."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from antioversmooth.cli.main import main
from antioversmooth.errors import TrackingError
from antioversmooth.reporting.tracking import checks, database, mirror
from antioversmooth.reporting.tracking.mirror import Mirrored

# MLflow's own use of SQLAlchemy warns
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy", "ignore::ResourceWarning"
)


@pytest.fixture
def store(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an empty MLflow database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(checks, "LOCKED_S", 0.1)
    monkeypatch.setattr(checks, "ANSWER_S", 0.3)
    monkeypatch.setattr(database, "WRITER_TIMEOUT_S", 0.1)
    return Path(shutil.copy(empty_store, tmp_path / "mlflow.db"))


def refusal(results: Path) -> str:
    """The message about a store that is opened and written to."""
    with pytest.raises(TrackingError) as raised, database.open_client(results) as client:
        client.create_experiment("x")
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def overwrite_pages(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(path.stat().st_size - 8192))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


REVISION = "UPDATE alembic_version SET version_num = 'ffffffffffff'"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "random bytes": (lambda path: path.write_bytes(os.urandom(5000)), "move the file away"),
    "a text": (lambda path: path.write_text("no database\n" * 99), "move the file away"),
    "cut in the middle": (lambda path: os.truncate(path, 300_000), "move the file away"),
    "cut in its header": (lambda path: os.truncate(path, 50), "move the file away"),
    "pages overwritten": (overwrite_pages, "move the file away"),
    "a folder": (replace_by_folder, "set MLFLOW_TRACKING_URI"),
    "of a newer MLflow": (lambda path: execute(path, REVISION), "a newer MLflow than"),
    "of a newer MLflow without a table": (
        lambda path: execute(path, REVISION, "DROP TABLE webhook_events"),
        "a newer MLflow than",
    ),
    "of an older MLflow": (
        lambda path: execute(path, REVISION.replace("ffffffffffff", "0584bdc529eb")),
        "mlflow db upgrade sqlite:///",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_database_is_one_message(store: Path, damage: str) -> None:
    spoil, step = DAMAGES[damage]
    spoil(store)
    message = refusal(store.parent)
    assert message.startswith(f"MLflow at sqlite:///{store}: ")
    assert step in message


def test_a_database_that_another_process_keeps_locked_is_one_message(store: Path) -> None:
    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "database is locked; another process has it open" in refusal(store.parent)


def test_another_writer_of_this_project_is_not_waited_for_without_end(store: Path) -> None:
    lock = store.with_name(database.WRITER_LOCK)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert f"has held {lock}" in refusal(store.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's files need root")
@pytest.mark.parametrize("mode", [(0o444, 0o777), (0o666, 0o555)], ids=["file", "folder"])
def test_a_store_that_is_not_writable_is_one_message(store: Path, mode: tuple[int, int]) -> None:
    reachable = [*store.parents[1:-2]]
    before = [(folder, folder.stat().st_mode) for folder in reachable]
    for folder in reachable:
        folder.chmod(folder.stat().st_mode | 0o055)
    store.chmod(mode[0])
    store.parent.chmod(mode[1])
    os.seteuid(65534)
    try:
        message = refusal(store.parent)
    finally:
        os.seteuid(0)
        for folder, old in before:
            folder.chmod(old)
    assert "make the file and its folder writable" in message


@pytest.fixture
def serve() -> Iterator[Callable[[bytes | None], str]]:
    """Starts a server that answers every request alike, or never; returns its address."""
    listening: list[socket.socket] = []
    accepted: list[socket.socket] = []

    def answer(listener: socket.socket, reply: bytes | None) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            accepted.append(client)
            if reply is not None:
                client.recv(65536)
                client.sendall(reply)
                client.close()

    def start(reply: bytes | None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listening.append(listener)
        threading.Thread(target=answer, args=(listener, reply), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for one in [*listening, *accepted]:
        # wakes up the thread that waits for it
        if one in listening:
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def page(code: int, body: str) -> bytes:
    head = f"HTTP/1.1 {code} Some\r\nContent-Type: text/html\r\nContent-Length: {len(body)}"
    return f"{head}\r\nConnection: close\r\n\r\n{body}".encode()


HTML = "<!doctype html>\n<html>Welcome to nginx</html>"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (None, "it does not answer in time; run `antioversmooth sync` when it is back"),
        (page(500, HTML), "it answers with error 500; run"),
        (page(503, "busy"), "it answers with error 503; run"),
        (page(404, HTML), "error code 404 != 200; another program answers"),
        (page(200, HTML), "not in a valid JSON format; another program answers"),
        (page(401, "who are you?"), "401 != 200; set MLFLOW_TRACKING_USERNAME"),
        (b"\x00\x01 no HTTP\r\n\r\n", "no web server answers"),
        (b"", "no web server answers"),
    ],
    ids=["silent", "500", "503", "404", "HTML", "401", "no HTTP", "hangs up"],
)
def test_a_server_that_is_dead_or_no_mlflow_is_one_message(
    store: Path,
    serve: Callable[[bytes | None], str],
    monkeypatch: pytest.MonkeyPatch,
    reply: bytes | None,
    reason: str,
) -> None:
    address = serve(reply)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("//", "//me:secret@"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    message = refusal(store.parent)
    assert message.startswith(f"MLflow at {address}: ")
    assert reason in message
    assert "secret" not in message


def test_a_token_in_the_address_of_a_server_is_hidden() -> None:
    shown = checks.without_credentials("https://me:pass@host/mlflow?token=tok9f8e7d6c5b4a3210")
    assert shown.startswith("https://host/mlflow?token=")
    assert "tok9" not in shown
    assert "pass" not in shown


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://127.0.0.1:9", "it does not answer (Connection refused)"),
        ("http://[::1", "MLFLOW_TRACKING_URI names no server: "),
        ("http://127.0.0.1:9/a b", "MLFLOW_TRACKING_URI names no server: "),
        ("http://127.0.0.1:port", "MLFLOW_TRACKING_URI names no server: "),
        ("file:mlruns", "set MLFLOW_TRACKING_URI to a SQLite file"),
    ],
)
def test_an_address_that_leads_to_no_store_is_one_message(
    store: Path, monkeypatch: pytest.MonkeyPatch, uri: str, words: str
) -> None:
    monkeypatch.chdir(store.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert words in refusal(store.parent)


def test_sync_says_which_tables_went_and_which_did_not(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirrored = [
        Mirrored("first", "1", 2, 1, note="it was deleted in MLflow, and is restored"),
        Mirrored("same", "3", 1, 0),
        Mirrored("second", "", 3, 0, problem="MLflow at http://x: refused"),
    ]
    monkeypatch.setattr(mirror, "sync", lambda *_: mirrored)
    words = ["sync", "deit_s12", "profile=mini", f"cluster.results={store.parent}", "--no-models"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "first: 1 of 2 runs brought up to date (it was deleted in MLflow, and is" in said.out
    assert "same: 1 run, up to date already\n0 models logged" in said.out
    assert said.err == "second: not mirrored: MLflow at http://x: refused\n"
    assert main([*words, "--json"]) == 2
    entries = json.loads(capsys.readouterr().out)
    assert [(entry["name"], bool(entry["problem"])) for entry in entries] == [
        ("first", False),
        ("same", False),
        ("second", True),
    ]


def test_a_server_is_asked_for_the_same_tags_as_a_file(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.open_client(store.parent) as client:
        home = client.create_experiment("x")
        tags = {database.ID: "a", database.PARENT: "b", "mlflow.user": "c"}
        kept, deleted = (client.create_run(home, tags=tags).info.run_id for _ in range(2))
        client.create_run(home)
        client.delete_run(deleted)
        of_file = database.held_runs(client, store.parent, home)
        monkeypatch.setattr(checks, "database_file", lambda uri: None)
        of_server = database.held_runs(client, store.parent, home)
    assert sorted(of_file, key=lambda run: run.id) == sorted(of_server, key=lambda run: run.id)
    assert len(of_file) == 3
    assert {run.id: run.is_deleted for run in of_file if run.tags} == {kept: False, deleted: True}
