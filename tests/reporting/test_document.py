from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from fabricated import LIKE_THE_PAPER, NOON, Lab

from antioversmooth import files
from antioversmooth.datasets.current import CurrentData
from antioversmooth.errors import SpecError
from antioversmooth.reporting.rendering import page
from antioversmooth.reporting.table import captions, document
from antioversmooth.reporting.table.aggregate import RowResult
from antioversmooth.runs import agreement, journal
from antioversmooth.runs.metrics import VAL_IMAGES, VAL_TOP1
from antioversmooth.runs.result import outcome


def text(made: document.Document) -> str:
    return " ".join([made["title"], *made["caption"], *made["notes"]])


def test_other_data_than_the_papers_cannot_be_mistaken_for_it(lab: Lab) -> None:
    lab.finish(lab.run("deep"), 90.0)
    made = lab.collect()
    assert made["title"].endswith("on Digits (mini profile)")
    assert "800 training and 1,000 validation images" in text(made)
    assert (
        "One seed on 1,000 images (±0.9 points, binomial standard error) demonstrates the pipeline"
        in text(made)
    )
    assert all(row["difference"] is None for row in made["rows"])


def test_values_of_the_paper_are_explained_where_there_are_some(lab: Lab) -> None:
    setting = captions.Setting("study", "Digits", 10, 800, 1000)
    rows = [RowResult(row, ()) for row in lab.table().rows]
    assert "for orientation only" in " ".join(captions.caption(lab.table(), setting, rows, [0]))
    none = [replace(row, row=replace(row.row, paper=None)) for row in rows]
    assert "orientation" not in " ".join(captions.caption(lab.table(), setting, none, [0]))


def test_full_size_models_on_other_data_are_no_demonstration(lab: Lab) -> None:
    setting = captions.Setting("imagenet", "birds", 3, 240, 60)
    rows = [RowResult(replace(row, paper=None), ()) for row in lab.table().rows]
    for seeds, said in (([0], "Measured with one seed on 60"), ([0, 1], "with 2 seeds on 60")):
        found = " ".join(captions.caption(lab.table(), setting, rows, seeds))
        assert said in found
        assert "paper's gain" not in found


def test_a_part_of_a_data_set_is_stated_once(lab: Lab) -> None:
    part = "80 of 800 training images, stratified by class"
    for name in ("deep", "wide"):
        lab.finish(lab.run(name), 90.0, data={"fingerprint": "c0ffee", "subset": part})
    assert lab.collect()["notes"].count(f"Data: {part}.") == 1


def test_on_the_papers_data_the_difference_is_computed(lab: Lab) -> None:
    lab.finish(lab.run("deep", 0, *LIKE_THE_PAPER), 80.05)
    made = lab.collect(overrides=LIKE_THE_PAPER)
    assert made["title"] == lab.table().title
    assert made["rows"][0]["difference"] == pytest.approx(0.25, abs=1e-12)
    assert "demonstrates" not in text(made)


@pytest.mark.parametrize("change", ["data.num_val=100", "profile=mini", "data.name=ImageNet-100"])
def test_one_departure_is_enough_to_lose_the_comparison(lab: Lab, change: str) -> None:
    key = change.partition("=")[0]
    overrides = [change, *(override for override in LIKE_THE_PAPER if not override.startswith(key))]
    lab.finish(lab.run("deep", 0, *overrides), 80.0)
    row = lab.collect(overrides=overrides)["rows"][0]
    assert (row["state"], row["difference"]) == ("done (n=1)", None)


def test_standard_error_is_the_binomial_one() -> None:
    assert captions.standard_error([80.0, 100.0], 1000) == pytest.approx(
        100 * math.sqrt(0.9 * 0.1 / 1000), abs=1e-12
    )
    assert captions.standard_error([], 1000) is None


def test_a_table_counts_the_images_that_could_be_read(lab: Lab) -> None:
    run = lab.run("deep")
    epochs, steps = run.experiment.recipe.epochs, run.experiment.total_steps
    lab.start_best(run, 90.0)
    lab.finish(run, 90.0)
    last = {"time": NOON, "attempt": 1, "step": steps, "epoch": epochs}
    journal.append(run.metrics_path, {**last, VAL_TOP1: 90.0, VAL_IMAGES: 400})
    lab.finish(lab.run("wide"), 90.0)
    result = files.read_json(run.dir / "result.json")
    scores = outcome(run.metrics(), run.experiment)
    assert scores["metrics"] == {VAL_TOP1: 90.0, VAL_IMAGES: 400}
    files.write_json(run.dir / "result.json", {**result, **scores})
    made = lab.collect()
    assert "One seed on 400 images (±1.5 points" in text(made)
    note = f"Validation images that cannot be read are not counted (400 of 1,000: {run.name})."
    assert note in made["notes"]


@pytest.mark.parametrize(("top1", "possible"), [(90.25, True), (90.1, False)])
def test_an_accuracy_is_one_of_the_images_that_were_counted(
    lab: Lab, top1: float, possible: bool
) -> None:
    run = lab.run("deep")
    lab.finish(run, 90.0)
    record = {**run.metrics()[-1], VAL_TOP1: top1, VAL_IMAGES: 400}
    problems = agreement.journal_problems(run.experiment, run.attempts(), [record])
    assert (list(problems) == []) is possible


