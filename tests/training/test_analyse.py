"""From trained weights to measures of their layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import TINY
from torch import nn

from antioversmooth.analysis.record import Analysis
from antioversmooth.analysis.similarity import token_similarity
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.datasets.images import ArrayImages
from antioversmooth.errors import CheckpointError
from antioversmooth.runs import Run
from antioversmooth.runs.checkpoints import Checkpoint
from antioversmooth.training.data.loading import Loaders
from antioversmooth.training.run import checkpoint
from antioversmooth.training.weights.analyse import BATCH, analyse, validation_batches
from antioversmooth.training.weights.initial import new_model


def save(run: Run, model: nn.Module, step: int = 1) -> Path:
    """Leaves a checkpoint in the run, as training does."""
    kept = Checkpoint.named(run.checkpoints_dir, step, attempt=1)
    checkpoint.save_state(kept, {"id": run.id, "step": step, "model": model.state_dict()})
    return kept.path


def test_a_run_is_analysed_with_its_newest_weights(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("model.method=attnscale")
    config = run.experiment
    save(run, new_model(config, seed=1))
    model = new_model(config, seed=2)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.lamb.fill_(0.5)
    path = save(run, model, step=2)
    found = analyse(run.dir, num_images=40)
    assert found.title == config.title
    assert found.weights.startswith(f"{path.name}, sha256 ")
    assert found.num_images == 40
    assert found.checksums == open_dataset(config.data).checksums()
    found.write(run.dir / "analysis")
    again = Analysis.read(run.dir / "analysis" / "analysis.json")
    assert again is not None
    assert again.checksums == found.checksums
    assert again.selection == f"40 of {config.data.num_val:,}, evenly spaced in their order"
    assert set(found.measures["scales/w"][1]) == {0.5}
    images = torch.cat(list(validation_batches(config, open_dataset(config.data).val, 40)))
    journaled = token_similarity(model, images).tokens
    assert [found.measures["tokens/similarity"][layer] for layer in (1, 2)] == pytest.approx(
        journaled, abs=1e-6
    )


def test_a_checkpoint_and_a_file_from_elsewhere_are_analysed_alike(
    tiny_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = tiny_run()
    path = save(run, new_model(run.experiment, seed=1))
    elsewhere = tmp_path / "weights.pt"
    elsewhere.write_bytes(path.read_bytes())
    inside = analyse(path, num_images=8)
    outside = analyse(elsewhere, run.experiment, num_images=8)
    assert inside.measures == outside.measures
    with pytest.raises(CheckpointError, match="belongs to no run directory"):
        analyse(elsewhere, num_images=8)


def test_a_run_that_only_evaluates_is_analysed_with_the_weights_it_started_from(
    tiny_run: Callable[..., Run], make_run: Callable[..., Run]
) -> None:
    trained = tiny_run()
    path = save(trained, new_model(trained.experiment, seed=1))
    kept = [override for override in TINY if "epochs=" not in override]
    evaluated = make_run(
        "deit_s12",
        *kept,
        "recipe.epochs=0",
        "recipe.warmup_epochs=0",
        f"recipe.init_from='file:{path}'",
    )
    assert (
        analyse(evaluated.dir, num_images=8).measures == analyse(trained.dir, num_images=8).measures
    )


def test_validation_images_are_streamed_spread_over_the_split(
    tiny_run: Callable[..., Run],
) -> None:
    config = tiny_run().experiment
    images = open_dataset(config.data).val
    sizes = [len(batch) for batch in validation_batches(config, images, 10**6)]
    assert (sum(sizes), max(sizes)) == (len(images.labels), BATCH)
    every = torch.cat(list(validation_batches(config, images, 10**6)))
    some = torch.cat(list(validation_batches(config, images, 5)))
    places = [place * len(images.labels) // 5 for place in range(5)]
    torch.testing.assert_close(some, every[places], atol=0, rtol=0)


def test_classes_of_a_sorted_split_are_all_in_its_sample(tiny_run: Callable[..., Run]) -> None:
    config = tiny_run().experiment
    labels = np.repeat(np.arange(10), 7)
    images = ArrayImages(np.zeros((70, 1, 8, 8), np.uint8), labels, "sorted")
    loaders = Loaders(config, seed=0)
    assert torch.cat([batch.labels for batch in loaders.sample(images, 10)]).tolist() == [
        *range(10)
    ]
    assert sum(len(batch.labels) for batch in loaders.sample(images, 99)) == 70
