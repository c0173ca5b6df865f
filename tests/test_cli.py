"""The command line: what it prints, what it returns, and what it does not import."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import completed
import pytest

from antioversmooth import cli, spec
from antioversmooth.cli import parsers
from antioversmooth.cli.exit_codes import CLOSED_PIPE, INCOMPLETE
from antioversmooth.cli.main import handler
from antioversmooth.errors import SpecError, UserError
from antioversmooth.project import find_root, find_spec
from antioversmooth.reporting.rendering import markdown
from antioversmooth.reporting.table import document
from antioversmooth.runs import journal

HEAVY = {
    "torch",
    "timm",
    "torchvision",
    "mlflow",
    "submitit",
    "sklearn",
    "pandas",
    "matplotlib",
    "sqlalchemy",
}


@pytest.fixture
def project(tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the shipped specs and no results, as the working directory."""
    (tmp_path / "experiments").symlink_to(experiments)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finish(project: Path, table: str, *, seeds: Sequence[int] = (0,)) -> None:
    """Gives every row of a table a result, as little as a table needs."""
    request = spec.load([project / "experiments" / "tables" / f"{table}.yaml"], ["profile=mini"])
    for run in request.plan(seeds, project / "results"):
        run.prepare()
        journal.append(run.attempts_path, {"attempt": 1, "event": "start", "step": 0})
        journal.append(run.metrics_path, {"attempt": 1, "step": 496, "epoch": 8, "val/top1": 91.5})
        completed.finish(run)


def test_a_table_that_is_not_complete_exits_3(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["table", "smoke", "profile=mini"]) == INCOMPLETE
    assert "INCOMPLETE: 0 of 2 rows are done." in capsys.readouterr().out
    assert cli.main(["table", "smoke", "profile=mini", "--allow-partial"]) == 0


def test_a_complete_table_exits_0_and_lies_in_the_profiles_folder(project: Path) -> None:
    finish(project, "smoke")
    assert cli.main(["table", "smoke", "profile=mini", "--seeds", "0"]) == 0
    written = sorted(path.name for path in (project / "results" / "mini").glob("smoke.*"))
    assert written == ["smoke.csv", "smoke.html", "smoke.json", "smoke.md", "smoke.tex"]
    assert not list((project / "results").glob("smoke.*"))


