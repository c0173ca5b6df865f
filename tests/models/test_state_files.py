"""Where the weights are in a file: under a key, under a prefix, in shards; and the messages about
files with several."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from backbones import BUILDERS, randomised
from torch import Tensor, nn

from antioversmooth import weight_files
from antioversmooth.errors import CheckpointError
from antioversmooth.models.layouts import official_state
from antioversmooth.models.state_files import read_state
from antioversmooth.models.weights import Purpose, load_weights

KINDS = pytest.mark.parametrize("kind", ["vit", "deit_distilled", "cait", "swin"])


def equal(model: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in model.state_dict().items())


def renamed(state: dict[str, Tensor], name: Callable[[str], str]) -> dict[str, Tensor]:
    return {name(key): value for key, value in state.items()}


# -- keys and prefixes -----------------------------------------------------------------------------

PREFIXES = ["model.", "net.", "backbone.", "encoder.", "module.", "student.", "teacher."]
PREFIXES += ["model.backbone.", "ema.module.", "_forward_module.model."]


@KINDS
@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_keys_is_removed_and_reported(
    kind: str, official: bool, prefix: str, tmp_path: Path
):
    trained, model = (randomised(BUILDERS[kind]()) for _ in range(2))
    state = official_state(trained) if official else trained.state_dict()
    torch.save({"state_dict": renamed(state, lambda key: prefix + key)}, tmp_path / "a.ckpt")
    report = load_weights(model, tmp_path / "a.ckpt")
    assert equal(model, trained)
    assert (report.key, report.prefix) == ("state_dict", prefix)
    said = f"a.ckpt, key 'state_dict', without the prefix '{prefix}': {report.unchanged} tensors"
    assert said in report.lines()[0]


@pytest.mark.parametrize(
    "name",
    [
        lambda key: f"_orig_mod.{key}",
        lambda key: f"model._orig_mod.{key}",
        lambda key: key.replace("attn.", "attn._orig_mod."),
        lambda key: key.replace("mlp.", "_checkpoint_wrapped_module.mlp."),
        lambda key: f"_fsdp_wrapped_module.{key.replace('attn.', '_fsdp_wrapped_module.attn.')}",
    ],
)
def test_names_of_torchs_wrappers_are_removed_at_any_depth(
    name: Callable[[str], str], tmp_path: Path
):
    trained, model = (randomised(BUILDERS["vit"]()) for _ in range(2))
    torch.save(renamed(trained.state_dict(), name), tmp_path / "weights.pth")
    load_weights(model, tmp_path / "weights.pth")
    assert equal(model, trained)


def test_weights_that_a_wrapper_doubles_are_refused(tmp_path: Path):
    state = BUILDERS["vit"]().state_dict()
    doubled = {**state, **renamed(state, lambda key: f"_orig_mod.{key}")}
    torch.save(doubled, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="holds weights twice"):
        load_weights(BUILDERS["vit"](), tmp_path / "weights.pth")


def test_keys_outside_of_the_prefix_are_refused_by_name(tmp_path: Path):
    """Of mmpretrain's models, for example, whose classifier is not under `backbone.`."""
    state = renamed(BUILDERS["vit"]().state_dict(), lambda key: f"backbone.{key}")
    state["head.weight"] = state.pop("backbone.head.weight") + 1
    state["loss.weight"] = torch.ones(3)
    torch.save({"state_dict": state}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"holds, and the model does not, loss\.weight"):
        load_weights(BUILDERS["vit"](), tmp_path / "weights.pth")


def test_a_tensor_with_and_without_the_prefix_is_refused(tmp_path: Path):
    """Either may be meant: a new classifier beside the old one, for example."""
    trained = BUILDERS["vit"]()
    state = renamed(trained.state_dict(), lambda key: f"model.{key}")
    torch.save({"net": {**state, "head.weight": torch.ones(5, 24)}}, tmp_path / "two.pth")
    model = BUILDERS["vit"]()
    with pytest.raises(
        CheckpointError, match=r"head\.weight with and without the prefix.* --key net\.model$"
    ):
        load_weights(model, tmp_path / "two.pth")
    load_weights(model, tmp_path / "two.pth", key="net.model")
    assert equal(model, trained)


def test_the_counter_of_torchs_moving_average_is_left_out_by_the_advice(tmp_path: Path):
    average = torch.optim.swa_utils.AveragedModel(randomised(BUILDERS["vit"]()))
    torch.save(average.state_dict(), tmp_path / "swa.pth")
    model = BUILDERS["vit"]()
    with pytest.raises(CheckpointError, match=r"does not, n_averaged; .* --key module$"):
        load_weights(model, tmp_path / "swa.pth")
    load_weights(model, tmp_path / "swa.pth", key="module")
    assert equal(model, average.module)


