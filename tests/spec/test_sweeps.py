"""Overrides with several values: the table of all combinations, its names and its runs."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
import yaml

from antioversmooth import spec
from antioversmooth.errors import SpecError
from antioversmooth.runs import Run, identity_fields
from antioversmooth.spec import naming
from antioversmooth.spec.request import Request, load
from antioversmooth.spec.save import table_file

MINI = "profile=mini"


def swept(experiments: Path, words: str) -> Request:
    specs = [word for word in words.split() if "=" not in word]
    overrides = [word for word in words.split() if "=" in word]
    folders = {path.stem: path for path in experiments.glob("*.yaml")}
    tables = {path.stem: path for path in experiments.glob("tables/*.yaml")}
    return load([{**folders, **tables}[name] for name in specs], [MINI, *overrides])


def plan(request: Request, seeds: list[int] | None = None) -> list[Run]:
    return request.plan(seeds or [0], Path("/results"))


@pytest.mark.parametrize(
    ("row", "sweep", "combinations"),
    [
        ("deit_s12", "recipe.base_lr=5e-4,1e-3", ["recipe.base_lr=5e-4", "recipe.base_lr=1e-3"]),
        (
            "deit_s12_featscale",
            "recipe.base_lr=5e-4,1e-3 model.scaling_variant=released,paper",
            [
                "recipe.base_lr=0.0005 model.scaling_variant=released",
                "recipe.base_lr=0.0005 model.scaling_variant=paper",
                "recipe.base_lr=0.001 model.scaling_variant=released",
                "recipe.base_lr=0.001 model.scaling_variant=paper",
            ],
        ),
        (
            "deit_s12",
            "recipe.betas=[0.9,0.99],[0.9,0.95]",
            ["recipe.betas=[0.9,0.99]", "recipe.betas=[0.9,0.95]"],
        ),
        ("swin_s", "recipe.epochs=range(2,4)", ["recipe.epochs=2", "recipe.epochs=3"]),
        ("cait_s24", "recipe.clip_grad=null,2", ["recipe.clip_grad=null", "recipe.clip_grad=2"]),
        ("deit_s12", "revision=choice(1,3)", ["revision=1", "revision=3"]),
        (
            "deit_s12",
            "model=mini/deit_s12,mini/deit_s24",
            ["model=mini/deit_s12", "model=mini/deit_s24"],
        ),
        (
            "deit_s12",
            "recipe.init_from=null,run:deit_s24",
            ["recipe.init_from=null", "recipe.init_from=run:deit_s24"],
        ),
    ],
)
def test_a_combination_is_the_run_of_its_overrides_alone(
    row: str, sweep: str, combinations: list[str], experiments: Path
) -> None:
    runs = plan(swept(experiments, f"{row} {sweep}"))
    found = [run for run in runs if run.dir.parent.name == row]
    alone = [plan(swept(experiments, f"{row} {words}"))[-1] for words in combinations]
    assert [(run.id, run.dir) for run in found] == [(run.id, run.dir) for run in alone]
    assert len({run.name for run in found}) == len(combinations)


def test_rows_are_named_after_what_differs_whatever_the_order_of_words(experiments: Path) -> None:
    words = ["recipe.base_lr=5e-4,1e-3", "model.scaling_variant=released,paper"]
    one, other = (
        swept(experiments, " ".join(["deit_s12_featscale", *order]))
        for order in (words, reversed(words))
    )
    assert [experiment.row_name for experiment in one.experiments] == [
        "deit_s12_featscale-base_lr_0.0005-scaling_variant_released",
        "deit_s12_featscale-base_lr_0.0005-scaling_variant_paper",
        "deit_s12_featscale-base_lr_0.001-scaling_variant_released",
        "deit_s12_featscale-base_lr_0.001-scaling_variant_paper",
    ]
    (table,) = one.tables
    assert table.name == ("deit_s12_featscale-base_lr_0.0005_0.001-scaling_variant_paper_released")
    assert [row.label for row in table.rows][:2] == [
        "base lr 0.0005, scaling variant released",
        "base lr 0.0005, scaling variant paper",
    ]
    assert other.experiments == one.experiments
    assert other.tables == one.tables


def test_a_value_is_named_as_the_run_has_it(experiments: Path) -> None:
    request = swept(experiments, "deit_s12 recipe.base_lr=1.0e-3,.5e-4 recipe.min_lr=0")
    assert [experiment.row for experiment in request.experiments] == [
        "deit_s12-base_lr_0.001",
        "deit_s12-base_lr_5e-05",
    ]


@pytest.mark.parametrize(
    "texts",
    [["a/b", "a_b"], ["", "null"], ["x" * 300, "x" * 301], ["../..", "..", "a b"], ["-1", "1"]],
)
def test_different_values_have_different_names_that_are_safe(texts: list[str]) -> None:
    found = naming.slugs(texts)
    assert len(set(found.values())) == len(texts)
    safe = set(string.ascii_letters + string.digits + "_.-")
    for slug in found.values():
        assert slug
        assert set(slug) <= safe
        assert len(slug) <= 40
        assert slug.strip(".")
    assert len(naming.join(["row", *[*found.values()] * 5])) <= 90


def test_combinations_without_an_effect_are_one_row_and_counted(experiments: Path) -> None:
    words = "deit_s12 deit_s12_featscale model.scaling_variant=released,paper"
    request = swept(experiments, words)
    assert [experiment.row_name for experiment in request.experiments] == [
        "deit_s12",
        "deit_s12_featscale-scaling_variant_released",
        "deit_s12_featscale-scaling_variant_paper",
    ]
    (note,) = request.notes
    assert note.startswith("deit_s12: 1 of 2 combinations compute the same as others")
    assert note.endswith("model.scaling_variant without effect")
    partly = swept(
        experiments, "deit_s12 model.method=none,featscale model.scaling_variant=released,paper"
    )
    assert [experiment.row for experiment in partly.experiments] == [
        "deit_s12-method_none-scaling_variant_released",
        "deit_s12-method_featscale-scaling_variant_released",
        "deit_s12-method_featscale-scaling_variant_paper",
    ]


@pytest.mark.parametrize(
    ("words", "note"),
    [
        ("deit_s12_gfsa model.class_token_in_mean=false", "class_token_in_mean=false"),
        ("deit_s12_contranorm model.scaling_variant=paper", "scaling_variant=paper"),
        ("deit_s12 recipe.distillation_tau=3", "distillation_tau=3.0"),
        ("deit_s12 recipe.mix_prob=0 recipe.mixup=0.3", "recipe.mixup=0.3"),
        (
            "eval_released_deit_s12 data.source=image_folder data.cache_root=/none data.cache=32",
            "data.cache=32",
        ),
        ("deit_s12 recipe.policy=fast", "recipe.policy=fast"),
        (
            "deit_s12_patchdiversity model.method_options.mixing=0"
            " model.method_options.own_head=false",
            "own_head=false",
        ),
    ],
)
def test_a_setting_without_an_effect_is_noted(words: str, note: str, experiments: Path) -> None:
    (found,) = swept(experiments, words).notes
    assert found.startswith(f"{words.split()[0]}: ")
    assert found.endswith(f"{note} without effect")


@pytest.mark.parametrize(
    "words",
    [
        "deit_s12_gfsa model.class_token_in_mean=true",
        "deit_s12_attnscale model.class_token_in_mean=false",
        "deit_s12 recipe.mixup=0 recipe.cutmix=0",
        "deit_s12 model.method=none,attnscale model.class_token_in_mean=false",
        "table2 sota released smoke",
    ],
)
def test_a_setting_that_acts_somewhere_is_not_noted(words: str, experiments: Path) -> None:
    assert not [note for note in swept(experiments, words).notes if "without effect" in note]


def test_a_spec_that_says_what_has_no_effect_is_noted(copy: Path) -> None:
    path = copy / "deit_s12_gfsa.yaml"
    path.write_text(f"{path.read_text()}model:\n  class_token_in_mean: false\n")
    (note,) = load([path], [MINI]).notes
    assert note == "deit_s12_gfsa: model.class_token_in_mean=false without effect"


@pytest.mark.parametrize(
    "words",
    [
        "deit_s12_lateinsertion model.method_options.at=-2,10",
        "deit_s12_patchdiversity model.method_options.mixing=0"
        " model.method_options.own_head=true,false",
        "deit_s12_contranorm model.method_options.scale=0 model.method_options.temperature=1,2",
    ],
)
def test_options_that_compute_the_same_are_one_row(words: str, experiments: Path) -> None:
    assert len(swept(experiments, words).experiments) == 1


@pytest.mark.parametrize("before", ["", "cait_s24 "])
def test_a_row_starts_from_the_run_that_its_overrides_alone_would_start_from(
    before: str, experiments: Path
) -> None:
    rows = f"{before}cait_s24_attnscale"
    found = plan(swept(experiments, f"{rows} recipe.base_lr=1e-3,2e-3"))
    tuned = {run.id: run.upstream.id for run in found if run.upstream}
    alone = [plan(swept(experiments, f"{rows} recipe.base_lr={lr}")) for lr in ("1e-3", "2e-3")]
    expected = {run.id: run.upstream.id for runs in alone for run in runs if run.upstream}
    assert tuned == expected
    assert len({*tuned.values()}) == (2 if before else 1)


def test_an_axis_without_an_effect_on_a_row_has_one_on_the_row_that_starts_from_it(
    experiments: Path,
) -> None:
    words = "model.scaling_variant=released,paper recipe.base_lr=1e-3,2e-3"
    found = plan(swept(experiments, f"cait_s24 cait_s24_attnscale {words}"))
    assert len(found) == 4
    for run in found:
        if run.upstream:
            assert run.upstream.experiment.recipe.base_lr == run.experiment.recipe.base_lr


def test_a_table_is_swept_row_by_row(experiments: Path) -> None:
    request = swept(experiments, "table2 recipe.base_lr=1e-3,2e-3")
    (table,) = request.tables
    original = spec.load_table(experiments / "tables" / "table2.yaml")
    assert len(table.rows) == 2 * len(original.rows)
    gains = {row.name: row.baseline for row in table.rows}
    assert gains["deit_s12_attnscale-base_lr_0.002"] == "deit_s12-base_lr_0.002"
    assert table.rows[2].label == "DeiT-S + AttnScale, base lr 0.001"
    assert table.rows[2].paper == original.rows[1].paper


def test_seeds_multiply_the_rows_of_a_sweep(experiments: Path) -> None:
    request = swept(experiments, "deit_s12 recipe.base_lr=1e-3,2e-3")
    assert [run.name for run in plan(request, [0, 2])] == [
        "deit_s12-base_lr_0.001 seed 0",
        "deit_s12-base_lr_0.001 seed 2",
        "deit_s12-base_lr_0.002 seed 0",
        "deit_s12-base_lr_0.002 seed 2",
    ]


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("cluster.partition=gpu,gpu-long", "partition", "gpu,gpu-long"),
        ("cluster.constraint=a100,h100", "constraint", "a100,h100"),
        ("cluster.exclude=node1,node2", "exclude", ["node1", "node2"]),
        ("cluster.partition='gpu,gpu-long'", "partition", "gpu,gpu-long"),
    ],
)
def test_a_comma_in_a_text_about_the_cluster_is_no_sweep(
    override: str, key: str, value: object, experiments: Path
) -> None:
    request = swept(experiments, f"deit_s12 {override}")
    assert not request.is_sweep
    (experiment,) = request.experiments
    assert getattr(experiment.cluster, key) == value


def test_a_quoted_value_with_a_comma_is_one_value(experiments: Path) -> None:
    with pytest.raises(SpecError, match=r"recipe\.base_lr: .*5e-4,1e-3.* is not a number"):
        swept(experiments, "deit_s12 recipe.base_lr='5e-4,1e-3'")


# -- saved -----------------------------------------------------------------------------------------

SWEEPS = [
    "deit_s12_featscale recipe.base_lr=5e-4,1e-3 model.scaling_variant=released,paper",
    "deit_s12 cait_s24 cait_s24_attnscale recipe.epochs=9 recipe.base_lr=1e-3,2e-3",
    "table2 recipe.weight_decay=0.1,0.2 cluster.nodes=2",
    "deit_s12 recipe.init_from=null,run:deit_s24 recipe.betas=[0.9,0.99],[0.9,0.95]",
]


@pytest.mark.parametrize("words", SWEEPS)
def test_a_saved_table_asks_for_the_same_runs_in_the_same_folders(words: str, copy: Path) -> None:
    request = swept(copy, words)
    saved = table_file(request, "mine")
    path, others = saved.path, saved.overrides
    assert not path.exists()
    saved.write()
    assert path == copy / "tables" / "mine.yaml"
    assert others == [word for word in words.split() if word.startswith("cluster")]
    again = load([path], others)
    assert [(run.id, run.dir, run.name) for run in plan(again)] == [
        (run.id, run.dir, run.name) for run in plan(request)
    ]
    assert [(row.row_name, row.baseline) for row in again.tables[0].rows] == [
        (row.row_name, row.baseline) for row in request.tables[0].rows
    ]
    # a second time nothing changes
    text = path.read_text()
    table_file(request, "mine").write()
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("words", "name", "message"),
    [
        ("deit_s12 recipe.base_lr=1e-3", "mine", "saves the table of a sweep"),
        ("deit_s12 table2 recipe.base_lr=1,2", "mine", "saves the table of a sweep"),
        ("deit_s12 recipe.base_lr=1,2", "../mine", "is no name of a table"),
        ("deit_s12 recipe.base_lr=1,2", "deit_s24", r"deit_s24\.yaml has this name"),
        ("deit_s12 recipe.base_lr=1,2", "Deit_s24", r"deit_s24\.yaml has this name"),
        ("deit_s12 recipe.base_lr=1,2", "SMOKE", r"smoke\.yaml has this name"),
        (
            "deit_s12 recipe.base_lr=1,2",
            "smoke",
            "another table of that name, which differs in row",
        ),
    ],
)
def test_a_table_that_cannot_be_saved_is_refused(
    words: str, name: str, message: str, copy: Path
) -> None:
    before = {path: path.read_text() for path in copy.rglob("*.yaml")}
    with pytest.raises(SpecError, match=message):
        table_file(swept(copy, words), name)
    assert {path: path.read_text() for path in copy.rglob("*.yaml")} == before


def test_the_same_rows_in_another_order_are_the_same_table(copy: Path) -> None:
    table_file(swept(copy, "deit_s12 recipe.base_lr=1e-3,2e-3 recipe.epochs=8,9"), "mine").write()
    before = (copy / "tables" / "mine.yaml").read_text()
    table_file(swept(copy, "deit_s12 recipe.epochs=9,8 recipe.base_lr=0.002,1e-3"), "mine").write()
    assert (copy / "tables" / "mine.yaml").read_text() == before
    other = swept(copy, "deit_s12 recipe.base_lr=1e-3,3e-3 recipe.epochs=8,9")
    with pytest.raises(SpecError, match=r"differs in row deit_s12-base_lr_0.003-epochs_8.*another"):
        table_file(other, "mine")


def test_the_command_line_replaces_what_a_row_of_a_table_changes(copy: Path) -> None:
    request = swept(copy, "deit_s12 recipe.epochs=9,10 recipe.base_lr=1e-3,2e-3")
    saved = table_file(request, "mine")
    saved.write()
    path = saved.path
    request = load([path], ["recipe.weight_decay=0.3", "recipe.warmup_epochs=0"])
    assert {e.recipe.weight_decay for e in request.experiments} == {0.3}
    again = load([path], ["recipe.mixup=0.1,0.2"])
    assert len(again.experiments) == 8
    assert again.experiments[0].row_name == "deit_s12-base_lr_0.001-epochs_9-mixup_0.1"
    same = load([path], ["recipe.epochs=9"])
    with pytest.raises(SpecError, match="are the same run"):
        plan(same)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"overrides": ["recipe.base_lr=fast"], "name": "x"},
            "row x: recipe.base_lr: 'fast' is",
        ),
        ({"overrides": ["recipe.base_lr=1,2"], "name": "x"}, "'1,2' is several values, and one"),
        ({"overrides": ["recipe.base_lr=1"]}, "a name, beside overrides"),
        ({"overrides": ["recipe.base_lr=1"], "name": "a/b"}, "name"),
        ({"name": "deit_s12"}, "each name at most once"),
        ({}, "each experiment at most once"),
        (
            {"overrides": ["recipe.base_lr=1"], "name": "x", "baseline": "y"},
            "an experiment of this",
        ),
    ],
)
def test_a_changed_row_of_a_table_is_checked_at_its_place(
    row: dict[str, object], message: str, copy: Path
) -> None:
    plain = {"experiment": "deit_s12", "label": "L"}
    rows = [plain, {**plain, "label": "M", **row}]
    (copy / "tables" / "own.yaml").write_text(yaml.safe_dump({"title": "T", "rows": rows}))
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        load([copy / "tables" / "own.yaml"], [MINI])
    assert "tables/own.yaml" in str(caught.value)


def test_rows_of_one_name_that_differ_are_refused(copy: Path) -> None:
    for name, lr in (("one", "1"), ("two", "2")):
        row = {
            "experiment": "deit_s12",
            "label": "L",
            "name": "x",
            "overrides": [f"recipe.base_lr={lr}"],
        }
        text = yaml.safe_dump({"title": "T", "rows": [row]})
        (copy / "tables" / f"{name}.yaml").write_text(text)
    with pytest.raises(SpecError, match="two different rows have this name"):
        load([copy / "tables" / f"{name}.yaml" for name in ("one", "two")], [MINI])


def test_a_figure_draws_its_rows_in_all_combinations(experiments: Path) -> None:
    path = experiments / "figures" / "similarity_deit_s24.yaml"
    plain, _ = spec.load_figure(path, [MINI])
    figure, request = spec.load_figure(path, [MINI, "recipe.base_lr=1e-3,2e-3"])
    assert figure.name == "similarity_deit_s24-base_lr_0.001_0.002"
    assert len(figure.rows) == 2 * len(plain.rows)
    names = {experiment.row_name for experiment in request.experiments}
    assert {row.experiment for row in figure.rows} == names
    assert figure.rows[0].label == f"{plain.rows[0].label}, base lr 0.001"
    assert {name for panel in figure.panels for name in panel.rows} <= names


def test_a_name_is_no_part_of_an_identity(experiments: Path) -> None:
    request = swept(experiments, "deit_s12 recipe.base_lr=1e-3,2e-3")
    assert "row" not in identity_fields(request.experiments[0])
