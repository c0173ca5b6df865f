"""`antioversmooth export-model`: a run as a folder of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from completed import finish
from huggingface_hub import ModelCard
from timm.models import _hub
from torch import nn
from torchvision.transforms.functional import to_pil_image

from antioversmooth import cli
from antioversmooth.models.placement import scales
from antioversmooth.runs import Run
from antioversmooth.runs.checkpoints import Checkpoint
from antioversmooth.runs.recorded_data import record_classes
from antioversmooth.training.data.augmentation import eval_transform
from antioversmooth.training.run.checkpoint import save_state
from antioversmooth.training.weights.hub import FOLDED
from antioversmooth.training.weights.initial import new_model

SMALL = ("model.depth=2", "model.embed_dim=16", "model.num_heads=2", "recipe.ema_decay=0.9")
METRICS = {
    "val/top1": 91.5,
    "val/top5": 99.25,
    "val/images": 400,
    "ema/top1": 90.25,
    "ema/top5": 98.5,
}
DIGITS = [f"digit {number}" for number in range(10)]


@pytest.fixture
def done(make_run: Callable[..., Run]) -> Callable[..., Run]:
    """Makes a done run of small sizes with scales that are not zero, and an average of its
    weights."""

    def make(name: str, *overrides: str) -> Run:
        run = make_run(name, *SMALL, *overrides)
        if run.upstream:
            run.upstream.prepare()
        models = [new_model(run.experiment, seed) for seed in (0, 1)]
        for model in models:
            with torch.no_grad():
                for number, scale in enumerate(scales(model).values()):
                    scale.fill_(0.1 * (number + 1))
        weights, average = (model.state_dict() for model in models)
        place = Checkpoint.named(run.checkpoints_dir, run.experiment.total_steps, 1)
        save_state(place, {"id": run.id, "step": place.step, "model": weights, "ema": average})
        record_classes(run, DIGITS)
        final = {"file": place.path.name, "sha256": place.checksum}
        return finish(run, checkpoint=final, metrics=METRICS)

    return make


def logits(model: nn.Module) -> torch.Tensor:
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: torch.Tensor = model.eval()(images)
    return found


def weights_of(run: Run, key: str = "model") -> nn.Module:
    """The run's own model with the weights of its checkpoint."""
    (file,) = run.checkpoints_dir.glob("*.pt")
    model = new_model(run.experiment, seed=2)
    model.load_state_dict(torch.load(file, weights_only=True)[key])
    return model


def loaded(folder: Path) -> nn.Module:
    return timm.create_model(f"local-dir:{folder}", pretrained=True)


def test_timm_loads_the_runs_logits_and_its_transform(
    done: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = done("deit_s12_gfsa", "model.method_options.order=4")
    folder = tmp_path / "my model"
    assert cli.main(["export-model", str(run.dir), str(folder)]) == 0
    assert "logits and the run's are equal to the bit" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    model = loaded(folder)
    assert torch.equal(logits(model), logits(weights_of(run)))
    assert model.pretrained_cfg["label_names"] == DIGITS
    settings = timm.data.resolve_model_data_config(model)
    data = run.experiment.data
    assert [list(settings[key]) for key in ("mean", "std")] == [data.mean, data.std]
    ours = eval_transform(run.experiment.recipe, data, 28)
    theirs = timm.data.create_transform(**settings, is_training=False, use_prefetcher=True)
    image = torch.randint(256, (1, 40, 31), generator=torch.Generator().manual_seed(0)).byte()
    found, expected = theirs(to_pil_image(image)), ours(image)
    assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))


def test_the_card_has_metadata_that_the_hub_reads_and_says_what_the_model_is(
    done: Callable[..., Run], tmp_path: Path
) -> None:
    run = done("deit_s12_featscale")
    words = ["export-model", str(run.dir), str(tmp_path / "out"), "--license", "cc-by-4.0"]
    assert cli.main(words) == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "timm")
    assert "validation images (400 of " in card.content
    results = card.data.eval_results
    assert [(one.metric_name, one.metric_value) for one in results] == [
        ("Top-1 accuracy (%)", 91.5),
        ("Top-5 accuracy (%)", 99.25),
    ]
    assert {(one.dataset_name, one.task_type) for one in results} == {
        (run.experiment.data.name, "image-classification")
    }
    for fact in (run.id, "import antioversmooth.models", "91.50 %", "base_lr:", "1 + 2s", "`cc-by"):
        assert fact in card.text
    assert str(tmp_path) not in card.content


