"""Every layout that weights come in; every key that does not fit, named."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from backbones import BUILDERS, TINY, randomised
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timm.models.cait import Cait
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from antioversmooth.errors import CheckpointError
from antioversmooth.models import add_scaling
from antioversmooth.models.layouts import official_state
from antioversmooth.models.state_files import read_state, save_weights
from antioversmooth.models.weights import Purpose, load_timm, load_weights
from benchmarks.textbook import share_random_scales

KINDS = pytest.mark.parametrize("kind", ["vit", "deit_distilled", "cait", "swin"])


def scaled(model: nn.Module) -> nn.Module:
    """With random AttnScale and FeatScale in it."""
    share_random_scales(add_scaling(model, attnscale=True, featscale=True))
    return model


@pytest.fixture
def fresh(build: Callable[..., nn.Module]) -> Callable[[str], nn.Module]:
    """A scaled model of other weights than `build`'s."""

    def make(kind: str) -> nn.Module:
        model = add_scaling(build(kind), attnscale=True, featscale=True)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.5)
        return model

    return make


@KINDS
@pytest.mark.parametrize(
    "layout", ["plain", "model", "state_dict", "model_ema", "module", "arguments", "safetensors"]
)
def test_weights_come_back_from_every_layout(
    build: Callable[..., nn.Module],
    fresh: Callable[[str], nn.Module],
    images: Tensor,
    tmp_path: Path,
    kind: str,
    layout: str,
):
    trained = scaled(build(kind))
    state = official_state(trained)
    path = tmp_path / ("weights.safetensors" if layout == "safetensors" else "weights.pth")
    if layout == "safetensors":
        safetensors.torch.save_file(trained.state_dict(), path, metadata={"format": "pt"})
    elif layout == "module":
        torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, path)
    elif layout == "arguments":
        torch.save({"model": state, "epoch": 3, "args": argparse.Namespace(lr=5e-4)}, path)
    else:
        torch.save(state if layout == "plain" else {layout: state}, path)
    model = fresh(kind)
    report = load_weights(model, path)
    assert torch.equal(model(images), trained(images))
    assert (report.source, report.missing, report.resampled, report.reset) == (
        str(path),
        (),
        (),
        (),
    )
    assert report.unchanged + len(report.renamed) + len(report.ignored) == len(
        read_state(path).tensors
    )


