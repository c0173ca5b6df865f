"""`train(run)`: what every rank calls, whatever started it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from antioversmooth.analysis.similarity import token_similarity
from antioversmooth.config import Experiment
from antioversmooth.runs import Run, require_same_data
from antioversmooth.runs.metrics import START_TOP1, TOKEN_SIMILARITY
from antioversmooth.training.data.images import open_data
from antioversmooth.training.data.loading import Batch, Loaders
from antioversmooth.training.evaluator import Evaluation, Evaluator
from antioversmooth.training.run import attempt as attempts
from antioversmooth.training.run import distributed, system
from antioversmooth.training.run.attempt import Attempt
from antioversmooth.training.run.loop import Trainer
from antioversmooth.training.run.result import write_result
from antioversmooth.training.run.signals import StopRequest
from antioversmooth.training.run.watchdog import watching
from antioversmooth.training.step.distillation import load_teacher
from antioversmooth.training.weights.initial import load_initial_weights, new_model

SIMILARITY_IMAGES = 128
"""Validation images that the token similarity is measured on."""


def train(run: Run, *, redirect: bool = False) -> None:
    """Takes a run to its end: from its newest checkpoint, else from its initial weights, else from
    scratch.

    Does nothing for a run that has its result.

    Args:
        redirect: Whether output goes to the attempt's log folder rather than to where it goes now.

    Raises:
        AttemptEnded: Before the end; the next call continues.
        UserError: The run cannot be trained as it is.
    """
    if run.result() is not None:
        return
    with distributed.joined(run.experiment.runtime) as ranks:
        stop = StopRequest(supervised=ranks.place.source == "torchrun")
        with (
            attempts.opened(run, ranks, redirect=redirect) as attempt,
            system.watched(attempt),
            watching(attempt),
            stop.listening(),
        ):
            _train(attempt, stop)


def _train(attempt: Attempt, stop: StopRequest) -> None:
    run, ranks, config = attempt.run, attempt.ranks, attempt.run.experiment
    data = open_data(config.data)
    measures = data.measures()
    if attempt.resume_from is not None:
        require_same_data(run, measures)
    attempt.add_provenance(data={"name": config.data.name, "root": config.data.root, **measures})
    loaders = make_loaders(config, seed=run.seed, cpus=ranks.place.cpus)
    evaluator = Evaluator(config, data.val, loaders, ranks)
    model: Any = new_model(config, run.seed).to(ranks.device)
    start = None
    if attempt.resume_from is None and config.recipe.init_from is not None:
        start = _start_from_weights(attempt, model, evaluator)
    if config.recipe.epochs > 0:
        model.set_grad_checkpointing(config.runtime.gradient_checkpointing)
        trainer = Trainer(
            attempt,
            model,
            data.train,
            teacher=load_teacher(run, ranks),
            loaders=loaders,
            evaluator=evaluator,
            stop=stop,
        )
        if attempt.resume_from is not None:
            trainer.load(attempt.resume_from.load())
        trainer.fit()
    if ranks.is_main:
        attempt.check_fence()
        similarity = _record_similarity(attempt, model, evaluator, loaders.evaluation(data.val))
        only = start if config.recipe.epochs == 0 else None
        write_result(attempt, model, data, similarity=similarity, evaluation=only)


def make_loaders(config: Experiment, *, seed: int, cpus: int = 1) -> Loaders:
    """What makes the batches of an experiment."""
    return Loaders(
        config.data,
        config.recipe,
        config.runtime,
        image_size=config.model.image_size,
        seed=seed,
        cpus=cpus,
    )


def _start_from_weights(attempt: Attempt, model: nn.Module, evaluator: Evaluator) -> Evaluation:
    """Loads the initial weights, and journals what they reach before any training."""
    report = load_initial_weights(model, attempt.run)
    attempt.note("initial-weights", **asdict(report))
    start = evaluator(model)
    if start.unreadable and attempt.ranks.is_main:
        attempt.note_unreadable(start.unreadable)
    attempt.record(0, epoch=0, **{START_TOP1: start.top1}, **start.metrics())
    return start


def _record_similarity(
    attempt: Attempt, model: nn.Module, evaluator: Evaluator, split: Iterable[Batch]
) -> dict[str, Any]:
    """Journals the similarity between tokens after each block, by the authors' definition; returns
    every form of it.

    Args:
        split: All of it, not this rank's share: the images must not depend on the number of ranks.
    """
    images = _first_images(evaluator, split)
    similarity = token_similarity(model, images)
    for layer, value in enumerate(similarity.tokens, start=1):
        attempt.record(attempt.run.experiment.total_steps, layer=layer, **{TOKEN_SIMILARITY: value})
    return {**asdict(similarity), "images": len(images)}


def _first_images(evaluator: Evaluator, split: Iterable[Batch]) -> Tensor:
    found: list[Tensor] = []
    for batch in split:
        found.append(evaluator.preprocessing.normalise(batch.images))
        if sum(map(len, found)) >= SIMILARITY_IMAGES:
            break
    return torch.cat(found)[:SIMILARITY_IMAGES]
