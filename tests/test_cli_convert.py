"""`antioversmooth convert` and `antioversmooth evaluate`."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import torch
from PIL import Image
from timm.models.cait import Cait
from torch import nn

from antioversmooth import cli
from antioversmooth.models.placement import scales
from antioversmooth.models.state_files import read_state
from antioversmooth.models.weights import load_weights
from antioversmooth.runs import Run
from antioversmooth.runs.checkpoints import Checkpoint
from antioversmooth.training.run.checkpoint import save_state
from antioversmooth.training.weights.initial import new_model
from antioversmooth.training.weights.trained import trained_model

SMALL = ("profile=mini", "model.depth=2", "model.embed_dim=16", "model.num_heads=2")


@pytest.fixture
def project(tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the shipped specs and no results, as the working directory."""
    (tmp_path / "experiments").symlink_to(experiments)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(project: Path, make_run: Callable[..., Run]) -> Callable[[str], Run]:
    """Makes a run with weights, and with scales that are not zero."""

    def make(name: str) -> Run:
        # the profile is mini already
        run = make_run(name, *SMALL[1:])
        if run.upstream:
            run.upstream.prepare()
        model = new_model(run.experiment, seed=0)
        with torch.no_grad():
            for number, scale in enumerate(scales(model).values()):
                scale.fill_(0.1 * (number + 1))
        state = {"id": run.id, "step": 1, "model": model.state_dict(), "ema": None}
        save_state(Checkpoint.named(run.checkpoints_dir, 1, 1), state)
        return run

    return make


def logits(model: nn.Module) -> torch.Tensor:
    images = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: torch.Tensor = model.eval()(images)
    return found


