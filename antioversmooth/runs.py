"""A run: one experiment with one seed, and its directory, which is the only truth about it.

results/runs/<experiment>/seed<k>-<id8>/
  spec.yaml          the resolved experiment: what a person reads, and what `train` loads
  intent.json        written before anything is submitted: back end, who, when, which code
  attempts.jsonl     one line when an attempt starts and one when it ends, with the reason
  metrics.jsonl      the journal (see journal.py)
  checkpoints/       the last two and the best, each with its checksum
  result.json        written last; its presence is what "done" means
  provenance.json    what the newest attempt ran on
  heartbeat          touched every few seconds while an attempt lives
  logs/attempt<n>/   created exclusively: the number of an attempt is whoever makes its folder
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from antioversmooth import files, journal
from antioversmooth.config import Experiment
from antioversmooth.errors import CheckpointError, ResultError, SpecError, UserError
from antioversmooth.redact import redact

_PLAIN = {str, int, float, bool, type(None)}


def plain(value: Any) -> Any:
    """Config as JSON types: dataclasses become dicts, enums their value."""
    if type(value) in _PLAIN:  # most are, and a table of a thousand runs asks a hundred thousand times
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def _without_secrets(value: Any) -> Any:
    """Where a run ran, for its record: lines that set up a job may hold tokens, and no run is identified by them."""
    if isinstance(value, dict):
        return {key: _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return redact(value) if isinstance(value, str) else value


def scientific(config: Any) -> dict[str, Any]:
    """The fields of a config that decide what is computed, as JSON types (see config/__init__.py for the metadata)."""
    result = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not field.metadata.get("identity", True):
            continue
        if "neutral" in field.metadata and plain(value) == field.metadata["neutral"]:
            continue
        result[field.name] = scientific(value) if dataclasses.is_dataclass(value) else plain(value)
    return result


ORIGINS = {"init_from": "upstream", "teacher": "teacher"}
"""Fields of a recipe that name weights from elsewhere; the fields of a run that hold the run behind `run:<name>`."""


def identity(experiment: Experiment, seed: int, weights: Mapping[str, str] | None = None) -> str:
    """sha256 in hex over what a run computes: model, data, recipe, seed, revision, and the weights that it takes over.

    Nodes, paths, labels and the git hash stay out: the same science is the same run, wherever it runs.

    Args:
        weights: What `recipe.init_from` and `recipe.teacher` stand for, where there are such: the identity of another
            run, the checksum of a file, or timm's tag.
    """
    science = {**scientific(experiment), "seed": seed}
    science["recipe"] = {**science["recipe"], **(weights or {})}
    canonical = json.dumps(science, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Run:
    """One experiment with one seed."""

    experiment: Experiment
    seed: int
    id: str
    """sha256 in hex; see `identity`."""
    dir: Path
    """The run directory."""
    upstream: Run | None = None
    """The run whose final weights this one starts from."""
    teacher: Run | None = None
    """The run whose final weights this one learns from."""

    @property
    def needs(self) -> list[Run]:
        """The runs that must be done before this one can start."""
        return [run for run in (self.upstream, self.teacher) if run is not None]

    @property
    def name(self) -> str:
        """For people: deit_s12 seed 0."""
        return f"{self.experiment.name} seed {self.seed}"

    @property
    def metrics_path(self) -> Path:
        return self.dir / "metrics.jsonl"

    @property
    def attempts_path(self) -> Path:
        return self.dir / "attempts.jsonl"

    @property
    def checkpoints_dir(self) -> Path:
        return self.dir / "checkpoints"

    def result(self) -> dict[str, Any] | None:
        """What `result.json` says; None while the run is not done.

        Raises:
            ResultError: The file is torn or of another run.
        """
        path = self.dir / "result.json"
        try:
            result = files.read_json(path)
        except ValueError as err:
            raise ResultError(f"{path} is not JSON ({err}); move it away and launch again") from err
        if result is None:
            return None
        if not isinstance(result, dict) or result.get("id") != self.id:
            said = result.get("id") if isinstance(result, dict) else None
            raise ResultError(f"{path} is of run {said}, not of {self.id}")
        return result

    def metrics(self) -> list[journal.Record]:
        """The journal, without what later attempts superseded."""
        return journal.read_metrics(self.metrics_path, self.attempts_path)

    def attempts(self) -> list[journal.Record]:
        """Records of the attempts so far; of each attempt one end: the last word, by whoever knew most."""
        records = [r for r in journal.read(self.attempts_path) if "attempt" in r and "time" in r]
        last = {r["attempt"]: i for i, r in enumerate(records) if r.get("event") == "end"}
        return [r for i, r in enumerate(records) if r.get("event") != "end" or last[r["attempt"]] == i]

    def prepare(self) -> None:
        """Makes the directory and writes `spec.yaml`; does nothing where they are there already."""
        self.checkpoints_dir.mkdir(parents=True, exist_ok=True)
        (self.dir / "logs").mkdir(exist_ok=True)
        content = {
            "id": self.id,
            "seed": self.seed,
            "upstream": str(self.upstream.dir) if self.upstream else None,
            **({"teacher": str(self.teacher.dir)} if self.teacher else {}),
            **self._files(),
            "experiment": {**plain(self.experiment), "cluster": _without_secrets(plain(self.experiment.cluster))},
        }
        header = "# The resolved experiment of this run. Its science is hashed into `id`: an edited copy is refused.\n"
        files.write_atomic(self.dir / "spec.yaml", header + yaml.safe_dump(content, sort_keys=False))

    def _files(self) -> dict[str, dict[str, str]]:
        """Checksums of the files that the run takes weights from: they identify it where the files are not."""
        weights = _weights(self.experiment, {role: run for role in ORIGINS.values() if (run := getattr(self, role))})
        sums = {field: weight for field, weight in weights.items() if weight.startswith("sha256:")}
        return {"files": sums} if sums else {}

    def new_attempt(self) -> int:
        """Number of a fresh attempt, from 1; its log folder is made exclusively, so that no two share a number."""
        number = 1 + max((n for n, _ in self.attempt_dirs()), default=0)
        while True:
            try:
                (self.dir / "logs" / f"attempt{number}").mkdir(parents=True)
                return number
            except FileExistsError:
                number += 1

    def attempt_dirs(self) -> Iterator[tuple[int, Path]]:
        """Number and log folder of each attempt."""
        for path in sorted((self.dir / "logs").glob("attempt*")):
            if path.name.removeprefix("attempt").isdigit():
                yield int(path.name.removeprefix("attempt")), path

    @classmethod
    def load(cls, directory: Path) -> Run:
        """The run that lives in a directory, wherever that has been moved to since it ran.

        Raises:
            ResultError: There is no readable spec, or it is not what its id was made of.
        """
        return cls._load(Path(directory), ())

    @classmethod
    def _load(cls, directory: Path, chain: tuple[Path, ...]) -> Run:
        """The run of a directory; `chain` holds those of the runs that need it."""
        path = directory / "spec.yaml"
        content = _content(path)
        try:
            merged = OmegaConf.merge(OmegaConf.structured(Experiment), content["experiment"])
            experiment = OmegaConf.to_object(merged)
        except (ValueError, KeyError, TypeError, RecursionError, OmegaConfBaseException, SpecError) as err:
            raise ResultError(f"{path} cannot be read: {err}") from err
        assert isinstance(experiment, Experiment)
        places = {role: _place(directory, content[role]) for role in ORIGINS.values() if content.get(role)}
        if not {directory, *chain}.isdisjoint(places.values()):
            raise ResultError(f"{path} says that the run needs itself")
        before = {role: cls._load(place, (*chain, directory)) for role, place in places.items()}
        try:
            run_id = identity(experiment, content["seed"], _weights(experiment, before, content["files"]))
        except UserError as err:
            raise ResultError(f"{path}: {err}") from err
        if run_id != content["id"]:
            raise ResultError(
                f"{path} was edited, or written by other code: its content has id {run_id[:8]}, it says "
                f"{content['id'][:8]}; launch the spec again instead"
            )
        return cls(experiment, content["seed"], run_id, directory, **before)


def _place(directory: Path, needed: str) -> Path:
    """Where a run lies that another one needs: beside it, as after a move of all results, or where it was."""
    recorded = Path(needed)
    beside = directory.absolute().parents[1] / recorded.parent.name / recorded.name
    return beside if (beside / "spec.yaml").is_file() else recorded


class _PlainLoader(yaml.SafeLoader):
    """Safe, and without aliases: a few lines of them can stand for more values than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias, which no run writes")
        return super().compose_node(parent, index)


