"""Tables on terminals of different widths, and in a file."""

from __future__ import annotations

import io
import json
import os
import pty
import re
from collections.abc import Iterator
from typing import Any, TextIO

import pytest
from fabricated import Lab

from antioversmooth.cli.main import main
from antioversmooth.orchestration import preflight
from antioversmooth.orchestration.monitor.status import statuses
from antioversmooth.reporting.rendering import terminal

Screen = tuple[TextIO, int]


@pytest.fixture
def screen() -> Iterator[Screen]:
    """A pseudo-terminal: the stream to write to, and the descriptor to read from."""
    read_end, write_end = pty.openpty()
    with os.fdopen(write_end, "w") as out:
        yield out, read_end
    os.close(read_end)


def shown(
    screen: Screen, width: int, show: Any, *arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> str:
    """The output on a terminal of this width."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    out, read_end = screen
    show(*arguments, out)
    print("the end", file=out, flush=True)
    text = ""
    while "the end" not in text:
        text += os.read(read_end, 65536).decode()
    return text.replace("\r\n", "\n").partition("the end")[0]


def of_lab(lab: Lab) -> list[dict[str, Any]]:
    lab.fill()
    return statuses(lab.request().plan([0, 1], lab.results), [lab.table()])


def plain(text: str) -> str:
    """The text without colours and styles."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def widest(text: str) -> int:
    return max(len(line.rstrip()) for line in plain(text).splitlines())


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_states_fit_and_the_columns_that_stay_are_whole(
    width: int, lab: Lab, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(screen, width, terminal.show_statuses, of_lab(lab), monkeypatch=monkeypatch)
    assert widest(text) <= width
    assert "…" not in text
    first = next(line for line in text.splitlines() if "deep_featscale" in line)
    assert first.split()[:3] == ["deep_featscale", "0", "done"]


@pytest.mark.parametrize(
    ("width", "path"),
    [(60, "/data/fol…esult.json"), (100, "/data/folder_fo…_s12/result.json")],
)
def test_a_long_path_in_a_state_is_cut_in_its_middle(
    width: int, path: str, lab: Lab, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    detail = f"/data/{'folder_' * 20}/deit_s12/result.json is torn; move it away"
    statuses_shown = [{**status, "detail": detail} for status in of_lab(lab)]
    text = shown(screen, width, terminal.show_statuses, statuses_shown, monkeypatch=monkeypatch)
    assert widest(text) <= width
    assert path in text
    plain_text = io.StringIO()
    terminal.show_statuses(statuses_shown, plain_text)
    # a line a run, with the path whole
    assert plain_text.getvalue().count("\n") == 1 + len(statuses_shown)
    assert detail in plain_text.getvalue()


def test_a_narrow_terminal_says_why_a_run_failed_and_which_columns_it_hides(
    lab: Lab, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = [
        {**status, "row": "deit_s24_attnscale", "state": "failed", "detail": "no space left"}
        for status in of_lab(lab)
    ]
    text = shown(screen, 60, terminal.show_statuses, failed, monkeypatch=monkeypatch)
    assert "no space left" in text
    caption = " ".join(plain(text).split()).partition("A wider terminal has room for: ")[2]
    assert "paper (ImageNet-1k)" in caption
    assert "detail" not in caption


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_results_fit_and_list_the_omitted_columns(
    width: int, lab: Lab, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.fill()
    text = shown(screen, width, terminal.show_table, lab.collect(0, 1), monkeypatch=monkeypatch)
    assert widest(text) <= width
    assert "…" not in text
    assert "± 0.6" in text
    assert "A wider terminal has room for:" in " ".join(plain(text).split())


def test_a_table_that_cannot_be_written_names_the_way_to_another_folder(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.fill()
    monkeypatch.chdir(lab.root)
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: False)
    assert main(["table", "small", "--seeds", "0,1"]) == 2
    assert "not writable; choose another with cluster.results=/path" in capsys.readouterr().err


def test_a_file_gets_every_column_and_no_escape(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    terminal.show_statuses(of_lab(lab), sys.stdout)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "device-hours" in text


def test_brackets_in_a_table_are_text_and_not_markup_of_the_terminal(
    lab: Lab, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.fill()
    made = lab.collect(0, 1)
    made["title"], made["notes"] = "[bold]Title[/bold]", ["[/unopened] note"]
    made["rows"][0]["label"] = "[red]deep[/red]"
    text = plain(shown(screen, 120, terminal.show_table, made, monkeypatch=monkeypatch))
    assert "[bold]Title[/bold]" in text
    assert "[/unopened] note" in text
    assert "[red]deep[/red]" in text


HOSTILE = (
    "DataError: \x1b]0;owned\x07\x1b[2J\x9b31m\u202e\ud800\r[/pytorch/pair.cc:537] closed\n[red]x"
)


class Terminal(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: is_terminal  # type: ignore[method-assign]


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize(
    "words",
    [["table", "small"], ["status", "small"], ["why", "deep"], ["logs", "deep"]],
    ids=" ".join,
)
def test_no_command_prints_what_a_journal_or_a_log_commands(
    words: list[str], is_terminal: bool, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lab.run("deep")
    lab.start(run, epochs=1)
    end = {"time": 1.7e9, "attempt": 1, "event": "end", "reason": "crash", "message": HOSTILE}
    with run.attempts_path.open("a") as file:
        file.write(json.dumps(end) + "\n")
    log = run.dir / "logs" / "attempt1" / "rank0.err"
    log.parent.mkdir()
    log.write_bytes(HOSTILE.encode(errors="surrogatepass"))
    out, err = Terminal(is_terminal), Terminal(is_terminal)
    monkeypatch.chdir(lab.root)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    assert main(words) in (0, 1, 3)
    text = plain(out.getvalue() + err.getvalue())
    assert not set(text) & set("\x1b\x07\x9b\u202e\ud800\r")
    assert text.isprintable() or set(filter(lambda c: not c.isprintable(), text)) == {"\n"}
    if words[0] != "status" or not is_terminal:
        assert "[/pytorch/pair.cc:537]" in text.replace("\\", "")
