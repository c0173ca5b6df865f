"""`train(run)`: training of one run, called on every rank by every launcher."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import nn

from antioversmooth.analysis.similarity import token_similarity
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.datasets.decoded import training_images
from antioversmooth.models.load_report import LoadReport
from antioversmooth.runs import Run, require_same_data
from antioversmooth.runs.metrics import (
    OFF_DIAGONAL_SIMILARITY,
    SIMILARITY_IMAGES,
    START_TOP1,
    START_WEIGHTS,
    TOKEN_SIMILARITY,
)
from antioversmooth.runs.recorded_data import record_classes
from antioversmooth.training.data.loading import Batch, Loaders
from antioversmooth.training.data.workers import loading_failures
from antioversmooth.training.evaluator import Evaluation, Evaluator
from antioversmooth.training.run import attempt as attempts
from antioversmooth.training.run.attempt import Attempt
from antioversmooth.training.run.checkpoint import load_state
from antioversmooth.training.run.distributed import process_group
from antioversmooth.training.run.loop import Trainer
from antioversmooth.training.run.result import write_result
from antioversmooth.training.run.signals import StopRequest
from antioversmooth.training.run.system import system_metrics
from antioversmooth.training.run.watchdog import watching
from antioversmooth.training.step.distillation import load_teacher
from antioversmooth.training.weights.initial import load_initial_weights, new_model


def train(run: Run, *, redirect: bool = False) -> None:
    """Trains a run to its end: from its newest checkpoint, else from its initial weights.

    Does nothing for a run that has its result.

    Args:
        redirect: Whether output goes to the attempt's log folder.

    Raises:
        AttemptEnded: The attempt ended early; the next call resumes.
        UserError: The run cannot be trained as specified.
    """
    if run.result() is not None:
        return
    with process_group(run.experiment.runtime) as ranks:
        stop = StopRequest(supervised=ranks.info.launcher == "torchrun")
        with (
            attempts.opened(run, ranks, redirect=redirect) as attempt,
            system_metrics(attempt),
            watching(attempt),
            stop.signal_handlers(),
            loading_failures() as failures,
        ):
            _train(attempt, stop, failures)


def _train(attempt: Attempt, stop: StopRequest, failures: Connection) -> None:
    run, ranks, config = attempt.run, attempt.ranks, attempt.run.experiment
    dataset = open_dataset(config.data)
    checksums = dataset.checksums()
    if attempt.resume_from is not None:
        require_same_data(run, checksums)
    if dataset.passed_over and ranks.is_main:
        print(f"data: {dataset.summary()}", file=sys.stderr, flush=True)
    if ranks.is_main:
        record_classes(run, dataset.classes)
    attempt.add_provenance(data={"name": config.data.name, "root": config.data.root, **checksums})
    loaders = Loaders(
        config,
        seed=run.seed,
        cpus=ranks.info.cpus,
        processes=ranks.info.local_world_size,
        failures=failures,
    )
    evaluator = Evaluator(config, dataset.val, loaders, ranks)
    model: Any = new_model(config, run.seed).to(ranks.device)
    loaded = None
    if attempt.resume_from is None and config.recipe.init_from is not None:
        loaded = load_initial_weights(model, run, dataset.classes)
        _report(attempt, "initial-weights", loaded)
    teacher = load_teacher(run, dataset.classes, ranks)
    if teacher is not None:
        _report(attempt, "teacher-weights", teacher.report)
    start = _evaluate_start(attempt, model, evaluator, loaded) if loaded else None
    if config.recipe.epochs > 0:
        model.set_grad_checkpointing(config.runtime.gradient_checkpointing)
        trainer = Trainer(
            attempt,
            model,
            training_images(config.data, dataset),
            classes=dataset.classes,
            teacher=teacher,
            loaders=loaders,
            evaluator=evaluator,
            stop=stop,
        )
        if attempt.resume_from is not None:
            trainer.load_state(load_state(attempt.resume_from.path))
        trainer.fit()
    if ranks.is_main:
        attempt.check_fence()
        sample = loaders.sample(dataset.val, SIMILARITY_IMAGES)
        similarity = _record_similarity(attempt, model, evaluator, sample)
        evaluation = start if config.recipe.epochs == 0 else None
        part = {"subset": dataset.subset} if dataset.subset else {}
        data = {**dataset.counts(), **part, **checksums}
        write_result(attempt, model, data, similarity=similarity, evaluation=evaluation)


def _report(attempt: Attempt, event: str, report: LoadReport) -> None:
    """Journals how weights were loaded, and logs it."""
    attempt.note(event, **asdict(report))
    if attempt.ranks.is_main:
        print("\n".join(report.lines()), file=sys.stderr, flush=True)


def _evaluate_start(
    attempt: Attempt, model: nn.Module, evaluator: Evaluator, loaded: LoadReport
) -> Evaluation:
    """Journals the accuracy of the initial weights before any training."""
    start = evaluator(model)
    if start.unreadable and attempt.ranks.is_main:
        attempt.note_unreadable(start.unreadable)
    at_start = {START_TOP1: start.top1, START_WEIGHTS: loaded.counts()}
    attempt.record(0, epoch=0, **at_start, **start.metrics())
    return start


def _record_similarity(
    attempt: Attempt, model: nn.Module, evaluator: Evaluator, sample: Iterable[Batch]
) -> dict[str, Any]:
    """Journals each block's token similarity, by both definitions, and returns it.

    Args:
        sample: Of the whole split, not of this rank's share: the images must not depend on the
            number of ranks.
    """
    images = torch.cat([evaluator.preprocessing.normalise(batch.images) for batch in sample])
    similarity = token_similarity(model, images)
    step = attempt.run.experiment.total_steps
    values = zip(similarity.tokens, similarity.off_diagonal, strict=True)
    for layer, (tokens, off_diagonal) in enumerate(values, start=1):
        found = {TOKEN_SIMILARITY: tokens, OFF_DIAGONAL_SIMILARITY: off_diagonal}
        attempt.record(step, layer=layer, **found)
    return {**asdict(similarity), "images": len(images)}