def test_a_run_becomes_safetensors_that_say_what_they_are(
    trained: Callable[[str], Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("deit_s12_featscale")
    assert cli.main(["convert", str(run.dir), "out.safetensors"]) == 0
    tensors = len(trained_model(run.dir, run.experiment).state_dict())
    assert (
        f": {tensors} tensors loaded as they are\nwritten: out.safetensors"
        in capsys.readouterr().out
    )
    with safetensors.safe_open("out.safetensors", "pt") as file:
        said = file.metadata()
    assert (said["experiment"], json.loads(said["model"])["scaling_variant"]) == (
        "deit_s12_featscale",
        "released",
    )
    assert json.loads(said["scaling_folded"]) is False


def test_weights_come_back_from_the_official_layout(
    trained: Callable[[str], Run], project: Path
) -> None:
    run = trained("deit_s12_attnscale")
    row = ["--spec", "deit_s12_attnscale", *SMALL]
    assert cli.main(["convert", str(run.dir), "official.pth"]) == 0
    assert cli.main(["convert", "official.pth", "ours.safetensors", *row]) == 0
    saved = torch.load("official.pth", weights_only=True)["model"]
    ours = read_state(project / "ours.safetensors").tensors
    assert saved.keys() == ours.keys()
    assert all(torch.equal(saved[key], ours[key]) for key in ours)


def test_a_baselines_weights_get_scales_of_zero_and_every_key_is_named(
    trained: Callable[[str], Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("deit_s12")
    row = ["--spec", "deit_s12_attnscale", *SMALL]
    assert cli.main(["convert", str(run.dir), "scaled.safetensors", *row]) == 0
    said = capsys.readouterr().out
    assert (
        "2 not in the source, left at their initial values: blocks.0.attn.lamb, blocks.1.attn.lamb"
        in said
    )


def test_caits_attnscale_folds_into_a_plain_timm_model(
    trained: Callable[[str], Run], project: Path
) -> None:
    run = trained("cait_xxs24_attnscale")
    assert cli.main(["convert", str(run.dir), "plain.safetensors", "--fold"]) == 0
    plain = Cait(
        img_size=28, patch_size=7, in_chans=1, num_classes=10, embed_dim=16, depth=2, num_heads=2
    )
    load_weights(plain, project / "plain.safetensors")
    # one mixing instead of two rounds differently in float32
    torch.testing.assert_close(
        logits(plain), logits(trained_model(run.dir, run.experiment)), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("row", "further", "message"),
    [
        ("deit_s12_attnscale", ["--fold"], "blocks.0.attn.lamb is not zero and cannot be folded"),
        (
            "deit_s12_attnscale",
            ["--spec", "deit_s12_featscale", *SMALL],
            "holds weights of a model with model.method=attnscale, and deit_s12_featscale has",
        ),
        ("deit_s12", ["--spec", "cait_xxs24", *SMALL], "does not fit this Cait: it lacks"),
        ("deit_s12", ["--average"], "holds no moving average"),
        (
            "deit_s12",
            ["model.depth=3"],
            "model.depth=3: changes a row, and none is named; add --spec ROW",
        ),
    ],
)
def test_weights_that_cannot_be_converted_name_the_reason_and_write_nothing(
    trained: Callable[[str], Run],
    project: Path,
    capsys: pytest.CaptureFixture[str],
    row: str,
    further: list[str],
    message: str,
) -> None:
    run = trained(row)
    assert cli.main(["convert", str(run.dir), "out.safetensors", *further]) == 2
    assert message in capsys.readouterr().err
    assert not (project / "out.safetensors").exists()


@pytest.mark.parametrize("source", ["timm:cait_xxs24_224.fb_dist_in1k", "weights.pth"])
def test_weights_from_elsewhere_need_their_row(
    project: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    assert cli.main(["convert", source, "out.pth"]) == 2
    assert "belongs to no run directory; name its row: --spec ROW" in capsys.readouterr().err


def test_evaluate_tells_accuracy_and_form(
    trained: Callable[[str], Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("deit_s12_featscale")
    assert cli.main(["evaluate", str(run.dir), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["num_images"] == 1000
    # each class has a hundred images
    assert printed["val/top1"] == pytest.approx(sum(printed["per_class_top1"]) / 10)
    assert printed["forms"][0] == "FeatScale's form on DeiT: the released code's, 1 + 2s and 1 + 2t"
    # a .pth file does not record its form
    weights = next(run.checkpoints_dir.glob("*.pt")).rename("weights.pth")
    row = ["--spec", "deit_s12_featscale", *SMALL, "model.scaling_variant=paper"]
    assert cli.main(["evaluate", str(weights), *row]) == 0
    assert (
        "form     FeatScale's form on DeiT: the paper's, 1 + s and 1 + t\n"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("command", ["evaluate", "convert"])
@pytest.mark.parametrize("kind", ["run", "checkpoint", "file"])
def test_weights_of_another_form_than_asked_for_are_refused(
    trained: Callable[[str], Run],
    project: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    kind: str,
) -> None:
    run = trained("deit_s12_featscale")
    file = project / "weights.safetensors"
    assert cli.main(["convert", str(run.dir), str(file)]) == 0
    target = {"run": run.dir, "checkpoint": next(run.checkpoints_dir.glob("*.pt")), "file": file}[
        kind
    ]
    given = [command, str(target), *(["out.pth"] if command == "convert" else [])]
    row = ["--spec", "deit_s12_featscale", *SMALL]
    assert cli.main([*given, *row, "model.scaling_variant=paper"]) == 2
    message = (
        f"{target} holds weights of a model with model.scaling_variant=released, and"
        " deit_s12_featscale has model.scaling_variant=paper"
    )
    assert message in capsys.readouterr().err
    assert not (project / "out.pth").exists()
    assert cli.main([*given, *row]) == 0


def test_a_form_that_decides_nothing_of_a_model_is_not_asked_for(
    trained: Callable[[str], Run], project: Path
) -> None:
    """CaiT's FeatScale has one form, and folded weights have none."""
    assert cli.main(["convert", str(trained("cait_xxs24_featscale").dir), "cait.safetensors"]) == 0
    row = ["--spec", "cait_xxs24_featscale", *SMALL, "model.scaling_variant=paper"]
    assert cli.main(["convert", "cait.safetensors", "out.pth", *row]) == 0
    assert (
        cli.main(
            ["convert", str(trained("cait_xxs24_attnscale").dir), "plain.safetensors", "--fold"]
        )
        == 0
    )
    assert (
        cli.main(["convert", "plain.safetensors", "out.pth", "--spec", "cait_xxs24", *SMALL]) == 0
    )


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("", "there is no such folder or tar file"),
        ("images.zip", "must be a folder or a .tar file; unpack other files"),
        ("train/3/", "has no folder val and no class folders of images; what is read: DIR/val/"),
        ("empty/", "has no folder val and no class folders of images; what is read: DIR/val/"),
    ],
)
def test_data_without_validation_images_is_refused(
    trained: Callable[[str], Run],
    project: Path,
    capsys: pytest.CaptureFixture[str],
    layout: str,
    message: str,
) -> None:
    if layout:
        (project / "images" / layout).parent.mkdir(parents=True)
        (project / "images" / layout).with_suffix("").mkdir(exist_ok=True)
        (project / "images.zip").touch()
    data = "images.zip" if layout.endswith("zip") else "images"
    assert cli.main(["evaluate", str(trained("deit_s12").dir), "--data", data]) == 2
    assert message in capsys.readouterr().err


def test_weights_of_a_packaged_set_are_evaluated_on_a_folder_of_digits(
    trained: Callable[[str], Run], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for digit in (10, 3):
        (project / "images" / str(digit % 10)).mkdir(parents=True)
        Image.new("L", (28, 28), digit).save(project / "images" / str(digit % 10) / "one.png")
    run = trained("deit_s12")
    command = ["evaluate", str(run.dir), "--data", "images", "--class-map"]
    assert cli.main([*command, "index"]) == 0
    printed = capsys.readouterr().out
    assert f"in {project}/images: 2 validation images of 2 classes (fingerprint " in printed
    assert "2 of the weights' 10 classes: only their logits compete" in printed
    for content, message in (("[", "cannot be read"), ("[1]", "must be index, or a JSON file")):
        (project / "map.json").write_text(content)
        assert cli.main([*command, "map.json"]) == 2
        assert message in capsys.readouterr().err


def test_the_command_that_a_message_names_takes_one_of_several_weights(
    project: Path, make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_run("deit_s12", *SMALL[1:]).experiment
    student, teacher = (new_model(config, seed) for seed in (1, 2))
    content = {"student": student.state_dict(), "teacher": teacher.state_dict()}
    torch.save(content, project / "both of them.pth")
    row = ["--spec", "deit_s12", *SMALL]
    assert cli.main(["evaluate", "both of them.pth", *row]) == 2
    message = capsys.readouterr().err.strip()
    command = shlex.split(message.rpartition("of its own: antioversmooth ")[2])
    command[command.index("ROW")] = "deit_s12"
    assert cli.main([*command, *SMALL]) == 0
    read = read_state(project / "weights.safetensors").tensors
    assert all(torch.equal(read[key], value) for key, value in student.state_dict().items())
    assert cli.main(["evaluate", "weights.safetensors", *row]) == 0
    tensors = len(read)
    assert f"loaded   weights.safetensors: {tensors} tensors loaded" in capsys.readouterr().out


def test_a_distilled_file_is_evaluated_as_the_message_says(
    project: Path, make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_run("deit_s12", *SMALL[1:], "model.distillation_token=true").experiment
    torch.save(new_model(config, 0).state_dict(), "distilled.pth")
    row = ["--spec", "deit_s12", *SMALL]
    assert cli.main(["evaluate", "distilled.pth", *row]) == 2
    (advice,) = re.findall(r"set (model\.\w+=\w+)", capsys.readouterr().err)
    assert cli.main(["evaluate", "distilled.pth", *row, advice]) == 0


def test_measures_that_are_not_finite_are_no_analysis(
    project: Path, make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    model = new_model(make_run("deit_s12", *SMALL[1:]).experiment, 0)
    torch.nn.init.constant_(model.blocks[0].attn.qkv.weight, 1e38)
    torch.save(model.state_dict(), "large.pth")
    assert cli.main(["analyze", "large.pth", "--spec", "deit_s12", *SMALL, "--images", "4"]) == 2
    assert "measures of its layers are not finite numbers" in capsys.readouterr().err
    assert not (project / "large.analysis").exists()
