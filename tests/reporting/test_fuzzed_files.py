"""Whatever becomes of a file: a command ends with one message, and no number is silently another.

More examples than in CI: `make test ARGS="tests/reporting/test_fuzzed_files.py
--hypothesis-profile fuzz"`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fabricated import Lab
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutate, restore

from antioversmooth import spec
from antioversmooth.cli.exit_codes import FAILED, INCOMPLETE, OK, USER_ERROR
from antioversmooth.cli.main import launch, main
from antioversmooth.runs.status import RunState

SOME = settings(max_examples=settings.default.max_examples // 2)
"""Half as many examples as of faster tests."""
RANDOMS = st.randoms(use_true_random=False)
TRUE = {"deep": 90.1, "deep_featscale": 91.4, "wide": 93.0}
"""Accuracy of each row."""

story: list[str] = []
"""The mutations and commands of the newest example, for the message of a failure."""
mutations: Counter[str] = Counter()
"""Mutations so far, by kind of file."""


@dataclass
class Project:
    """A project whose runs are all done, and a copy of it to restore it from."""

    root: Path
    original: Path
    bundle: Path

    @property
    def results(self) -> Path:
        return self.root / "results" / "mini"


CLASSES = ("ash", "birch", "cedar")
COUNTS = {"train": 4, "val": 2}
"""Images of each class."""
DATA = """\
defaults: [schema, _self_]
title: Trees
profile: mini
model: {family: vit, depth: 2, embed_dim: 8, num_heads: 2, image_size: 8, patch_size: 2}
data: {name: Trees, source: SOURCE, root: ROOT, num_classes: 3, num_train: 12, num_val: 6}
recipe: {epochs: 1, global_batch: 4, base_lr: 0.01, warmup_epochs: 0, mix_prob: 0}
cluster: {name: here}
"""


def make_data(root: Path) -> None:
    """The same images in a folder, in tar files and in shards, with a row for each."""
    from PIL import Image

    for split, count in COUNTS.items():
        for name in CLASSES:
            folder = root / "data" / "image_folder" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (5, 4), (number, 9, 7)).save(folder / f"{name}{number}.png")
        whole = root / "data" / "image_folder" / split
        (root / "data" / "tar").mkdir(exist_ok=True)
        with tarfile.open(root / "data" / "tar" / f"{split}.tar", "w") as tar:
            for path in sorted(whole.rglob("*.png")):
                tar.add(path, path.relative_to(whole))
        (root / "data" / "webdataset").mkdir(exist_ok=True)
        with tarfile.open(root / "data" / "webdataset" / f"trees-{split}-000.tar", "w") as tar:
            for path in sorted(whole.rglob("*.png")):
                tar.add(path, path.name)
                label = str(CLASSES.index(path.parent.name)).encode()
                info = tarfile.TarInfo(path.with_suffix(".cls").name)
                info.size = len(label)
                tar.addfile(info, io.BytesIO(label))
    for source in ("image_folder", "tar", "webdataset"):
        text = DATA.replace("SOURCE", source).replace("ROOT", str(root / "data" / source))
        (root / "experiments" / f"trees_{source}.yaml").write_text(text)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        yield make_project(tmp_path_factory.mktemp("fuzzed"), patch)


def make_project(root: Path, patch: pytest.MonkeyPatch) -> Project:
    """A project in the working directory."""
    lab = Lab(root / "project")
    # specs are not mutated here, and composing them takes most of the time
    patch.setattr(spec, "load", cache_of_specs(spec.load))
    patch.chdir(lab.root)
    patch.setenv("ANTIOVERSMOOTH_CACHE", str(root / "cache"))
    for name, top1 in TRUE.items():
        lab.finish_honestly(lab.run(name), top1)
    make_data(lab.root)
    assert call("table", "small")[0] == OK
    assert call("export", "small", "-o", str(root / "bundle.tar"))[0] == OK
    shutil.copytree(lab.root, root / "original")
    return Project(lab.root, root / "original", root / "bundle.tar")


def cache_of_specs(load: Any) -> Any:
    @cache
    def cached(paths: tuple[Path, ...], overrides: tuple[str, ...]) -> Any:
        return load(paths, overrides)

    return lambda paths, overrides=(): cached(tuple(paths), tuple(overrides))


def call(*words: str, program: Any = main) -> tuple[int, str]:
    """Exit code and output of a command; any error that is no message is raised."""
    out, err = io.StringIO(), io.StringIO()
    story.append(" ".join(words))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = program(list(words))
    story.append(f"{' '.join(words)}: {code}\n{out.getvalue()[:2000]}{err.getvalue()[:2000]}")
    assert code in (OK, FAILED, USER_ERROR, INCOMPLETE)
    assert code == OK or out.getvalue() or err.getvalue()
    (out.getvalue() + err.getvalue()).encode()
    return code, out.getvalue()


def begin(project: Project) -> None:
    story.clear()
    restore(project.root, project.original)


def dry_run(project: Project) -> int:
    words = ["small", "--dry-run", "--backend", "local"]
    return call(*words, program=lambda it: launch(it, project=project.root))[0]


def require_true_numbers(project: Project) -> None:
    """The accuracy of a run that counts as done is that of the run, in the table and in status."""
    code, out = call("table", "small", "--json", "--output", str(project.root / "out"))
    for row in json.loads(out, parse_constant=pytest.fail)["rows"] if out else ():
        if row["experiment"] and row["top1"]:
            assert row["top1"]["mean"] == TRUE[row["experiment"]]
            assert row["state"] == "done (n=1)"
        elif row["experiment"]:
            assert "done" not in row["state"]
            assert code in (FAILED, INCOMPLETE)
    code, out = call("status", "small", "--json")
    for run in json.loads(out, parse_constant=pytest.fail) if out else ():
        if RunState(run["state"]) is RunState.done:
            assert run["top1"] == TRUE[run["experiment"]]


def files_of_runs(project: Project) -> list[Path]:
    (deep,) = (project.results / "runs" / "deep_featscale").iterdir()
    for name, content in EXTRA.items():
        if not (deep / name).exists():
            (deep / name).write_text(content)
    return sorted(path for path in deep.rglob("*") if path.is_file())


def stop(project: Project, random: Random) -> None:
    """Makes the run one that crashed, was killed, or runs."""
    (run,) = (project.results / "runs" / "deep_featscale").iterdir()
    (run / "result.json").unlink()
    lines = (run / "attempts.jsonl").read_text().splitlines()
    crash = json.dumps({**json.loads(lines.pop()), "reason": "crash", "message": "no [/luck]"})
    ends = random.choice([[], [crash]])
    (run / "attempts.jsonl").write_text("\n".join([*lines, *ends]) + "\n")
    (run / "logs" / "attempt1").mkdir()
    (run / "logs" / "attempt1" / "rank0.err").write_text("Traceback\nIt failed.\n")
    (run / "slurm").mkdir()
    (run / "slurm" / "4711_log.err").write_text("srun: error\n")


EXTRA = {
    "heartbeat": "",
    "cancelled": "",
    "process.json": json.dumps({"pid": 999_999_999, "host": "elsewhere", "started": 1.7e9}),
    "jobs.jsonl": "",
    "intents.jsonl": "",
    "imported.json": json.dumps({"bundle": "b.tar", "sha256": "ab" * 32, "time": 1, "files": {}}),
}
"""Files that a run has at some time of its life."""


@SOME
@given(RANDOMS)
def test_a_mutated_file_of_a_run_directory(project: Project, random: Random) -> None:
    begin(project)
    if random.random() < 0.3:
        stop(project, random)
    path = random.choice(files_of_runs(project))
    mutations[f"run: {path.name}"] += 1
    for _ in range(random.choice([1, 1, 1, 2])):
        if path.is_file() and not path.is_symlink():
            story.append(mutate(path, random))
    require_true_numbers(project)
    run = next((project.results / "runs" / "deep_featscale").iterdir())
    others = [
        lambda: call("why", "deep_featscale"),
        lambda: call("why", str(run)),
        lambda: call("logs", "deep_featscale"),
        lambda: call("status"),
        lambda: call("table", "small"),
        lambda: call("export", str(run), "-o", str(project.root / "again.tar")),
        lambda: call("verify", "small"),
        lambda: call("verify", "small", "--json"),
        lambda: dry_run(project),
    ]
    for other in random.sample(others, 2):
        other()


@SOME
@given(RANDOMS)
def test_a_mutated_json_of_a_table(project: Project, random: Random) -> None:
    begin(project)
    path = project.results / "small.json"
    mutations["table: small.json"] += 1
    story.append(mutate(path, random))
    code, _ = call("verify", str(path))
    if code == OK:
        rows = json.loads(path.read_text())["rows"]
        shown = {row["experiment"]: row["top1"] for row in rows if row["experiment"]}
        assert all(top1 is None or top1["mean"] == TRUE[name] for name, top1 in shown.items())
    before = set(project.root.rglob("*"))
    call("render", str(path))
    written = set(project.root.rglob("*")) - before
    assert all(other.parent == path.parent for other in written)
    call("table", "small")


@SOME
@given(RANDOMS)
def test_a_mutated_bundle(project: Project, random: Random) -> None:
    begin(project)
    shutil.rmtree(project.root / "results")
    path = project.root / "sent.tar"
    shutil.copy(project.bundle, path)
    mutations["bundle"] += 1
    mutate_member(path, random) if random.random() < 0.6 else story.append(mutate(path, random))
    code, _ = call("import", str(path))
    if code == OK:
        require_true_numbers(project)
    else:
        assert not [file for file in (project.root / "results").rglob("*") if file.is_file()]


def mutate_member(path: Path, random: Random) -> None:
    """Mutates one file in a bundle, and mends the checksums of its manifest."""
    folder = path.with_suffix(".folder")
    folder.mkdir()
    with tarfile.open(path) as tar:
        names = tar.getnames()
        tar.extractall(folder, filter="data")
    changed = random.choice(names)
    story.append(mutate(folder / changed, random))
    manifest = folder / "manifest.json"
    if changed != manifest.name and (folder / changed).is_file():
        import hashlib

        content, listed = (folder / changed).read_bytes(), json.loads(manifest.read_text())
        for run in listed["runs"]:
            for name, entry in run["files"].items():
                if changed == f"runs/{run['place']}/{name}":
                    entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        manifest.write_text(json.dumps(listed))
    with tarfile.open(path, "w") as tar:
        for name in names:
            if os.path.lexists(folder / name):
                tar.add(folder / name, name, recursive=False)
    shutil.rmtree(folder)


@SOME
@given(RANDOMS)
def test_a_mutated_file_of_a_data_set(project: Project, random: Random) -> None:
    begin(project)
    source = random.choice(["image_folder", "tar", "webdataset"])
    path = random.choice([p for p in (project.root / "data" / source).rglob("*") if p.is_file()])
    mutations[f"data: {source}"] += 1
    story.append(random.choice([mutate, mutate, rename])(path, random))
    shutil.rmtree(project.root.parent / "cache", ignore_errors=True)
    code, out = call("data", f"trees_{source}", "--json")
    if code == OK:
        (facts,) = json.loads(out)
        counts = (facts["num_classes"], facts["num_train"], facts["num_val"])
        assert counts == (len(CLASSES), *(len(CLASSES) * count for count in COUNTS.values()))


def rename(path: Path, random: Random) -> str:
    """Gives a file another name, or puts one beside it that is no image."""
    name = random.choice(
        ["x.png", ".x.png", "x.txt", "ash", "x", "x.PNG", "\udc80.png", "x\ny.png"]
    )
    target = path.with_name(name)
    if random.random() < 0.5:
        path.rename(target)
        return f"renamed to {target}"
    if not target.exists():
        shutil.copy(path, target)
    return f"copied to {target}"
