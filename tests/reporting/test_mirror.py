"""The mirror in a real MLflow on SQLite, whose schema is created once for all tests."""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fabricated import NOON, Lab
from sqlalchemy import Engine, event

from antioversmooth import files, spec
from antioversmooth.errors import TrackingError
from antioversmooth.reporting.table import tables
from antioversmooth.reporting.table.observe import observe
from antioversmooth.reporting.tracking import database, mirror
from antioversmooth.reporting.tracking.experiments import NAME
from antioversmooth.reporting.tracking.mirror import Mirrored
from antioversmooth.runs import flatten, journal
from antioversmooth.runs.discovery import Discovery
from antioversmooth.runs.metrics import TRAIN_LOSS

# MLflow's own use of SQLAlchemy warns
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy", "ignore::ResourceWarning"
)


@pytest.fixture
def store(lab: Lab, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab whose results folder has an empty MLflow database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    lab.results.mkdir()
    shutil.copy(empty_store, lab.results / "mlflow.db")
    return lab


def sync(lab: Lab) -> list[Mirrored]:
    """Mirrors all runs."""
    seen = [observe(run, now=NOON + 1) for run in Discovery(lab.results).runs()]
    return mirror.sync(seen, [lab.table()], lab.results)


def content(lab: Lab) -> dict[str, dict[str, Any]]:
    """The content of MLflow by run name, without the ids that MLflow chooses."""
    with database.open_client(lab.results) as client:
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(ids, max_results=1000)
        names = {run.info.run_id: run.info.run_name for run in found}
        return {
            run.info.run_name: {
                "status": run.info.status,
                "times": (run.info.start_time, run.info.end_time),
                "params": run.data.params,
                "tags": {
                    **run.data.tags,
                    mirror.PARENT: names.get(run.data.tags.get(mirror.PARENT)),
                },
                "metrics": {
                    key: [
                        (m.step, m.timestamp, m.value)
                        for m in client.get_metric_history(run.info.run_id, key)
                    ]
                    for key in sorted(run.data.metrics)
                },
                "artifacts": sorted(item.path for item in client.list_artifacts(run.info.run_id)),
            }
            for run in found
        }


def test_an_experiment_a_table_a_parent_a_row_a_child_a_seed(store: Lab) -> None:
    store.fill()
    tables.write_table(store.collect(0, 1), store.results / "mini")
    mirrored = sync(store)
    assert [(m.name, m.num_runs, m.num_changed) for m in mirrored] == [
        ("small (mini: Digits)", 5, 5)
    ]
    held = content(store)
    assert len(held) == 5 + 3 + 1
    assert held["deep seed 1"]["tags"][mirror.PARENT] == "Row deep"
    assert held["small (files)"]["artifacts"] == [
        f"small.{s}" for s in ("csv", "html", "json", "md", "tex")
    ]


def test_metrics_keep_their_own_steps_and_times(store: Lab) -> None:
    run = store.finish(store.run("deep"), 90.0)
    sync(store)
    metrics = content(store)["deep seed 0"]["metrics"]
    assert metrics["val/top1"] == [
        (8 * e, round(1000 * (NOON + 10 * e)), top1)
        for e, top1 in enumerate((51.0, 52.0, 90.5, 90.0), start=1)
    ]
    layers = [step for step, _, _ in metrics["similarity/tokens"]]
    assert layers == list(range(1, run.experiment.model.depth + 1))
    assert metrics["result/parameters"][0][2] == 604_298


def test_params_are_the_science_and_the_seed(store: Lab) -> None:
    store.finish(store.run("deep_featscale", 3), 90.0)
    sync(store)
    params = content(store)["deep_featscale seed 3"]["params"]
    assert params["model.scaling"] == "featscale"
    assert params["recipe.betas"] == "[0.9, 0.999]"
    assert params["seed"] == "3"
    assert not [key for key in params if key.startswith(("cluster", "runtime"))]
    row = content(store)["Row deep_featscale"]["params"]
    assert row == {key: value for key, value in params.items() if key != "seed"}


def test_tags_and_artifacts_say_where_a_run_comes_from(store: Lab) -> None:
    run = store.finish(store.run("deep"), 90.0)
    sync(store)
    held = content(store)["deep seed 0"]
    assert held["tags"]["antioversmooth.id"] == run.id
    assert held["tags"]["antioversmooth.hosts"] == "node7"
    assert held["tags"]["antioversmooth.snapshots"] == "5a5a5a5a5a5a"
    assert held["artifacts"] == ["provenance.json", "result.json", "spec.yaml"]


def test_analyses_and_figures_are_artifacts_of_their_run_and_table(store: Lab) -> None:
    run = store.finish(store.run("deep"), 90.0)
    files.write_atomic(run.dir / "analysis" / "similarity.svg", "<svg/>")
    figures = store.results / "mini" / "figures"
    files.write_atomic(figures / "deep_similarity.svg", "<svg/>")
    files.write_atomic(figures / "of_another_table.svg", "<svg/>")
    files.write_atomic(figures / "index.html", "<html/>")
    tables.write_table(store.collect(0), store.results / "mini")
    table = replace(store.table(), figures=["deep_similarity"])
    seen = [observe(run, now=NOON + 1) for run in Discovery(store.results).runs()]
    mirror.sync(seen, [table], store.results)
    held = content(store)
    assert "similarity.svg" in held["deep seed 0"]["artifacts"]
    held_files = held["small (files)"]["artifacts"]
    assert [name for name in held_files if "svg" in name or "index" in name] == [
        "deep_similarity.svg",
        "index.html",
    ]


def test_status_follows_the_run(store: Lab) -> None:
    run = store.run("wide")
    store.start(run, epochs=1)
    sync(store)
    assert content(store)["wide seed 0"]["status"] == "RUNNING"
    store.end(run, "preempted")
    sync(store)
    assert content(store)["wide seed 0"]["status"] == "KILLED"
    store.start(run, epochs=4, attempt=2, step=8)
    store.finish(run, 93.0)
    sync(store)
    held = content(store)
    assert held["wide seed 0"]["status"] == held["Row wide"]["status"] == "FINISHED"
    crashed = store.run("wide", 1)
    store.start(crashed, epochs=1)
    store.end(crashed, "crash")
    sync(store)
    held = content(store)
    assert held["wide seed 1"]["status"] == held["Row wide"]["status"] == "FAILED"


def test_the_row_holds_the_mean_over_the_seeds_so_far(store: Lab) -> None:
    for seed, accuracy in enumerate([90.0, 92.0]):
        store.finish(store.run("deep", seed), accuracy)
    sync(store)
    metrics = content(store)["Row deep"]["metrics"]
    assert [(step, value) for step, _, value in metrics["row/top1_mean"]] == [(1, 90.0), (2, 91.0)]
    assert metrics["row/top1_std"][0][2] == pytest.approx(2**0.5, abs=1e-12)


def test_seeds_of_another_science_have_a_row_of_their_own(store: Lab) -> None:
    store.finish(store.run("deep", 0), 90.0)
    store.finish(store.run("deep", 0, "recipe.base_lr=0.5"), 10.0)
    sync(store)
    with database.open_client(store.results) as client:
        found = client.search_runs(
            [client.get_experiment_by_name("small (mini: Digits)").experiment_id]
        )
    means = sorted(
        run.data.metrics["row/top1_mean"] for run in found if run.info.run_name == "Row deep"
    )
    assert means == [10.0, 90.0]


def test_a_second_sync_adds_nothing(store: Lab) -> None:
    store.finish(store.run("deep"), 90.0)
    sync(store)
    before = content(store)
    assert [m.num_changed for m in sync(store)] == [0]
    assert content(store) == before


def test_a_run_that_grows_is_continued(store: Lab) -> None:
    run = store.run("wide")
    store.start(run, epochs=2)
    sync(store)
    store.grow(run, range(3, 5))
    store.finish(run, 93.0)
    sync(store)
    grown = content(store)["wide seed 0"]
    forget(store)
    sync(store)
    assert content(store)["wide seed 0"] == grown


def forget(lab: Lab) -> None:
    """Deletes all mirrored runs from MLflow for good, so that none is restored."""
    from mlflow.entities import ViewType

    with database.open_client(lab.results) as client:
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        for run in client.search_runs(ids, run_view_type=ViewType.ALL, max_results=1000):
            client._tracking_client.store._hard_delete_run(run.info.run_id)


def assert_as_new(lab: Lab) -> None:
    """Asserts that a sync leaves what a first one makes of the runs, and that another adds
    nothing."""
    sync(lab)
    synced = content(lab)
    assert [m.num_changed for m in sync(lab)] == [0]
    assert content(lab) == synced
    forget(lab)
    sync(lab)
    assert content(lab) == synced


def by_hand(lab: Lab, change: Callable[[Any, str], object]) -> list[Mirrored]:
    """The next sync after somebody changed the table's experiment in MLflow."""
    with database.open_client(lab.results) as client:
        (home,) = (one for one in client.search_experiments() if one.name != "Default")
        change(client, home.experiment_id)
    return sync(lab)


def run_ids(lab: Lab) -> dict[str, str]:
    """MLflow's ids of the runs that are there, by name."""
    with database.open_client(lab.results) as client:
        return run_ids_of(client)


def run_ids_of(client: Any) -> dict[str, str]:
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_name: run.info.run_id for run in client.search_runs(ids)}


