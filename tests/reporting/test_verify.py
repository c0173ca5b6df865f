from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fabricated import FORGERIES, LIKE_THE_PAPER, NOON, Lab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antioversmooth import cli, files
from antioversmooth.cli.exit_codes import FAILED, INCOMPLETE, USER_ERROR
from antioversmooth.config import DataSource
from antioversmooth.datasets.classes import classes_checksum
from antioversmooth.datasets.current import CurrentData
from antioversmooth.datasets.layouts.packaged import PACKAGED
from antioversmooth.errors import UserError
from antioversmooth.reporting.sharing import report, verify
from antioversmooth.reporting.sharing.checks import Check, Verdict
from antioversmooth.reporting.table import tables
from antioversmooth.reporting.table.columns import columns_of
from antioversmooth.runs import jobs, journal
from antioversmooth.runs.code import code_id
from antioversmooth.runs.jobs import EventKind
from antioversmooth.runs.metrics import TRAIN_LOSS

SEEDS = (0, 1)

VERSIONS = ("python", "packages.torch", "packages.timm")

DIGITS = str(PACKAGED[DataSource.digits].facts()["fingerprint"])
"""Fingerprint of the data of all runs."""

BESIDE_THE_TABLE = ("seed", "experiment")
"""Values of a result that a table has elsewhere."""


