"""Runs exported by one group and imported by another, and attacks by means of a bundle."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fabricated import FORGERIES, NOON, ROW, Lab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antioversmooth import cli, files, spec
from antioversmooth.errors import ResultError, UserError
from antioversmooth.reporting.sharing import bundle, unbundle
from antioversmooth.reporting.table import document, tables
from antioversmooth.reporting.table.observe import observe
from antioversmooth.runs import Run


@pytest.fixture
def other(tmp_path: Path) -> Lab:
    """The project of another group."""
    return Lab(tmp_path / "other")


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def packed(lab: Lab, *runs: Run) -> Path:
    target = lab.root / "runs.tar"
    bundle.export(runs or (lab.finish_honestly(lab.run("wide"), 93.0),), target)
    return target


def files_below(folder: Path) -> dict[str, bytes]:
    """The content of every file and link below a folder."""
    return {
        str(path.relative_to(folder)): (
            os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


# -- the way it is meant ---------------------------------------------------------------------------


def test_another_group_gets_the_same_table_and_can_confirm_it(
    lab: Lab, other: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.fill_honestly()
    tables.write_table(lab.collect(0, 1), other.results / "mini")
    with inside(lab.root):
        assert cli.main(["export", "small", "--seeds", "0,1", "-o", "all.tar"]) == 0
    with inside(other.root):
        assert cli.main(["verify", "small"]) == 3
        assert cli.main(["import", str(lab.root / "all.tar")]) == 0
        assert capsys.readouterr().out.count("put into") == 6
        assert cli.main(["verify", "small"]) == 0
        assert cli.main(["table", "small", "--seeds", "0,1"]) == 0
    table, imported_table = lab.collect(0, 1), other.collect(0, 1)
    assert [row["top1"] for row in imported_table["rows"]] == [row["top1"] for row in table["rows"]]
    assert imported_table["notes"][-1].startswith("Imported, not run here (all.tar, sha256 ")
    assert imported_table["rows"][0]["seeds"][0]["provenance"]["imported"].startswith(
        "all.tar, sha256 "
    )


def test_the_same_runs_are_the_same_bytes_wherever_and_whenever(lab: Lab, other: Lab) -> None:
    first = packed(lab)
    os.utime(next(lab.results.rglob("result.json")), (1, 1))
    second = lab.root / "later.tar"
    bundle.export([Run.load(lab.run("wide").dir)], second)
    unbundle.import_bundle(first, other.results)
    third = other.root / "again.tar"
    bundle.export([Run.load(other.run("wide").dir)], third)
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


def test_exporting_an_unfinished_run_names_its_step(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.start(lab.run("wide"), epochs=2)
    with inside(lab.root):
        assert cli.main(["export", "wide"]) == 2
        assert cli.main(["export", "wide", "--allow-partial"]) == 2
    err = capsys.readouterr().err
    assert (
        "wide seed 0 is not done (it is at step 16 of 32), and a bundle contains results only"
        in err
    )
    assert "none of these runs is done, and a bundle is made of results" in err


def test_a_result_that_cannot_be_trusted_is_left_out_and_named(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.fill_honestly()
    (lab.run("wide", 1).dir / "result.json").write_text("{")
    with inside(lab.root):
        assert cli.main(["export", "small", "--seeds", "0,1"]) == 2
        assert cli.main(["export", "small", "--seeds", "0,1", "--allow-partial", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["runs"]) == 5
    assert f"left out: {lab.run('wide', 1).dir}/result.json is not JSON" in err


def with_other_weights(lab: Lab, run: Run) -> None:
    other = lab.finish_honestly(lab.run("wide", 1), 93.0)
    for suffix in (".pt", ".pt.sha256"):
        (path,) = other.checkpoints_dir.glob(f"*{suffix}")
        shutil.copy(path, run.checkpoints_dir)


def with_another_spec(lab: Lab, run: Run) -> None:
    path = run.dir / "spec.yaml"
    path.write_text(path.read_text().replace("base_lr: 0.001", "base_lr: 0.002"))


def with_another_similarity(lab: Lab, run: Run) -> None:
    path = run.dir / "result.json"
    result = files.read_json(path)
    FORGERIES["similarity.tokens"](result)
    files.write_json(path, result)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (with_other_weights, "is not the checkpoint that result.json names"),
        (with_another_spec, "spec.yaml was edited"),
        (with_another_similarity, "seed 0: similarity.tokens: "),
    ],
)
def test_a_run_that_an_import_would_refuse_is_not_exported(
    lab: Lab,
    change: Callable[[Lab, Run], None],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(lab, lab.finish_honestly(lab.run("wide"), 93.0))
    with inside(lab.root):
        assert cli.main(["export", "wide", "-o", "wide.tar"]) == 2
    err = capsys.readouterr().err
    assert named in err
    assert err.count("\n") == 1
    assert not (lab.root / "wide.tar").exists()


def test_runs_of_two_profiles_are_no_bundle(lab: Lab) -> None:
    wide = lab.finish_honestly(lab.run("wide"), 93.0)
    full = lab.finish_honestly(lab.run("deep", 0, "profile=imagenet"), 93.0)
    with pytest.raises(UserError, match="all of one profile; name other runs"):
        bundle.export([wide, full], lab.root / "both.tar")


FOREIGN = {
    "link to a private file": lambda path, private: path.symlink_to(private),
    "chain of links": lambda path, private: (
        (path.parent / "first").symlink_to(private),
        path.symlink_to(path.parent / "first"),
    ),
    "link that climbs out": lambda path, private: path.symlink_to(
        os.path.relpath(private, path.parent)
    ),
    "link to nothing": lambda path, private: path.symlink_to("/no/such/file"),
    "link to itself": lambda path, private: path.symlink_to(path),
    "folder": lambda path, private: (path.mkdir(), (path / "x").write_text("PRIVATE")),
    "link to a folder": lambda path, private: path.symlink_to(private.parent),
    "pipe": lambda path, private: os.mkfifo(path),
    "device": lambda path, private: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("name", ["analysis/notes.txt", "provenance.json", "intents.jsonl"])
@pytest.mark.parametrize("plant", FOREIGN.values(), ids=FOREIGN)
def test_a_bundle_holds_nothing_from_outside_of_the_run_and_says_so(
    plant: Callable[[Path, Path], object], name: str, lab: Lab, tmp_path: Path
) -> None:
    run = lab.finish_honestly(lab.run("wide"), 93.0)
    (tmp_path / "private").mkdir()
    (tmp_path / "private/key").write_text("PRIVATE")
    path = run.dir / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    plant(path, tmp_path / "private/key")
    exported = bundle.export([run], tmp_path / "x.tar")
    assert b"PRIVATE" not in (tmp_path / "x.tar").read_bytes()
    assert any(line.startswith(f"{run.name}: {name} (") for line in exported.passed_over)


def test_files_that_no_run_has_are_passed_over_and_counted(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lab.finish_honestly(lab.run("wide"), 93.0)
    (run.dir / "analysis").mkdir(exist_ok=True)
    for name in (".env", "notes.txt", "analysis/.ssh", "analysis/a b.txt"):
        (run.dir / name).write_text("PRIVATE")
    with inside(lab.root):
        assert cli.main(["export", "wide", "-o", "x.tar"]) == 0
    assert b"PRIVATE" not in (lab.root / "x.tar").read_bytes()
    out, err = capsys.readouterr()
    assert out.startswith("x.tar: 1 run, ")
    assert "passed over 4 files: wide seed 0: .env (no file of a run)" in err


@pytest.mark.parametrize("name", ["spec.yaml", "result.json", "metrics.jsonl", "attempts.jsonl"])
def test_a_record_that_is_a_link_out_of_the_run_is_refused(name: str, lab: Lab) -> None:
    run = lab.finish_honestly(lab.run("wide"), 93.0)
    (run.dir / name).rename(lab.root / "elsewhere")
    (run.dir / name).symlink_to(lab.root / "elsewhere")
    with pytest.raises(UserError, match=f"{name} is a link out of the run"):
        bundle.export([run], lab.root / "x.tar")
    assert not (lab.root / "x.tar").exists()


def test_weights_that_are_a_link_out_of_the_run_are_refused(lab: Lab) -> None:
    run = lab.finish_honestly(lab.run("wide"), 93.0)
    run.checkpoints_dir.rename(lab.root / "elsewhere")
    run.checkpoints_dir.symlink_to(lab.root / "elsewhere")
    with pytest.raises(UserError, match="is a link out of the run; --without-checkpoints"):
        bundle.export([run], lab.root / "x.tar")
    bundle.export([run], lab.root / "x.tar", checkpoints=False)


def test_links_inside_a_run_and_a_linked_results_folder_are_followed(lab: Lab) -> None:
    run = lab.finish_honestly(lab.run("wide"), 93.0)
    expected = packed(lab, run).read_bytes()
    (run.dir / "provenance.json").rename(run.dir / "logs/origin.json")
    (run.dir / "provenance.json").symlink_to("logs/origin.json")
    os.link(run.dir / "result.json", lab.root / "hard")
    lab.results.rename(lab.root / "moved")
    lab.results.symlink_to(lab.root / "moved")
    assert packed(lab, run).read_bytes() == expected


def test_any_tar_reads_it_and_the_manifest_names_every_file(lab: Lab, tmp_path: Path) -> None:
    with tarfile.open(packed(lab)) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    manifest = json.loads((tmp_path / "unpacked" / "manifest.json").read_text())
    (entry,) = manifest["runs"]
    folder = tmp_path / "unpacked" / "runs" / entry["place"]
    assert set(files_below(folder)) == set(entry["files"])
    assert all(
        files.sha256(folder / name) == listed["sha256"] for name, listed in entry["files"].items()
    )
    assert {
        "spec.yaml",
        "intent.json",
        "attempts.jsonl",
        "metrics.jsonl",
        "provenance.json",
        "result.json",
    } < set(entry["files"])
    assert any(name.endswith(".pt") for name in entry["files"])


def test_weights_can_stay_behind_and_the_analysis_comes_along(lab: Lab, other: Lab) -> None:
    run = lab.finish_honestly(lab.run("wide"), 93.0)
    files.write_json(run.dir / "analysis" / "analysis.json", {"similarity": [0.5]})
    target = lab.root / "light.tar"
    bundle.export([run], target, checkpoints=False)
    (imported,) = unbundle.import_bundle(target, other.results)
    assert sorted(path.name for path in imported.run.dir.rglob("*") if path.is_file()) == [
        "analysis.json", "attempts.jsonl", "imported.json", "intent.json", "intents.jsonl",
        "metrics.jsonl",
        "provenance.json",
        "result.json", "spec.yaml",
    ]  # fmt: skip


def test_what_can_hold_scripts_is_left_out_of_an_import_and_named(
    lab: Lab, other: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lab.finish_honestly(lab.run("wide"), 93.0)
    (run.dir / "analysis").mkdir()
    left_out = {
        f"analysis/{name}" for name in ("layers.svg", "index.html", "notes.js", "layers.csv")
    }
    for name in ("layers.json", "layers.png", *map(os.path.basename, left_out)):
        (run.dir / "analysis" / name).write_text("<script>")
    target = packed(lab, run)
    with inside(other.root):
        assert cli.main(["import", str(target)]) == 0
        assert "left out, neither JSON nor PNG: analysis/" in capsys.readouterr().out
        assert cli.main(["import", str(target), "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["is_new"], set(facts["left_out"])) == (False, left_out)
    names = {path.name for path in Path(facts["dir"]).glob("analysis/*")}
    assert names == {"layers.json", "layers.png"}
    assert set(files.read_json(Path(facts["dir"]) / "imported.json")["files"]).isdisjoint(
        facts["left_out"]
    )


def test_the_run_that_a_run_starts_from_is_exported_and_found_after_the_import(
    lab: Lab, other: Lab
) -> None:
    text = ROW.replace("NAME", "tuned").replace("WIDTH", "8").replace("SCALING", "none")
    (lab.root / "experiments" / "tuned.yaml").write_text(
        text.replace("recipe: {", 'recipe: {init_from: "run:deep", ')
    )
    deep, tuned = spec.load([lab.root / "experiments" / "tuned.yaml"]).plan([0], lab.results)
    for run in (deep, tuned):
        run.prepare()
        lab.finish_honestly(run, 91.0)
    imported = unbundle.import_bundle(packed(lab, tuned), other.results)
    assert [one.run.id for one in imported] == [deep.id, tuned.id]
    assert imported[1].run.upstream is not None
    assert imported[1].run.upstream.dir.is_relative_to(other.results)


def test_importing_twice_changes_nothing(lab: Lab, other: Lab) -> None:
    target = packed(lab)
    assert [one.is_new for one in unbundle.import_bundle(target, other.results)] == [True]
    before = files_below(other.results)
    assert [one.is_new for one in unbundle.import_bundle(target, other.results)] == [False]
    assert files_below(other.results) == before


def test_no_run_is_overwritten_and_then_none_is_imported(lab: Lab, other: Lab) -> None:
    wide, deep = (
        lab.finish_honestly(lab.run("wide"), 93.0),
        lab.finish_honestly(lab.run("deep"), 90.0),
    )
    # the same science, another outcome
    other.finish_honestly(other.run("wide"), 92.0)
    before = files_below(other.results)
    with pytest.raises(
        UserError,
        match=r"exists with another metrics\.jsonl; nothing was imported",
    ):
        unbundle.import_bundle(packed(lab, deep, wide), other.results)
    assert files_below(other.results) == before


def test_a_run_that_is_not_done_is_not_packed(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.fill()
    with inside(lab.root):
        assert cli.main(["export", "small", "--without-checkpoints"]) == 2
        assert "wide seed 0 is not done" in capsys.readouterr().err
        assert not list(lab.root.glob("*.tar"))
        assert cli.main(["export", "small", "--without-checkpoints", "--allow-partial"]) == 0
        assert capsys.readouterr().out.startswith("small-mini.tar: 2 runs")
        assert cli.main(["export", "wide", "--allow-partial"]) == 2


def test_missing_weights_are_reported(lab: Lab) -> None:
    run = lab.finish_honestly(lab.run("wide"), 93.0)
    next(run.checkpoints_dir.glob("*.pt")).unlink()
    with pytest.raises(UserError, match="--without-checkpoints"):
        bundle.export([run], lab.root / "x.tar")


def test_no_secret_leaves_with_a_bundle(
    lab: Lab, other: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "hunter2hunter2")
    setup = "cluster.setup=['export WANDB_API_KEY=s3cret']"
    run = lab.finish_honestly(lab.run("wide", 0, setup), 93.0)
    assert run.experiment.cluster.setup == ["export WANDB_API_KEY=s3cret"]
    assert Run.load(run.dir).experiment.cluster.setup == ["export WANDB_API_KEY=(hidden)"]
    intent = {
        **files.read_json(run.dir / "intent.json"),
        "command": "launch.py x --uri https://ada:s3cret@example.org",
    }
    files.write_json(run.dir / "intent.json", {**intent, "note": "hunter2hunter2"})
    target = packed(lab, run)
    assert b"s3cret" not in target.read_bytes()
    assert b"hunter2" not in target.read_bytes()
    (imported,) = unbundle.import_bundle(target, other.results)
    assert (
        files.read_json(imported.run.dir / "intent.json")["command"]
        == "launch.py x --uri https://(hidden)@example.org"
    )


def test_imported_files_take_the_users_umask(lab: Lab, other: Lab) -> None:
    target, before = packed(lab), os.umask(0o027)
    try:
        (imported,) = unbundle.import_bundle(target, other.results)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in imported.run.dir.rglob("*") if path.is_file()}
    assert modes == {0o640}


# -- what it must not be able to do ----------------------------------------------------------------

Members = list[tuple[tarfile.TarInfo, bytes]]


def members_of(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def write_tar(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return path


def with_manifest(members: Members, edit: Callable[[dict[str, Any]], object]) -> Members:
    manifest = json.loads(members[0][1])
    edit(manifest)
    content = json.dumps(manifest).encode()
    head = copy.copy(members[0][0])
    head.size = len(content)
    return [(head, content), *members[1:]]


def replaced(members: Members, name: str, content: bytes) -> Members:
    """A file of the run is replaced, and the manifest adapted, to deceive the import."""
    changed = []
    for member, before in members:
        if member.name.endswith(f"/{name}"):
            member = copy.copy(member)
            member.size = len(content)
            before = content
        changed.append((member, before))
    sums = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return with_manifest(
        changed, lambda manifest: manifest["runs"][0]["files"].update({name: sums})
    )


def renamed(members: Members, to: str, **changes: Any) -> Members:
    """The last member under another name, of another kind."""
    member, content = copy.copy(members[-1][0]), members[-1][1]
    member.name = to
    for key, value in changes.items():
        setattr(member, key, value)
    return [*members[:-1], (member, content if member.isreg() else b"")]


def add_to_manifest(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["runs"][0]["files"].update(
        {name: {"sha256": "0" * 64, "bytes": 0}}
    )


def in_file(name: str, **values: object) -> Callable[[Members], Members]:
    return lambda members: with_manifest(
        members,
        lambda manifest: (
            manifest["runs"][0]["files"].setdefault(name, {"sha256": "0" * 64}).update(values)
        ),
    )


def in_run(key: str, value: object) -> Callable[[Members], Members]:
    return lambda members: with_manifest(
        members, lambda manifest: manifest["runs"][0].update({key: value})
    )


def with_result(members: Members, **changes: object) -> Members:
    (result,) = (
        json.loads(content) for member, content in members if member.name.endswith("/result.json")
    )
    return replaced(members, "result.json", json.dumps({**result, **changes}).encode())


def short_journal(members: Members, *, epochs: int) -> Members:
    """The bundle of a run of four epochs with the journal of the first ones, and a result of it."""
    (journal,) = (content for member, content in members if member.name.endswith("/metrics.jsonl"))
    lines = [line for line in journal.splitlines() if json.loads(line)["step"] <= 8 * epochs]
    (last,) = (json.loads(line) for line in lines[-1:])
    scores = {"val/top1": last["val/top1"]}
    shortened = replaced(members, "metrics.jsonl", b"\n".join(lines) + b"\n")
    return with_result(shortened, metrics=scores, best={**scores, "epoch": epochs})


def with_accuracy(members: Members, top1: float) -> Members:
    """A bundle with another accuracy after the last epoch, in the result and the journal alike."""
    lines = [json.loads(line) for line in content_of(members, "metrics.jsonl").splitlines()]
    last = max(line["epoch"] for line in lines if "epoch" in line)
    for line in lines:
        if line.get("epoch") == last and "val/top1" in line:
            line["val/top1"] = top1
    result = json.loads(content_of(members, "result.json"))
    result["metrics"]["val/top1"] = top1
    if result["best"]["epoch"] == last:
        result["best"]["val/top1"] = top1
    journal = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return with_result(replaced(members, "metrics.jsonl", journal), **result)


def content_of(members: Members, name: str) -> bytes:
    return next(content for member, content in members if member.name.endswith(f"/{name}"))


def with_records(members: Members, name: str, *records: dict[str, Any]) -> Members:
    """A journal with more records."""
    lines = "".join(f"{json.dumps(record)}\n" for record in records).encode()
    return replaced(members, name, content_of(members, name) + lines)


def with_file(members: Members, name: str, content: bytes) -> Members:
    """A further file of the run."""
    member = tarfile.TarInfo(f"{members[1][0].name.rpartition('/')[0]}/{name}")
    return replaced([*members, (member, b"")], name, content)


SPOILT: dict[str, Callable[[Members], Members]] = {
    "an absolute path": lambda m: renamed(m, "/tmp/evil"),
    "a path upwards": lambda m: renamed(m, "runs/../../../evil"),
    "a link": lambda m: renamed(m, m[-1][0].name, type=tarfile.SYMTYPE, linkname="/etc/passwd",
    size=0),
    "a hard link": lambda m: renamed(m, m[-1][0].name, type=tarfile.LNKTYPE, linkname="/etc/passwd",
    size=0),
    "a device": lambda m: renamed(m, m[-1][0].name, type=tarfile.CHRTYPE, devmajor=1, devminor=3,
    size=0),
    "a pipe": lambda m: renamed(m, m[-1][0].name, type=tarfile.FIFOTYPE, size=0),
    "a folder": lambda m: renamed(m, m[-1][0].name, type=tarfile.DIRTYPE, size=0),
    "a file twice": lambda m: [*m, m[-1]],
    "a file too few": lambda m: m[:-1],
    "a file too many": lambda m: [*m, (tarfile.TarInfo("runs/evil"), b"")],
    "no manifest": lambda m: m[1:],
    "a manifest at the end": lambda m: [*m[1:], m[0]],
    "an upward path in the manifest": lambda m: with_manifest(m, add_to_manifest("../../evil")),
    "an absolute path in the manifest": lambda m: with_manifest(m, add_to_manifest("/tmp/evil")),
    "code in the manifest": lambda m: with_manifest(m,
    add_to_manifest("analysis/../sitecustomize.py")),
    "a log": lambda m: with_manifest(m, add_to_manifest("logs/attempt1/rank0.err")),
    "a mark of its own": lambda m: with_manifest(m, add_to_manifest("imported.json")),
    "a place upwards": in_run("place", "../../evil/seed0-00000000"),
    "another place": in_run("place", "deep/seed0-00000000"),
    "a profile upwards": in_run("profile", "../../evil"),
    "another profile": in_run("profile", "imagenet"),
    "another id": in_run("id", "0" * 64),
    "no files": in_run("files", {}),
    "files of another type": in_run("files", [1]),
    "another format": lambda m: with_manifest(m, lambda manifest: manifest.update(format=2)),
    "no runs": lambda m: with_manifest(m, lambda manifest: manifest.update(runs=[])),
    "a run twice": lambda m: with_manifest(m,
    lambda manifest: manifest.update(runs=2 * manifest["runs"])),
    "a negative size": in_file("spec.yaml", bytes=-1),
    "a size beyond every disk": in_file("checkpoints/step1-attempt1.pt", bytes=2**60),
    "a wrong checksum": in_file("spec.yaml", sha256="0" * 64),
    "a changed spec": lambda m: replaced(m, "spec.yaml",
    m[1][1].replace(b"epochs: 4", b"epochs: 400")),
    "a spec with a tag": lambda m: replaced(m, "spec.yaml",
    b"!!python/object/apply:os.system ['touch evil']\n"),
    "a spec that reads a variable": lambda m: replaced(m, "spec.yaml",
    m[1][1].replace(b"Row wide", b"${oc.env:HOME}")),
    "a spec nested without end": lambda m: replaced(m, "spec.yaml", b"[" * 5000),
    "a result of another run": lambda m: replaced(m, "result.json", b'{"id": "0"}'),
    "a result of another type": lambda m: replaced(m, "result.json", b"[1]"),
    "a result without numbers": lambda m: replaced(m, "result.json",
    json.dumps({"id": run_id(m)}).encode()),
    "a better accuracy": lambda m: with_result(m, metrics={"val/top1": 99.0}),
    "an accuracy that is no number": lambda m: with_result(m, metrics={"val/top1": float("nan")}),
    "an accuracy above 100 %": lambda m: with_accuracy(m, 150.0),
    "an accuracy below 0 %": lambda m: with_accuracy(m, -3.0),
    "an accuracy above the top-5": lambda m: with_accuracy(m, 99.9),
    "an accuracy of no whole number of 1000 images": lambda m: with_accuracy(m, 91.23),
    "a number that no journal has": lambda m: with_result(m, best={"val/top1": 99.0, "epoch": 4}),
    "no number of operations": lambda m: with_result(m, gmacs=float("nan")),
    "an empty journal": lambda m: replaced(m, "metrics.jsonl", b""),
    "a journal of one epoch": lambda m: short_journal(m, epochs=1),
    "a journal of all epochs but one": lambda m: short_journal(m, epochs=3),
    "other steps": lambda m: with_result(m, steps=8),
    "other epochs": lambda m: with_result(m, epochs=1),
    "other weights": lambda m: replaced(m, "checkpoints/step00000032-attempt1.pt", b"others"),


    "weights of another step": lambda m: with_file(m, "checkpoints/step1-attempt1.pt", b"x"),
    "steps beyond the last": lambda m: with_records(m, "metrics.jsonl",
    {"time": NOON + 30, "attempt": 1, "step": 33, "epoch": 4}),
    "an epoch too many": lambda m: with_records(m, "metrics.jsonl",
    {"time": NOON + 30, "attempt": 1, "step": 32, "epoch": 5, "train/loss": 1.0}),
    "a record of no attempt": lambda m: with_records(m, "metrics.jsonl",
    {"time": NOON + 30, "attempt": 7, "step": 8, "epoch": 1, "train/loss": 1.0}),
    "a record from before its attempt": lambda m: with_records(m, "metrics.jsonl",
    {"time": NOON - 3600, "attempt": 1, "step": 8, "epoch": 1, "train/loss": 1.0}),
    "an attempt that ends before it starts": lambda m: with_records(m, "attempts.jsonl",
    {"time": NOON - 3600, "attempt": 1, "event": "end", "reason": "completed", "step": 32}),
    "attempts that run backwards": lambda m: with_records(m, "attempts.jsonl",
    {"time": NOON - 3600, "attempt": 2, "event": "start", "step": 32}),
    "an attempt too many": lambda m: with_records(m, "attempts.jsonl",
    {"time": NOON + 60, "attempt": 2, "event": "start", "step": 32}),
    "no attempts": lambda m: replaced(m, "attempts.jsonl", b""),
    "no similarity": lambda m: replaced(m, "metrics.jsonl", b"".join(line for line in
    content_of(m, "metrics.jsonl").splitlines(keepends=True) if b"similarity" not in line)),
    "a journal that ends early": lambda m: replaced(m, "metrics.jsonl", b"".join(line for line in
    content_of(m, "metrics.jsonl").splitlines(keepends=True) if b'"step": 32' not in line)),
}  # fmt: skip


OF_THE_MODEL = ("parameters", "gmacs")
"""Values that need torch: `verify` compares them."""


def run_id(members: Members) -> str:
    return str(json.loads(members[0][1])["runs"][0]["id"])


@pytest.mark.parametrize("word", ["cluster.results=DIR", ".", "notes.txt"])
def test_nothing_is_imported_where_an_argument_is_no_bundle(
    lab: Lab, other: Lab, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (other.root / "notes.txt").write_text("no tar file")
    target = packed(lab)
    with inside(other.root):
        assert cli.main(["import", str(target), word]) == 2
    said = capsys.readouterr()
    assert word in said.err
    assert said.out == ""
    assert not [path for path in other.results.rglob("*") if path.is_file()]


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_bundle_is_one_message_and_leaves_nothing(
    lab: Lab, other: Lab, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = write_tar(lab.root / "spoilt.tar", SPOILT[how](members_of(packed(lab))))
    before = files_below(lab.root)
    with inside(other.root):
        assert cli.main(["import", str(spoilt)]) == 2
    assert "spoilt.tar" in capsys.readouterr().err
    assert files_below(lab.root) == before
    assert not [path for path in other.results.rglob("*") if path.is_file()]
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("name", [name for name in FORGERIES if name not in OF_THE_MODEL])
def test_a_result_that_its_own_bundle_contradicts_is_refused(
    lab: Lab, other: Lab, name: str
) -> None:
    members = members_of(packed(lab))
    result = json.loads(content_of(members, "result.json"))
    FORGERIES[name](result)
    forged = replaced(members, "result.json", json.dumps(result).encode())
    with pytest.raises(UserError, match=f"result.json says {re.escape(name)}"):
        unbundle.import_bundle(write_tar(lab.root / "forged.tar", forged), other.results)
    assert not [path for path in other.results.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "old", "new", "key"),
    [
        ("attempts.jsonl", b"c0ffee", b"beef", "commits"),
        ("intents.jsonl", b"5a5a5a5a5a5a", b"777777777777", "commits"),
        ("attempts.jsonl", b"node7", b"node8", "hosts"),
    ],
)
def test_records_of_a_bundle_that_contradict_each_other_are_refused(
    lab: Lab, other: Lab, name: str, old: bytes, new: bytes, key: str
) -> None:
    members = members_of(packed(lab))
    content = content_of(members, name)
    forged = replaced(members, name, content.replace(old, new))
    with pytest.raises(UserError, match=rf"seed 0: {key}: attempts.jsonl"):
        unbundle.import_bundle(write_tar(lab.root / "forged.tar", forged), other.results)
    assert not [path for path in other.results.rglob("*") if path.is_file()]


def test_the_reason_says_which_accuracy_is_impossible(lab: Lab, other: Lab) -> None:
    expected = {
        150.0: "metrics.val/top1 is 150.0, and must be a number between 0 and 100",
        99.9: "val/top1 is 99.9, above val/top5, 99.5",
        91.23: "val/top1 = 91.23 is of no whole number of 1000 images",
    }
    for top1, reason in expected.items():
        spoilt = write_tar(lab.root / "spoilt.tar", with_accuracy(members_of(packed(lab)), top1))
        with pytest.raises(UserError, match=re.escape(reason)):
            unbundle.import_bundle(spoilt, other.results)
    possible = write_tar(lab.root / "whole.tar", with_accuracy(members_of(packed(lab)), 91.2))
    assert unbundle.import_bundle(possible, other.results)


def test_a_file_with_holes_is_refused(lab: Lab, other: Lab) -> None:
    """In GNU's sparse format, a hundred bytes can expand to a disk full of zeros."""
    members = members_of(packed(lab))
    member = copy.copy(members[-1][0])
    member.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(2**50),
    }
    write_tar(lab.root / "holes.tar", [*members[:-1], (member, members[-1][1])])
    with pytest.raises(UserError, match=r"holes\.tar"):
        unbundle.import_bundle(lab.root / "holes.tar", other.results)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x1f\x8b" + b"x" * 600, b"\0" * 1024])