def test_an_incomplete_table_says_so_first(lab: Lab) -> None:
    lab.fill()
    assert lab.collect(0, 1)["caption"][0] == "INCOMPLETE: 2 of 3 rows are done."
    assert not lab.collect(0, 1)["complete"]
    lab.finish(lab.run("wide"), 93.0)
    assert lab.collect()["complete"]
    assert "INCOMPLETE" not in text(lab.collect())


def test_rows_from_different_code_are_noted(lab: Lab) -> None:
    lab.finish(lab.run("deep"), 90.0)
    assert "snapshot" not in text(lab.collect())
    other = lab.run("wide")
    lab.start(other, epochs=4, snapshot="777777777777")
    lab.finish(other, 91.0)
    assert (
        "different snapshots of the code (5a5a5a5a5a5a: deep seed 0; 777777777777: wide seed 0)"
        in text(lab.collect())
    )


def test_rows_that_were_measured_on_different_data_are_noted(lab: Lab) -> None:
    for name, fingerprint, classes in (("deep", "c0ffee", "aa"), ("wide", "decaf", "bb")):
        lab.finish(lab.run(name), 90.0, data={"fingerprint": fingerprint, "classes": classes})
    notes = text(lab.collect())
    assert "data with different images (fingerprint c0ffee: deep seed 0; decaf: wide" in notes
    assert "data with different classes (classes aa: deep seed 0; bb: wide seed 0)" in notes


def test_rows_that_were_measured_on_other_images_of_the_same_names_are_noted(lab: Lab) -> None:
    """Also within a row, where the data is away, and where the runs came in a bundle."""
    for name, seed, sample in (("deep", 0, "aa"), ("deep", 1, "bb"), ("wide", 0, "aa")):
        data = {"fingerprint": "c0ffee", "sample": sample}
        run = lab.finish(lab.run(name, seed), 90.0, data=data)
        files.write_json(run.dir / "imported.json", {"bundle": "sent.tar", "files": {}})
    same = "data with different images of the same names (sample aa: deep seed 0, wide seed 0; bb:"
    assert f"{same} deep seed 1)." in text(lab.collect(0, 1))
    assert "same names" not in text(lab.collect(0))


def test_the_sample_of_images_of_other_names_says_nothing_new(lab: Lab) -> None:
    for name, sums in (
        ("deep", ("c0ffee", "aa")),
        ("wide", ("decaf", "bb")),
        ("deep_featscale", ("decaf", "")),
    ):
        lab.finish(
            lab.run(name), 90.0, data=dict(zip(("fingerprint", "sample"), sums, strict=True))
        )
    assert "different images (fingerprint" in text(lab.collect())
    assert "same names" not in text(lab.collect())


def test_rows_that_were_measured_on_other_images_than_now_are_noted(lab: Lab) -> None:
    lab.finish(lab.run("deep"), 90.0)
    assert "other images" not in text(lab.collect())
    lab.finish(lab.run("wide"), 91.0, data={"fingerprint": "c0ffee"})
    assert "Measured on other images than are there now: wide seed 0." in text(lab.collect())
    files.write_json(lab.run("wide").dir / "imported.json", {"bundle": "sent.tar", "files": {}})
    assert "other images" not in text(lab.collect())