def test_an_experiment_that_was_deleted_is_restored_with_its_runs(store: Lab) -> None:
    store.finish(store.run("deep"), 90.0)
    sync(store)
    before, ids = content(store), run_ids(store)
    (again,) = by_hand(store, lambda client, home: client.delete_experiment(home))
    assert (again.num_changed, again.note) == (0, "it was deleted in MLflow, and is restored")
    assert content(store) == before
    assert run_ids(store) == ids
    assert [m.note for m in sync(store)] == [""]


def test_a_restored_experiment_holds_no_superseded_run(store: Lab) -> None:
    run = store.run("wide")
    store.start(run, epochs=3)
    sync(store)
    store.start(run, epochs=3, attempt=2, step=8)
    by_hand(store, lambda client, home: client.delete_experiment(home))
    resynced = content(store)
    assert len(run_ids(store)) == len(resynced) == 2
    assert [step for step, _, _ in resynced["wide seed 0"]["metrics"]["val/top1"]] == [8, 16, 24]
    forget(store)
    sync(store)
    assert content(store) == resynced


def test_an_experiment_that_mlflow_does_not_restore_is_replaced_once(
    store: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def refuse(*_: object) -> None:
        raise MlflowException("Permission\ndenied")

    store.finish(store.run("deep"), 90.0)
    sync(store)
    before = content(store)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "restore_experiment", refuse)
        (again,) = by_hand(store, lambda client, home: client.delete_experiment(home))
        (third,) = sync(store)
    assert again.name == "small (mini: Digits) (2)"
    assert again.note.endswith("is replaced, since MLflow does not restore it: Permission denied")
    assert (third.name, third.experiment_id, third.note) == (again.name, again.experiment_id, "")
    assert content(store) == before


