"""Where the project lies: the folder that holds `experiments/` and `results/`."""

from __future__ import annotations

from pathlib import Path

from antioversmooth.errors import SpecError, UserError


def find_root(start: Path | None = None) -> Path:
    """The nearest folder, from `start` (default: the working directory) upwards, that contains `experiments/`.

    Raises:
        UserError: There is none.
    """
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        if (folder / "experiments").is_dir():
            return folder
    raise UserError(f"no folder from {start} upwards contains experiments/; run this inside a checkout of the project")


def find_spec(text: str, root: Path) -> Path:
    """The spec that a person means by a path, or by the bare name of a row, a table or a figure.

    Raises:
        SpecError: Neither a file nor a name that is known.
    """
    given = Path(text)
    experiments = root / "experiments"
    folders = ("", "tables", "figures")
    for path in (given, *(experiments / folder / f"{text}.yaml" for folder in folders)):
        if path.is_file():
            return path.absolute()
    from antioversmooth.spec.problems import did_you_mean  # only here: a help text needs argparse alone

    names = [p.stem for folder in folders for p in sorted((experiments / folder).glob("*.yaml"))]
    raise SpecError(f"there is no such spec; {did_you_mean(given.stem, names)}", where=text)