@pytest.fixture
def committed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The JSON of a complete table; the working directory is its project."""
    monkeypatch.chdir(lab.root)
    lab.fill_honestly()
    tables.write_table(lab.collect(*SEEDS), lab.results / "mini")
    return lab.results / "mini" / "small.json"


def checks(path: Path, lab: Lab, **options: Any) -> list[Check]:
    reports = verify.verify(tables.load_committed(path), path.parent, lab.table(), **options)
    return [check for report in reports for check in report.checks]


def unconfirmed(path: Path, lab: Lab, **options: Any) -> dict[str, Verdict]:
    """The verdicts of all values that something contradicts, or whose source is gone."""
    fine = (Verdict.confirmed, Verdict.underivable)
    return {c.key: c.verdict for c in checks(path, lab, **options) if c.verdict not in fine}


def underivable(path: Path, lab: Lab, **options: Any) -> set[str]:
    verdict = Verdict.underivable
    return {check.key for check in checks(path, lab, **options) if check.verdict is verdict}


def change(path: Path, edit: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    files.write_json(path, value)


def directory(lab: Lab, name: str, seed: int = 0) -> Path:
    return lab.run(name, seed).dir


def test_every_number_of_the_runs_is_confirmed(committed: Path, lab: Lab) -> None:
    assert unconfirmed(committed, lab) == {}
    keys = {check.key for check in checks(committed, lab)}
    assert {
        "top1.mean",
        "top1.std",
        "gain.mean",
        "gain.interval.low",
        "parameters",
        "gmacs",
        "device_hours",
    } <= keys
    assert {
        "seeds[1].result.metrics.val/top1",
        "seeds[0].curve.top1",
        "seeds[0].provenance.commits",
    } <= keys
    assert {
        "seed 1: best.epoch",
        "seed 0: checkpoints/step00000032-attempt1.pt",
        "paper.top1",
    } <= keys
    assert cli.main(["verify", str(committed)]) == 0


@pytest.mark.parametrize(
    ("key", "edit"),
    [
        ("top1.mean", lambda row: row["top1"].update(mean=91.5)),
        ("top1.std", lambda row: row["top1"].update(std=0.1)),
        ("gain.interval.low", lambda row: row["gain"]["interval"].update(low=0.1)),
        ("gain.pairs", lambda row: row["gain"]["pairs"].reverse()),
        ("parameters", lambda row: row.update(parameters=1)),
        ("device", lambda row: row.update(device="H100")),
        ("state", lambda row: row.update(state="partial (1/2)")),
        ("seeds[1].result.gmacs", lambda row: row["seeds"][1]["result"].update(gmacs=1.0)),
        ("seeds[0].curve.top1", lambda row: row["seeds"][0]["curve"]["top1"].reverse()),
        ("seeds[0].provenance.commits",
        lambda row: row["seeds"][0]["provenance"].update(commits=["beef"])),
        ("paper.top1", lambda row: row["paper"].update(top1=80.5)),
        ("paper.confidence", lambda row: row["paper"].update(confidence="V")),
    ],
)  # fmt: skip
def test_a_number_that_was_edited_is_found(
    committed: Path, lab: Lab, key: str, edit: Callable[[Any], None]
) -> None:
    change(committed, lambda document: edit(document["rows"][1]))
    found = unconfirmed(committed, lab)
    # a note explains the confidence
    assert found.pop("notes", Verdict.differs) is Verdict.differs
    assert found == {key: Verdict.differs}
    assert cli.main(["verify", str(committed)]) == FAILED


def test_other_images_on_this_machine_contradict_no_table(
    committed: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CurrentData, "facts", lambda *_: {"fingerprint": "c0ffee"})
    table = lab.collect(*SEEDS)
    assert any("other images" in note for note in table["notes"])
    assert unconfirmed(committed, lab) == {}
    # nor do the same images as before contradict a table that says so, which nothing confirms
    tables.write_table(table, committed.parent)
    monkeypatch.undo()
    monkeypatch.chdir(lab.root)
    assert unconfirmed(committed, lab) == {}
    assert "notes" in underivable(committed, lab)


def test_both_values_of_a_difference_are_reported(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(committed, lambda document: document["rows"][0]["top1"].update(mean=95.25))
    assert cli.main(["verify", "small"]) == 1
    out = capsys.readouterr().out
    assert "differs   top1.mean: 95.25 in the table, 90.35 by its runs" in out
    assert "Deep_24, #layers, Deep: DIFFERS" in out
    assert (
        "NOT what this JSON renders to: small.json, small.md, small.tex, small.csv, small.html"
        in out
    )


def test_runs_that_are_gone_are_named_once_and_the_rest_is_confirmed(
    committed: Path, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(directory(lab, "deep"))
    assert cli.main(["verify", str(committed)]) == INCOMPLETE
    out = capsys.readouterr().out
    # in its own row, and in the row whose baseline it is
    assert out.count("seed 0: there is no") == 2
    found = unconfirmed(committed, lab)
    assert set(found.values()) == {Verdict.gone}
    assert {"top1.mean", "seeds[0].result.parameters", "gain.mean"} <= set(found)
    assert "seeds[1].result.parameters" not in found


def test_a_run_that_was_edited_is_foreign(committed: Path, lab: Lab) -> None:
    path = directory(lab, "wide") / "spec.yaml"
    path.write_text(path.read_text().replace("epochs: 4", "epochs: 400"))
    assert set(unconfirmed(committed, lab).values()) == {Verdict.foreign}
    assert cli.main(["verify", str(committed)]) == FAILED


def test_a_run_whose_spec_is_not_there_is_gone(committed: Path, lab: Lab) -> None:
    (directory(lab, "wide") / "spec.yaml").unlink()
    assert set(unconfirmed(committed, lab).values()) == {Verdict.gone}
    assert cli.main(["verify", str(committed)]) == INCOMPLETE


@pytest.mark.parametrize("name", ["a_backup", "wide_backup"])
def test_the_run_that_the_table_reads_is_verified_and_its_copies_are_named(
    committed: Path, lab: Lab, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = directory(lab, "wide")
    copy = run.parent.with_name(name) / run.name
    shutil.copytree(run, copy)
    assert unconfirmed(committed, lab) == {}
    (weights,) = (run / "checkpoints").glob("*.pt")
    weights.write_bytes(b"others")
    assert unconfirmed(committed, lab) == {f"seed 0: checkpoints/{weights.name}": Verdict.differs}
    assert cli.main(["verify", str(committed)]) == FAILED
    out = capsys.readouterr().out
    assert f"(a copy of a run, which is not read): runs/{name}/{run.name}" in out


def test_a_run_is_found_in_the_folder_of_another_experiment(committed: Path, lab: Lab) -> None:
    folder = directory(lab, "wide").parent
    folder.rename(folder.with_name("of_before"))
    assert unconfirmed(committed, lab) == {}


def test_another_run_in_the_place_of_the_tables_is_foreign(committed: Path, lab: Lab) -> None:
    """The ids share only the first eight digits."""
    change(
        committed,
        lambda document: document["rows"][2]["seeds"][0].update(
            id=lab.run("wide").id[:8] + "0" * 56
        ),
    )
    assert Verdict.foreign in unconfirmed(committed, lab).values()


def test_a_result_that_its_journal_contradicts_is_found(committed: Path, lab: Lab) -> None:
    change(directory(lab, "wide") / "result.json", lambda result: result.update(images_per_s=1.0))
    # the table takes the edited result
    tables.write_table(lab.collect(*SEEDS), committed.parent)
    assert unconfirmed(committed, lab) == {"seed 0: images_per_s": Verdict.differs}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_value_of_a_result_differs(
    committed: Path, lab: Lab, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(directory(lab, "wide") / "result.json", FORGERIES[name])
    assert cli.main(["verify", str(committed)]) == FAILED
    assert f"result.json says {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in FORGERIES if name not in BESIDE_THE_TABLE])
def test_a_forged_value_of_a_table_differs(committed: Path, lab: Lab, name: str) -> None:
    change(committed, lambda document: FORGERIES[name](document["rows"][2]["seeds"][0]["result"]))
    ((key, verdict),) = unconfirmed(committed, lab).items()
    assert key.startswith(f"seeds[0].result.{name}")
    assert verdict is Verdict.differs


TABLE_FORGERIES: dict[str, Callable[[Any], object]] = {
    "title": lambda table: table.update(title=table["title"].replace("mini", "imagenet")),
    "caption": lambda table: table["caption"].pop(),
    "notes": lambda table: table["notes"].clear(),
    "sources": lambda table: table["sources"].reverse(),
    "profile": lambda table: table.update(profile="imagenet"),
    "data.name": lambda table: table["data"].update(name="ImageNet-1k"),
    "data.num_val": lambda table: table["data"].update(num_val=50_000),
    "comparable": lambda table: table.update(comparable=True),
    "complete": lambda table: table.update(complete=False),
    "seeds": lambda table: table.update(seeds=[0, 1, 2]),
    "rows": lambda table: table["rows"].pop(2),
    "group": lambda table: table["rows"][0].update(group="Deep_48"),
    "baseline": lambda table: table["rows"][2].update(baseline="deep"),
    "paper.footnote": lambda table: table["rows"][2]["paper"].update(footnote=1),
    "start": lambda table: table["rows"][2].update(start={"mean": 1.0, "std": None, "n": 2}),
    "best.mean": lambda table: table["rows"][2]["best"].update(mean=99.0),
    "images_per_s": lambda table: table["rows"][2].update(images_per_s=6125.0),
    "device_hours": lambda table: table["rows"][2].update(device_hours=10.0),
    "epochs": lambda table: table["rows"][2].update(epochs=300),
    "gmacs": lambda table: table["rows"][2].update(gmacs=1e-6),
    "spec.recipe.base_lr": lambda table: table["rows"][2]["spec"]["recipe"].update(base_lr=0.1),
    "seeds[1].attempts": lambda table: table["rows"][2]["seeds"][1].update(attempts=2),
    "seeds[1].problem": lambda table: table["rows"][2]["seeds"][1].update(problem="none"),
    "seeds[1].provenance.packages.torch": lambda table: table["rows"][2]["seeds"][1]["provenance"][
        "packages"
    ].update(torch="1.0"),
}
"""Lies of a table, by the value that is found."""


RECORD_FORGERIES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "commit of all attempts": (
        "commits",
        lambda run: replace(run / "attempts.jsonl", "c0ffee", "beef"),
    ),
    "commit in all but the journal": (
        "commits",
        lambda run: [
            replace(run / name, "c0ffee", "beef") for name in ("intents.jsonl", "intent.json")
        ],
    ),
    "newest launch": ("backend", lambda run: replace(run / "intent.json", "local", "slurm")),
    "host": ("hosts", lambda run: replace(run / "attempts.jsonl", "node7", "node8")),
    "job": ("job_ids", lambda run: replace(run / "provenance.json", "4711", "4712")),
    "torch": ("packages", lambda run: replace(run / "attempts.jsonl", "2.14.1", "2.0.0")),
    "python": ("python", lambda run: replace(run / "provenance.json", "3.11.7", "3.12.0")),
    "classes": ("classes.json", lambda run: files.write_json(run / "classes.json", ["b", "a"])),
    "module": (
        "snapshots",
        lambda run: replace(run.parents[2] / "snapshots" / CODE / "antioversmooth/a.py", "1", "2"),
    ),
    "id of a snapshot": (
        "snapshots",
        lambda run: replace(run.parents[2] / "snapshots" / CODE / "snapshot.json", CODE, "beef"),
    ),
}
"""Edits by hand of one record of a run directory, and the fact that two records then contradict."""

MODULE = "ONE = 1\n"
CODE = code_id({"antioversmooth/a.py": hashlib.sha256(MODULE.encode()).hexdigest()})


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def recorded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `committed`, with all records that a launch and an attempt of today write."""
    monkeypatch.chdir(lab.root)
    versions = {"packages": {"torch": "2.14.1", "timm": "1.0.31"}, "python": "3.11.7"}
    code = lab.results / "mini" / "snapshots" / CODE
    (code / "antioversmooth").mkdir(parents=True)
    (code / "antioversmooth" / "a.py").write_text(MODULE)
    files.write_json(code / "snapshot.json", {"id": CODE, "commit": "decaf"})
    sums = {"fingerprint": DIGITS, "classes": classes_checksum(["a", "b"])}
    for name in ("deep", "deep_featscale", "wide"):
        run = lab.run(name)
        lab.start(run, epochs=2, device="Intel & Sons", world_size=1, snapshot=CODE, **versions)
        lab.grow(run, range(3, 4))
        lab.finish_honestly(run, 90.0)
        files.write_json(run.dir / "classes.json", ["a", "b"])
        for record in ("result.json", "provenance.json"):
            change(run.dir / record, lambda content: content["data"].update(sums))
    tables.write_table(lab.collect(), lab.results / "mini")
    return lab.results / "mini" / "small.json"