_MAYBE = (str, type(None))
_TYPES = {"id": (str,), "seed": (int,), "upstream": _MAYBE, "teacher": _MAYBE, "experiment": (dict,), "files": (dict,)}
"""Of the keys of `spec.yaml`."""


def _content(path: Path) -> dict[str, Any]:
    """What a run's `spec.yaml` says. A run directory is something people send to each other: nothing in it is trusted.

    Raises:
        ResultError: It is missing, or not what `prepare` writes.
    """
    try:
        text = path.read_text()
        content = yaml.load(text, _PlainLoader)
    except FileNotFoundError as err:
        raise ResultError(f"{path.parent} is not a run directory: it has no spec.yaml") from err
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as err:
        raise ResultError(f"{path} cannot be read: {err}") from err
    if "${" in text:  # what `prepare` writes is resolved; ${oc.env:...} would read this machine's secrets
        raise ResultError(f"{path} cannot be read: it holds an interpolation, which no run writes")
    content = {"files": {}, **content} if isinstance(content, dict) else {}
    if wrong := [key for key, kinds in _TYPES.items() if not isinstance(content.get(key), kinds)]:
        raise ResultError(f"{path} cannot be read: it does not say what is its {', '.join(wrong)}")
    return content


def profile_folder(results: Path, profile: str) -> Path:
    """Where runs and tables of a profile lie: one that is not the paper's has its own folder, lest it be mistaken."""
    return results if profile == "imagenet" else results / profile