def test_a_file_that_is_not_a_tar_is_one_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.tar is not a bundle"):
        unbundle.import_bundle(tmp_path / "x.tar", tmp_path / "results")
    with pytest.raises(UserError, match=r"there is no .*y\.tar"):
        unbundle.import_bundle(tmp_path / "y.tar", tmp_path / "results")


MANY = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def whole(lab: Lab) -> bytes:
    return packed(lab).read_bytes()


@MANY
@given(data=st.data())
def test_whatever_happened_to_a_bundle_it_is_whole_or_refused(
    lab: Lab, whole: bytes, data: st.DataObject
) -> None:
    """Bytes flipped, removed, doubled: no traceback, no file outside, no altered run."""
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 1024), st.integers(0, len(damaged))))
        cut = data.draw(st.sampled_from([0, 1, 8, 512, 4096]))
        damaged[at : at + cut] = data.draw(
            st.one_of(st.binary(max_size=9), st.sampled_from([b"\0" * 512, b"9" * 12]))
        )
    check_import(lab, bytes(damaged))


NAMES = st.one_of(st.text(max_size=12), st.sampled_from(["spec.yaml", "result.json", "../x", "/x"]))
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE])


@MANY
@given(
    place=st.sampled_from(["wide/seed0-00000000", "../x/seed0-00000000", ""]),
    packed_files=st.lists(st.tuples(NAMES, st.binary(max_size=80), KINDS), max_size=4),
)
def test_whatever_somebody_packed_it_is_refused(
    lab: Lab, place: str, packed_files: list[tuple[str, bytes, bytes]]
) -> None:
    listed = {
        name: {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
        for name, text, _ in packed_files
    }
    manifest = {
        "format": 1,
        "runs": [{"place": place, "id": "0" * 64, "profile": "mini", "files": listed}],
    }
    members = [(tarfile.TarInfo("manifest.json"), json.dumps(manifest).encode())]
    for name, content, kind in packed_files:
        member = tarfile.TarInfo(f"runs/{place}/{name}".replace("\0", "0"))
        member.type, member.linkname = kind, "/etc/passwd"
        members.append((member, content))
    for member, content in members:
        member.size = len(content)
    target = write_tar(
        lab.root / "packed.tar", [(m, c) for m, c in members if not has_surrogate(m.name)]
    )
    check_import(lab, target.read_bytes())


def has_surrogate(text: str) -> bool:
    return any(0xD800 <= ord(character) < 0xE000 for character in text)


def check_import(lab: Lab, data: bytes) -> None:
    """Imports into an empty folder: the same run, or an error and no file."""
    place = lab.root / "fuzzed"
    (lab.root / "fuzzed.tar").write_bytes(data)
    before = files_below(lab.root)
    try:
        imported = unbundle.import_bundle(lab.root / "fuzzed.tar", place)
    except (UserError, ResultError):
        assert files_below(lab.root) == before
        return
    assert [one.run.id for one in imported] == [lab.run("wide").id]
    for one in imported:
        for name, checksum in files.read_json(one.run.dir / "imported.json")["files"].items():
            assert files.sha256(one.run.dir / name) == checksum
        assert observe(one.run).result is not None
    shutil.rmtree(place)
    assert files_below(lab.root) == before


def test_a_disk_that_is_full_leaves_nothing_behind(
    lab: Lab, other: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device", "checkpoints/x.pt")

    target = packed(lab)
    monkeypatch.setattr(unbundle, "_copy", full)
    with inside(other.root):
        assert cli.main(["import", str(target)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not [path for path in other.results.rglob("*") if path.is_file()]
    assert (
        document.collect(other.table(), other.request(), [0], other.results)["rows"][2]["state"]
        == "missing"
    )
