"""A done run whose data is another now: a launch and `status` say so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from completed import finish

from antioversmooth import files
from antioversmooth.datasets import cache, current, dataset
from antioversmooth.datasets.dataset import open_unchecked
from antioversmooth.orchestration import dryrun, preflight
from antioversmooth.orchestration.backend import Choice
from antioversmooth.orchestration.evaluation import as_evaluation
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.monitor.explain import explain
from antioversmooth.orchestration.monitor.status import statuses
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.reporting import evaluations
from antioversmooth.runs import Run, RunRecord
from antioversmooth.runs.record import read_records

MakeRun = Callable[..., Run]
EVALUATION = {"num_images": 4}


@pytest.fixture
def done(make_run: MakeRun, tmp_path: Path) -> Run:
    """A done run on images of cats and dogs. Only names and a few bytes are looked at."""
    for split, number in (("train", 4), ("val", 2)):
        for label in ("cat", "dog"):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for index in range(number):
                path = tmp_path / "images" / split / label / f"{label}{index}.jpg"
                path.write_text(f"{split} {label} {index}")
    run = on(make_run, tmp_path / "images")
    found = open_unchecked(run.experiment.data)
    root = str(tmp_path / "images")
    return finish(
        run,
        data={
            "name": run.experiment.data.name,
            "root": root,
            **found.counts(),
            **found.checksums(),
        },
    )


def on(make_run: MakeRun, root: Path, *overrides: str) -> Run:
    counts = ("data.num_classes=2", "data.num_train=8", "data.num_val=4")
    batch = ("recipe.global_batch=8", "recipe.mix_group=4", "recipe.min_lr=0")
    return make_run(
        "deit_s12", f"data.root={root}", *counts, *batch, *overrides, profile="imagenet"
    )


def said(run: Run) -> tuple[list[str], str]:
    """Lines of a launch, and the detail in `status`, which `why` says too."""
    (status,) = statuses([run], [])
    assert status["state"] == "done"
    record = RunRecord.read(run)
    why = explain(record, record.status)
    assert status["detail"] in why
    assert ("measured on" in why) is bool(status["detail"])
    return preflight.changed_data(read_records([run])), status["detail"]


def swap_labels(root: Path) -> None:
    (root / "train/cat/cat3.jpg").rename(root / "train/dog/cat3.jpg")
    (root / "train/dog/dog3.jpg").rename(root / "train/cat/dog3.jpg")


def rename_class(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "cat").rename(root / split / "zcat")


def rename(root: Path) -> None:
    (root / "val/dog/dog0.jpg").rename(root / "val/dog/x.jpg")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "labels": (swap_labels, "(names, sizes or number of images)"),
    "an image less": (lambda root: (root / "train/cat/cat0.jpg").unlink(), "num_train 8 then, 7"),
    "an image more": (lambda root: (root / "val/dog/new.jpg").touch(), "num_val 4 then, 5"),
    "names": (rename, "fingerprint"),
    "a class": (rename_class, "fingerprint"),
    "content": (lambda root: (root / "val/dog/dog0.jpg").write_text("another"), "sample"),
    "a lost class": (lambda root: shutil.rmtree(root / "val/dog"), "cannot be read any more"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_done_run_whose_data_has_changed_is_named(
    change: str, done: Run, make_run: MakeRun, tmp_path: Path
) -> None:
    assert said(done) == ([], "")
    make, what = CHANGES[change]
    make(tmp_path / "images")
    (line,), detail = said(done)
    assert line.startswith("deit_s12 seed 0 is done, ")
    assert what in line
    assert what in detail
    if "cannot be read" not in what:
        assert "a data.name of their own, which makes another run" in line
        assert not on(make_run, tmp_path / "images", "data.name=others").result()


def test_a_dry_run_names_done_runs_whose_data_has_changed(
    done: Run, snapshot: Snapshot, tmp_path: Path
) -> None:
    choice = Choice(LocalBackend(), "--backend local")
    assert dryrun.describe([done], choice, snapshot, tmp_path)["changed_data"] == []
    swap_labels(tmp_path / "images")
    (line,) = dryrun.describe([done], choice, snapshot, tmp_path)["changed_data"]
    assert line.startswith("deit_s12 seed 0 is done, ")


def unmounted(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def forbidden(root: Path) -> None:
    # a link to itself stands for a folder that nobody may read: root may read any
    shutil.rmtree(root / "val")
    (root / "val").symlink_to("val")


@pytest.mark.parametrize(
    ("change", "overrides", "what"),
    [
        (unmounted, (), ""),
        (rename, ("data.on_nodes_only=true",), ""),
        (forbidden, (), "were not compared"),
        (lambda root: (root / "val/dog/dog1.jpg").rename(root / "val/dog/dog1.txt"), (), "num_val"),
        (lambda root: shutil.rmtree(root / "train"), (), "were not compared"),
    ],
)
def test_images_that_cannot_be_read_here_are_never_called_others(
    change: Callable[[Path], object],
    overrides: tuple[str, ...],
    what: str,
    done: Run,
    make_run: MakeRun,
    tmp_path: Path,
) -> None:
    run = on(make_run, tmp_path / "images", *overrides)
    assert run.id == done.id
    change(tmp_path / "images")
    lines, detail = said(run)
    assert bool(what) is bool(lines) is bool(detail)
    assert all(what in text for text in (*lines, detail))
    for text in (*lines, detail):
        assert ("other images" in text) is (what == "num_val")
        assert "put the previous images back" not in text or what == "num_val"


def test_the_data_folder_in_the_spec_of_an_imported_run_is_not_looked_at(
    done: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    swap_labels(tmp_path / "images")
    files.write_json(done.dir / "imported.json", {"bundle": "sent.tar", "files": {}})
    looked = []
    facts = current.CurrentData.facts
    monkeypatch.setattr(current.CurrentData, "facts", lambda *a: (looked.append(a), facts(*a))[1])
    (status,) = statuses([done], [])
    record = RunRecord.read(done)
    assert "measured on" not in status["detail"] + explain(record, record.status)
    assert looked == []
    # a launch has the folder of its own spec
    (line,) = preflight.changed_data(read_records([done]))
    assert "other images" in line


def test_the_same_images_in_another_folder_are_no_change(
    done: Run, make_run: MakeRun, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    copy = on(make_run, tmp_path / "copy")
    assert copy.id == done.id
    assert said(copy) == ([], "")
    swap_labels(tmp_path / "copy")
    (line,), _ = said(copy)
    assert f"back into {tmp_path}/copy" in line
    # nothing is there: nothing is compared
    shutil.rmtree(tmp_path / "copy")
    (line,), detail = said(copy)
    assert f"with the images of {tmp_path}/images; data.root is {tmp_path}/copy now" in line
    assert detail == ""


def test_a_launch_beside_a_done_run_on_other_images_is_reported(
    done: Run, make_run: MakeRun, tmp_path: Path
) -> None:
    """Another row, or another seed, whose done partner is not launched with it."""
    partner = on(make_run, tmp_path / "images", "recipe.epochs=7")
    assert partner.id != done.id
    assert preflight.changed_data(read_records([partner])) == []
    (tmp_path / "images/val/dog/dog0.jpg").write_text("another")
    (line,) = preflight.changed_data(read_records([partner]))
    assert "deit_s12 seed 0: would train on other images than deit_s12/seed0-" in line
    assert "(content of a sample of images)" in line
    # told once where both are launched
    (line,) = preflight.changed_data(read_records([partner, done]))
    assert line.startswith("deit_s12 seed 0 is done, measured on other images")
    named = on(make_run, tmp_path / "images", "recipe.epochs=7", "data.name=Others")
    assert preflight.changed_data(read_records([named])) == []


def test_an_evaluation_says_that_the_images_of_the_trained_run_were_others(
    done: Run, tmp_path: Path
) -> None:
    evaluation = as_evaluation(done.experiment)
    run = replace(done, experiment=evaluation, id="e" * 64, dir=tmp_path / "eval", upstream=done)
    assert preflight.changed_data(read_records([run])) == []
    (tmp_path / "images/val/dog/dog0.jpg").write_text("another")
    (line,) = preflight.changed_data(read_records([run, done]))
    assert line.startswith("deit_s12 seed 0 is done, measured on other images than are there now")
    found = open_unchecked(run.experiment.data)
    finish(run, data={"root": "/elsewhere", **found.checksums()}, evaluation=EVALUATION)
    record = evaluations.of_run(run)
    assert record is not None
    assert record["changed"].startswith("deit_s12 seed 0 was measured on other images")
    result = done.result()
    assert result is not None
    finish(run, data=result["data"], evaluation=EVALUATION)
    assert "changed" not in (evaluations.of_run(run) or {})


def test_results_of_old_versions_are_compared_by_what_they_hold(done: Run, tmp_path: Path) -> None:
    result = done.result()
    assert result is not None
    old = {key: result["data"][key] for key in ("root", "fingerprint")}
    finish(done, data=old)
    (tmp_path / "images/val/dog/dog0.jpg").write_text("another")
    assert said(done) == ([], "")
    swap_labels(tmp_path / "images")
    assert "fingerprint" in said(done)[1]
    for data in ({}, {"root": 7}, {"fingerprint": 7}):
        finish(done, data=data)
        said(done)


def test_status_lists_no_large_data_set_again(
    done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compared where its listing is cached and up to date; a launch lists it."""
    monkeypatch.setattr(current, "FEW_IMAGES", 0)
    monkeypatch.setattr(cache, "SETTLED_S", -1000.0)
    config = done.experiment.data
    scans = []
    scan = dataset.SCANS[config.source]
    monkeypatch.setitem(dataset.SCANS, config.source, lambda *a: (scans.append(1), scan(*a))[1])
    swap_labels(tmp_path / "images")
    (status,) = statuses([done], [])
    assert status["detail"] == ""
    assert scans == []
    assert len(preflight.changed_data(read_records([done]))) == 1
    (status,) = statuses([done], [])
    assert "fingerprint" in status["detail"]
    assert len(scans) == 2


def test_a_data_set_is_read_once_for_all_runs(
    done: Run, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    read = dataset.open_unchecked
    monkeypatch.setattr(dataset, "open_unchecked", lambda c: (reads.append(1), read(c))[1])
    assert preflight.changed_data(read_records([done] * 3)) == []
    assert len(statuses([done] * 3, [])) == 3
    assert len(reads) == 2