def gone_for_good(client: Any, home: str) -> None:
    """Deletes an experiment as `mlflow gc` does."""
    client.delete_experiment(home)
    client._tracking_client.store._hard_delete_experiment(home)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (gone_for_good, "small (mini: Digits)"),
        (lambda client, home: client.rename_experiment(home, "It's mine"), "It's mine"),
        (lambda client, home: client.delete_experiment_tag(home, NAME), "small (mini: Digits)"),
    ],
    ids=["deleted for good", "renamed", "as an older version made it"],
)
def test_an_experiment_is_found_again_or_created_anew(
    store: Lab, change: Callable[[Any, str], object], name: str
) -> None:
    store.finish(store.run("deep"), 90.0)
    sync(store)
    before = content(store)
    (again,) = by_hand(store, change)
    assert (again.name, again.num_runs, again.note) == (name, 1, "")
    assert content(store) == before
    (third,) = sync(store)
    assert (third.experiment_id, third.num_changed) == (again.experiment_id, 0)


@pytest.mark.parametrize("name", ["deep seed 0", "Row deep"])
def test_a_run_that_was_deleted_is_restored(store: Lab, name: str) -> None:
    store.finish(store.run("deep"), 90.0)
    sync(store)
    before, ids = content(store), run_ids(store)
    (again,) = by_hand(store, lambda client, _: client.delete_run(ids[name]))
    assert again.note == "restored runs that were deleted in MLflow: 1"
    assert content(store) == before
    assert run_ids(store) == ids


