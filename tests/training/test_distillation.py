"""Learning from a teacher: DeiT's formulas, a teacher that nothing changes, and runs that go on to
the bit."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import timm
import torch
import torch.nn.functional as F
from outcomes import assert_bit_equal, final_state, losses, without_times
from processes import tiny
from torch import Tensor, nn

from antioversmooth import runs, spec
from antioversmooth.config import DataConfig, DataSource, Distillation, Experiment, RecipeConfig
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.errors import AttemptEnded, CheckpointError, SpecError
from antioversmooth.runs import Run, journal
from antioversmooth.training.data.decoding import open_image
from antioversmooth.training.data.sampling import SampleOrder
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.step.distillation import Criterion, Teacher, load_teacher
from antioversmooth.training.train import train
from antioversmooth.training.weights.initial import new_model

ALONE = Ranks(RankInfo(0, 1, 0, 1, "alone"), torch.device("cpu"), None)
GREY = DataConfig(
    name="grey", source=DataSource.digits, num_classes=3, num_train=1, num_val=1, mean=[0.5] * 3
)
CLASSES = [str(digit) for digit in range(10)]
Pair = Callable[..., tuple[Run, Run]]


def recipe(kind: Distillation, **options: float) -> RecipeConfig:
    return RecipeConfig(
        epochs=9, global_batch=32, base_lr=1.0, distillation=kind, teacher="timm:any", **options
    )


def probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


@pytest.fixture
def outputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of both classifiers, soft labels, and a teacher's logits, of 4 images and 5
    classes."""
    generator = torch.Generator().manual_seed(0)
    own, distilled, taught, labels = (torch.randn(4, 5, generator=generator) * 3 for _ in range(4))
    return own, distilled, labels.softmax(1), taught


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("has_token", [True, False])
def test_hard_the_loss_is_deits(outputs: tuple[Tensor, ...], alpha: float, has_token: bool) -> None:
    own, distilled, labels, taught = outputs
    followed = distilled if has_token else own
    labelled = -(labels.numpy() * np.log(probabilities(own.numpy()))).sum(1).mean()
    decided = taught.numpy().argmax(1)
    decision = -np.log(probabilities(followed.numpy())[np.arange(4), decided]).mean()
    criterion = Criterion(recipe(Distillation.hard, distillation_alpha=alpha))
    loss = criterion((own, distilled) if has_token else own, labels, taught)
    assert loss.item() == pytest.approx((1 - alpha) * labelled + alpha * decision, rel=1e-5)


@pytest.mark.parametrize(("alpha", "tau"), [(0.1, 3.0), (0.5, 1.0)])
@pytest.mark.parametrize("has_token", [True, False])
def test_soft_the_loss_is_deits(
    outputs: tuple[Tensor, ...], alpha: float, tau: float, has_token: bool
) -> None:
    own, distilled, labels, taught = outputs
    followed = distilled if has_token else own
    labelled = -(labels.numpy() * np.log(probabilities(own.numpy()))).sum(1).mean()
    ours, theirs = (probabilities(logits.numpy() / tau) for logits in (followed, taught))
    # DeiT's code divides by classes, too
    divergence = (theirs * np.log(theirs / ours)).sum() * tau**2 / (4 * 5)
    criterion = Criterion(recipe(Distillation.soft, distillation_alpha=alpha, distillation_tau=tau))
    loss = criterion((own, distilled) if has_token else own, labels, taught)
    assert loss.item() == pytest.approx((1 - alpha) * labelled + alpha * divergence, rel=1e-5)


def test_without_a_teacher_the_labels_are_all(outputs: tuple[Tensor, ...]) -> None:
    own, _, labels, _ = outputs
    expected = -(labels.numpy() * np.log(probabilities(own.numpy()))).sum(1).mean()
    criterion = Criterion(RecipeConfig(epochs=9, global_batch=32, base_lr=1.0))
    assert criterion(own, labels, None).item() == pytest.approx(expected, rel=1e-6)


