from __future__ import annotations

from pathlib import Path

import pytest

from antioversmooth import spec
from antioversmooth.config import DataSource, Family
from antioversmooth.errors import SpecError
from antioversmooth.methods import METHODS

ROOT = Path(__file__).parent.parent / "experiments"
ROWS = sorted(ROOT.glob("*.yaml"))
TABLES = sorted((ROOT / "tables").glob("*.yaml"))


@pytest.mark.parametrize("profile", ["imagenet", "mini"])
@pytest.mark.parametrize("path", ROWS, ids=lambda p: p.stem)
def test_every_shipped_row_composes_in_both_profiles(path: Path, profile: str) -> None:
    experiment = spec.load_experiment(path, [f"profile={profile}"])
    assert experiment.name == path.stem
    assert experiment.profile == profile
    suffix = path.stem.rpartition("_")[2]
    assert experiment.model.method == (suffix if suffix in METHODS else "none")


@pytest.mark.parametrize("path", ROWS, ids=lambda p: p.stem)
def test_mini_leaves_depth_family_and_scaling_alone(path: Path) -> None:
    full, mini = (spec.load_experiment(path, [f"profile={p}"]) for p in ("imagenet", "mini"))
    for key in ("family", "depth", "method", "scaling_variant", "stage_depths", "class_depth"):
        assert getattr(mini.model, key) == getattr(full.model, key), key
    assert mini.model.embed_dim < full.model.embed_dim
    assert mini.data.source is DataSource.mnist5k


@pytest.mark.parametrize("path", ROWS, ids=lambda p: p.stem)
def test_every_row_states_its_expected_number_cost_and_command(path: Path) -> None:
    head = path.read_text().split("defaults:")[0]
    assert head.startswith("# ")
    for word in ("# Expected: ", "# Cost: ", f"# Run: python launch.py experiments/{path.name}"):
        assert word in head


@pytest.mark.parametrize("profile", ["imagenet", "mini"])
@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.stem)
def test_every_table_plans_all_its_rows_in_both_profiles(
    path: Path, profile: str, tmp_path: Path
) -> None:
    request = spec.load([path], [f"profile={profile}"])
    assert [t.name for t in request.tables] == [path.stem]
    rows = [r.experiment for r in request.tables[0].rows if r.experiment]
    assert [experiment.name for experiment in request.experiments] == rows
    assert request.plan([0], tmp_path)


def test_table2_has_the_twelve_rows_with_their_sources() -> None:
    table = spec.load_table(ROOT / "tables" / "table2.yaml")
    assert [row.experiment for row in table.rows] == [
        f"{backbone}{method}"
        for backbone in ("deit_s12", "deit_s24", "cait_s24", "swin_s")
        for method in ("", "_attnscale", "_featscale")
    ]
    assert all(row.paper and row.paper.source and row.paper.confidence for row in table.rows)
    assert [row.paper.top1 for row in table.rows if row.paper][:6] == [
        79.8,
        80.7,
        80.9,
        80.5,
        81.1,
        81.3,
    ]


def test_no_method_of_table2_gains_more_than_is_quoted_for_its_backbone() -> None:
    """The best gains on DeiT, CaiT and Swin, which two summaries of the paper quote."""
    table = spec.load_table(ROOT / "tables" / "table2.yaml")
    values = {row.experiment: row.paper.top1 for row in table.rows if row.paper}
    gains = {
        row.experiment: round(values[row.experiment] - values[row.baseline], 1)
        for row in table.rows
        if row.baseline
    }
    for backbone, best in (("deit", 1.1), ("cait", 0.6), ("swin", 0.5)):
        assert max(gain for row, gain in gains.items() if row and backbone in row) == best


def test_the_papers_two_tables_name_each_other() -> None:
    for name, other in (("table2", "sota"), ("sota", "table2")):
        table = spec.load_table(ROOT / "tables" / f"{name}.yaml")
        assert table.related == [other]
        assert f"another table, {other};" in table.caption


def test_cait_from_scratch_has_the_values_of_the_public_log() -> None:
    recipe = spec.load_experiment(ROOT / "cait_s24_scratch.yaml").recipe
    assert (recipe.epochs, recipe.global_batch, recipe.eval_crop) == (500, 512, 1.0)
    assert recipe.lr == pytest.approx(5e-4)
    assert recipe.init_from is None


def test_the_learning_rate_follows_the_global_batch() -> None:
    assert spec.load_experiment(ROOT / "deit_s12.yaml").recipe.lr == pytest.approx(1e-3)
    assert spec.load_experiment(ROOT / "deit_s24.yaml").recipe.lr == pytest.approx(5e-4)
    assert spec.load_experiment(ROOT / "cait_s24_featscale.yaml").recipe.lr == pytest.approx(2.5e-5)


def test_the_rows_carry_the_released_recipes() -> None:
    deep = spec.load_experiment(ROOT / "deit_s24_attnscale.yaml")
    assert (deep.recipe.epochs, deep.recipe.dropout, deep.recipe.global_batch) == (500, 0.2, 512)
    swin = spec.load_experiment(ROOT / "swin_s.yaml")
    assert (swin.recipe.clip_grad, swin.recipe.drop_path, swin.recipe.ema_decay) == (5.0, 0.3, None)
    cait = spec.load_experiment(ROOT / "cait_s24_featscale.yaml")
    assert (cait.model.family, cait.model.method) == (Family.cait, "featscale")
    assert cait.recipe.init_from == "timm:cait_s24_224.fb_dist_in1k"