def test_a_row_that_was_deleted_for_good_gets_its_seeds_back(store: Lab) -> None:
    store.finish(store.run("deep"), 90.0)
    sync(store)
    before, ids = content(store), run_ids(store)

    def delete(client: Any, _: str) -> None:
        client.delete_run(ids["Row deep"])
        client._tracking_client.store._hard_delete_run(ids["Row deep"])

    by_hand(store, delete)
    assert content(store) == before


def test_a_table_whose_experiment_fails_stops_no_other(
    store: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    store.finish(store.run("deep"), 90.0)
    store.finish(store.run("wide"), 93.0)
    small = store.table()
    first, second = (
        replace(small, name=name, rows=[row for row in small.rows if row.experiment == rows])
        for name, rows in (("first", "deep"), ("second", "wide"))
    )
    create = MlflowClient.create_experiment

    def refuse(client: Any, name: str, *args: Any, **options: Any) -> str:
        if name.startswith("first"):
            raise MlflowException("it is not\nallowed")
        return create(client, name, *args, **options)

    monkeypatch.setattr(MlflowClient, "create_experiment", refuse)
    seen = [observe(run, now=NOON + 1) for run in Discovery(store.results).runs()]
    mirrored = mirror.sync(seen, [first, second], store.results)
    assert [(m.name.split()[0], m.num_runs, m.num_changed) for m in mirrored] == [
        ("first", 1, 0),
        ("second", 1, 1),
    ]
    assert re.search(r"^MLflow at sqlite:.*: it is not; run", mirrored[0].problem)
    assert mirrored[1].problem == ""


def test_where_the_store_stops_answering_the_other_tables_are_not_tried(
    store: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    asked = []

    def break_down(*_: Any, **options: Any) -> None:
        asked.append(options)
        (store.results / "mlflow.db").write_bytes(b"broken" * 1000)
        raise OSError("it broke")

    store.finish(store.run("deep"), 90.0)
    tables = [replace(store.table(), name=name) for name in ("first", "second")]
    monkeypatch.setattr(MlflowClient, "create_experiment", break_down)
    seen = [observe(run, now=NOON + 1) for run in Discovery(store.results).runs()]
    with pytest.raises(TrackingError, match=r"not a database|malformed"):
        mirror.sync(seen, tables, store.results)
    assert len(asked) == 1


def test_metrics_that_a_later_attempt_superseded_are_removed(store: Lab) -> None:
    run = store.run("wide")
    store.start(run, epochs=3)
    sync(store)
    store.start(run, epochs=3, attempt=2, step=8)
    store.finish(run, 93.0)
    sync(store)
    resynced = content(store)
    assert [step for step, _, _ in resynced["wide seed 0"]["metrics"]["val/top1"]] == [
        8,
        16,
        24,
        32,
    ]
    forget(store)
    sync(store)
    assert content(store) == resynced


def remove_and_finish(lab: Lab) -> None:
    """The directory of a run is removed, as messages advise, and the run launched again."""
    shutil.rmtree(lab.run("deep").dir)
    lab.finish(lab.run("deep"), 80.0)


def remove_and_start(lab: Lab) -> None:
    shutil.rmtree(lab.run("deep").dir)
    lab.start(lab.run("deep"), epochs=1, snapshot="6b6b6b6b6b6b")


def lower_all(lab: Lab) -> None:
    """The accuracy is corrected downwards in the journal, at the same size, and in the result."""
    run = lab.run("deep")
    for path in (run.metrics_path, run.dir / "result.json"):
        text = path.read_text()
        path.write_text(text.replace("90.0", "89.0").replace("90.5", "89.5"))


def cut_journal_of_a_running_one(lab: Lab) -> None:
    run = lab.run("wide")
    run.metrics_path.write_text("".join(run.metrics_path.read_text().splitlines(True)[:1]))


def lose_result(lab: Lab) -> None:
    (lab.run("deep").dir / "result.json").unlink()


def import_an_earlier_seed(lab: Lab) -> None:
    """The seed that ended before another one is the first of the mean, and comes last."""
    run = lab.finish(lab.run("deep", 1), 70.0)
    text = run.attempts_path.read_text().replace(f"{NOON + 500}", f"{NOON + 400}")
    run.attempts_path.write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        *(remove_and_finish, remove_and_start, lower_all, cut_journal_of_a_running_one),
        *(lose_result, import_an_earlier_seed),
    ],
)
def test_a_mirror_keeps_no_number_that_its_run_no_longer_has(
    store: Lab, change: Callable[[Lab], None]
) -> None:
    store.finish(store.run("deep"), 90.0)
    store.start(store.run("wide"), epochs=3)
    sync(store)
    before = content(store)
    change(store)
    assert_as_new(store)
    assert content(store) != before


