"""The project's folder, which holds `experiments/` and `results/`; specs by name; a new project."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from antioversmooth import files, installation
from antioversmooth.errors import SpecError, UserError, and_more, question, similar
from antioversmooth.spec import fields


def find_root(start: Path | None = None) -> Path:
    """The nearest folder from `start` upwards that contains `experiments/`.

    Args:
        start: Default: the working directory.

    Raises:
        UserError: There is no such folder.
    """
    start = (start or Path.cwd()).absolute()
    if found := _root(start):
        return found
    message = f"no folder from {start} upwards contains experiments/"
    raise UserError(f"{message}: `antioversmooth init DIR` makes a project; run this in it")


def _root(start: Path) -> Path | None:
    return next((one for one in (start, *start.parents) if (one / "experiments").is_dir()), None)


def readable_root() -> Path:
    """As `find_root`; where there is no project, the folder of the specs in the package.

    For commands that write nothing beside specs.
    """
    return _root(Path.cwd()) or installation.own_project()


_PROGRAM = "python launch.py"
"""How the comments of specs name the program of a checkout."""


def make_project(folder: Path) -> list[Path]:
    """Makes a project folder: the specs of the package, a Makefile, .gitignore, a site profile.

    Files that are there with the same content are left as they are.

    Returns:
        The files that were written.

    Raises:
        UserError: Another file is there already, or the folder lies among the specs or results of a
            project; then nothing is written.
    """
    _refuse_inside(folder)
    contents = {folder / name: text for name, text in _project_files()}
    there = [path for path in contents if path.exists() or path.is_symlink()]
    other = [path for path in there if not path.is_file() or path.read_bytes() != contents[path]]
    if other:
        names = and_more([str(path.relative_to(folder)) for path in other], 3)
        raise UserError(
            f"{folder} has its own {names}: nothing was written; name a new folder, or move these"
        )
    missing = [path for path in contents if path not in there]
    for path in missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, contents[path].decode())
    return missing


def _refuse_inside(folder: Path) -> None:
    """Raises UserError where a folder lies in `experiments/` or `results/` of a project."""
    place = folder.resolve()
    for one in (place, *place.parents):
        # others may name a folder so, too: a project's holds rows
        rows = (one.parent / "experiments").glob("*.yaml")
        if one.name in ("experiments", "results") and next(rows, None):
            raise UserError(
                f"{folder} lies in {one.name}/ of the project {one.parent}: nothing was written;"
                " name a folder outside of it"
            )


def _project_files() -> Iterator[tuple[Path, bytes]]:
    """Path in a new project, and content, of each of its files."""
    own = installation.own_project()
    for path in sorted(own.glob("experiments/**/*.yaml")):
        # a profile that a checkout keeps to itself
        if not path.name.startswith("local-"):
            text = path.read_text(encoding="utf-8").replace(_PROGRAM, "antioversmooth launch")
            yield path.relative_to(own), text.encode()
    for name, place in _TEMPLATES.items():
        yield Path(place), (installation.TEMPLATE / name).read_bytes()


_TEMPLATES = {
    "Makefile": "Makefile",
    "gitignore": ".gitignore",
    "my_site.yaml": "experiments/cluster/my_site.yaml",
}
"""Path in a new project, by the name of the template."""


def find_spec(text: str, root: Path) -> Path:
    """The path of a spec, which is named by a path, or by the name of a row, a table or a figure.

    Raises:
        SpecError: `text` is neither a file nor a known name.
    """
    experiments = root / "experiments"
    folders = ("", "tables", "figures")
    for path in (Path(text), *(experiments / folder / f"{text}.yaml" for folder in folders)):
        if path.is_file():
            return path.absolute()
    names = [p.stem for folder in folders for p in sorted((experiments / folder).glob("*.yaml"))]
    raise SpecError(_explain_missing(Path(text), names), where=text)


def _explain_missing(typed: Path, names: list[str]) -> str:
    """The message for a name of no spec, with the nearest names."""
    if typed.is_dir():
        runs = sorted(typed.glob("*/spec.yaml"))
        example = (
            f"run of it, such as {runs[0].parent}" if runs else "spec, such as deit_s12 or table2"
        )
        return f"is a folder; name a {example}"
    key = re.split("[:=]", typed.name)[0]
    if key.partition(".")[0] in {"profile", *fields.sections()}:
        return f"is neither a spec nor an override; an override is one word: {key}=VALUE"
    meant = question(similar(typed.stem, names))
    places = "rows lie in experiments/, tables and figures in folders of it"
    return f"there is no such spec; {meant or places}"