def test_facts_that_two_records_hold_are_confirmed(recorded: Path, lab: Lab) -> None:
    assert unconfirmed(recorded, lab) == {}
    assert underivable(recorded, lab) == {"seeds[0].older"}


@pytest.mark.parametrize("forgery", RECORD_FORGERIES)
def test_records_that_contradict_each_other_are_found(
    recorded: Path, lab: Lab, forgery: str
) -> None:
    """Also where the table was made after the edit; and no bundle of such a run is imported."""
    run, (fact, edit) = directory(lab, "wide"), RECORD_FORGERIES[forgery]
    edit(run)
    tables.write_table(lab.collect(), recorded.parent)
    assert unconfirmed(recorded, lab) == {f"seed 0: {fact}": Verdict.differs}


def test_what_one_record_alone_has_is_not_derivable(recorded: Path, lab: Lab) -> None:
    """As in runs of old versions."""
    run = directory(lab, "wide")
    for name in ("intents.jsonl", "classes.json"):
        (run / name).unlink()
    assert unconfirmed(recorded, lab) == {}
    parts = ("commits", "snapshots", "backend", "uncommitted_changes")
    expected = {f"seeds[0].provenance.{part}" for part in parts}
    assert underivable(recorded, lab) == {"seeds[0].older"} | expected
    change(
        run / "provenance.json",
        lambda content: [content.pop(key) for key in list(content) if key != "data"],
    )
    tables.write_table(lab.collect(), recorded.parent)
    assert unconfirmed(recorded, lab) == {}
    parts = ("hosts", "job_ids", *VERSIONS)
    assert underivable(recorded, lab) == {"seeds[0].older"} | expected | {
        f"seeds[0].provenance.{part}" for part in parts
    }