def test_a_restored_experiment_holds_no_run_of_a_removed_directory(store: Lab) -> None:
    store.finish(store.run("deep"), 90.0)
    sync(store)
    remove_and_start(store)
    sync(store)
    before = content(store)
    by_hand(store, lambda client, home: client.delete_experiment(home))
    assert content(store) == before
    assert len(run_ids(store)) == len(before)


def sync_table(lab: Lab, *seeds: int) -> Mirrored:
    """Mirrors these seeds of the table alone."""
    seen = [one for one in lab.observe(*seeds) if one.attempts]
    (mirrored,) = mirror.sync(seen, [lab.table()], lab.results)
    return mirrored


def test_a_row_keeps_the_seeds_that_a_sync_does_not_name(store: Lab) -> None:
    for seed, accuracy in enumerate([90.0, 92.0]):
        store.finish(store.run("deep", seed), accuracy)
        sync_table(store, seed)
    ids, before = run_ids(store), content(store)
    assert [m[2] for m in before["Row deep"]["metrics"]["row/top1_mean"]] == [90.0, 91.0]
    assert sync_table(store, 0).num_changed == 0
    assert (run_ids(store), content(store)) == (ids, before)
    shutil.rmtree(store.run("deep", 0).dir)
    sync_table(store, 1)
    held = content(store)
    assert [m[2] for m in held["Row deep"]["metrics"]["row/top1_mean"]] == [92.0]
    assert held["deep seed 0"]["tags"][mirror.PARENT] == "Row deep"