def test_a_teacher_sees_images_normalised_as_it_was_made_for() -> None:
    seen = nn.Flatten()
    pixels = torch.rand(2, 3, 4, 4)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    shared = (pixels - 0.5) / torch.tensor(GREY.std)[:, None, None]
    expected = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(
        Teacher(seen, mean, std, GREY)(shared), expected.flatten(1), atol=1e-5, rtol=1e-5
    )
    assert torch.equal(Teacher(seen, GREY.mean, GREY.std, GREY)(shared), shared.flatten(1))


def test_a_teacher_is_frozen_and_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    before = copy.deepcopy(model.state_dict())
    teacher = Teacher(model, GREY.mean, GREY.std, GREY)
    images = torch.randn(2, 3, 1, 1)
    logits = teacher(images)
    assert not logits.requires_grad
    assert torch.equal(logits, teacher(images))
    assert_bit_equal(dict(model.state_dict()), dict(before))


@pytest.fixture
def pair(experiments: Path, tmp_path: Path) -> Pair:
    """Makes a tiny teacher, trained the first time, and a tiny run that learns from it, with
    overrides."""

    def load(name: str, *overrides: str) -> Experiment:
        return spec.load_experiment(
            experiments / f"{name}.yaml", ["profile=mini", *tiny(*overrides)]
        )

    def make(*overrides: str) -> tuple[Run, Run]:
        pupil = load("deit_s12_distilled_featscale", "recipe.teacher='run:deit_s12'", *overrides)
        teacher, run = runs.plan([pupil], [0], tmp_path, lambda name: load(name))
        for each in (teacher, run):
            each.prepare()
        train(teacher)
        return teacher, run

    return make


def test_a_distilled_run_continues_to_the_bit(pair: Pair) -> None:
    """Both classifiers learn, dropout and all; the teacher is no part of a checkpoint."""
    teacher, run = pair()
    assert run.teacher == teacher
    assert Run.load(run.dir) == run
    train(run)
    (report,) = [r for r in journal.read(run.attempts_path) if r["event"] == "teacher-weights"]
    assert (report["key"], Path(report["source"]).parent) == ("model", teacher.checkpoints_dir)
    expected, expected_losses = final_state(run), losses(run)
    start = new_model(run.experiment, 0).state_dict()
    assert expected["model"].keys() == start.keys()
    for key in ("head.weight", "head_dist.weight", "dist_token", "blocks.1.lamb2"):
        assert not torch.equal(start[key], expected["model"][key]), key
    shutil.rmtree(run.dir)

    _, stopped = pair("runtime.max_steps=5")
    with pytest.raises(AttemptEnded, match="max_steps"):
        train(stopped)
    _, continued = pair()
    train(continued)
    assert losses(continued) == expected_losses
    assert_bit_equal(without_times(final_state(continued)), without_times(expected))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_runs_loss_is_that_of_a_plain_computation(pair: Pair, kind: str) -> None:
    plain = (
        "recipe.mix_prob=0",
        "recipe.random_erasing=0",
        "recipe.dropout=0",
        "recipe.drop_path=0",
    )
    teacher, run = pair(*plain, f"recipe.distillation={kind}", "runtime.max_steps=1")
    with pytest.raises(AttemptEnded, match="max_steps"):
        train(run)
    config = run.experiment
    data = open_dataset(config.data).train
    chosen = SampleOrder(1438, 128, seed=0).images(0)[:128]
    images = torch.stack([open_image(data, int(index)) for index in chosen]) / 255
    images = (images - config.data.mean[0]) / config.data.std[0]
    labels = torch.tensor(data.labels)[torch.tensor(chosen)]
    master: Any = new_model(teacher.experiment, 0).eval()
    master.load_state_dict(final_state(teacher)["model"])
    pupil: Any = new_model(config, 0).train()
    pupil.set_distilled_training(True)
    (own, distilled), taught = pupil(images), master(images)
    loss = 0.5 * F.cross_entropy(own, labels, label_smoothing=0.1)
    if kind == "hard":
        loss = loss + 0.5 * F.cross_entropy(distilled, taught.argmax(1))
    else:
        divergence = taught.softmax(1) * (taught.log_softmax(1) - distilled.log_softmax(1))
        loss = loss + 0.5 * divergence.mean()
    assert losses(run) == pytest.approx([loss.item()], abs=1e-6, rel=0)