def student_and_teacher(form: str) -> tuple[nn.Module, dict[str, Any]]:
    """The teacher, and a file's content with both."""
    student, teacher = (randomised(BUILDERS["vit"]()) for _ in range(2))
    states = {"student": student.state_dict(), "teacher": teacher.state_dict()}
    if form == "keys":
        return teacher, {**states, "epoch": 3, "optimizer": {"state": {}}}
    flat = {f"{name}.{key}": t for name, state in states.items() for key, t in state.items()}
    if form == "prefixes within a key":
        return teacher, {"state_dict": flat, "global_step": 7}
    if form == "nested prefixes":
        inner = renamed(states["teacher"], lambda key: f"module.{key}")
        return teacher, {"student": states["student"], "teacher": inner}
    return teacher, flat


@pytest.mark.parametrize("form", ["keys", "prefixes", "prefixes within a key", "nested prefixes"])
def test_several_sets_of_weights_are_named_and_each_can_be_chosen(form: str, tmp_path: Path):
    teacher, content = student_and_teacher(form)
    path = tmp_path / "dino.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="several sets of weights: student, teacher") as said:
        load_weights(BUILDERS["vit"](), path)
    command = shlex.split(str(said.value).rpartition("of its own: ")[2])
    assert command[:3] == ["antioversmooth", "convert", str(path)]
    assert command[-2:] == ["--key", "student"]
    model = BUILDERS["vit"]()
    load_weights(model, path, key="teacher")
    assert equal(model, teacher)
    with pytest.raises(CheckpointError, match="holds no weights under pupil; it holds"):
        load_weights(model, path, key="pupil")


def test_a_part_of_what_a_prefix_holds_can_be_chosen(tmp_path: Path):
    """DINO's teacher has a projection head beside its backbone."""
    teacher = randomised(BUILDERS["vit"]())
    state = renamed(teacher.state_dict(), lambda key: f"backbone.{key}")
    state["head.mlp.weight"] = torch.ones(3, 3)
    torch.save({"student": {}, "teacher": state}, tmp_path / "dino.pth")
    model = BUILDERS["vit"]()
    with pytest.raises(
        CheckpointError, match=r"not, head\.mlp\.weight; .* --key teacher\.backbone$"
    ):
        load_weights(model, tmp_path / "dino.pth")
    load_weights(model, tmp_path / "dino.pth", key="teacher.backbone")
    assert equal(model, teacher)


def test_the_report_says_which_of_several_was_loaded(tmp_path: Path):
    trained, average = (randomised(BUILDERS["vit"]()) for _ in range(2))
    content = {"state_dict": trained.state_dict(), "state_dict_ema": average.state_dict()}
    torch.save(content, tmp_path / "timm.pth.tar")
    model = BUILDERS["vit"]()
    report = load_weights(model, tmp_path / "timm.pth.tar")
    assert equal(model, trained)
    assert (report.key, report.beside) == ("state_dict", ("state_dict_ema",))
    assert "timm.pth.tar, key 'state_dict' (not 'state_dict_ema'): " in report.lines()[0]
    report = load_weights(model, tmp_path / "timm.pth.tar", average=True)
    assert equal(model, average)
    assert (report.key, report.counts()["key"]) == ("state_dict_ema", "state_dict_ema")


def test_a_file_with_the_average_alone_gives_it_and_says_so(tmp_path: Path):
    trained = randomised(BUILDERS["vit"]())
    torch.save({"model_ema": trained.state_dict(), "epoch": 1}, tmp_path / "ema.pth")
    model = BUILDERS["vit"]()
    assert load_weights(model, tmp_path / "ema.pth").key == "model_ema"
    assert equal(model, trained)


# -- distilled models ------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize(
    ("stored", "asked", "value"),
    [("deit_distilled", "vit", "true"), ("vit", "deit_distilled", "false")],
)
def test_a_distillation_token_on_one_side_alone_is_refused_with_advice_that_works(
    stored: str, asked: str, value: str, purpose: Purpose, tmp_path: Path
):
    path = tmp_path / "weights.pth"
    torch.save({"model": BUILDERS[stored]().state_dict()}, path)
    with pytest.raises(CheckpointError, match=rf"set model\.distillation_token={value}"):
        load_weights(BUILDERS[asked](), path, purpose=purpose, allow_missing=["*"])
    load_weights(BUILDERS["deit_distilled" if value == "true" else "vit"](), path)


# -- shards ----------------------------------------------------------------------------------------


def write_shards(model: nn.Module, folder: Path, ending: str, count: int = 3) -> Path:
    """Writes the weights in shards; the path of their index."""
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    keys, place = list(state), {}
    stem = "model" if ending == "safetensors" else "pytorch_model"
    for number in range(count):
        name = f"{stem}-{number + 1:05}-of-{count:05}.{ending}"
        part = {key: state[key] for key in keys[number::count]}
        place |= dict.fromkeys(part, name)
        if ending == "safetensors":
            safetensors.torch.save_file(part, folder / name)
        else:
            torch.save(part, folder / name)
    index = folder / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": place}))
    return index


ENDINGS = pytest.mark.parametrize("ending", ["safetensors", "bin"])


@ENDINGS
@KINDS
def test_all_shards_of_an_index_are_loaded(kind: str, ending: str, tmp_path: Path):
    trained, model = (randomised(BUILDERS[kind]()) for _ in range(2))
    load_weights(model, write_shards(trained, tmp_path, ending))
    assert equal(model, trained)


