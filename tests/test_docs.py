"""Commands, options, make targets and paths in README.md, CONTRIBUTING.md and docs/ exist.

Every command of a code block has words that its own parser accepts, and specs and overrides that
load. `test_docs_run.py` runs the blocks that are marked as runnable.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from antioversmooth import spec
from antioversmooth.cli import parsers
from antioversmooth.project import find_spec
from antioversmooth.spec import fields

PROJECT = Path(__file__).parents[1]
DOCS = [page for page in sorted(PROJECT.glob("docs/**/*.md")) if "_build" not in page.parts]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *DOCS]
ANTIOVERSMOOTH = re.compile(r"(?:(?:\S*python|torchrun) -m )?antioversmooth (?P<words>.*)")
LAUNCH = re.compile(r"(?:\S*python )?launch\.py (?P<words>.*)")
FILES = re.compile(r"^```yaml run (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TABLES = PROJECT / "experiments" / "tables"
OWN_FOLDERS = (
    "antioversmooth",
    "benchmarks",
    "docs",
    "examples",
    "experiments",
    "scripts",
    "tests",
)
ROOMS = (
    "analysis",
    "config",
    "datasets",
    "models",
    "orchestration",
    "reporting",
    "runs",
    "training",
)


def block_lines(text: str) -> Iterator[str]:
    """Lines of `sh` blocks and of indented blocks."""
    fence = ""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence.startswith("```sh") or (not fence and line.startswith("    ")):
            yield line.strip()


def spans(text: str) -> Iterator[str]:
    """Inline code."""
    text = re.sub(r"(?ms)^```.*?^```$", "", text)
    yield from (span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", text))


# -- commands of blocks ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The specs and the Makefile, with the cluster profile that the pages call `mysite`."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "experiments", project / "experiments")
    shutil.copy(PROJECT / "Makefile", project)
    for name in ("pyproject.toml", "requirements.lock", ".venv/.installed"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).touch()
    clusters = project / "experiments" / "cluster"
    shutil.copy(clusters / "default.yaml", clusters / "mysite.yaml")
    return project


def commands(line: str) -> Iterator[str]:
    """The commands of a line, without comments, redirections and variables; those of a make target
    in its place."""
    if not re.search(r"(^|[\s/])(make|launch\.py|antioversmooth)\s", line):
        return
    lexer = shlex.shlex(os.path.expandvars(line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for is_operator, group in groupby(lexer, lambda word: not word.strip("();<>|&")):
        words = list(group)
        while words and re.match(r"nohup$|\w+=", words[0]):
            words = words[1:]
        if words[:1] == ["make"]:
            listed = ["make", "-n", "--no-print-directory", *words[1:]]
            # a make above has arguments of its own
            own = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
            own.pop("ARGS", None)
            made = subprocess.run(
                listed, env=own, text=True, capture_output=True, check=True
            ).stdout
            for of_target in made.replace("\\\n", " ").splitlines():
                yield from commands(of_target)
        elif words and not is_operator:
            yield shlex.join(words)


def check(words: list[str], project: Path) -> None:
    """Exits or raises if the parser of a command refuses its words, or if its specs do not load.

    Specs in other places than the project, run directories and files are not looked at.
    """
    command, args = parsers.parse_command(words)
    given = vars(args)
    names = [name for key in ("specs", "row", "tables", "overrides") for name in given.get(key, [])]
    names += [given[key] for key in ("spec", "origin") if given.get(key)]
    names += [args.target] if command == "throughput" else []
    specs, overrides = parsers.split_overrides(names)
    elsewhere = re.compile(r"results/|[~/]|timm:|[A-Z]+$|.*\.json$")
    found = [find_spec(name, project) for name in specs if not elsewhere.match(name)]
    if command == "figures":
        for path in found:
            spec.load_figure(path, overrides)
    elif found:
        spec.load(found, overrides)
    if command == "new":
        # later commands of the page name the new row
        shutil.copy(found[0], project / "experiments" / f"{args.name}.yaml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_blocks_of_the_documentation_are_valid(
    page: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    for name, text in FILES.findall(page.read_text()):
        (project / name).write_text(text)
    for command in (found for line in block_lines(page.read_text()) for found in commands(line)):
        if match := LAUNCH.fullmatch(command):
            check(["launch", *shlex.split(match["words"])], project)
        elif (match := ANTIOVERSMOOTH.fullmatch(command)) and match["words"] != "--version":
            check(shlex.split(match["words"]), project)


# -- inline code -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_in_the_text_exist(page: Path) -> None:
    for span in spans(page.read_text()):
        if match := LAUNCH.fullmatch(span):
            parser = parsers.launch_parser()
            words = match["words"]
        elif match := ANTIOVERSMOOTH.fullmatch(span):
            command, _, words = match["words"].partition(" ")
            if command in ("...", "--version"):
                continue
            assert command in parsers.COMMANDS, span
            parser = parsers.command_parser(command)
        else:
            continue
        options = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", words))
        assert options <= set(parser._option_string_actions), span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_of_overrides_in_the_text_exist(page: Path) -> None:
    override = re.compile(rf"(?<![\w./])(({'|'.join(fields.sections())})\.\w+)[\w.]*=")
    for span in spans(page.read_text()):
        for match in override.finditer(span):
            assert fields.kind_of(match[1]) is not None, span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_in_the_text_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z%-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    patterns = [re.compile(target.replace("%", r".+")) for target in targets]
    for span in spans(page.read_text()):
        if match := re.match(r"(?:\w+=\S+ )?make ([a-z][\w-]*)", span):
            assert any(pattern.fullmatch(match[1]) for pattern in patterns), span
        if match := re.match(r"make reproduce-([a-z]\w*)$", span):
            assert match[1] == "paper" or (TABLES / f"{match[1]}.yaml").is_file(), span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_of_the_project_in_the_documentation_exist(page: Path) -> None:
    text = page.read_text()
    for span in [*block_lines(text), *spans(text)]:
        folder, slash, rest = span.partition("/")
        if not slash or re.search(r"[\s<>{}…]", span) or "_build" in span:
            continue
        if folder in OWN_FOLDERS:
            assert list(PROJECT.glob(span.rstrip("/"))), span
        # a module as the pages name it, from its room on
        elif folder in ROOMS and rest.endswith(".py"):
            assert (PROJECT / "antioversmooth" / span).is_file(), span
