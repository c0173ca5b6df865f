"""Every spec that is shipped becomes the model that it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from antioversmooth import spec
from antioversmooth.config import Family, Initialisation, ModelConfig
from antioversmooth.methods import METHODS
from antioversmooth.models import build_model
from antioversmooth.models.measure import count_parameters

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

# Exact counts of the official code (1,000 classes), by model group of the spec; then what each
# scaling adds.
BASELINES = {
    "deit_s12_distilled": 22_436_432,
    "deit_s12": 22_050_664,
    "deit_s24": 43_344_232,
    "deit_b12": 86_567_656,
    "deit_b24": 171_622_120,
    "cait_xxs24": 11_956_264,
    "cait_s24": 46_916_200,
    "swin_s": 49_606_258,
}
ADDED = {
    "deit_s12_distilled": {"attnscale": 72, "featscale": 9_216},
    "deit_s12": {"attnscale": 72, "featscale": 9_216},
    "deit_s24": {"attnscale": 144, "featscale": 18_432},
    "deit_b12": {"attnscale": 144, "featscale": 18_432},
    "deit_b24": {"attnscale": 288, "featscale": 36_864},
    "cait_xxs24": {"attnscale": 96, "featscale": 9_216},
    "cait_s24": {"attnscale": 192, "featscale": 18_432},
    "swin_s": {"attnscale": 282, "featscale": 18_048},
}
SPECS = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
OTHER_METHODS = METHODS.keys() - {"attnscale", "featscale"}


def backbone_of(name: str) -> str:
    """deit_s12 of deit_s12_attnscale, eval_released_deit_s12_featscale, ..."""
    return next(backbone for backbone in BASELINES if backbone in name)


@pytest.mark.parametrize(
    "name", [name for name in SPECS if name.rpartition("_")[2] not in OTHER_METHODS]
)
def test_parameter_counts_are_those_of_the_official_code(name: str):
    experiment = spec.load_experiment(EXPERIMENTS / f"{name}.yaml")
    with torch.device("meta"):
        model = build_model(experiment.model, num_classes=experiment.data.num_classes)
    backbone = backbone_of(name)
    added = ADDED[backbone].get(experiment.model.method, 0)
    assert count_parameters(model) == BASELINES[backbone] + added


@pytest.mark.parametrize("name", BASELINES)
def test_mini_models_take_mini_images(name: str):
    experiment = spec.load_experiment(EXPERIMENTS / f"{name}.yaml", ["profile=mini"])
    config, data = experiment.model, experiment.data
    with torch.device("meta"):
        model = build_model(config, num_classes=data.num_classes, in_channels=data.in_channels)
        logits = model(torch.empty(2, data.in_channels, config.image_size, config.image_size))
    assert logits.shape == (2, data.num_classes)


@pytest.mark.parametrize(
    ("name", "stock"),
    [
        ("deit_s12", "deit_small_patch16_224"),
        ("deit_s12_distilled", "deit_small_distilled_patch16_224"),
        ("cait_s24", "cait_s24_224"),
        ("swin_s", "swin_small_patch4_window7_224"),
    ],
)
def test_baselines_are_timms_own_models(name: str, stock: str):
    """So that published weights fit: the same names and shapes."""
    experiment = spec.load_experiment(EXPERIMENTS / f"{name}.yaml")
    with torch.device("meta"):
        ours = build_model(experiment.model, num_classes=1000)
        theirs = timm.create_model(stock)
    assert type(ours) is type(theirs)
    shapes = [
        {key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


def vit(**options: object) -> ModelConfig:
    sizes = {
        "family": Family.vit,
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    return ModelConfig(**{**sizes, **options})


def swin(**options: object) -> ModelConfig:
    return vit(
        family=Family.swin,
        depth=8,
        stage_depths=[2, 2, 2, 2],
        image_size=32,
        patch_size=2,
        window_size=4,
        **options,
    )


def test_swin_runs_on_maps_smaller_than_its_window():
    """Maps of 16, 8, 4 and 2 tokens a side; windows of 4 shrink to the last one."""
    model = build_model(swin(method="attnscale"), num_classes=3, in_channels=1)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 3)
    assert [stage.blocks[1].window_size[0] for stage in model.layers] == [4, 4, 4, 2]


def test_seeds_decide_the_weights_and_scalings_do_not():
    """A row and its baseline start from the same weights."""

    def start(seed: int, method: str) -> torch.Tensor:
        torch.manual_seed(seed)
        return build_model(vit(method=method), num_classes=3).state_dict()[
            "blocks.1.mlp.fc2.weight"
        ]

    assert torch.equal(start(0, "none"), start(0, "featscale"))
    assert not torch.equal(start(0, "none"), start(1, "none"))


def test_xavier_spans_the_uniform_bound_and_clears_biases():
    model = build_model(vit(init=Initialisation.xavier), num_classes=3)
    qkv = model.blocks[0].attn.qkv
    bound = (6 / (32 + 96)) ** 0.5
    assert 0.95 * bound < qkv.weight.abs().max() <= bound
    assert not qkv.bias.any()


@pytest.mark.parametrize("family", [Family.vit, Family.cait])
def test_position_embedding_starts_at_the_size_asked_for(family: Family):
    torch.manual_seed(0)
    model = build_model(vit(family=family, position_embedding_std=0.5), num_classes=3)
    assert model.pos_embed.std().item() == pytest.approx(0.5, rel=0.15)


def test_class_token_starts_as_released_where_a_spec_says_so():
    """And timm's own start draws the same numbers as before."""
    torch.manual_seed(0)
    released = build_model(vit(class_token_std=0.02, embed_dim=2048), num_classes=3)
    assert released.cls_token.std().item() == pytest.approx(0.02, rel=0.15)
    torch.manual_seed(0)
    assert build_model(vit(), num_classes=3).cls_token.abs().max() < 1e-4
    config = spec.load_experiment(EXPERIMENTS / "deit_s24.yaml").model
    assert (config.class_token_std, config.position_embedding_std) == (0.02, 0.02)


def test_dropout_is_where_deit_has_it_and_not_before_the_classifier():
    model = build_model(vit(), num_classes=3, dropout=0.2, attention_dropout=0.1)
    block = model.blocks[0]
    places = (model.pos_drop, block.attn.proj_drop, block.mlp.drop1, block.mlp.drop2)
    assert [place.p for place in places] == [0.2] * 4
    assert (block.attn.attn_drop.p, model.head_drop.p) == (0.1, 0.0)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (vit(depth=3), [0.0, 0.15, 0.3]),
        (vit(depth=3, family=Family.cait), [0.3, 0.3, 0.3]),
        (swin(), [0.3 * i / 7 for i in range(8)]),
    ],
    ids=["vit", "cait", "swin"],
)
def test_drop_path_rises_linearly_but_in_cait(config: ModelConfig, expected: list[float]):
    model = build_model(config, num_classes=3, drop_path=0.3)
    blocks = [m for m in model.modules() if "norm2" in m._modules][: config.depth]
    paths = [getattr(b, "drop_path1", None) or b.drop_path for b in blocks]
    assert [getattr(path, "drop_prob", 0.0) for path in paths] == pytest.approx(expected)