def test_processes_are_no_hyper_parameter_of_a_distilled_run(pair: Pair) -> None:
    measured = []
    for ranks in (1, 2):
        _, run = pair("runtime.device_batch=64", "recipe.epochs=1")
        assert processes.train(run, ranks=ranks) == [0] * ranks
        measured.append(losses(run))
        shutil.rmtree(run.dir)
    assert measured[1] == pytest.approx(measured[0], abs=1e-6, rel=0)


def test_another_teacher_is_another_run(experiments: Path, tmp_path: Path) -> None:
    """A changed recipe of the teacher, too; what a teacher's file is called does not matter."""
    pupil = spec.load_experiment(experiments / "deit_s12_distilled.yaml", ["profile=mini"])

    def ids(*changes: str) -> list[str]:
        teacher = spec.load_experiment(experiments / "swin_s.yaml", ["profile=mini", *changes])
        return [run.id for run in runs.plan([pupil], [0], tmp_path, lambda _: teacher)]

    assert ids()[1] != ids("recipe.epochs=7")[1]
    files = [tmp_path / "a.pth", tmp_path / "b.pth", tmp_path / "c.pth"]
    for path, content in zip(files, (b"one", b"one", b"another"), strict=True):
        path.write_bytes(content)
    taught = [
        replace(pupil.recipe, teacher=f"file:{path}", teacher_model="resnet18") for path in files
    ]
    same, too, other = (
        runs.plan([replace(pupil, recipe=r)], [0], tmp_path, lambda _: pupil)[0].id for r in taught
    )
    assert same == too != other


def test_a_teacher_that_has_not_ended_is_named(pair: Pair) -> None:
    teacher, run = pair()
    (teacher.dir / "result.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"deit_s12 seed 0 is not done; .* seed 0 learns from it"
    ):
        train(run)