Upstream = Callable[[str], Experiment]
"""Finds the experiment that `init_from: run:<name>` or `teacher: run:<name>` names."""


def plan(experiments: Iterable[Experiment], seeds: Iterable[int], results: Path, upstream: Upstream) -> list[Run]:
    """One run for each experiment and seed, those that others need first, each only once.

    Args:
        results: The results folder; runs go to its `runs/`.
    """
    seeds = list(seeds)
    planned: dict[str, Run] = {}
    for experiment in experiments:
        for seed in seeds:
            run = _plan_one(experiment, seed, results, upstream, ())
            for needed in _with_needs(run):
                planned.setdefault(needed.id, needed)
    return list(planned.values())


def _plan_one(experiment: Experiment, seed: int, results: Path, upstream: Upstream, chain: tuple[str, ...]) -> Run:
    before: dict[str, Run] = {}
    for field, role in ORIGINS.items():
        kind, name = _origin(experiment, field)
        if kind != "run":
            continue
        if name in (*chain, experiment.name):
            raise SpecError(f"{name} would need itself", where=f"{experiment.name}: recipe.{field}")
        before[role] = _plan_one(upstream(name), seed, results, upstream, (*chain, experiment.name))
    if "teacher" in before:
        _require_same_kind_of_data(experiment, before["teacher"].experiment)
    run_id = identity(experiment, seed, _weights(experiment, before))
    directory = results / "runs" / experiment.name / f"seed{seed}-{run_id[:8]}"
    return Run(experiment, seed, run_id, directory, **before)


