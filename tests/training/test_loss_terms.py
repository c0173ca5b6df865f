"""Terms of the loss in a step: what patches show, where the step may be split, and records."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from outcomes import assert_bit_equal

from antioversmooth.config import Compiler, CutmixBox, RecipeConfig
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.errors import AttemptEnded
from antioversmooth.methods.losses import PatchTargets, PatchTokens
from antioversmooth.runs import Run
from antioversmooth.training.data.loading import Batch, Loaders
from antioversmooth.training.data.mixing import Mixing
from antioversmooth.training.data.sampling import MicroBatches, SampleOrder
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.step import learner as learners
from antioversmooth.training.step.learner import Learner, StepLosses
from antioversmooth.training.train import train
from antioversmooth.training.weights.initial import new_model

ALONE = Ranks(RankInfo(0, 1, 0, 1, "alone"), torch.device("cpu"), None)
RECIPE = RecipeConfig(epochs=10, global_batch=32, base_lr=1e-3, mix_group=4)
MakeRun = Callable[..., Run]


@pytest.mark.parametrize("box", CutmixBox)
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_a_patch_has_the_label_of_what_it_shows(box: CutmixBox, mode: str):
    """Images of one colour each, a channel a colour: a patch shows its label. Mixup and CutMix."""
    recipe = replace(RECIPE, label_smoothing=0.0, cutmix_box=box, mix_mode=mode)
    mixing, labels = Mixing(recipe, 8, seed=3), torch.arange(8)
    partners = torch.tensor([3, 2, 1, 0, 7, 6, 5, 4])
    parts = set()
    for first_view in range(0, 200, 8):
        painted = F.one_hot(labels, 8).float()[:, :, None, None].repeat(1, 1, 8, 8)
        mixed, targets = mixing(painted, labels, first_view)
        found = mixing.patch_targets(labels, first_view, image_size=8, patch_size=2)
        shown = mixed.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5)).flatten(2)
        label = (
            found.share[..., None] * found.own[:, None]
            + (1 - found.share)[..., None] * found.partner[:, None]
        )
        torch.testing.assert_close(label, shown.transpose(1, 2), atol=1e-6, rtol=0)
        torch.testing.assert_close(label.mean(1), targets, atol=1e-6, rtol=0)
        assert torch.equal(found.partner.argmax(1), partners)
        parts |= {*found.share.unique().tolist()}
    # both images whole, and cut patches
    assert {0.0, 1.0} <= parts
    assert len(parts) > 3


def test_what_patches_show_does_not_depend_on_the_split_over_ranks():
    mixing, labels = Mixing(RECIPE, 5, seed=3), torch.arange(16) % 5
    whole = mixing.patch_targets(labels, 64, 8, 4)
    halves = [
        mixing.patch_targets(labels[part], 64 + part.start, 8, 4)
        for part in (slice(0, 8), slice(8, 16))
    ]
    assert_bit_equal([*whole], [torch.cat(pair) for pair in zip(*halves, strict=True)])


def learner_of(
    run: Run,
    *,
    split: int = 1,
    rank: int = 0,
    world_size: int = 1,
    compiler: Compiler = Compiler.none,
) -> Learner:
    """The learner of a rank, whose part of the batch is split into micro-batches; no processes."""
    config = run.experiment
    order = SampleOrder(config.data.num_train, 128, seed=0)
    size = 128 // (split * world_size)
    micro_batches = MicroBatches(order, size, split, rank, 0, 9)
    return Learner(
        new_model(config, seed=0),
        config.recipe,
        config.data,
        micro_batches,
        ALONE,
        teacher=None,
        compiler=compiler,
        seed=0,
    )


def given(run: Run, learner: Learner, count: int) -> list[Batch]:
    """The first micro-batches, loaded in this process."""
    images = open_dataset(run.experiment.data).train
    batches = Loaders(run.experiment, seed=0).training(images, learner.micro_batches)
    return [next(batches) for _ in range(count)]


def first_losses(run: Run, **part: int) -> StepLosses:
    """Loss, and its terms, of a rank's first step."""
    learner = learner_of(run, **part)
    return learner.train_step(0, iter(given(run, learner, part.get("split", 1))))


@pytest.fixture
def with_method(tiny_run: MakeRun) -> MakeRun:
    """Makes a tiny run with a method, on batches that this process loads."""

    def make(method: str, options: str = "") -> Run:
        chosen = f"model.method={method}", f"model.method_options={{{options}}}"
        return tiny_run(*chosen, "runtime.workers=0")

    return make


def test_with_weights_of_0_the_step_is_the_baselines(with_method: MakeRun):
    learned = []
    for run in (
        with_method("none"),
        with_method("patchdiversity", "cosine: 0, contrastive: 0, mixing: 0"),
    ):
        learner = learner_of(run)
        losses = [learner.train_step(s, iter([b])) for s, b in enumerate(given(run, learner, 2))]
        assert [part.terms.numel() for part in losses] == [0, 0]
        learned.append({"loss": losses[1].loss, **learner.model.state_dict()})
    assert_bit_equal(*learned)


