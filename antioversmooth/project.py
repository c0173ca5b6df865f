"""The project's folder, which holds `experiments/` and `results/`, and specs by name."""

from __future__ import annotations

import re
from pathlib import Path

from antioversmooth.errors import SpecError, UserError, question, similar
from antioversmooth.spec import fields


def find_root(start: Path | None = None) -> Path:
    """The nearest folder from `start` upwards that contains `experiments/`.

    Args:
        start: Default: the working directory.

    Raises:
        UserError: There is no such folder.
    """
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        if (folder / "experiments").is_dir():
            return folder
    message = f"no folder from {start} upwards contains experiments/"
    raise UserError(f"{message}; run this inside a checkout of the project")


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