def _require_same_kind_of_data(experiment: Experiment, teacher: Experiment) -> None:
    for key in ("num_classes", "in_channels"):
        own, theirs = getattr(experiment.data, key), getattr(teacher.data, key)
        if own != theirs:
            raise SpecError(
                f"{teacher.name} has data.{key} = {theirs}, and cannot teach where it is {own}",
                where=f"{experiment.name}: recipe.teacher",
            )


def _with_needs(run: Run) -> Iterator[Run]:
    for needed in run.needs:
        yield from _with_needs(needed)
    yield run


def _origin(experiment: Experiment, field: str) -> tuple[str, str]:
    """Kind and name of the weights that a field of the recipe names; empty where there are none."""
    kind, _, name = (getattr(experiment.recipe, field) or "").partition(":")
    return kind, name


def _weights(
    experiment: Experiment, before: Mapping[str, Run], recorded: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What stands for the weights of each origin in the identity.

    Args:
        before: The runs behind `run:<name>`, by what they are to this one.
        recorded: What stood for files that may not be on this machine any more, by the field that names them.
    """
    found = {}
    for field, role in ORIGINS.items():
        kind, name = _origin(experiment, field)
        where = f"{experiment.name}: recipe.{field}"
        if kind == "run":
            if role not in before:
                raise SpecError("the run that it names is not known", where=where)
            found[field] = f"run:{before[role].id}"
        elif kind == "file":
            there = Path(name).is_file()
            if not there and field not in (recorded or {}):
                raise CheckpointError(f"{where}: there is no file {name}")
            found[field] = f"sha256:{files.sha256(Path(name))}" if there else str((recorded or {})[field])
        elif kind:
            found[field] = f"{kind}:{name}"
    return found


class RunState(Enum):
    """What the directory alone says of a run."""

    missing = "missing"
    submitted = "submitted"
    running = "running"
    stopped = "stopped"
    done = "done"


def state(run: Run, *, now: float | None = None) -> RunState:
    """The run's state as its directory tells it: no scheduler is asked.

    `running` means an attempt that has not ended and whose heartbeat is younger than six of its periods.
    """
    if run.result() is not None:
        return RunState.done
    attempts = run.attempts()
    if not attempts:
        return RunState.submitted if (run.dir / "intent.json").exists() else RunState.missing
    ended = {r["attempt"] for r in attempts if r.get("event") == "end"}
    newest = max(r["attempt"] for r in attempts)
    if newest in ended:
        return RunState.stopped
    try:
        beat = (run.dir / "heartbeat").stat().st_mtime
    except FileNotFoundError:
        beat = max(r["time"] for r in attempts)
    age = (time.time() if now is None else now) - beat
    return RunState.running if age < 6 * run.experiment.runtime.heartbeat_s else RunState.stopped


def split_batch(global_batch: int, world_size: int, *, limit: int = 0, group: int = 1) -> tuple[int, int]:
    """Samples per device and forward pass, and passes per step; times the ranks they are the global batch.

    Args:
        limit: Largest number of samples in one pass; 0: no limit.
        group: Samples that must stay on one device together (the recipe's `mix_group`).

    Raises:
        SpecError: It does not divide; names the numbers of processes that do.
    """

    def passes(world: int) -> int | None:
        if global_batch % (world * group):
            return None
        per_rank = global_batch // world
        return next(
            (
                a
                for a in range(1, per_rank // group + 1)
                if per_rank % (a * group) == 0 and (not limit or per_rank // a <= limit)
            ),
            None,
        )

    accumulation = passes(world_size)
    if accumulation is None:
        fitting = [w for w in range(1, min(global_batch, 4096) + 1) if passes(w)]
        unit = f" in groups of {group} (recipe.mix_group)" if group > 1 else ""
        cap = f" with at most {limit} a pass (runtime.device_batch)" if limit else ""
        raise SpecError(
            f"global_batch {global_batch} does not divide over {world_size} processes{unit}{cap}; "
            + (f"it does over {', '.join(map(str, fitting))}" if fitting else "no number of processes fits"),
            where="recipe.global_batch",
        )
    return global_batch // (world_size * accumulation), accumulation