def test_the_moving_average_has_its_own_weights_and_accuracy(
    done: Callable[..., Run], tmp_path: Path
) -> None:
    run = done("swin_s_attnscale", "model.stage_depths=[1,1]", "model.image_size=32")
    folder = tmp_path / "out"
    assert cli.main(["export-model", str(run.dir), str(folder), "--average"]) == 0
    images = torch.randn(2, 1, 32, 32)
    theirs, ours = loaded(folder).eval(), weights_of(run, "ema").eval()
    assert torch.equal(theirs(images), ours(images))
    results = ModelCard.load(folder / "README.md").data.eval_results
    assert [one.metric_value for one in results] == [90.25, 98.5]


def test_caits_attnscale_folds_into_a_model_that_plain_timm_loads(
    done: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = done("cait_xxs24_attnscale")
    folder = tmp_path / "out"
    assert cli.main(["export-model", str(run.dir), str(folder), "--fold"]) == 0
    assert "differ by at most" in capsys.readouterr().out
    assert json.loads((folder / "config.json").read_text())["architecture"] == "cait_s24_224"
    assert "import antioversmooth" not in (folder / "README.md").read_text()
    expected = logits(weights_of(run))
    difference = (logits(loaded(folder)) - expected).abs().max() / expected.abs().max()
    assert 0 < difference <= FOLDED


def test_what_push_to_hf_hub_uploads_is_loaded_as_the_same_model(
    done: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = done("deit_s12_attnscale")
    folder, hub = tmp_path / "out", tmp_path / "hub"
    assert cli.main(["export-model", str(run.dir), str(folder)]) == 0

    def upload_folder(*, folder_path: str, **_: Any) -> None:
        Path(folder_path).rename(hub)
        Path(folder_path).mkdir()

    api = SimpleNamespace(
        create_repo=lambda repo, **_: SimpleNamespace(repo_id=repo),
        file_exists=lambda **_: True,
        upload_folder=upload_folder,
    )
    monkeypatch.setattr(_hub, "HfApi", lambda **_: api)
    _hub.push_to_hf_hub(loaded(folder), "me/model", safe_serialization=True)
    assert torch.equal(logits(loaded(hub)), logits(weights_of(run)))
    pushed, ours = (json.loads((place / "config.json").read_text()) for place in (hub, folder))
    assert pushed["model_args"] == ours["model_args"]
    assert loaded(hub).pretrained_cfg["label_names"] == DIGITS


@pytest.mark.parametrize(
    ("row", "further", "message"),
    [
        ("deit_s12_attnscale", ["--fold"], "blocks.0.attn.lamb is not zero and cannot be folded"),
        ("deit_s12", ["--license", "My Own"], "'My Own' is no name of a licence on the hub"),
    ],
)
def test_runs_that_cannot_be_exported_name_the_reason_and_write_nothing(
    done: Callable[..., Run],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    row: str,
    further: list[str],
    message: str,
) -> None:
    folder = tmp_path / "new" / "out"
    words = ["export-model", str(done(row).dir), str(folder), *further]
    assert _code(words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("new/*")) + list(tmp_path.glob("new/.*"))


def test_a_run_that_is_not_done_and_a_folder_with_content_are_refused(
    done: Callable[..., Run],
    make_run: Callable[..., Run],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "out"
    assert _code(["export-model", str(make_run("deit_s24").dir), str(folder)]) == 2
    assert "deit_s24 seed 0 is not done, and has no final weights" in capsys.readouterr().err
    assert _code(["export-model", str(tmp_path), str(folder)]) == 2
    assert "is no run directory" in capsys.readouterr().err
    run = done("deit_s12")
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    assert _code(["export-model", str(run.dir), str(folder)]) == 2
    assert f"{folder} is there already; name a new folder" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    next(run.checkpoints_dir.glob("*.pt")).unlink()
    assert _code(["export-model", str(run.dir), str(tmp_path / "other")]) == 2
    assert "step00" in capsys.readouterr().err


def test_no_folder_or_link_that_is_there_is_replaced(
    done: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = done("deit_s12")
    (tmp_path / "empty").mkdir(mode=0o555)
    (tmp_path / "link").symlink_to("empty")
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "link", "."):
        assert _code(["export-model", str(run.dir), name]) == 2
        assert f"{name} is there already; name a new folder, as {Path(name, 'my-model')}" in (
            capsys.readouterr().err
        )
    assert (tmp_path / "empty").stat().st_mode & 0o777 == 0o555


def _code(words: list[str]) -> int:
    """The exit code, also where the parser exits."""
    try:
        return cli.main(words)
    except SystemExit as err:
        return int(str(err.code))