def test_a_fingerprint_that_the_identity_of_a_run_does_not_have_is_found(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    expected = f"data.fingerprint={DIGITS}"
    for name in ("deep", "deep_featscale", "wide"):
        run = lab.finish_honestly(lab.run(name, 0, expected), 90.0)
    for record in ("result.json", "provenance.json"):
        change(run.dir / record, lambda content: content["data"].update(fingerprint="beef"))
    tables.write_table(lab.collect(overrides=[expected]), lab.results / "mini")
    committed = lab.results / "mini" / "small.json"
    assert unconfirmed(committed, lab) == {"seed 0: data.fingerprint": Verdict.differs}


@pytest.mark.parametrize("events", [("4711",), ("4712",), ("4711", "4712"), ()])
def test_jobs_of_attempts_are_held_against_those_that_were_submitted(
    recorded: Path, lab: Lab, events: tuple[str, ...]
) -> None:
    run = directory(lab, "wide")
    for name in ("intents.jsonl", "intent.json"):
        replace(run / name, '"local"', '"slurm"')
    for job in events:
        jobs.append_event(run / "jobs.jsonl", EventKind.submitted, job_id=job, user="me")
    tables.write_table(lab.collect(), recorded.parent)
    expected = {"seed 0: job_ids": Verdict.differs} if events == ("4712",) else {}
    assert unconfirmed(recorded, lab) == expected
    jobs.append_event(
        run / "jobs.jsonl", EventKind.ended, job_id="1", code=0, state="COMPLETED", attempt=1
    )
    assert unconfirmed(recorded, lab) == {"seed 0: job_ids": Verdict.differs}


def test_an_analysis_is_named_as_not_derivable(committed: Path, lab: Lab) -> None:
    assert "seed 0: analysis" not in underivable(committed, lab)
    folder = lab.run("wide").dir / "analysis"
    folder.mkdir()
    (folder / "analysis.json").write_text('{"title": "forged"}')
    assert "seed 0: analysis" in underivable(committed, lab)


@pytest.mark.parametrize("key", TABLE_FORGERIES)
def test_a_lie_of_a_table_about_itself_is_found(committed: Path, lab: Lab, key: str) -> None:
    change(committed, TABLE_FORGERIES[key])
    found = unconfirmed(committed, lab)
    assert {verdict for name, verdict in found.items() if name.startswith(key)} == {Verdict.differs}


def lie(note: str) -> Callable[[Any], None]:
    return lambda table: table["notes"].append(note)


@pytest.mark.parametrize(
    "note",
    [
        "Not counted: runs of another identity. Top-1 was confirmed by the authors at 80.7.",
        "Not counted: runs of another identity (another spec, data or revision) of deep seed 1.",
        "Imported, not run here (authors.tar, sha256 0123456789ab: wide seed 0).",
        "Imported, not run here: the authors ran it.",
        "Measured on other images than are there now: all by the authors.",
        "Measured on other images than are there now: wide seed 0. Confirmed by the authors.",
        "Confirmed by the authors.",
    ],
)
def test_a_note_is_confirmed_only_as_the_rows_of_the_table_make_it(
    lab: Lab, committed: Path, note: str
) -> None:
    lab.finish_honestly(lab.run("wide", 0, "recipe.epochs=2"), 80.0)
    files.write_json(
        directory(lab, "deep") / "imported.json", {"bundle": "all.tar", "sha256": "f" * 64}
    )
    tables.write_table(lab.collect(*SEEDS), committed.parent)
    notes = json.loads(committed.read_text())["notes"]
    assert notes[-2:] == [
        "Imported, not run here (all.tar, sha256 ffffffffffff: deep seed 0).",
        "Not counted: runs of another identity (another spec, data or revision) of wide seed 0.",
    ]
    # as on another machine: neither the mark nor the other run
    (directory(lab, "deep") / "imported.json").unlink()
    shutil.rmtree(lab.run("wide", 0, "recipe.epochs=2").dir)
    assert unconfirmed(committed, lab) == {}
    assert {"seeds[0].older", "seeds[0].provenance.imported"} <= underivable(committed, lab)
    change(committed, lie(note))
    assert unconfirmed(committed, lab) == {"notes": Verdict.differs}


def test_a_row_may_have_another_name_than_the_launch_of_its_runs(lab: Lab) -> None:
    """The spec of a run names the row that it was first launched as."""
    for name in ("deep", "wide", "deep_featscale"):
        spec = lab.finish_honestly(lab.run(name), 90.0).dir / "spec.yaml"
    before = lab.table_path.read_text()
    lab.table_path.write_text(
        before.replace("experiment: deep_featscale, ", "experiment: deep_featscale, name: feat1, ")
    )
    tables.write_table(lab.collect(), lab.results / "mini")
    committed = lab.results / "mini" / "small.json"
    assert "1 + 2t (feat1)." in " ".join(json.loads(committed.read_text())["notes"])
    assert "feat1" not in spec.read_text()
    assert unconfirmed(committed, lab) == {}


@pytest.mark.parametrize("beginning", ["Imported", "Not counted"])
def test_a_note_about_other_runs_that_was_deleted_is_found(
    lab: Lab, committed: Path, beginning: str
) -> None:
    lab.finish_honestly(lab.run("wide", 0, "recipe.epochs=2"), 80.0)
    files.write_json(
        directory(lab, "deep") / "imported.json", {"bundle": "all.tar", "sha256": "f" * 64}
    )
    tables.write_table(lab.collect(*SEEDS), committed.parent)

    def delete(table: Any) -> None:
        table["notes"] = [note for note in table["notes"] if not note.startswith(beginning)]

    change(committed, delete)
    assert unconfirmed(committed, lab) == {"notes": Verdict.differs}


def test_a_run_that_is_listed_twice_is_no_second_seed(committed: Path, lab: Lab) -> None:
    change(committed, lambda table: table["rows"][2]["seeds"].append(table["rows"][2]["seeds"][0]))
    assert unconfirmed(committed, lab)["seeds[2].id"] is Verdict.differs


def test_runs_of_another_row_are_found(committed: Path, lab: Lab) -> None:
    """The better row's numbers, spec and runs, under the label of the other."""

    def exchange(table: Any) -> None:
        kept = {"group", "label", "experiment", "baseline", "paper"}
        good, bad = table["rows"][2], table["rows"][0]
        bad.update({key: value for key, value in good.items() if key not in kept})
        table["rows"].remove(good)

    change(committed, exchange)
    assert unconfirmed(committed, lab)["seeds[0].experiment"] is Verdict.differs


def test_every_column_is_derived_or_is_said_not_to_be(committed: Path, lab: Lab) -> None:
    found = checks(committed, lab)
    for column in columns_of(()):
        keys = {check.key for check in found}
        assert any(key == column.key or key.startswith(f"{column.key}.") for key in keys), column


def test_values_that_are_not_derivable_are_named_and_counted(
    committed: Path, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    # the start records of the runs lack versions
    versions = {f"seeds[{i}].provenance.{key}" for i in SEEDS for key in VERSIONS}
    assert underivable(committed, lab) == {"seeds[0].older", "seeds[1].older"} | versions
    change(directory(lab, "wide") / "result.json", lambda result: result.update(luck=7))
    lab.table_path.unlink()
    assert cli.main(["verify", str(committed)]) == 0
    out = capsys.readouterr().out
    assert "(the spec of the table is not here): experiment, group, label, paper, baseline" in out
    assert "not derivable (no other file of the run has it): luck" in out


def test_steps_and_times_that_cannot_be_are_found(committed: Path, lab: Lab) -> None:
    path = directory(lab, "wide") / "metrics.jsonl"
    journal.append(path, {"time": NOON + 30, "attempt": 1, "step": 33, "epoch": 4, TRAIN_LOSS: 1.0})
    assert unconfirmed(committed, lab) == {"seed 0: journals": Verdict.differs}


def test_a_journal_that_is_gone_confirms_nothing(committed: Path, lab: Lab) -> None:
    (directory(lab, "wide") / "metrics.jsonl").unlink()
    found = unconfirmed(committed, lab)
    assert found["seed 0: result.json"] is Verdict.differs
    assert found["top1.mean"] is Verdict.differs


def test_checkpoints_are_held_against_their_checksums(committed: Path, lab: Lab) -> None:
    (weights,) = (directory(lab, "wide") / "checkpoints").glob("*.pt")
    weights.write_bytes(b"others")
    key = f"seed 0: checkpoints/{weights.name}"
    assert unconfirmed(committed, lab) == {key: Verdict.differs}
    weights.unlink()
    assert unconfirmed(committed, lab) == {key: Verdict.gone}
    assert unconfirmed(committed, lab, checkpoints=False) == {}
    assert cli.main(["verify", str(committed)]) == INCOMPLETE
    assert cli.main(["verify", str(committed), "--without-checkpoints"]) == 0


def test_a_table_that_is_not_complete_can_be_confirmed(lab: Lab) -> None:
    lab.fill_honestly()
    tables.write_table(lab.collect(0, 1, 2), lab.results / "mini")
    assert unconfirmed(lab.results / "mini" / "small.json", lab) == {}
    path = lab.results / "mini" / "small.json"
    honest = path.read_text()
    for key, lie in {"complete": True, "comparable": True, "profile": "imagenet"}.items():
        change(path, lambda table, key=key, lie=lie: table.update({key: lie}))
        assert unconfirmed(path, lab) == {key: Verdict.differs}
        path.write_text(honest)
    # the table is behind its runs
    lab.finish_honestly(lab.run("wide", 2), 95.0)
    found = unconfirmed(lab.results / "mini" / "small.json", lab)
    assert found["top1.mean"] is found["state"] is Verdict.differs


def test_the_difference_to_the_papers_value_is_confirmed_too(lab: Lab) -> None:
    lab.finish_honestly(lab.run("deep", 0, *LIKE_THE_PAPER), 80.05)
    tables.write_table(lab.collect(overrides=LIKE_THE_PAPER), lab.results)
    found = checks(lab.results / "small.json", lab)
    assert next(check for check in found if check.key == "difference").derived == pytest.approx(
        0.25, abs=1e-12
    )
    assert unconfirmed(lab.results / "small.json", lab) == {}


def test_a_committed_table_of_before_a_new_field_is_not_blamed_for_it(
    committed: Path, lab: Lab
) -> None:
    change(committed, lambda document: [row.pop("gmacs") for row in document["rows"]])
    assert unconfirmed(committed, lab) == {}


DELETED = {
    "seeds[0].provenance.uncommitted_changes",
    "seeds[0].provenance.packages.torch",
    "seeds[0].provenance",
    "seeds[0].older",
    "seeds[0].result.attempts",
    "seeds[0].result.seconds",
    "seeds[0].result.metrics.val/loss",
    "seeds[0].result.start",
    "spec",
    "spec.recipe.epochs",
    "device_hours",
}
"""Values of a row, each of which a table could leave out."""


@pytest.mark.parametrize("key", sorted(DELETED))
def test_a_value_that_was_deleted_from_a_table_is_found(
    committed: Path, lab: Lab, key: str
) -> None:
    def delete(table: Any) -> None:
        part = table["rows"][2]
        *path, last = key.replace("seeds[0]", "seeds.0").split(".")
        for name in path:
            part = part[int(name) if isinstance(part, list) else name]
        del part[last]

    change(committed, delete)
    assert unconfirmed(committed, lab) == {key: Verdict.differs}


def test_what_a_table_of_before_lacks_is_named(committed: Path, lab: Lab) -> None:
    def make_older(table: Any) -> None:
        del table["format"]
        table["caption"] = ["Gain: over this table's own baseline."]
        for row in table["rows"]:
            del row["spec"], row["gmacs"]
            if row["gain"]:
                row["gain"] = {"mean": row["gain"]["mean"], "spread": 0.7, "beyond_spread": True}

    before = underivable(committed, lab)
    change(committed, make_older)
    assert unconfirmed(committed, lab) == {}
    lacked = {f"gain.{key}" for key in ("interval", "n", "seeds", "pairs")}
    older = {"format", "caption", "spec", "gmacs", "gain.spread", "gain.beyond_spread"}
    assert underivable(committed, lab) - before == older | lacked


def test_data_without_an_evaluation_is_refused(
    committed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", str(committed), "--data", str(tmp_path)]) == USER_ERROR
    assert "add --evaluate" in capsys.readouterr().err


def test_files_that_were_edited_by_hand_are_named_and_can_be_rendered_again(
    committed: Path, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = lab.root / "README.md"
    readme.write_text("<!-- small:begin -->\n<!-- small:end -->\n")
    assert cli.main(["render", "small", "--readme"]) == 0
    assert cli.main(["verify", str(committed)]) == 0
    assert "small.html, README.md" in capsys.readouterr().out
    before = committed.with_suffix(".md").read_text()
    committed.with_suffix(".md").write_text(before.replace("91.8", "99.9"))
    readme.write_text(readme.read_text().replace("91.8", "99.9"))
    assert cli.main(["verify", str(committed)]) == FAILED
    assert "NOT what this JSON renders to: small.md, README.md" in capsys.readouterr().out
    assert cli.main(["render", str(committed), "--readme"]) == 0
    assert committed.with_suffix(".md").read_text() == before
    assert cli.main(["verify", str(committed)]) == 0


def test_the_readme_of_another_profile_is_not_this_tables(committed: Path, lab: Lab) -> None:
    other = "<!-- small:begin imagenet 4 -->\nanother table\n<!-- small:end -->\n"
    (lab.root / "README.md").write_text(other)
    assert cli.main(["verify", str(committed)]) == 0


def test_as_json_every_value_has_its_verdict(
    committed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["verify", str(committed), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    counts = told["counts"]
    assert (counts["differs"], counts["gone"], counts["foreign"]) == (0, 0, 0)
    total = sum(len(row["checks"]) for row in told["rows"])
    assert counts["confirmed"] + counts["not derivable"] == total
    assert [row["label"] for row in told["rows"]][-2:] == ["ResNet-152", "the table"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"rows": [1]}', '{"rows": [{"group": 1}]}', "[" * 9000]
)
def test_a_file_that_is_not_a_table_is_one_message(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UserError, match=r"table\.json"):
        tables.load_committed(tmp_path / "table.json")
    assert cli.main(["verify", str(tmp_path / "table.json")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_table_that_was_never_written_is_one_message(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    assert cli.main(["verify", "small"]) == 2


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.just([]),
    st.just({}),
    st.just(["x"]),
)


def exchanged(value: Any, data: st.DataObject) -> Any:
    """The value with one of its parts, at any depth, replaced or removed."""
    if not isinstance(value, dict | list) or not value or data.draw(st.integers(0, 5)) == 0:
        return data.draw(LEAVES)
    key = data.draw(
        st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value)))
    )
    part = exchanged(value[key], data)
    return (
        {**value, key: part} if isinstance(value, dict) else [*value[:key], part, *value[key + 1 :]]
    )


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_content_of_a_table_is_verified_or_refused(
    committed: Path, lab: Lab, data: st.DataObject
) -> None:
    path = committed.with_name("fuzzed.json")
    path.write_text(json.dumps(exchanged(json.loads(committed.read_text()), data)))
    with suppress(UserError):
        reports = verify.verify(
            tables.load_committed(path), path.parent, lab.table(), checkpoints=False
        )
        json.dumps(report.as_json({}, reports, {}))
        list(report.lines(reports, {}))


def test_a_sample_of_the_machine_while_the_result_is_written_contradicts_nothing(
    committed: Path, lab: Lab
) -> None:
    """A thread takes it, so it is no sign that the attempt went on to work."""
    run = lab.run("wide", 0)
    finished = json.loads((run.dir / "result.json").read_text())["finished"]
    lines = run.attempts_path.read_text().splitlines()
    end = {**json.loads(lines[-1]), "time": finished + 0.9}
    run.attempts_path.write_text("\n".join([*lines[:-1], json.dumps(end)]) + "\n")
    sample = {"time": finished + 0.4, "attempt": end["attempt"], "step": 32}
    journal.append(run.metrics_path, {**sample, "system/cpu_utilization_percentage": 99.0})
    assert unconfirmed(committed, lab) == {}
    journal.append(run.metrics_path, sample)
    assert set(unconfirmed(committed, lab)) >= {"seed 0: device_hours", "seed 0: seconds"}