@ENDINGS
def test_one_shard_of_several_is_refused_with_the_name_of_the_index(ending: str, tmp_path: Path):
    index = write_shards(BUILDERS["vit"](), tmp_path, ending)
    shard = sorted(tmp_path.glob(f"*00002-of*.{ending}"))[0]
    with pytest.raises(CheckpointError, match=rf"one of several shards .*: {index}$"):
        load_weights(BUILDERS["vit"](), shard, purpose=Purpose.training, allow_missing=["*"])
    index.unlink()
    with pytest.raises(CheckpointError, match=rf"one of 3 shards .* their index {index.name} "):
        load_weights(BUILDERS["vit"](), shard, purpose=Purpose.training, allow_missing=["*"])
    renamed_shard = shard.rename(tmp_path / f"half.{ending}")
    place = {"a": renamed_shard.name, "b": "other"}
    (tmp_path / "my.index.json").write_text(json.dumps({"weight_map": place}))
    with pytest.raises(CheckpointError, match=r"several shards .*my\.index\.json"):
        read_state(renamed_shard)


def test_weights_in_one_shard_alone_are_read_by_either_name(tmp_path: Path):
    trained = randomised(BUILDERS["vit"]())
    index = write_shards(trained, tmp_path, "safetensors", count=1)
    for path in (index, tmp_path / "model-00001-of-00001.safetensors"):
        model = BUILDERS["vit"]()
        load_weights(model, path)
        assert equal(model, trained)


def edited(index: Path, change: Callable[[dict[str, str]], object]) -> None:
    content = json.loads(index.read_text())
    change(content["weight_map"])
    index.write_text(json.dumps(content))


@ENDINGS
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda index, shard: shard.unlink(), "shards that are not in its folder: {shard}"),
        (lambda index, shard: shard.write_bytes(shard.read_bytes()[:-9]), "{shard} is torn, or"),
        (lambda index, shard: shard.write_bytes(b""), "{shard} is torn, or"),
        (
            lambda index, shard: edited(index, lambda m: m.update({"norm.bias": "../out"})),
            r"lists the shard '\.\./out'; a shard is a file in the folder of its index",
        ),
        (
            lambda index, shard: edited(index, lambda m: m.update({"norm.bias": "/etc/passwd"})),
            "lists the shard '/etc/passwd'; a shard is",
        ),
        (
            lambda index, shard: edited(index, lambda m: m.update({"norm.bias": index.name})),
            "a shard is a file",
        ),
        (lambda index, shard: edited(index, lambda m: m.update({"norm.bias": 7})), "a shard is"),
        (
            lambda index, shard: edited(index, lambda m: m.pop("norm.bias")),
            "does not hold what .* lists: norm.bias",
        ),
        (
            lambda index, shard: edited(index, lambda m: m.update({"new": shard.name})),
            "{shard} does not hold what .* lists: new",
        ),
        (lambda index, shard: index.write_text("[1]"), "is no index of shards"),
        (lambda index, shard: index.write_text('{"weight_map": {}}'), "is no index of shards"),
        (lambda index, shard: index.write_text("{"), "is no index of shards"),
        (lambda index, shard: index.unlink(), "there is no such file"),
    ],
)
def test_shards_that_do_not_agree_with_their_index_are_refused(
    ending: str, damage: Callable[[Path, Path], object], message: str, tmp_path: Path
):
    index = write_shards(BUILDERS["vit"](), tmp_path, ending)
    shard = sorted(tmp_path.glob(f"*00002-of*.{ending}"))[0]
    damage(index, shard)
    with pytest.raises(CheckpointError, match=message.format(shard=shard.name)):
        read_state(index)


def test_the_checksum_of_an_index_covers_its_shards(tmp_path: Path):
    index = write_shards(randomised(BUILDERS["vit"]()), tmp_path, "safetensors")
    before = weight_files.checksum(index)
    assert weight_files.checksum(index) == before
    write_shards(randomised(BUILDERS["vit"]()), tmp_path, "safetensors")
    assert weight_files.checksum(index) != before


def test_the_report_names_the_state_of_a_training_that_starts_anew(tmp_path: Path):
    """A checkpoint of the released main.py, to train on from its weights."""
    trained = randomised(BUILDERS["vit"]())
    optimizer = torch.optim.AdamW(trained.parameters())
    trained(torch.zeros(1, 3, 32, 32)).sum().backward()
    optimizer.step()
    content = {
        "model": trained.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {"t_initial": 500},
        "epoch": 7,
        "model_ema": trained.state_dict(),
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(epochs=500),
    }
    torch.save(content, tmp_path / "checkpoint.pth")
    model = BUILDERS["vit"]()
    report = load_weights(model, tmp_path / "checkpoint.pth", purpose=Purpose.training)
    assert equal(model, trained)
    assert (
        "4 not used, because training begins at its first step: optimizer, lr_scheduler, scaler,"
        " epoch"
    ) in report.lines()
    evaluated = load_weights(model, tmp_path / "checkpoint.pth")
    assert not evaluated.training