def test_overrides_are_typed() -> None:
    assert (
        spec.load_experiment(ROOT / "deit_s12.yaml", ["recipe.base_lr=5e-4"]).recipe.base_lr == 5e-4
    )
    assert (
        spec.load_experiment(ROOT / "deit_s12.yaml", ["recipe.clip_grad=1"]).recipe.clip_grad == 1.0
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.epoch=1", r"recipe\.epoch: there is no such key; did you mean `epochs`\?"),
        ("recipe.epochs=many", r"recipe\.epochs: 'many' is not a whole number"),
        ("recipe.epochs=-1", r"recipe\.epochs: -1 is not possible: between 0 and 1000000"),
        ("recipe.warmup_epochs=501",
        r"recipe\.warmup_epochs: 501.0 is not possible: between 0 and .* 500"),
        ("model.method=attn", r"model\.method: .*none, attnscale, "),
        ("model.num_heads=5",
        r"model\.num_heads: 5 is not possible: a divisor of model\.embed_dim = 384"),
        ("profile=small", r"there is no experiments/profile/small\.yaml; there are imagenet, mini"),
        ("model=mini/none", "model/mini/none"),
        ("recipe.init_from=cait", r"recipe\.init_from: 'cait' is not possible: timm:<tag>"),
        ("recipe.mix_group=7",
        r"recipe\.mix_group: 7 is not possible: an even divisor of recipe\.global_batch = 1024,"
        r" such as 4 or 8"),
        ("recipe.global_batch=10",
        r"recipe\.mix_group: 32 is not possible: .* recipe\.global_batch = 10, such as 10"),
        ("recipe.global_batch=15", r"global_batch = 15, which is odd and has none; choose an even"),
        ("recipe.global_batch=2000000", r"recipe\.global_batch: 2000000 is not possible"),
        ("data.mean=[0.5]",
        r"data\.mean: \[0\.5\] is not possible: one number for each of data\.in_channels = 3"),
        ("recipe.epochs", r"this is no override; write key=value"),
    ],
)  # fmt: skip
def test_a_wrong_override_names_file_key_value_and_the_valid_values(
    override: str, message: str
) -> None:
    with pytest.raises(SpecError, match=f"(?s){message}") as caught:
        spec.load_experiment(ROOT / "deit_s12.yaml", [override])
    assert "Traceback" not in str(caught.value)
    assert "deit_s12.yaml" in str(caught.value)


def test_a_missing_spec_lists_the_existing_ones() -> None:
    with pytest.raises(
        SpecError, match=r"deit_s13.*there is no such spec; did you mean `deit_s12`"
    ):
        spec.load([ROOT / "deit_s13.yaml"])


def test_a_spec_may_be_named_without_its_ending() -> None:
    assert spec.load([ROOT / "deit_s12"]).experiments[0].name == "deit_s12"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: []\ntitle: T\n", "at least one row"),
        ("title: T\nrows:\n  - {experiment: deit_s12}\n", r"label: has no value"),
        (
            (
                "title: T\nrows:\n  - {label: L, experiment: deit_s12, paper: {top1: 80,"
                " confidence: Q}}\n"
            ),
            "source",
        ),
        (
            "title: T\nrows:\n  - {label: L, experiment: a, baseline: b}\n",
            "an experiment of this table: a",
        ),
        (
            "title: T\nrows:\n  - {label: L, experiment: a}\n  - {label: M, experiment: a}\n",
            "at most once",
        ),
        ("title: T\nrow: []\n", r"bad\.yaml:2:1: row: there is no such key; did you mean `rows`"),
        ("- a\n", "a table is a mapping"),
        ("title: [\n", "tables/bad.yaml"),
    ],
)
def test_a_wrong_table_is_one_clear_message(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tables" / "bad.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(SpecError, match=message):
        spec.load([path])


def test_profiles_do_not_share_a_results_folder(tmp_path: Path) -> None:
    full, mini = (
        spec.load([ROOT / "deit_s12.yaml"], [f"profile={p}"]) for p in ("imagenet", "mini")
    )
    assert full.results(tmp_path) == tmp_path
    assert mini.results(tmp_path) == tmp_path / "mini"


def test_paths_of_a_spec_hold_from_every_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").touch()
    overrides = ["data.root=imagenet", "recipe.init_from='file:w.pth'"]
    loaded = spec.load_experiment(ROOT / "deit_s12.yaml", overrides)
    assert loaded.data.root == str(tmp_path / "imagenet")
    assert loaded.recipe.init_from == f"file:{tmp_path / 'w.pth'}"


def test_a_missing_value_is_marked_as_omegaconf_marks_it() -> None:
    """`config` writes the mark out, so that it needs no OmegaConf."""
    import omegaconf

    from antioversmooth import config

    assert config.MISSING == omegaconf.MISSING