def test_the_loss_holds_the_terms_and_no_split_changes_them(with_method: MakeRun):
    """Micro-batches on one rank, and two ranks, whose parts add up."""
    run = with_method("patchdiversity", "contrastive: 0.5")
    plain, whole = first_losses(with_method("none")), first_losses(run)
    assert learner_of(run).terms.names == ("cosine", "contrastive", "mixing")
    weighted = (whole.terms * torch.tensor([1.0, 0.5, 1.0])).sum()
    torch.testing.assert_close(whole.loss, plain.loss + weighted, atol=1e-5, rtol=0)
    split = first_losses(run, split=4)
    ranks = [first_losses(run, split=2, rank=rank, world_size=2) for rank in (0, 1)]
    for loss, terms in (
        (split.loss, split.terms),
        (sum(r.loss for r in ranks) / 2, sum(r.terms for r in ranks) / 2),
    ):
        torch.testing.assert_close(loss, whole.loss, atol=1e-5, rtol=0)
        torch.testing.assert_close(terms, whole.terms, atol=1e-5, rtol=0)


METHODS = {"patchdiversity": "", "lateinsertion": "at: 1", "classattention": "", "registers": ""}


@pytest.mark.parametrize("method", METHODS)
def test_a_restored_step_is_the_undisturbed_one(with_method: MakeRun, method: str):
    """With dropout, drop path and mixing; all state that counts is in a checkpoint."""
    run = with_method(method, METHODS[method])
    straight, stopped, resumed = (learner_of(run) for _ in range(3))
    batches = given(run, straight, 2)
    for step in (0, 1):
        straight.train_step(step, iter(batches[step:]))
    stopped.train_step(0, iter(batches))
    resumed.load_state(copy.deepcopy(stopped.state()))
    resumed.train_step(1, iter(batches[1:]))
    assert_bit_equal(resumed.state(), straight.state())


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_learns_so_that_ranks_wait_for_none(
    with_method: MakeRun, method: str, tmp_path: Path
):
    """A group of one process is enough to ask the real wrapper: it refuses the second step after
    one without all gradients."""
    run = with_method(method, METHODS[method])
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        learner = learner_of(run)
        two = replace(ALONE, info=RankInfo(0, 2, 0, 2, "torchrun"))
        learner._forward = learners._parallel(learner.model, two)
        for step, batch in enumerate(given(run, learner, 2)):
            learner.train_step(step, iter([batch]))
    finally:
        dist.destroy_process_group()


def test_terms_are_float32_where_the_model_runs_in_half_precision(with_method: MakeRun):
    """On a GPU in float16; on a CPU autocast is bfloat16."""
    run = with_method("patchdiversity")
    learner = learner_of(run)
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    learner.dropouts.draw(0, 0, images)
    with torch.autocast("cpu", torch.bfloat16):
        _, tokens = learner.terms.separate(learner.model.train()(images))
    assert tokens.logits.dtype is torch.bfloat16
    targets = learner.mixing.patch_targets(torch.arange(16) % 10, 0, 8, 4)
    found = learner.terms.add(torch.zeros(()), tokens, targets)
    assert {value.dtype for value in found} == {torch.float32}
    wide = PatchTokens(*(part.double() for part in tokens))
    expected = learner.terms.method.terms(wide, PatchTargets(*(part.double() for part in targets)))
    torch.testing.assert_close(
        torch.stack(found[1:]).double(), torch.stack([*expected.values()]), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("method", ["patchdiversity", "classattention"])
def test_a_compiled_step_is_the_same_step(with_method: MakeRun, method: str):
    """With gradient checkpointing, dropout and drop path."""
    run = with_method(method, METHODS[method])
    learned = []
    for compiler in (Compiler.none, Compiler.aot_eager):
        learner = learner_of(run, compiler=compiler)
        learner.model.set_grad_checkpointing()
        learned.append(learner.train_step(0, iter(given(run, learner, 1))))
    torch.testing.assert_close(learned[1].loss, learned[0].loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(learned[1].terms, learned[0].terms, atol=1e-6, rtol=0)


def test_a_run_records_its_terms(with_method: MakeRun):
    run = with_method("patchdiversity", "mixing: 0")
    limited = replace(run.experiment.runtime, max_steps=2)
    run = replace(run, experiment=replace(run.experiment, runtime=limited))
    run.prepare()
    with pytest.raises(AttemptEnded):
        train(run)
    expected = {"train/term_cosine", "train/term_contrastive"}
    records = [record for record in run.metrics() if "train/loss" in record]
    assert [{key for key in r if "term" in key} for r in records] == [expected] * 2
    assert 0 < records[0]["train/term_cosine"] < 1
