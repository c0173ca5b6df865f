"""From YAML files and `key=value` overrides to typed experiments; every mistake in them ends here, as a SpecError.

hydra's compose API puts a spec together from its groups, OmegaConf holds it against the dataclasses of config.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from antioversmooth import runs
from antioversmooth.config import Experiment, Figure, Table
from antioversmooth.errors import SpecError

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """What was asked for on a command line, loaded: tables, and the experiments of their rows and of row files."""

    experiments: list[Experiment]
    tables: list[Table]
    folder: Path
    """The experiments folder that the specs lie in."""
    overrides: tuple[str, ...]
    """As given on the command line."""

    def upstream(self, name: str) -> Experiment:
        """The experiment that `init_from: run:<name>` means, with the same profile, data and cluster."""
        known = {e.name: e for e in self.experiments}
        shared = [o for o in self.overrides if re.match(r"[+~]*(profile|data|cluster|runtime)\b", o)]
        return known.get(name) or load_experiment(self.folder / f"{name}.yaml", shared)

    def plan(self, seeds: Sequence[int], results: Path) -> list[runs.Run]:
        """The runs of all experiments, those that others start from first.

        Args:
            results: The project's results folder; a profile other than the paper's own gets a folder in it.
        """
        return runs.plan(self.experiments, seeds, self.results(results), self.upstream)

    def results(self, results: Path) -> Path:
        """Folder of runs and tables: a profile that is not the paper's has its own, so that nothing is mistaken."""
        chosen = {(e.profile, e.cluster.results) for e in self.experiments}
        if len(chosen) > 1:
            raise SpecError(f"rows of different profiles or result folders cannot be one request: {sorted(chosen)}")
        profile, moved = chosen.pop()
        base = Path(moved).expanduser().absolute() if moved else results
        return base if profile == "imagenet" else base / profile


def load(paths: Sequence[Path], overrides: Sequence[str] = ()) -> Request:
    """Loads rows and tables.

    Raises:
        SpecError: With file, key and what would be right.
    """
    experiments: dict[str, Experiment] = {}
    tables, folder = [], Path("experiments")
    for path in paths:
        path = _existing(path)
        if is_table(path):
            table = load_table(path)
            tables.append(table)
            folder = path.parent.parent
            rows = [folder / f"{row.experiment}.yaml" for row in table.rows if row.experiment]
        else:
            rows, folder = [path], path.parent
        for row in rows:
            experiments.setdefault(row.stem, load_experiment(row, overrides))
    return Request(list(experiments.values()), tables, folder, tuple(overrides))


def is_table(path: Path) -> bool:
    """Whether a spec is a table: it lies in a folder named `tables`."""
    return path.parent.name == "tables"


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """One row, composed and checked."""
    path = _existing(path)
    with _spec_errors(path):
        composed = _compose(path, list(overrides))
    composed["name"] = path.stem
    return _typed(Experiment, composed, path)


def load_table(path: Path) -> Table:
    """One table, checked; its rows are not loaded."""
    return _load_page(Table, path)


def load_figure(path: Path, overrides: Sequence[str] = ()) -> tuple[Figure, Request]:
    """One figure, checked, and the request for the experiments of its rows."""
    path = _existing(path)
    figure = _load_page(Figure, path)
    folder = path.parent.parent
    return figure, load([folder / f"{row.experiment}.yaml" for row in figure.rows], overrides)


def _load_page(schema: type[T], path: Path) -> T:
    """A table or a figure: one file, no groups."""
    path = _existing(path)
    with _spec_errors(path):
        content = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(content, dict):
        raise SpecError(f"a {schema.__name__.lower()} is a mapping with title and rows", where=_relative(path))
    return _typed(schema, {**{str(k): v for k, v in content.items()}, "name": path.stem}, path)


def _existing(path: Path) -> Path:
    for candidate in (path, path.with_name(path.name + ".yaml")):
        if candidate.is_file():
            return candidate.absolute()
    beside = sorted(p.stem for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    hint = f"; there are {', '.join(beside)}" if beside else ""
    raise SpecError(f"there is no such spec{hint}", where=str(path))


def _compose(path: Path, overrides: list[str]) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir  # only here: a help text needs no hydra
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    ConfigStore.instance().store("schema", Experiment)  # a row's first default: gives every key its type and default
    with initialize_config_dir(str(path.parent), version_base=None):
        composed = compose(path.stem, overrides=overrides)
    content = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _typed(schema: type[T], content: dict[str, Any], path: Path) -> T:
    with _spec_errors(path):
        typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), content))
    assert isinstance(typed, schema)
    return typed


@contextmanager
def _spec_errors(path: Path) -> Iterator[None]:
    """Turns what the libraries raise about a spec into one message with file and key."""
    from hydra.errors import HydraException

    shown = _relative(path)
    try:
        yield
    except SpecError as err:
        raise SpecError(str(err), where=shown) from err
    except OmegaConfBaseException as err:
        raise _spec_error(err, shown) from err
    except yaml.YAMLError as err:
        raise SpecError(" ".join(str(err).split()), where=shown) from err
    except HydraException as err:
        if isinstance(err.__cause__, OmegaConfBaseException):  # what hydra wraps says more than the wrapping
            raise _spec_error(err.__cause__, shown) from err
        raise SpecError(str(err).split("\n\nConfig search path")[0], where=shown) from err


def _spec_error(err: OmegaConfBaseException, shown: str) -> SpecError:
    where = f"{shown}: {err.full_key}" if err.full_key else shown
    if isinstance(err, MissingMandatoryValue):
        return SpecError("has no value, and needs one", where=where)
    return SpecError(str(err).splitlines()[0], where=where)


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
