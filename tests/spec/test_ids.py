"""The ids of all shipped rows: a run that was trained once is found again by every later version
of the code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from antioversmooth import spec
from antioversmooth.config import Family, ModelConfig
from antioversmooth.methods import METHODS

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
IDS = json.loads((Path(__file__).parent / "golden" / "ids.json").read_text())


@pytest.mark.parametrize("profile", IDS)
def test_every_shipped_row_keeps_its_id(profile: str, tmp_path: Path) -> None:
    request = spec.load(_rows(profile), [f"profile={profile}"])
    ids = {}
    # planned one by one: rows that differ at full size may be the same run when shrunk
    for experiment in request.experiments:
        alone = dataclasses.replace(request, experiments=[experiment])
        ids[experiment.name] = alone.plan([0], tmp_path)[-1].id
    assert ids == IDS[profile]


def _rows(profile: str) -> list[Path]:
    """The rows that a profile shrinks: all of them, or those of the study's table."""
    if profile != "study":
        return sorted(EXPERIMENTS.glob("*.yaml"))
    table = spec.load_table(EXPERIMENTS / "tables" / "study.yaml")
    return [EXPERIMENTS / f"{row.experiment}.yaml" for row in table.rows]


SWIN, CAIT = "swin_s", "cait_xxs24"
SAME = {
    "zeros of both signs": ("deit_s12", "recipe.weight_decay=0", "recipe.weight_decay=-0.0"),
    "zeros of both signs in a list": (
        "deit_s12",
        "data.in_channels=1 data.mean=[0.0] data.std=[1.0]",
        "data.in_channels=1 data.mean=[-0.0] data.std=[1]",
    ),
    "an exponent": ("deit_s12", "recipe.base_lr=1e-3", "recipe.base_lr=0.001"),
    "the variant of a scaling that is off": ("deit_s12", "", "model.scaling_variant=paper"),
    "the variant of a scaling without variants": (
        "deit_s12_attnscale",
        "",
        "model.scaling_variant=paper",
    ),
    "a variant where both are one": ("cait_s24_featscale", "", "model.scaling_variant=paper"),
    "the mean of a scaling that is off": ("deit_s12", "", "model.class_token_in_mean=false"),
    "masks without windows": ("deit_s12_attnscale", "", "model.mask_aware=true"),
    "masks of a scaling that is off": (SWIN, "", "model.mask_aware=true"),
    "windows of a ViT": ("deit_s12", "", "model.window_size=14"),
    "class attention of a ViT": ("deit_s12", "", "model.class_depth=4"),
    "layer scale of a Swin": (SWIN, "", "model.layer_scale_init=1e-6"),
    "position embedding of a Swin": (SWIN, "", "model.position_embedding_std=0.1"),
    "no mixing": ("deit_s12", "recipe.mix_prob=0", "recipe.mixup=0 recipe.cutmix=0"),
    "mixing that is off": ("deit_s12", "recipe.mix_prob=0", "recipe.mix_prob=0 recipe.mixup=0.3"),
    "the choice of a single mixing": (
        "deit_s12",
        "recipe.mixup=0",
        "recipe.mixup=0 recipe.mix_switch_prob=0.9",
    ),
    "groups of no mixing": (
        "deit_s12",
        "recipe.mix_prob=0 recipe.dropout=0",
        "recipe.mix_prob=0 recipe.dropout=0 recipe.mix_group=2",
    ),
    "groups of rectangles without contents": (
        "deit_s12",
        "recipe.mix_prob=0 recipe.random_erasing=0.1 recipe.erasing_mode=const",
        "recipe.mix_prob=0 recipe.random_erasing=0.1 recipe.erasing_mode=const recipe.mix_group=2",
    ),
    "the start of no warm-up": (
        "deit_s12",
        "recipe.warmup_epochs=0",
        "recipe.warmup_epochs=0 recipe.warmup_lr=1e-5",
    ),
    "a scale of one": (
        "deit_s12",
        "recipe.global_batch=512",
        "recipe.global_batch=512 recipe.scale_all_lr=true",
    ),
    "a temperature without a teacher": ("deit_s12", "", "recipe.distillation_tau=3"),
    "a weight without a teacher": ("deit_s12", "", "recipe.distillation_alpha=0.9"),
    "interpolation without augmentation": (
        "deit_s12",
        "recipe.rand_augment=null",
        "recipe.rand_augment=null recipe.rand_augment_interpolation=nearest",
    ),
    "interpolation as of the fast policy": (
        "deit_s12",
        "recipe.rand_augment=rand-m9 recipe.policy=fast",
        "recipe.rand_augment=rand-m9 recipe.policy=fast recipe.rand_augment_interpolation=nearest",
    ),
    "interpolation as of the crops": (
        "deit_s12",
        "recipe.rand_augment=rand-m9",
        "recipe.rand_augment=rand-m9 recipe.rand_augment_interpolation=bicubic",
    ),
    "jitter beside RandAugment": (
        "deit_s12",
        "recipe.rand_augment=rand-m9",
        "recipe.rand_augment=rand-m9 recipe.color_jitter=0.1",
    ),
    "what no initial weights may lack": ("deit_s12", "", "recipe.init_allow_missing=[head.*]"),
    "the rate of a method that is none": ("deit_s12", "", "recipe.method_lr_factor=10"),
    "the rate of a method without parameters": (
        "deit_s12_lateinsertion",
        "",
        "recipe.method_lr_factor=10",
    ),
    "how an erasing that is off erases": (
        "deit_s12",
        "recipe.random_erasing=0",
        "recipe.random_erasing=0 recipe.erasing_mode=const recipe.erasing_count=3",
    ),
    "falls of a cosine": ("deit_s12", "", "recipe.decay_epochs=3 recipe.decay_rate=0.5"),
    "the momentum of AdamW": ("deit_s12", "", "recipe.momentum=0.5"),
    "betas of SGD": (
        "deit_s12",
        "recipe.optimizer=sgd",
        "recipe.optimizer=sgd recipe.betas=[0.5,0.9] recipe.eps=1e-6",
    ),
    "the end of a schedule of falls": (
        "deit_s12",
        "recipe.schedule=step",
        "recipe.schedule=step recipe.min_lr=1e-6",
    ),
    "evaluation resampled as training": ("deit_s12", "", "recipe.eval_interpolation=bicubic"),
    "a mode of mixing nothing": (
        "deit_s12",
        "recipe.mix_prob=0",
        "recipe.mix_prob=0 recipe.mix_mode=elem recipe.cutmix_minmax=[0.2,0.8]",
    ),
    "a Beta distribution beside a range of sides": (
        "deit_s12",
        "recipe.cutmix_minmax=[0.2,0.8]",
        "recipe.cutmix_minmax=[0.2,0.8] recipe.cutmix=0.5 recipe.cutmix_box=timm",
    ),
    "the resized crop of a padded one": (
        "deit_s12",
        "recipe.crop=padded",
        "recipe.crop=padded recipe.crop_scale=[0.5,1] recipe.crop_ratio=[0.5,2]"
        " recipe.eval_crop=0.9 recipe.eval_interpolation=nearest",
    ),
    "a cache of a row that only evaluates": (
        "eval_released_deit_s12",
        "data.source=image_folder recipe.init_from=timm:x",
        "data.source=image_folder recipe.init_from=timm:x data.cache=32 data.cache_root=/none"
        " recipe.policy=fast",
    ),
    "the fast policy on arrays that nothing moves": (
        "deit_s12",
        "",
        "recipe.policy=fast",
    ),
    "the fast policy on images of a cache that nothing moves": (
        "deit_s12",
        "data.source=image_folder data.cache=32 data.cache_root=/none",
        "data.source=image_folder data.cache=32 data.cache_root=/none recipe.policy=fast",
    ),
    "the usual label": ("deit_s12", "data.source=cifar100", "data.source=cifar100 data.label=fine"),
}
"""A row, and two spellings of one science as overrides."""

