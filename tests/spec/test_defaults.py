"""Rows are composed by the project's own walk of the defaults list. hydra, whose language that is,
is the reference: it must compose the same values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from antioversmooth import runs, spec
from antioversmooth.config import Experiment

ROWS = sorted(path.stem for path in (Path(__file__).parents[2] / "experiments").glob("*.yaml"))


_HYDRA_ITSELF = [
    "env",
    "help",
    "hydra_help",
    "hydra_logging",
    "job_logging",
    "launcher",
    "output",
    "sweeper",
]
"""Groups of hydra's own configuration, which take half of its time and are no part of a row."""


def composed_by_hydra(experiments: Path, name: str, overrides: list[str]) -> Any:
    """The row as hydra composes it and OmegaConf types it, as JSON types."""
    GlobalHydra.instance().clear()
    ConfigStore.instance().store("schema", Experiment)
    # hydra wants ++ where an override may bring a new key
    given = [
        f"++{one.lstrip('+')}" if one.lstrip("+").startswith("cluster.sbatch") else one
        for one in overrides
    ]
    with initialize_config_dir(str(experiments), version_base=None):
        composed = compose(
            name, overrides=[*given, *(f"~hydra/{group}" for group in _HYDRA_ITSELF)]
        )
    composed["name"] = name
    return runs.to_json(OmegaConf.to_object(composed))


def composed_by_the_project(experiments: Path, name: str, overrides: list[str]) -> Any:
    return runs.to_json(spec.load_experiment(experiments / f"{name}.yaml", overrides))


TYPED = [
    "recipe.base_lr=1",
    "title=7",
    "model.mlp_ratio=3",
    "cluster.requeue=no",
    "recipe.clip_grad=2",
]
INTERPOLATED = [
    "cluster.results=${oc.env:HOME}/x",
    "recipe.min_lr=${recipe.warmup_lr}",
    "title='${name} ${model.mlp_ratio} ${runtime.heartbeat_s}'",
    "recipe.init_allow_missing=['${profile}*']",
    "cluster.sbatch.comment='${title}'",
]


@pytest.mark.parametrize("overrides", [TYPED, INTERPOLATED], ids=["typed", "interpolated"])
@pytest.mark.parametrize("profile", ["imagenet", "mini"])
@pytest.mark.parametrize("name", ROWS)
def test_shipped_rows_compose_as_hydra_composes_them(
    name: str, profile: str, overrides: list[str], experiments: Path
) -> None:
    given = [f"profile={profile}", *overrides]
    expected = composed_by_hydra(experiments, name, given)
    assert composed_by_the_project(experiments, name, given) == expected


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
def test_overrides_compose_as_hydra_composes_them(overrides: list[str], experiments: Path) -> None:
    expected = composed_by_hydra(experiments, "deit_s12", overrides)
    assert composed_by_the_project(experiments, "deit_s12", overrides) == expected


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
def test_other_forms_of_defaults_compose_as_hydra_composes_them(text: str, copy: Path) -> None:
    (copy / "made.yaml").write_text(text)
    expected = composed_by_hydra(copy, "made", [])
    assert composed_by_the_project(copy, "made", []) == expected