def test_a_copy_of_a_run_leaves_the_mirror_of_the_first_alone(store: Lab, tmp_path: Path) -> None:
    first = store.finish(store.run("deep"), 90.0)
    sync(store)
    before = content(store)
    copied = elsewhere(store, tmp_path / "copy")
    shutil.rmtree(copied.run("deep").dir)
    copy_of = copied.finish(copied.run("deep"), 70.0)

    def sync_copy() -> Mirrored:
        (mirrored,) = mirror.sync([observe(copy_of, now=NOON + 1)], [store.table()], store.results)
        return mirrored

    told = sync_copy()
    assert (told.num_runs, told.num_changed, told.problem) == (0, 0, "")
    assert f"copies of runs that are mirrored from other directories: {copy_of.dir} of" in told.note
    assert str(first.dir) in told.note
    assert content(store) == before
    shutil.rmtree(first.dir)
    assert (sync_copy().num_changed, sync_copy().note) == (1, "")
    held = content(store)["deep seed 0"]
    assert held["metrics"]["val/top1"][-1][2] == 70.0
    assert held["tags"][database.DIRECTORY] == str(copy_of.dir.resolve())


def test_a_copy_of_a_project_with_its_database_mirrors_its_own_runs(
    store: Lab, tmp_path: Path
) -> None:
    store.finish(store.run("deep"), 90.0)
    sync(store)
    copied = elsewhere(store, tmp_path / "copy")
    shutil.rmtree(copied.run("deep").dir)
    copied.finish(copied.run("deep"), 70.0)
    assert [(m.num_changed, m.note) for m in sync(copied)] == [(1, "")]
    assert content(copied)["deep seed 0"]["metrics"]["val/top1"][-1][2] == 70.0


def test_a_folder_that_was_moved_keeps_its_mirror(store: Lab, tmp_path: Path) -> None:
    store.finish(store.run("deep"), 90.0)
    sync(store)
    ids = run_ids(store)
    store.results = store.results.rename(tmp_path / "moved")
    assert [(m.num_changed, m.note) for m in sync(store)] == [(0, "")]
    assert run_ids(store) == ids


def test_a_mirror_of_an_older_version_is_made_anew(store: Lab) -> None:
    store.finish(store.run("deep"), 90.0)
    sync(store)
    with database.open_client(store.results) as client:
        ids = run_ids_of(client)
        for name, run_id in ids.items():
            client.set_tag(run_id, database.MIRRORED, f"{32 * ('seed' in name)} {'ab' * 32}")
        # a better accuracy, which the newest value of MLflow would be for ever
        client.log_metric(ids["Row deep"], "row/top1_mean", 99.0, round(1000 * (NOON + 500)), 1)
    assert_as_new(store)


def test_a_torn_last_line_is_left_out_and_imported_once_whole(store: Lab) -> None:
    run = store.run("wide")
    store.start(run, epochs=1)
    line = '{"time": 1700000020.0, "attempt": 1, "step": 16, "epoch": 2, "val/top1": 77.0}\n'
    with run.metrics_path.open("a") as file:
        file.write(line[:50])
    sync(store)
    assert [value for _, _, value in content(store)["wide seed 0"]["metrics"]["val/top1"]] == [51.0]
    with run.metrics_path.open("a") as file:
        file.write(line[50:])
    sync(store)
    assert [value for _, _, value in content(store)["wide seed 0"]["metrics"]["val/top1"]] == [
        51.0,
        77.0,
    ]


class Killed(BaseException):
    """Simulates kill -9: nothing catches it."""


CALLS = ("create_run", "log_batch", "log_artifact", "set_terminated", "set_tag")