DIFFERENT = {
    "pixels near the exact ones": (
        "deit_s12",
        "data.source=image_folder",
        "data.source=image_folder recipe.policy=fast",
    ),
    "nearest pixels of arrays": (
        "deit_s12",
        "recipe.rand_augment=rand-m9",
        "recipe.rand_augment=rand-m9 recipe.policy=fast recipe.rand_augment_interpolation=nearest",
    ),
    "moves of the fast policy": (
        "deit_s12",
        "recipe.rand_augment=rand-m9 recipe.policy=fast",
        "recipe.rand_augment=rand-m9 recipe.policy=fast recipe.rand_augment_interpolation=bicubic",
    ),
    "the variant of FeatScale": ("deit_s12_featscale", "", "model.scaling_variant=paper"),
    "the mean of a scaling": ("deit_s12_attnscale", "", "model.class_token_in_mean=false"),
    "masks of AttnScale": ("swin_s_attnscale", "", "model.mask_aware=true"),
    "windows of a Swin": (SWIN, "", "model.window_size=2"),
    "class attention of a CaiT": (CAIT, "", "model.class_depth=1"),
    "layer scale of a CaiT": (CAIT, "", "model.layer_scale_init=3e-3"),
    "mixing on and off": ("deit_s12", "", "recipe.mix_prob=0"),
    "default mixing and none": (
        "deit_s12",
        "recipe.mixup=0.8 recipe.cutmix=1 recipe.mix_prob=1",
        "recipe.mixup=0 recipe.cutmix=0 recipe.mix_prob=1",
    ),
    "groups of dropout masks": (
        "deit_s12",
        "recipe.mix_prob=0 recipe.dropout=0.1",
        "recipe.mix_prob=0 recipe.dropout=0.1 recipe.mix_group=2",
    ),
    "groups of contents of rectangles": (
        "deit_s12",
        "recipe.mix_prob=0 recipe.random_erasing=0.1 recipe.mix_group=32",
        "recipe.mix_prob=0 recipe.random_erasing=0.1 recipe.mix_group=2",
    ),
    "the start of a warm-up": ("deit_s12", "", "recipe.warmup_lr=1e-5"),
    "a scale of an eighth": ("deit_s12", "recipe.scale_all_lr=false", "recipe.scale_all_lr=true"),
    "jitter beside 3-Augment": (
        "deit_s12",
        "recipe.rand_augment=3a",
        "recipe.rand_augment=3a recipe.color_jitter=0.1",
    ),
    "the rate of a method": (
        "deit_s12_attnscale",
        "recipe.method_lr_factor=1",
        "recipe.method_lr_factor=10",
    ),
    "a padded crop": ("deit_s12", "", "recipe.crop=padded"),
    "another erasing": (
        "deit_s12",
        "recipe.random_erasing=0.1",
        "recipe.random_erasing=0.1 recipe.erasing_mode=const",
    ),
    "another resampling of evaluation": ("deit_s12", "", "recipe.eval_interpolation=nearest"),
    "another optimizer": ("deit_s12", "", "recipe.optimizer=sgd"),
    "another momentum": (
        "deit_s12",
        "recipe.optimizer=sgd",
        "recipe.optimizer=sgd recipe.momentum=0.5",
    ),
    "another schedule": ("deit_s12", "", "recipe.schedule=linear"),
    "draws of pairs": ("deit_s12", "", "recipe.mix_mode=pair"),
    "boxes between two sides": ("deit_s12", "", "recipe.cutmix_minmax=[0.2,0.8]"),
    "another label": ("deit_s12", "data.source=cifar100", "data.source=cifar100 data.label=coarse"),
}
"""A row, and two sciences as overrides."""


def _ids(row: str, *spellings: str) -> list[str]:
    requests = [
        spec.load([EXPERIMENTS / f"{row}.yaml"], ["profile=mini", *spelling.split()])
        for spelling in spellings
    ]
    return [request.plan([0], Path("results"))[-1].id for request in requests]


@pytest.mark.parametrize(("row", "one", "other"), SAME.values(), ids=SAME)
def test_one_science_has_one_id(row: str, one: str, other: str) -> None:
    assert len(set(_ids(row, one, other))) == 1


@pytest.mark.parametrize(("row", "one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_an_option_that_has_an_effect_is_part_of_the_id(row: str, one: str, other: str) -> None:
    assert len(set(_ids(row, one, other))) == 2


def test_every_form_of_a_method_is_part_of_the_id_of_the_families_that_have_it() -> None:
    fields = {field.name: field.metadata for field in dataclasses.fields(ModelConfig)}
    for name, method in METHODS.items():
        for family in Family:
            model = SimpleNamespace(method=name, family=family)
            for form in method.forms.get(family, {}):
                assert fields[form]["identity"](model), (name, family, form)
