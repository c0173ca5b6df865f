"""Completion by Tab, in a real bash and a real zsh on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import program

from antioversmooth.cli.parsers import COMMANDS

PROJECT = Path(__file__).parent.parent

INSERT_ALL = {
    "bash": "bind '\"\\C-xa\": insert-completions'",
    "zsh": (
        "zle -C all complete-word _generic; bindkey '^Xa' all; zstyle ':completion:all:*' completer"
        " _all_matches _complete; zstyle ':completion:all:*' insert yes"
    ),
}
"""Commands after which Ctrl-X A puts all that fits into the line."""
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest) -> str:
    program(request.param, package=request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of `antioversmooth completion` for each shell."""
    folder = tmp_path_factory.mktemp("completion")
    for name in START:
        command = [sys.executable, "-m", "antioversmooth", "completion", name]
        (folder / name).write_bytes(
            subprocess.run(command, cwd=PROJECT, check=True, capture_output=True).stdout
        )
    return folder


def on_a_terminal(shell: str, typed: str, folder: Path) -> str:
    """All that a shell shows until it ends, to which this was typed."""
    terminal, other_end = pty.openpty()
    environment = {
        "PATH": os.environ["PATH"],
        "TERM": "dumb",
        "HOME": "/nonexistent",
        "PS1": "$ ",
        "HISTFILE": "",
    }
    ends = dict.fromkeys(("stdin", "stdout", "stderr"), other_end)
    process = subprocess.Popen(
        START[shell], cwd=folder, env=environment, start_new_session=True, **ends
    )
    os.close(other_end)
    os.write(terminal, typed.encode())
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            # Linux reports so that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    process.wait()
    return shown.decode(errors="replace")


Complete = Callable[..., list[str]]


@pytest.fixture
def complete(shell: str, scripts: Path, tmp_path: Path) -> Complete:
    """`complete(line)`: the last word of a line becomes all that fits; `key="\\t"`: what a Tab
    makes of it."""

    def complete(line: str, *, key: str = "\x18a", folder: Path = PROJECT) -> list[str]:
        initialise = "autoload -Uz compinit; compinit -D; " if shell == "zsh" else ""
        said = tmp_path / "said"
        prepare = f"{initialise}stty -echo columns 2000; . {scripts / shell}; {INSERT_ALL[shell]}\n"
        ask = f"{line}{key}\x05 >|{said}\x01printf '%s\\n' \nexit\n"
        shown = on_a_terminal(shell, prepare + ask, folder)
        assert said.exists(), shown
        return said.read_text().split("\n")[len(line.split(" ")) - 1 : -1]

    return complete


def test_commands_are_completed(complete: Complete) -> None:
    assert complete("antioversmooth ") == sorted(COMMANDS)
    assert complete("antioversmooth sta") == ["status"]


def test_options_are_completed(complete: Complete) -> None:
    assert complete("antioversmooth ui --p") == ["--port"]
    assert complete("launch.py deit_s12 --d") == ["--detach", "--dry-run"]
    assert complete("antioversmooth launch deit_s12 --d") == ["--detach", "--dry-run"]


def test_choices_are_completed(complete: Complete) -> None:
    assert complete("launch.py --backend ") == ["auto", "inline", "local", "slurm"]


def test_rows_tables_and_clusters_are_completed_by_name(complete: Complete) -> None:
    rows = sorted(path.stem for path in (PROJECT / "experiments").glob("swin_s*.yaml"))
    assert complete("antioversmooth why swin") == rows
    assert complete("launch.py --seeds 0 smo") == ["smoke"]
    assert "default" in complete("launch.py --cluster ")
    assert complete("antioversmooth figures bounds") == ["bounds_deit_s24"]


def test_the_name_of_a_file_is_never_a_command(complete: Complete, tmp_path: Path) -> None:
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name in (
        "deep",
        "$(touch PWNED)",
        "`touch PWNED`",
        "de;touch PWNED",
        "de${x:=y}",
        "de*",
        "-n",
    ):
        (folder / f"{name}.yaml").touch()
    assert complete("antioversmooth why de", folder=tmp_path) == ["deep"]
    assert "deep" in complete("antioversmooth why ", folder=tmp_path)
    assert not list(tmp_path.rglob("PWNED"))


def test_the_second_of_several_specs_is_completed_too(complete: Complete) -> None:
    assert complete("antioversmooth sync deit_s12 smo") == ["smoke"]


def test_specs_are_completed_as_paths(complete: Complete) -> None:
    assert complete("launch.py experiments/tables/smo") == ["experiments/tables/smoke.yaml"]


def test_overrides_are_completed_key_by_key_and_value_by_value(complete: Complete) -> None:
    assert complete("launch.py deit_s12 prof", key="\t") == ["profile="]
    assert complete("launch.py deit_s12 profile=m", key="\t") == ["profile=mini"]
    assert complete("launch.py deit_s12 rec", key="\t") == ["recipe."]
    assert complete("launch.py deit_s12 recipe.epo", key="\t") == ["recipe.epochs="]
    assert complete("launch.py deit_s12 model.method=feat", key="\t") == ["model.method=featscale"]


@pytest.mark.parametrize(
    "start", ["python launch.py", "python3 -m antioversmooth table", ".venv/bin/python launch.py"]
)
def test_it_works_behind_python(complete: Complete, start: str) -> None:
    assert complete(f"{start} smo") == ["smoke"]


def test_python_alone_still_completes_files(complete: Complete) -> None:
    assert complete("python pyproj", key="\t") == ["pyproject.toml"]


def test_names_are_those_of_the_project_around_the_working_directory(
    complete: Complete, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere" / "docs"
    folder.mkdir(parents=True)
    assert complete("antioversmooth why zzz", folder=folder) == ["zzz"]
    (tmp_path / "elsewhere" / "experiments").mkdir()
    (tmp_path / "elsewhere" / "experiments" / "zzz_row.yaml").touch()
    assert complete("antioversmooth why zzz", folder=folder) == ["zzz_row"]


def test_a_tab_starts_no_python(scripts: Path) -> None:
    for shell in START:
        text = (scripts / shell).read_text()
        assert not re.search(r"^[^#\n]*\$\([^)]*python", text, re.MULTILINE)
