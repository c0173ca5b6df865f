"""The released names in timm's registry."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg

import antioversmooth.models.entrypoints
from antioversmooth import spec
from antioversmooth.errors import ModelError
from antioversmooth.models import build_model
from antioversmooth.models.placement import scales

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NAMES = timm.list_models(["attnscale_*", "featscale_*"])
COUNTS = {
    "attnscale_small_12": 22_050_736,
    "featscale_small_12": 22_059_880,
    "attnscale_base_24": 171_622_408,
    "featscale_base_24": 171_658_984,
    "attnscale_cait_XXS24_224": 11_956_360,
    "featscale_cait_XXS24_224": 11_965_480,
    "featscale_cait_S24_224": 46_934_632,
    "attnscale_swin_small_patch4_window7_224": 49_606_540,
    "featscale_swin_small_patch4_window7_224": 49_624_306,
}


def test_all_names_of_the_released_code_are_there():
    sizes = [
        "XXS24_224",
        "XXS24",
        "XXS36_224",
        "XXS36",
        "XS24",
        "S24_224",
        "S24",
        "S36",
        "M36",
        "M48",
    ]
    backbones = ["small_12", "small_24", "base_12", "base_24", "swin_small_patch4_window7_224"]
    backbones += [f"cait_{size}" for size in sizes]
    assert set(NAMES) == {
        f"{method}_{backbone}" for method in ("attnscale", "featscale") for backbone in backbones
    }


@pytest.mark.parametrize("name", NAMES)
def test_models_build_with_the_scales_of_their_name(name: str):
    with torch.device("meta"):
        model = timm.create_model(name)
    kinds = {key.rpartition(".")[2] for key in scales(model)}
    assert kinds == ({"lamb"} if name.startswith("attnscale") else {"lamb1", "lamb2"})
    total = sum(p.numel() for p in model.parameters())
    assert total == COUNTS.get(name, total)
    assert callable(getattr(antioversmooth.models.entrypoints, name))


def test_timm_arguments_and_those_of_the_scaling_are_taken():
    with torch.device("meta"):
        model = timm.create_model(
            "featscale_small_12",
            num_classes=7,
            in_chans=1,
            drop_path_rate=0.1,
            img_size=32,
            scaling_variant="paper",
        )
        assert model(torch.empty(2, 1, 32, 32)).shape == (2, 7)
    assert model.blocks[0].attn.features.method.variant == "paper"
    assert model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "form", "error", "message"),
    [
        ("attnscale_small_12", "mask_aware", ModelError, "only Swin masks pairs of tokens"),
        ("featscale_small_12", "mask_aware", TypeError, "unexpected keyword .*mask_aware"),
        ("attnscale_cait_S24", "class_token_in_mean", ModelError, "has no class token where"),
    ],
)
def test_a_form_without_effect_on_the_model_is_refused(
    name: str, form: str, error: type[Exception], message: str
) -> None:
    with torch.device("meta"), pytest.raises(error, match=message):
        timm.create_model(name, **{form: form == "mask_aware"})


@pytest.mark.parametrize(
    ("name", "stock"),
    [
        ("attnscale_small_12", "deit_small_patch16_224"),
        ("featscale_small_12", "deit_small_patch16_224"),
        ("attnscale_base_12", "deit_base_patch16_224"),
        *[(f"attnscale_cait_{size.upper()}_224", f"cait_{size}_224") for size in ("xxs24", "s24")],
        *[
            (f"featscale_cait_{size.upper()}", f"cait_{size}_384")
            for size in ("xxs36", "xs24", "s36")
        ],
        ("attnscale_cait_M48", "cait_m48_448"),
        ("attnscale_swin_small_patch4_window7_224", "swin_small_patch4_window7_224"),
        ("featscale_swin_small_patch4_window7_224", "swin_small_patch4_window7_224"),
    ],
)
def test_all_but_the_scales_is_timms_own_model(name: str, stock: str):
    """The same keys and shapes, and the same way to prepare an image."""
    with torch.device("meta"):
        ours, timms = timm.create_model(name), timm.create_model(stock)
    state = {
        key: value.shape for key, value in ours.state_dict().items() if key not in scales(ours)
    }
    assert state == {key: value.shape for key, value in timms.state_dict().items()}
    same = (
        "input_size",
        "interpolation",
        "mean",
        "std",
        "first_conv",
        "classifier",
        "num_classes",
        "pool_size",
    )
    cfgs = [get_pretrained_cfg(n).to_dict() for n in (name, stock)]
    assert [cfgs[0].get(key) for key in same] == [cfgs[1].get(key) for key in same]


@pytest.mark.parametrize(
    ("name", "stock"),
    [
        ("attnscale_small_12", "deit_small_patch16_224"),
        ("featscale_cait_XXS24_224", "cait_xxs24_224"),
        ("featscale_swin_small_patch4_window7_224", "swin_small_patch4_window7_224"),
    ],
)
def test_features_are_taken_where_timm_takes_them(name: str, stock: str):
    with torch.device("meta"):
        ours, timms = (timm.create_model(n, features_only=True) for n in (name, stock))
    assert ours.feature_info.get_dicts() == timms.feature_info.get_dicts()


@pytest.mark.parametrize("name", ["attnscale_small_12", "featscale_swin_small_patch4_window7_224"])
def test_features_carry_the_scalings(name: str):
    torch.manual_seed(0)
    sizes = (
        {"depths": (1, 1), "num_heads": (1, 2)} if "swin" in name else {"depth": 3, "num_heads": 2}
    )
    model = timm.create_model(
        name, features_only=True, img_size=56, embed_dim=16, out_indices=(0, 1), **sizes
    ).eval()
    images = torch.randn(1, 3, 56, 56)
    before = model(images)
    with torch.no_grad():
        for parameter in scales(model).values():
            parameter.fill_(0.5)
    assert not any(torch.equal(a, b) for a, b in zip(before, model(images), strict=True))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("featscale_small_12", "featscale_small_12.pth"),
        ("featscale_cait_XXS24_224", "featscale_cait_xxs24_224.pth"),
        ("attnscale_small_12", "attnscale_small_12.pth"),
        ("attnscale_cait_XXS24_224", "attnscale_cait_xxs24_224.pth"),
        ("attnscale_small_24", None),
    ],
)
def test_released_files_are_where_pretrained_looks(name: str, file: str | None):
    cfg = get_pretrained_cfg(name)
    assert cfg.hf_hub_filename == file
    assert cfg.hf_hub_id == ("peihaowang/vit-anti-oversmoothing" if file else None)
    assert timm.is_model_pretrained(name) == (file is not None)


@pytest.mark.parametrize(
    "path", sorted(EXPERIMENTS.glob("eval_released_*.yaml")), ids=lambda path: path.stem
)
def test_rows_of_released_weights_start_from_a_file_of_their_model(path: Path):
    experiment = spec.load_experiment(path)
    kind, _, name = str(experiment.recipe.init_from).partition(":")
    assert (kind, experiment.recipe.epochs) == ("timm", 0)
    source = get_pretrained_cfg(name)
    assert source.hf_hub_filename or source.url
    with torch.device("meta"):
        published = timm.create_model(name)
        ours = build_model(experiment.model, num_classes=experiment.data.num_classes)
    assert {key: value.shape for key, value in published.state_dict().items()} == {
        key: value.shape for key, value in ours.state_dict().items()
    }


def test_an_unknown_option_of_a_method_is_named_as_add_method_names_it():
    with pytest.raises(TypeError, match=r"gfsa has no option ordr; did you mean `order`\?"):
        timm.create_model("antioversmooth_vit", method="gfsa", method_options={"ordr": 4})
    with pytest.raises(TypeError, match="gfsa has no option name; "):
        timm.create_model("antioversmooth_vit", method="gfsa", method_options={"name": 1})