def test_rows_whose_images_cannot_be_read_are_not_said_to_be_measured_on_others(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.finish(lab.run("deep"), 90.0)
    problem = {"problem": "data.root: there is no folder /images/val"}
    monkeypatch.setattr(CurrentData, "facts", lambda *_: problem)
    assert "other images" not in text(lab.collect())


def test_attempts_of_other_versions_are_noted_within_a_row_and_between_rows(lab: Lab) -> None:
    recorded = {"packages": {"torch": "2.14.1", "timm": "1.0.31"}, "python": "3.11.7"}
    for name in ("deep", "deep_featscale"):
        lab.start(lab.run(name), epochs=4, **recorded)
    assert "different versions" not in text(lab.collect())
    newer = {"packages": {"torch": "2.15.0", "timm": "1.0.31"}, "python": "3.11.7"}
    lab.start(lab.run("deep"), epochs=4, attempt=2, step=8, **newer)
    notes = text(lab.collect())
    assert (
        "different versions of torch (2.14.1: deep seed 0, deep_featscale seed 0;"
        " 2.15.0: deep seed 0)" in notes
    )
    assert "versions of timm" not in notes
    packages = lab.collect()["rows"][0]["seeds"][0]["provenance"]["packages"]
    assert packages == {"torch": "2.14.1, 2.15.0", "timm": "1.0.31"}
    lab.start(lab.run("wide"), epochs=4, **recorded | {"python": "3.13.1", "cuda": "13.0"})
    notes = text(lab.collect())
    assert (
        "different versions of Python (3.11.7: deep seed 0, deep_featscale seed 0;"
        " 3.13.1: wide seed 0)" in notes
    )
    assert "versions of CUDA" not in notes


def test_versions_that_older_code_did_not_record_are_noted_as_that(lab: Lab) -> None:
    run = lab.run("deep")
    lab.start(run, epochs=2)
    assert "versions" not in text(lab.collect())
    lab.start(run, epochs=4, attempt=2, step=16)
    note = "Versions of packages of earlier attempts are not recorded (deep seed 0)."
    assert note in lab.collect()["notes"]
    assert "different versions" not in text(lab.collect())


def test_every_device_of_a_run_is_in_its_cell_and_their_number_in_a_note(lab: Lab) -> None:
    run = lab.run("wide")
    lab.start(run, epochs=2, device="A100", world_size=4)
    lab.start(run, epochs=3, attempt=2, step=16, device="H100", world_size=2)
    lab.finish(run, 91.0, device="H100", world_size=2, device_hours=0.05)
    row = lab.collect()["rows"][2]
    assert (row["device"], row["images_per_s"]) == ("A100, H100", None)
    assert "different numbers of devices (4: wide seed 0; 2: wide seed 0)" in text(lab.collect())


def test_stale_and_broken_runs_are_noted(lab: Lab) -> None:
    lab.finish(lab.run("wide", 0, "recipe.base_lr=0.5"), 90.0)
    (lab.finish(lab.run("deep"), 90.0).dir / "result.json").write_text("{")
    assert "another identity (another spec, data or revision) of wide seed 0" in text(lab.collect())
    assert "deep seed 0: result.json is not JSON" in text(lab.collect())


def test_the_form_of_featscale_is_stated(lab: Lab) -> None:
    assert "1 + 2s and 1 + 2t" in text(lab.collect())
    assert "1 + s and 1 + t" in text(lab.collect(overrides=["model.scaling_variant=paper"]))


def test_every_seed_is_in_the_document_with_its_provenance(lab: Lab) -> None:
    lab.fill()
    seeds = lab.collect(0, 1)["rows"][0]["seeds"]
    assert [seed["result"]["metrics"]["val/top1"] for seed in seeds] == [90.1, 90.6]
    assert seeds[0]["id"] == lab.run("deep").id
    assert seeds[0]["provenance"]["snapshots"] == ["5a5a5a5a5a5a"]


def test_the_document_survives_its_file(lab: Lab) -> None:
    lab.fill()
    made = lab.collect(0, 1)
    lines = document.dumps(made)
    assert json.loads(lines) == made
    assert '"epoch": [1, 2, 3, 4]' in lines


def test_a_long_curve_is_thinned_and_keeps_its_end(lab: Lab) -> None:
    run = lab.run("wide", 0, "recipe.epochs=250")
    lab.start(run, epochs=250)
    curve = lab.collect(overrides=["recipe.epochs=250"])["rows"][2]["seeds"][0]["curve"]
    assert len(curve["epoch"]) <= document.CURVE_POINTS
    assert curve["epoch"][-1] == 250


def test_rows_of_the_same_science_share_the_run_that_was_planned_for_both(lab: Lab) -> None:
    lab.add_row("deep", width=16)
    lab.finish(lab.run("deep"), 93.0)
    deep, _, wide, _ = lab.collect()["rows"]
    assert deep["state"] == wide["state"] == "done (n=1)"
    assert deep["top1"] == wide["top1"] == {"mean": 93.0, "std": None, "n": 1}


def test_a_published_value_is_shown_with_its_setting_and_length(lab: Lab) -> None:
    made = lab.collect()
    assert made["sources"] == ["A & B", "from memory (300 epochs; dropout 0.2 & no EMA)"]
    assert made["rows"][2]["paper"]["epochs"] == 300
    assert "epochs" not in made["rows"][0]["paper"]


def test_published_values_of_different_lengths_stand_side_by_side_only_with_a_note(
    lab: Lab,
) -> None:
    (note,) = [note for note in lab.collect()["notes"] if "different lengths" in note]
    assert note.endswith("300 epochs [2]; a length that is not known [1].")
    spec = lab.table_path.read_text()
    lab.table_path.write_text(spec.replace("confidence: Q", "confidence: Q, epochs: 500"))
    (note,) = [note for note in lab.collect()["notes"] if "different lengths" in note]
    assert note.endswith("300 epochs [2]; 500 epochs [1].")
    lab.table_path.write_text(spec.replace("confidence: Q", "confidence: Q, epochs: 300"))
    assert "different lengths" not in text(lab.collect())


def test_a_table_names_the_tables_that_its_page_links_to(lab: Lab) -> None:
    assert "related" not in lab.collect()
    lab.table_path.with_name("other.yaml").write_text(lab.table_path.read_text())
    lab.table_path.write_text(f"related: [other]\n{lab.table_path.read_text()}")
    made = lab.collect()
    assert made["related"] == ["other"]
    assert '<p>Other tables: <a href="./other.html">other</a>.</p>' in page.render(made)
    lab.table_path.write_text(lab.table_path.read_text().replace("[other]", "[ohter]"))
    with pytest.raises(SpecError, match=r"related\[0\]: there is no table .* `other`"):
        lab.table()