@pytest.mark.parametrize("survived", [1, 4, 6, 7, 9, 11])
def test_a_sync_killed_midway_and_repeated_equals_a_clean_one(
    store: Lab, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    from mlflow import MlflowClient

    store.finish(store.run("deep"), 90.0)
    calls = 0

    def dying(name: str) -> Any:
        real = getattr(MlflowClient, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            if calls == survived:
                raise Killed
            calls += 1
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(MlflowClient, name, dying(name))
        with pytest.raises(Killed):
            sync(store)
    sync(store)
    repeated = content(store)
    forget(store)
    sync(store)
    assert content(store) == repeated


def test_runs_of_no_table_have_an_experiment_of_their_own(store: Lab) -> None:
    store.finish(store.run("deep"), 90.0)
    mirrored = mirror.sync(store.observe(0), [], store.results)
    assert [(m.name, m.num_runs) for m in mirrored] == [("rows (mini: Digits)", 1)]


def test_nan_in_a_journal_is_mirrored(store: Lab) -> None:
    run = store.run("wide")
    store.start(run, epochs=1)
    record = {
        "time": NOON + 20,
        "attempt": 1,
        "step": 9,
        "epoch": 1.1,
        TRAIN_LOSS: float("nan"),
    }
    journal.append(run.metrics_path, record)
    sync(store)
    sync(store)
    values = [value for _, _, value in content(store)["wide seed 0"]["metrics"]["train/loss"]]
    assert len(values) == 2
    assert values[1] != values[1]


def test_a_server_that_is_down_is_one_clear_message(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = lab.finish(lab.run("deep"), 90.0)
    with pytest.raises(
        TrackingError, match=r"^MLflow at http://127\.0\.0\.1:9: it does not answer \(.*sync"
    ) as raised:
        sync(lab)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert observe(run).result is not None


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "nonsense://x",
            (
                "MLflow at nonsense://x: Model registry functionality is unavailable; got"
                " unsupported URI"
            ),
        ),
        ("oracle+nothing://me:secret@db/x", "MLflow at oracle+nothing://db/x: "),
        ("sqlite:////proc/nowhere/mlflow.db", "MLflow at sqlite:////proc/nowhere/mlflow.db: "),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_message(
    uri: str, message: str, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    lab.finish(lab.run("deep"), 90.0)
    with pytest.raises(TrackingError) as raised:
        sync(lab)
    assert str(raised.value).startswith(message)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("name", ['it\'s "so"', "what?", "100%25"])
def test_a_path_that_mlflow_cannot_take_is_one_message(
    lab: Lab, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(TrackingError, match="move the project, or set MLFLOW_TRACKING_URI"):
        mirror.sync([observe(lab.finish(lab.run("deep"), 90.0))], [lab.table()], folder / "results")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["it's so", 'so "called"', "50% off", "a b;c#d"])
def test_a_path_that_is_only_odd_is_mirrored(
    lab: Lab, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert mirror.sync(
        [observe(lab.finish(lab.run("deep"), 90.0))], [lab.table()], folder / "results"
    )
    assert (folder / "results" / "mlflow.db").is_file()


def test_a_database_without_its_driver_is_one_message(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if psycopg2 were not installed
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1:9/x")
    lab.finish(lab.run("deep"), 90.0)
    with pytest.raises(TrackingError, match=r"^MLflow at postgresql://127\.0\.0\.1:9/x: .*psycopg"):
        sync(lab)


def test_discovery_leaves_out_a_spec_that_was_edited(lab: Lab) -> None:
    lab.fill()
    run = lab.run("wide")
    spec = run.dir / "spec.yaml"
    spec.write_text(spec.read_text().replace("base_lr: 0.001", "base_lr: 0.002"))
    discovery = Discovery(lab.results)
    assert len(discovery.runs()) == 4
    assert "was edited" in discovery.unreadable[run.dir]


def test_flatten_gives_dotted_keys() -> None:
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": "x", "e": None}) == {
        "a.b": "1",
        "a.c": "[1, 2]",
        "d": "x",
        "e": "null",
    }


@contextmanager
def every_write(act: Callable[[], None]) -> Iterator[None]:
    """Acts before each statement that changes a database, while the block runs."""

    def before(*arguments: Any) -> None:
        statement = arguments[2]
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            act()

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", before)


def die_while_mirroring(root: str, write: int) -> None:
    """Syncs the lab in this folder, and kills this process before a write of a number, from 1."""
    results, writes = Path(root) / "results", itertools.count(1)
    table = spec.load_table(Path(root) / "experiments" / "tables" / "small.yaml")
    seen = [observe(run, now=NOON + 1) for run in Discovery(results).runs()]

    def die() -> None:
        if next(writes) == write:
            os.kill(os.getpid(), signal.SIGKILL)

    with every_write(die):
        mirror.sync(seen, [table], results)


def test_kill_9_at_any_moment_and_a_second_sync_equal_a_clean_one(
    store: Lab, tmp_path: Path
) -> None:
    store.fill()
    tables.write_table(store.collect(0, 1), store.results / "mini")
    trials = [elsewhere(store, tmp_path / f"trial{number}") for number in range(4)]
    writes = itertools.count(0)
    with every_write(lambda: next(writes)):
        sync(store)
    clean, last = without_ids(content(store)), next(writes)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "antioversmooth.reporting.tracking.mirror"])
    # the first write, the last one, and two between
    moments = (1, *random.Random(0).sample(range(2, last), 2), last)
    for trial, write in zip(trials, moments, strict=True):
        process = context.Process(target=die_while_mirroring, args=(str(trial.root), write))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, write
        sync(trial)
        assert without_ids(content(trial)) == clean, write


def elsewhere(lab: Lab, root: Path) -> Lab:
    """A copy of a lab, with its own database."""
    root.mkdir()
    for folder in ("experiments", "results"):
        shutil.copytree(lab.root / folder, root / folder)
    other = copy.copy(lab)
    other.root, other.results = root, root / "results"
    return other


def without_ids(held: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {**run, "tags": {**run["tags"], mirror.PARENT: None, database.DIRECTORY: None}}
        for name, run in held.items()
    }


def test_what_an_edited_journal_holds_hides_no_other_metric(store: Lab) -> None:
    run = store.run("deep")
    store.start(run, epochs=2)
    hostile = "\x1b]0;t\x07 \ud800 \x00 [x](javascript:y) <script>"
    store.end(run, "crash", message=hostile)
    before = {"time": NOON + 30, "attempt": 1, "step": 20, TRAIN_LOSS: 0.5}
    lines: list[dict[str, Any]] = [
        {"a/../b": 1.0, "$x y": 2.0, "": 3.0, "huge": 10**400, "text": hostile, "yes": True},
        {"layer": "x", "similarity/tokens": 1.0},
        {"time": float("nan"), "late": 1.0},
        {"step": 10**30, "far": 1.0},
    ]
    for line in lines:
        journal.append(run.metrics_path, {**before, **line})
    with run.metrics_path.open("a") as file:
        file.write('{"attempt": 1, "without": 1.0}\n')
    sync(store)
    mirrored = content(store)["deep seed 0"]
    assert {value for _, _, value in mirrored["metrics"][TRAIN_LOSS]} == {2.0, 1.0, 0.5}
    assert not {"huge", "late", "far", "without", "yes", "$x y"} & mirrored["metrics"].keys()
    assert "\\u001b]0;t\\u0007 \\ud800 \\u0000" in mirrored["tags"]["antioversmooth.problem"]


def test_the_rows_of_a_sweep_are_told_apart_in_one_experiment(store: Lab) -> None:
    request = store.request("recipe.base_lr=1e-3,2e-3")
    runs = request.plan([0], store.results)
    for run in runs:
        run.prepare()
        store.finish(run, 90.0)
    seen = [observe(run, now=NOON + 1) for run in runs]
    (mirrored,) = mirror.sync(seen, request.tables, store.results)
    assert mirrored.name.startswith("small-base_lr_0.001_0.002 (mini")
    assert (mirrored.num_runs, mirrored.num_changed) == (len(runs), len(runs))
    found = content(store)
    assert {run.name for run in runs} <= found.keys()
    assert {run.experiment.title for run in runs} <= found.keys()
    (again,) = mirror.sync(seen, request.tables, store.results)
    assert again.num_changed == 0