def test_a_table_needs_every_seed_that_is_asked_for(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(project, "smoke")
    assert cli.main(["table", "profile=mini", "--seeds", "0,1", "smoke"]) == INCOMPLETE
    assert "partial (1/2)" in capsys.readouterr().out


def test_a_table_of_other_experiments_is_printed_and_not_written(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["table", "smoke", "profile=mini", "recipe.epochs=1", "--allow-partial"]
    assert cli.main(arguments) == 0
    assert "not written" in capsys.readouterr().err
    assert not (project / "results").exists()
    assert cli.main([*arguments, "--output", "elsewhere"]) == 0
    assert (project / "elsewhere" / "smoke.md").exists()


def test_table_as_json_is_the_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(project, "smoke")
    cli.main(["table", "smoke", "profile=mini", "--json"])
    assert capsys.readouterr().out == (project / "results" / "mini" / "smoke.json").read_text()


def test_the_readme_gets_the_table_between_its_markers(project: Path) -> None:
    readme = project / "README.md"
    readme.write_text("# Title\n<!-- smoke:begin -->\n<!-- smoke:end -->\n")
    finish(project, "smoke")
    assert cli.main(["table", "smoke", "profile=mini", "--readme"]) == 0
    table = document.load_document(project / "results" / "mini" / "smoke.json")
    assert markdown.render_for_readme(table) in readme.read_text()


def test_status_shows_each_run_beside_the_papers_value(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(project, "smoke")
    assert cli.main(["status", "smoke", "profile=mini", "--seeds", "0,1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "deit_s12",
        "0",
        "done",
        "8/8",
        "91.5",
        "79.8",
        "–",
        "1",
        "–",
        "0.00",
        "0.00",
    ]
    assert lines[2].split() == [
        "deit_s12",
        "1",
        "missing",
        "0/8",
        "–",
        "79.8",
        "–",
        "0",
        "–",
        "0.00",
        "8.82",
    ]


def test_status_as_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["status", "deit_s12", "profile=mini", "--json"])
    (status,) = json.loads(capsys.readouterr().out)
    assert (status["experiment"], status["state"], status["epochs"]) == ("deit_s12", "missing", 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table", "tabel2"], "there is no such spec; did you mean `table2`?"),
        (["table", "deit_s12", "profile=mini"], "names no table"),
        (["status", "deit_s12", "profile=mini", "model.dept=3"], "dept"),
        (
            ["figures", "table2"],
            "is a table, and a figure belongs here; they lie in experiments/figures/",
        ),
        (["figures", "deit_s12"], "is a row, and a figure belongs here"),
        (
            ["import", "experiments"],
            "is a folder; a bundle is the file that `antioversmooth export` writes",
        ),
        (["new", "another", "--from", "experiments/model/mini/deit_s12.yaml"], "is a part of rows"),
        (
            ["new", "another", "--from", "table2"],
            "a new row starts from a row, and this is a table",
        ),
        # an address that no machine has (RFC 5737)
        (["ui", "--host", "203.0.113.1"], "--host takes an address of this machine"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_2(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize("seeds", ["0,0", "-1", "a", "", "0-2", "0,,1"])
def test_seeds_are_different_whole_numbers(
    project: Path, seeds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", "deit_s12", f"--seeds={seeds}"])
    assert ended.value.code == 2
    assert (
        f"{seeds!r} is not a list of seeds: different whole numbers, as in 0,1,2"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "antioversmooth: which command? there are init, launch, doctor, status, why,"),
        (["tabel"], "antioversmooth: there is no command `tabel`; did you mean `table`?"),
        (
            ["train", "table2"],
            "antioversmooth: there is no command `train`; `launch` trains",
        ),
        (
            ["table", "table2", "--allow-partail"],
            "there is no option --allow-partail; did you mean --allow-partial?",
        ),
        (
            ["table", "table2", "--profile=mini"],
            "there is no option --profile; an override has no dashes: profile=mini",
        ),
        (
            ["table", "table2", "--output", "file"],
            "argument --output: file is a file, and a folder belongs here",
        ),
        (
            ["init", "file/x"],
            "argument DIR: file is a file, and a folder belongs here",
        ),
        (["init", "dangling"], "argument DIR: dangling is a link to nothing, and a folder"),
        (["init", ""], "argument DIR: an empty word names no folder; the one you are in is `.`"),
        (
            ["export-model", "run", "run", "dir"],
            "antioversmooth export-model: dir is one argument too many; it takes RUN DIR",
        ),
        (
            ["export-model", "a/s0", "b/s0", "dir"],
            "export-model: 2 run directories, a/s0, b/s0; name",
        ),
        (["evaluate", "a/s0", "b/s0", "--data", "x"], "2 run directories, a/s0, b/s0; name one"),
        (["convert", "a/s0", "b/s0", "x.pth"], "2 run directories, a/s0, b/s0; name one"),
        (["why", "a/s0", "b/s0"], "2 run directories, a/s0, b/s0; name one"),
        (
            ["export-model", "run", "dir", "--license", "apache2"],
            "'apache2' is no name of a licence on the hub, did you mean `apache-2.0`?",
        ),
        (
            ["export-model", "run", "dir", "--license", "nonsense"],
            "'nonsense' is no name of a licence on the hub, there are mit, apache-2.0, ...;",
        ),
        (["ui", "--port", "99999"], "argument --port: '99999' is not a port: 0 to 65535"),
        (["ui", "--every", "-1"], "argument --every: '-1' must be a number of seconds above 0"),
        (["ui", "--every", "0"], "argument --every: '0' must be a number of seconds above 0"),
        (["schema", "rows"], "invalid choice: 'rows'"),
        (["why", "deit_s12", "--seed=-3"], "argument --seed: '-3' is not a seed: a whole number"),
        (["why", "deit_s12", f"--seed={2**63}"], f"{2**63} is too large for a seed: the largest"),
        (
            ["data", "birds", "--build-cache", "--share=9/8"],
            "argument --share: '9/8' is not a share I/N, such as 3/8 for share 3 of 8",
        ),
    ],
)
def test_a_mistyped_command_line_is_one_line_and_exit_2(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (project / "file").touch()
    (project / "dangling").symlink_to("nowhere")
    for run in ("a/s0", "b/s0"):
        (project / run).mkdir(parents=True)
        (project / run / "spec.yaml").touch()
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_file_that_the_system_refuses_is_named_without_a_number(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # a link to itself
    (project / "bundle.tar").symlink_to(project / "bundle.tar")
    assert cli.main(["import", "bundle.tar"]) == 2
    assert (
        capsys.readouterr().err
        == "antioversmooth import: bundle.tar: Too many levels of symbolic links\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["why", "deit_s12"], "has never been launched like this"),
        (["evaluate", "no.pth", "--spec", "deit_s12"], "no.pth: there is no such run directory"),
    ],
)
def test_an_override_may_be_longer_than_the_name_of_a_file(
    words: list[str], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "profile=mini", f"data.name={'x' * 300}"]) == 2
    assert message in capsys.readouterr().err


def test_a_clone_that_has_run_nothing_does_not_empty_the_committed_table(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(project, "smoke")
    assert cli.main(["table", "smoke", "profile=mini"]) == 0
    committed = (project / "results" / "mini" / "smoke.json").read_bytes()
    shutil.rmtree(project / "results" / "mini" / "runs")
    (project / "README.md").write_text("<!-- smoke:begin -->\n<!-- smoke:end -->\n")
    assert cli.main(["table", "smoke", "profile=mini", "--readme"]) == INCOMPLETE
    assert "not written: no row of it has run here" in capsys.readouterr().err
    assert (project / "README.md").read_text() == "<!-- smoke:begin -->\n<!-- smoke:end -->\n"
    assert (project / "results" / "mini" / "smoke.json").read_bytes() == committed
    assert cli.main(["table", "smoke", "profile=mini", "--output", "elsewhere"]) == INCOMPLETE
    assert (project / "elsewhere" / "smoke.json").exists()


def test_a_table_never_loses_numbers_unless_it_may(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(project, "smoke")
    readme = project / "README.md"
    readme.write_text("<!-- smoke:begin -->\n<!-- smoke:end -->\n")
    assert cli.main(["table", "smoke", "profile=mini", "--readme"]) == 0
    committed = {
        path: path.read_bytes()
        for path in [readme, *(project / "results" / "mini").glob("smoke.*")]
    }
    # leaves one of two rows
    next((project / "results" / "mini" / "runs").glob("*/*/result.json")).unlink()
    capsys.readouterr()
    for output in ([], ["--output", "results/mini"]):
        assert cli.main(["table", "smoke", "profile=mini", "--readme", *output]) == INCOMPLETE
        message = capsys.readouterr().err
        assert "not written: " in message
        assert "results/mini has numbers of seeds that are not in this one: of deit_s12" in message
        assert "; --allow-partial writes it nevertheless, --output DIR elsewhere" in message
        assert {path: path.read_bytes() for path in committed} == committed
    assert cli.main(["table", "smoke", "profile=mini", "--readme", "--output", "elsewhere"]) == 2
    assert (
        "README.md is left alone: its table has 2 measured rows, this one 1"
        in capsys.readouterr().err
    )
    assert readme.read_bytes() == committed[readme]
    assert cli.main(["table", "smoke", "profile=mini", "--readme", "--allow-partial"]) == 0
    assert all(path.read_bytes() != old for path, old in committed.items())


def test_fewer_seeds_do_not_take_the_place_of_more(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(project, "smoke", seeds=[0, 1])
    assert cli.main(["table", "smoke", "profile=mini", "--seeds", "0,1"]) == 0
    # complete for the seeds asked for, but not written
    assert cli.main(["table", "smoke", "profile=mini"]) == 0
    assert "of deit_s12, deit_s12_featscale; --seeds 0,1 asks for all" in capsys.readouterr().err
    assert '"n": 2' in (project / "results" / "mini" / "smoke.json").read_text()


def test_other_seeds_do_not_take_the_place_of_those_that_are_there(project: Path) -> None:
    finish(project, "smoke", seeds=[0, 1])
    assert cli.main(["table", "smoke", "profile=mini", "--seeds", "0"]) == 0
    there = (project / "results" / "mini" / "smoke.json").read_bytes()
    assert cli.main(["table", "smoke", "profile=mini", "--seeds", "1"]) == 0
    assert (project / "results" / "mini" / "smoke.json").read_bytes() == there


@pytest.mark.parametrize("left", ["<<<<<<< HEAD\n", None], ids=["torn", "gone"])
def test_a_table_whose_json_cannot_be_read_is_not_emptied(
    project: Path, left: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(project, "smoke")
    assert cli.main(["table", "smoke", "profile=mini"]) == 0
    folder = project / "results" / "mini"
    (folder / "smoke.json").write_text(left) if left else (folder / "smoke.json").unlink()
    shutil.rmtree(folder / "runs")
    there = {path: path.read_bytes() for path in folder.glob("smoke.*")}
    assert cli.main(["table", "smoke", "profile=mini"]) == INCOMPLETE
    assert "their JSON is missing or torn" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.glob("smoke.*")} == there


def test_a_table_is_written_before_anybody_can_stop_reading(project: Path) -> None:
    finish(project, "smoke")
    line = (
        f'"{sys.executable}" -m antioversmooth table smoke profile=mini | true; exit'
        " ${PIPESTATUS[0]}"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=project, env=environment, capture_output=True, check=False
    )
    assert done.returncode == CLOSED_PIPE
    assert (project / "results" / "mini" / "smoke.md").exists()


def test_a_results_folder_that_is_a_file_is_one_message(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "file").touch()
    assert cli.main(["status", "deit_s12", f"cluster.results={project / 'file'}"]) == 2
    assert "is a file, and a folder for runs and tables belongs here" in capsys.readouterr().err


def test_a_table_of_another_profile_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["table", "smoke", "profile=mini", "--allow-partial"])
    assert cli.main(["verify", "smoke"]) == 2
    assert (
        "results/smoke.json; of another profile there is: profile=mini" in capsys.readouterr().err
    )


def test_a_table_of_other_rows_is_verified_where_output_wrote_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["smoke", "profile=mini", "recipe.epochs=2"]
    cli.main(["table", *words, "--allow-partial", "--output", str(project / "other")])
    capsys.readouterr()
    assert cli.main(["verify", *words]) == 2
    said = capsys.readouterr().err
    assert "with these words and --output DIR writes theirs" in said
    assert "`antioversmooth verify DIR/smoke.json` compares it" in said
    assert (project / "other" / "smoke.json").is_file()


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_sync_mirrors_nothing_where_nothing_ran(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "antioversmooth.reporting.tracking.mirror.sync", lambda observed, tables, results: []
    )
    assert cli.main(["sync", "smoke", "profile=mini"]) == 0
    assert capsys.readouterr().out == "Nothing has run yet.\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["table", "--help"], ["status", "smoke", "profile=mini"], ["table", "smoke"]],
    ids=" ".join,
)
def test_no_command_about_results_imports_anything_heavy(
    arguments: list[str], project: Path
) -> None:
    code = (
        "import sys\nfrom antioversmooth.cli.main import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        f"print('IMPORTED', *({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project
    )
    assert done.stderr.splitlines()[-1] == "IMPORTED"


def test_help_imports_nothing_but_argparse(project: Path) -> None:
    code = (
        "import sys\nfrom antioversmooth.cli.main import main\ntry: main(['--help'])\nexcept"
        " SystemExit: pass\n"
    )
    check = "print({'hydra', 'omegaconf', 'yaml', 'rich'} & set(sys.modules) or 'nothing')"
    done = subprocess.run(
        [sys.executable, "-c", code + check], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "nothing"
    assert "table" in done.stdout


TALK_TO_PEOPLE = {"logs", "ui", "completion", "schema"}
"""A log is text, a server says nothing, a script is for a shell, and a schema is JSON anyway."""


@pytest.mark.parametrize("command", sorted(set(parsers.COMMANDS) - TALK_TO_PEOPLE))
def test_every_command_has_an_answer_for_programs(command: str) -> None:
    assert "--json" in parsers.command_parser(command).format_help()


@pytest.mark.parametrize("command", parsers.COMMANDS)
def test_every_command_has_a_handler(command: str) -> None:
    assert callable(handler(command))


def test_the_project_is_found_from_a_folder_inside_it(project: Path) -> None:
    inside = project / "results" / "mini"
    inside.mkdir(parents=True)
    assert find_root(inside) == project
    with pytest.raises(UserError, match="contains experiments/"):
        find_root(project.parent)


def test_a_spec_is_found_by_path_or_name(project: Path) -> None:
    assert find_spec("table2", project) == project / "experiments" / "tables" / "table2.yaml"
    assert find_spec("deit_s12", project) == project / "experiments" / "deit_s12.yaml"
    assert (
        find_spec("experiments/deit_s12.yaml", project) == project / "experiments" / "deit_s12.yaml"
    )
    with pytest.raises(SpecError, match="no such spec"):
        find_spec("deit", project)