@KINDS
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_written_weights_are_read_again(
    build: Callable[..., nn.Module],
    fresh: Callable[[str], nn.Module],
    images: Tensor,
    tmp_path: Path,
    kind: str,
    name: str,
):
    trained = scaled(build(kind))
    save_weights(trained, tmp_path / name, metadata={"experiment": "deit_s12"})
    model = fresh(kind)
    load_weights(model, tmp_path / name)
    assert torch.equal(model(images), trained(images))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_metadata_is_kept_in_the_header(build: Callable[..., nn.Module], tmp_path: Path):
    save_weights(
        build("vit"), tmp_path / "weights.safetensors", metadata={"experiment": "deit_s12"}
    )
    with safetensors.safe_open(tmp_path / "weights.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "experiment": "deit_s12"}


def test_only_two_kinds_of_files_are_written(build: Callable[..., nn.Module], tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"written as \.safetensors or \.pth"):
        save_weights(build("vit"), tmp_path / "weights.onnx")


BLOCKS = {
    **{f"small_{depth}": [(f"blocks.{i}", 6, 384) for i in range(depth)] for depth in (12, 24)},
    "cait_XXS24_224": [(f"blocks.{i}", 4, 192) for i in range(24)],
    "cait_S24_224": [(f"blocks.{i}", 8, 384) for i in range(24)],
    "swin_small_patch4_window7_224": [
        (f"layers.{stage}.blocks.{i}", 3 * 2**stage, 96 * 2**stage)
        for stage, depth in enumerate((2, 2, 18, 2))
        for i in range(depth)
    ],
}
"""Name of each block of the released models, its heads and its channels."""
BASE_KEYS = {"small_12": 152, "small_24": 296, "cait_XXS24_224": 476, "cait_S24_224": 476}
BASE_KEYS |= {"swin_small_patch4_window7_224": 364}
"""Keys of the official baselines' state dicts, counted there."""


@pytest.mark.parametrize("method", ["attnscale", "featscale"])
@pytest.mark.parametrize("backbone", BASE_KEYS)
def test_official_layout_has_the_keys_and_shapes_of_the_released_code(backbone: str, method: str):
    with torch.device("meta"):
        model = timm.create_model(f"{method}_{backbone}")
    state = {
        key: list(value.shape)
        for key, value in official_state(model.to_empty(device="cpu")).items()
    }
    added: dict[str, list[int]] = {}
    for block, heads, channels in BLOCKS[backbone]:
        if method == "attnscale":
            added[f"{block}.attn.lamb"] = [heads]
        else:
            added |= {f"{block}.lamb1": [channels], f"{block}.lamb2": [channels]}
    assert {key: shape for key, shape in state.items() if "lamb" in key} == added
    assert len(state) == BASE_KEYS[backbone] + len(added)


def test_official_swin_holds_its_buffers_and_merges_patches_at_the_end_of_a_stage():
    """224 pixels: maps of 56, 28, 14 and 7 tokens a side, so that the last stage shifts nothing."""
    with torch.device("meta"):
        model = timm.create_model("attnscale_swin_small_patch4_window7_224")
    state = {
        key: list(value.shape)
        for key, value in official_state(model.to_empty(device="cpu")).items()
    }
    masks = {key: shape for key, shape in state.items() if key.endswith("attn_mask")}
    windows = {0: 64, 1: 16, 2: 4}
    assert masks == {
        f"layers.{stage}.blocks.{i}.attn_mask": [windows[stage], 49, 49]
        for stage, depth in enumerate((2, 2, 18))
        for i in range(1, depth, 2)
    }
    indices = [shape for key, shape in state.items() if key.endswith("relative_position_index")]
    assert indices == [[49, 49]] * 24
    merging = {key: shape for key, shape in state.items() if "downsample.reduction" in key}
    assert merging == {
        f"layers.{i}.downsample.reduction.weight": [192 * 2**i, 384 * 2**i] for i in range(3)
    }
    assert state["head.weight"] == [1000, 768]


def trained_checkpoint(model: nn.Module, images: Tensor) -> dict[str, Any]:
    """What DeiT's and Swin's training code saves after a step: everything."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    average = {key: value.clone() for key, value in official_state(model).items()}
    outputs = model.train()(images)
    sum(
        output.square().sum() for output in (outputs if isinstance(outputs, tuple) else (outputs,))
    ).backward()
    optimizer.step()
    scheduler.step()
    model.eval()
    return {
        "model": official_state(model),
        "model_ema": average,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 1},
        "epoch": 299,
        "max_accuracy": 80.7,
        "args": argparse.Namespace(lr=5e-4, distillation_type="none", data_path=None),
    }


@KINDS
def test_a_full_training_checkpoint_gives_its_weights_or_their_average(
    build: Callable[..., nn.Module],
    fresh: Callable[[str], nn.Module],
    images: Tensor,
    tmp_path: Path,
    kind: str,
):
    trained = scaled(build(kind))
    before = trained(images)
    torch.save(trained_checkpoint(trained, images), tmp_path / "checkpoint.pth")
    model, average = fresh(kind), fresh(kind)
    load_weights(model, tmp_path / "checkpoint.pth")
    load_weights(average, tmp_path / "checkpoint.pth", average=True)
    assert torch.equal(model(images), trained(images))
    assert torch.equal(average(images), before)
    assert not torch.equal(average(images), model(images))


def test_a_file_without_a_moving_average_says_so(build: Callable[..., nn.Module], tmp_path: Path):
    save_weights(build("vit"), tmp_path / "weights.safetensors")
    torch.save({"model": build("vit").state_dict(), "ema": None}, tmp_path / "weights.pt")
    for name in ("weights.safetensors", "weights.pt"):
        with pytest.raises(
            CheckpointError, match=f"{name} holds no moving average, under none of ema, model_ema"
        ):
            load_weights(build("vit"), tmp_path / name, average=True)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["vit", "deit_distilled", "deit3", "cait", "swin"]),
    methods=st.sampled_from(
        [{"attnscale": True}, {"featscale": True}, {"attnscale": True, "featscale": True}]
    ),
    nested=st.sampled_from([None, "model", "state_dict", "model_ema"]),
    prefix=st.sampled_from(["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."]),
    official=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_any_combination_of_layout_and_wrapping_comes_back_bit_by_bit(
    tmp_path: Path,
    kind: str,
    methods: dict[str, bool],
    nested: str | None,
    prefix: str,
    official: bool,
    seed: int,
):
    torch.manual_seed(seed)
    trained, model = (add_scaling(randomised(BUILDERS[kind]()), **methods) for _ in range(2))
    share_random_scales(trained)
    state = official_state(trained) if official else trained.state_dict()
    wrapped = {f"{prefix}{key}": value for key, value in state.items()}
    torch.save(
        wrapped if nested is None else {nested: wrapped, "epoch": 3}, tmp_path / "weights.pth"
    )
    report = load_weights(model, tmp_path / "weights.pth")
    assert all(
        torch.equal(value, trained.state_dict()[key]) for key, value in model.state_dict().items()
    )
    assert report.unchanged + len(report.renamed) + len(report.ignored) == len(state), (
        "every key is accounted for"
    )
    assert (report.missing, report.resampled, report.reset) == ((), (), ())


def test_a_checkpoint_of_ours_gives_its_model(
    build: Callable[..., nn.Module],
    fresh: Callable[[str], nn.Module],
    images: Tensor,
    tmp_path: Path,
):
    trained = scaled(build("vit"))
    state = {
        "model": trained.state_dict(),
        "ema": None,
        "optimizer": {"state": {}},
        "step": 7,
        "random": [1, 2],
    }
    torch.save(state, tmp_path / "step7.pt")
    model = fresh("vit")
    load_weights(model, tmp_path / "step7.pt")
    assert torch.equal(model(images), trained(images))


def test_scales_that_a_baseline_lacks_stay_zero(
    build: Callable[..., nn.Module], images: Tensor, tmp_path: Path
):
    baseline = build("vit")
    torch.save(baseline.state_dict(), tmp_path / "baseline.pth")
    model = add_scaling(VisionTransformer(**TINY).eval(), featscale=True)
    report = load_weights(model, tmp_path / "baseline.pth", purpose=Purpose.training)
    assert report.missing == (
        "blocks.0.lamb1",
        "blocks.0.lamb2",
        "blocks.1.lamb1",
        "blocks.1.lamb2",
    )
    assert torch.equal(model(images), baseline(images))


@pytest.mark.parametrize("kind", [VisionTransformer, Cait])
def test_position_embeddings_and_classifiers_are_adapted(kind: type[nn.Module], tmp_path: Path):
    small = randomised(kind(**TINY))
    torch.save(small.state_dict(), tmp_path / "small.pth")
    large = kind(**{**TINY, "img_size": 48, "num_classes": 9})
    started = large.head.weight.clone()
    report = load_weights(large, tmp_path / "small.pth", purpose=Purpose.training)
    assert (report.resampled, report.reset) == (("pos_embed",), ("head.bias", "head.weight"))
    assert torch.equal(large.head.weight, started)
    assert torch.equal(large.blocks[0].norm1.weight, small.blocks[0].norm1.weight)
    # the corners of a resampled grid are near those of the old one
    old, new = small.pos_embed[0, -16].detach(), large.pos_embed[0, -36].detach()
    assert torch.cosine_similarity(old, new, dim=0) > 0.7


def test_each_key_of_an_official_swin_is_accounted_for(
    build: Callable[..., nn.Module], tmp_path: Path
):
    torch.save(official_state(build("swin")), tmp_path / "swin.pth")
    report = load_weights(build("swin"), tmp_path / "swin.pth")
    assert "head.weight -> head.fc.weight" in report.renamed
    assert "layers.0.downsample.norm.bias -> layers.1.downsample.norm.bias" in report.renamed
    assert {key.rpartition(".")[2] for key in report.ignored} == {
        "attn_mask",
        "relative_position_index",
    }
    said = "\n".join(report.lines())
    assert all(key in said for key in (*report.renamed, *report.ignored))


def test_weights_of_the_other_method_are_refused_by_key(
    build: Callable[..., nn.Module], tmp_path: Path
):
    torch.save(add_scaling(build("vit"), attnscale=True).state_dict(), tmp_path / "attnscale.pth")
    model = add_scaling(build("vit"), featscale=True)
    with pytest.raises(CheckpointError, match=r"holds.*blocks\.0\.attn\.lamb.*model\.method"):
        load_weights(model, tmp_path / "attnscale.pth")


def test_missing_keys_are_refused_unless_declared(build: Callable[..., nn.Module], tmp_path: Path):
    state = build("vit").state_dict()
    del state["head.weight"], state["head.bias"]
    torch.save(state, tmp_path / "headless.pth")
    load = partial(load_weights, build("vit"), tmp_path / "headless.pth")
    with pytest.raises(
        CheckpointError, match=r"lacks head\.bias, head\.weight; .*init_allow_missing"
    ):
        load(purpose=Purpose.training)
    report = load(purpose=Purpose.training, allow_missing=["head.*"])
    assert report.missing == ("head.bias", "head.weight")


@pytest.mark.parametrize("kind", ["vit", "cait", "swin"])
def test_weights_of_another_model_leave_the_model_as_it_was(
    build: Callable[..., nn.Module], images: Tensor, tmp_path: Path, kind: str
):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "resnet.pth")
    model = build(kind)
    before = model(images)
    with pytest.raises(CheckpointError, match=r"resnet\.pth does not fit this .* and \d+ more"):
        load_weights(model, tmp_path / "resnet.pth")
    assert torch.equal(model(images), before)


def test_another_width_is_refused_with_both_shapes(build: Callable[..., nn.Module], tmp_path: Path):
    torch.save(VisionTransformer(**{**TINY, "embed_dim": 48}).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match=r"other shapes of .*qkv\.bias \[144\] for \[72\]"):
        load_weights(build("vit"), tmp_path / "wide.pth")


def test_a_deeper_swin_is_refused(build: Callable[..., nn.Module], tmp_path: Path):
    state = build("swin").state_dict()
    deeper = {re.sub(r"blocks\.1", "blocks.7", key): value for key, value in state.items()}
    torch.save({**state, **deeper}, tmp_path / "deep.pth")
    with pytest.raises(CheckpointError, match="of another model than SwinTransformer"):
        load_weights(build("swin"), tmp_path / "deep.pth")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_missing_and_torn_files_are_told_apart(tmp_path: Path, name: str):
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_state(tmp_path / name)
    (tmp_path / name).write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(CheckpointError, match="torn, or holds more than weights"):
        read_state(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model": {}}])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_state(tmp_path / "other.pth")


class Unsafe:
    """Of a class that torch does not know."""


def test_a_model_saved_as_an_object_is_refused_with_its_class(tmp_path: Path):
    torch.save({"model": Unsafe()}, tmp_path / "unsafe.pth")
    with pytest.raises(
        CheckpointError, match=r"holds no state dict.* an object of \S+\.Unsafe: .* state_dict\(\)"
    ):
        read_state(tmp_path / "unsafe.pth")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello world\n", b'{"id": 1}\n', b"\x80\x04junk", bytes(range(256)), b"PK\x03\x04"],
)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_what_is_no_file_of_weights_is_said_in_one_line_without_torchs_advice(
    tmp_path: Path, content: bytes, ending: str
):
    path = tmp_path / f"other.{ending}"
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=rf"it is no .*, or is cut off \({len(content)} bytes\)$"
    ) as raised:
        read_state(path)
    assert "weights_only" not in str(raised.value)


def read_instead_of_download(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """timm's own way to its weights, with a file in place of the network."""
    overlay = {"file": str(path)}
    create = partial(timm.create_model, pretrained_cfg_overlay=overlay)
    monkeypatch.setattr(timm, "create_model", create)


def test_a_timm_tag_is_loaded_through_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    published = randomised(timm.create_model("test_vit"))
    torch.save(published.state_dict(), tmp_path / "test_vit.pth")
    model = add_scaling(timm.create_model("test_vit"), attnscale=True)
    read_instead_of_download(monkeypatch, tmp_path / "test_vit.pth")
    report = load_timm(model, "test_vit.r160_in1k", purpose=Purpose.conversion)
    assert report.source == "timm:test_vit.r160_in1k"
    assert all(name.endswith("lamb") for name in report.missing)
    assert torch.equal(model.blocks[0].attn.qkv.weight, published.blocks[0].attn.qkv.weight)


def test_an_unknown_tag_names_those_near_it(build: Callable[..., nn.Module]):
    with pytest.raises(
        CheckpointError, match=r"no weights of that name; .*cait_s24_224\.fb_dist_in1k"
    ):
        load_timm(build("cait"), "cait_s24_224.fb_in1k")


def test_weights_that_cannot_be_fetched_say_what_to_do(
    build: Callable[..., nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read_instead_of_download(monkeypatch, tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match=r"copy the folder \$HF_HOME .* HF_HUB_OFFLINE=1"):
        load_timm(build("vit"), "test_vit.r160_in1k")