@pytest.fixture
def filed(make_run: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """Makes a run whose teacher is a file of one of timm's smallest models with so many classes."""

    def make(
        classes: int,
        *overrides: str,
        teacher_model: str = "test_resnet",
        weights: str = "test_resnet",
        names: list[str] | None = None,
    ) -> Run:
        torch.manual_seed(0)
        model = timm.create_model(weights, num_classes=classes, in_chans=1)
        named = {"classes": names} if names else {}
        torch.save({"model": model.state_dict(), **named}, tmp_path / "teacher.pth")
        origin = f"recipe.teacher='file:{tmp_path}/teacher.pth'"
        return make_run(
            "deit_s12_distilled", origin, f"recipe.teacher_model={teacher_model}", *overrides
        )

    return make


def test_a_teacher_that_was_overwritten_since_the_launch_is_refused(
    filed: Callable[..., Run], tmp_path: Path
) -> None:
    run = filed(10)
    (tmp_path / "teacher.pth").write_bytes(b"others")
    with pytest.raises(CheckpointError, match=r"recipe.teacher: .*teacher.pth has other content"):
        load_teacher(run, CLASSES, ALONE)


def test_a_file_of_any_model_of_timm_teaches(filed: Callable[..., Run]) -> None:
    teacher = load_teacher(filed(10), CLASSES, ALONE)
    assert teacher is not None
    assert teacher(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_a_teacher_of_other_classes_is_refused(filed: Callable[..., Run]) -> None:
    with pytest.raises(CheckpointError, match="classifier of 7 classes, and this model one of 10"):
        load_teacher(filed(7), CLASSES, ALONE)


def test_a_teacher_gives_its_logits_in_the_order_of_the_datas_classes(
    filed: Callable[..., Run],
) -> None:
    turned = CLASSES[3:] + CLASSES[:3]
    images = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    teachers = [load_teacher(filed(10, names=names), CLASSES, ALONE) for names in (None, turned)]
    plain, ordered = (teacher(images) for teacher in teachers if teacher)
    torch.testing.assert_close(ordered, plain[:, [turned.index(name) for name in CLASSES]])
    described = [teacher.report.classes for teacher in teachers if teacher]
    assert described[0] == "by number: the weights do not record names"
    assert described[1] == "by name, in another order than the weights'"
    trees = [f"tree{number}" for number in range(10)]
    with pytest.raises(CheckpointError, match="class 9 is oak in the data, tree9 for"):
        load_teacher(filed(10, names=trees), [*trees[:9], "oak"], ALONE)


def test_a_teacher_that_timm_does_not_know_is_refused(filed: Callable[..., Run]) -> None:
    with pytest.raises(CheckpointError, match=r"teacher_model: timm has no model 'resnet_of_mine'"):
        load_teacher(filed(10, teacher_model="resnet_of_mine"), CLASSES, ALONE)


def test_a_teacher_sees_images_of_its_own_size(filed: Callable[..., Run]) -> None:
    teacher = load_teacher(filed(10, teacher_model="test_vit", weights="test_vit"), CLASSES, ALONE)
    assert teacher is not None
    # the teacher takes images of 160 x 160
    assert teacher(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    seen = Teacher(nn.Identity(), GREY.mean, GREY.std, GREY, image_size=8)(
        torch.full((1, 3, 6, 6), 0.7)
    )
    torch.testing.assert_close(seen, torch.full((1, 3, 8, 8), 0.7))


def test_a_run_of_other_data_cannot_teach(experiments: Path, tmp_path: Path) -> None:
    """Said before the teacher is trained."""
    pupil = spec.load_experiment(
        experiments / "deit_s12_distilled.yaml", ["profile=mini", "data.num_classes=7"]
    )
    teacher = spec.load_experiment(experiments / "swin_s.yaml", ["profile=mini"])
    with pytest.raises(
        SpecError, match=r"swin_s has data\.num_classes = 10, and cannot teach where it is 7"
    ):
        runs.plan([pupil], [0], tmp_path, lambda _: teacher)


def test_the_shipped_rows_learn_from_teachers_that_fit(experiments: Path, tmp_path: Path) -> None:
    """The mini teacher takes images of another size than its pupils."""
    (_, run) = spec.load([experiments / "deit_s12_distilled.yaml"], ["profile=mini"]).plan(
        [0], tmp_path
    )
    assert run.teacher is not None
    theirs = run.teacher.experiment
    model = new_model(theirs, 0)
    teacher = Teacher(
        model, theirs.data.mean, theirs.data.std, run.experiment.data, theirs.model.image_size
    )
    side = run.experiment.model.image_size
    assert teacher(torch.zeros(1, run.experiment.data.in_channels, side, side)).shape == (1, 10)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["recipe.teacher=null"], "recipe.distillation = hard needs a teacher"),
        (["recipe.distillation=none"], "recipe.distillation = none has no teacher"),
        (["recipe.teacher='file:/some.pth'"], "timm's name of the model"),
        (["recipe.teacher_model=resnet18"], "timm's name of the model"),
        (["recipe.teacher='web:any'"], "timm:<tag>, file:<path> or run:<experiment>"),
        (["recipe.teacher='run:deit_s13'"], "there is no row `deit_s13`"),
        (["recipe.distillation_alpha=1.5"], "between 0 and 1"),
        (["recipe.distillation_tau=0"], "above 0"),
        (["recipe.epochs=0", "recipe.warmup_epochs=0"], "nothing is learnt in recipe.epochs = 0"),
        (["model.family=cait"], "only family vit has a distillation token, this is cait"),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_what_does_not_fit_is_said_before_anything_starts(
    experiments: Path, overrides: list[str], said: str
) -> None:
    with pytest.raises(SpecError) as refused:
        spec.load([experiments / "deit_s12_distilled.yaml"], ["profile=mini", *overrides])
    assert said in str(refused.value)
