"""Where the project lies: the folder that holds `experiments/` and `results/`."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from antioversmooth.errors import SpecError, UserError


def find_root(start: Path | None = None) -> Path:
    """The nearest folder, from `start` (default: the working directory) upwards, that contains
    `experiments/`.

    Raises:
        UserError: There is none.
    """
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        if (folder / "experiments").is_dir():
            return folder
    raise UserError(
        f"no folder from {start} upwards contains experiments/; run this inside a checkout of the"
        " project"
    )


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
    names = [p.stem for folder in folders for p in sorted((experiments / folder).glob("*.yaml"))]
    raise SpecError(_absent(given, names), where=text)


def _absent(given: Path, names: list[str]) -> str:
    """What a person may have meant by the name of no spec."""
    # only here: a help text needs argparse alone
    from antioversmooth.spec import fields
    from antioversmooth.spec.problems import question

    if given.is_dir():
        runs = sorted(given.glob("*/spec.yaml"))
        example = (
            f"run of it, such as {runs[0].parent}" if runs else "spec, such as deit_s12 or table2"
        )
        return f"is a folder; name a {example}"
    key = re.split("[:=]", given.name)[0]
    if key.partition(".")[0] in {"profile", *fields.sections()}:
        return f"is neither a spec nor an override; an override is one word: {key}=VALUE"
    meant = question(difflib.get_close_matches(given.stem, names, n=2))
    return (
        "there is no such spec;"
        f" {meant or 'rows lie in experiments/, tables and figures in folders of it'}"
    )
