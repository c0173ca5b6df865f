"""A wrong Python, a closed pipe or a closed stream: one line and an exit code."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from antioversmooth import cli, files
from antioversmooth.cli.exit_codes import CLOSED_PIPE
from antioversmooth.cli.main import run_main
from antioversmooth.errors import UserError

PROJECT = Path(__file__).parent.parent
LAUNCH = ["launch.py", "experiments/tables/table2.yaml", "profile=mini", "--dry-run"]
STATUS = ["-m", "antioversmooth", "status", "table2", "profile=mini"]
BEFORE_WORK = (
    "launch.py", "antioversmooth/__init__.py", "antioversmooth/__main__.py",
    "antioversmooth/errors.py", "antioversmooth/files.py", "antioversmooth/installation.py",
    "antioversmooth/cli/__init__.py", "antioversmooth/cli/main.py", "antioversmooth/cli/parsers.py",
    "antioversmooth/cli/exit_codes.py",
)  # fmt: skip
"""Files that are loaded before the version of Python is checked."""


def shell(line: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A line of bash, with this Python and the words as `"$@"`."""
    command = ["bash", "-c", line, "bash", sys.executable, *words]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [LAUNCH, STATUS], ids=["launch", "status"])
def test_a_python_without_the_project_s_packages_is_one_line(words: list[str]) -> None:
    # -S: without site-packages, as a Python outside of .venv
    done = shell('"$1" -S "${@:2}"', *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is not installed for this Python" in done.stderr
    assert "run `make setup`, then `. .venv/bin/activate`" in done.stderr


def test_a_python_that_is_too_old_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 18, "final", 0))
    assert run_main("launch.py", lambda: pytest.fail("it was begun")) == 2
    assert "is too old: run `make setup`" in capsys.readouterr().err


@pytest.mark.parametrize("path", BEFORE_WORK)
def test_a_python_that_is_too_old_can_parse_the_check_of_its_version(path: str) -> None:
    ast.parse((PROJECT / path).read_text(), feature_version=(3, 8))


def test_a_module_of_our_own_that_is_missing_is_our_mistake() -> None:
    def work() -> int:
        raise ModuleNotFoundError(
            "No module named 'antioversmooth.gone'", name="antioversmooth.gone"
        )

    with pytest.raises(ModuleNotFoundError):
        run_main("launch.py", work)


@pytest.mark.parametrize("words", [LAUNCH, STATUS], ids=["launch", "status"])
def test_a_reader_that_leaves_early_ends_a_command_quietly(words: list[str]) -> None:
    done = shell('"$@" | true; exit ${PIPESTATUS[0]}', *words)
    assert (done.returncode, done.stderr) == (CLOSED_PIPE, "")


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["launch", "--help"]])
def test_a_reader_that_leaves_before_the_version_or_the_help_ends_them_quietly(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as output, open(os.devnull, "w") as null:
        monkeypatch.setattr(files, "discard_output", lambda: os.dup2(null.fileno(), writer))
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
    assert ended.value.code == CLOSED_PIPE


@pytest.mark.parametrize("words", [LAUNCH, STATUS], ids=["launch", "status"])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_written_to_by_nobody(words: list[str], closed: str) -> None:
    done = shell(f'"$@" {closed}', *words)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_complaint_that_nobody_reads_is_no_second_one() -> None:
    done = shell(
        '"$@" 2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}',
        "-m",
        "antioversmooth",
        "status",
        "table3",
    )
    assert done.returncode in (2, CLOSED_PIPE)
    assert done.stderr == ""


def test_a_user_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise UserError("no such thing")

    assert run_main("antioversmooth table", work) == 2
    assert capsys.readouterr().err == "antioversmooth table: no such thing\n"
