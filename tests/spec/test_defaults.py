"""The walk along the defaults says where a value comes from; hydra says what it is. They must not
disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antioversmooth import runs, spec
from antioversmooth.config import Experiment
from antioversmooth.spec import rows
from antioversmooth.spec.compose import typed

ROWS = sorted(path.stem for path in (Path(__file__).parents[2] / "experiments").glob("*.yaml"))


def merged(experiments: Path, name: str, overrides: list[str]) -> dict[str, Any]:
    """The row as the walk merges it, typed."""
    row = rows.Row(rows.Rows(experiments, overrides), experiments / f"{name}.yaml")
    row.explain()
    assert row.problems == []
    plain: dict[str, Any] = runs.to_json(typed(Experiment, {**row.reading.content, "name": name}))
    return plain


@pytest.mark.parametrize("overrides", [[], ["profile=mini"]], ids=["imagenet", "mini"])
@pytest.mark.parametrize("name", ROWS)
def test_the_walk_merges_what_hydra_composes(
    name: str, overrides: list[str], experiments: Path
) -> None:
    composed = spec.load_experiment(experiments / f"{name}.yaml", overrides)
    assert merged(experiments, name, overrides) == runs.to_json(composed)


@pytest.mark.parametrize(
    "overrides",
    [
        [
            "recipe=imagenet/swin",
            "recipe.epochs=7",
            "recipe.warmup_epochs=2",
            "recipe.betas=[0.8,0.9]",
        ],
        ["profile=mini", "data=imagenet", "model=imagenet/deit_s24", "runtime={workers: 2}"],
        ["+cluster.sbatch={reservation: x, exclusive: true}", "recipe.warmup_lr=${recipe.min_lr}"],
        [
            "cluster.sbatch.reservation=x",
            "+cluster.sbatch.cpu-freq=high",
            "++cluster.sbatch.comment='a b'",
        ],
        [
            "cluster=example_site",
            "cluster.sbatch.reservation=null",
            "cluster.sbatch={exclusive: true}",
        ],
        ["recipe.clip_grad=null", "cluster.exclude=['node[03-05]',node9]", "title='a, b'"],
    ],
    ids=" ".join,
)
def test_so_it_does_with_overrides(overrides: list[str], experiments: Path) -> None:
    composed = spec.load_experiment(experiments / "deit_s12.yaml", overrides)
    assert merged(experiments, "deit_s12", overrides) == runs.to_json(composed)


@pytest.mark.parametrize(
    "text",
    [
        (
            "defaults:\n  - cait_s24_featscale\n  - override recipe: mini/cait_finetune\n  -"
            " _self_\ntitle: T\n"
        ),
        (
            "defaults:\n  - deit_s12\n  - /recipe/mini/swin@recipe\n  - _self_\nrecipe:"
            " {warmup_epochs: 1}\n"
        ),
        (
            "defaults:\n  - schema\n  - profile: mini\n  - _self_\n  - model: mini/swin_s\n  -"
            " recipe: mini/swin\n  - data: ${profile}\n  - cluster: default\nrecipe: {epochs:"
            " 9}\ntitle: replaced in part\n"
        ),
        (
            "defaults:\n  - deit_s12\n  - _self_\nrecipe:\n  crop_scale: [0.5, 1.0]\n "
            " warmup_epochs: ${recipe.epochs}\n"
        ),
    ],
    ids=["a row from a row", "a file in a package", "self first", "lists and interpolations"],
)
def test_so_it_does_with_other_forms_of_defaults(text: str, copy: Path) -> None:
    (copy / "made.yaml").write_text(text)
    assert merged(copy, "made", []) == runs.to_json(spec.load_experiment(copy / "made.yaml"))
