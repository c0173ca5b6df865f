"""The training loop: steps, journal records, epochs, checkpoints, and the early end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from antioversmooth.datasets.classes import describe_difference
from antioversmooth.datasets.decoded import DecodedImages
from antioversmooth.datasets.images import Images, check_unreadable
from antioversmooth.errors import AttemptEnded, CheckpointError, DataError
from antioversmooth.models.state_files import METADATA
from antioversmooth.runs.attempts import EndReason
from antioversmooth.runs.draws import DRAWS, other_draws_reason
from antioversmooth.runs.metrics import (
    EMA_TOP1,
    EMA_TOP5,
    EPOCH_SECONDS,
    IMAGES_PER_SECOND,
    PEAK_MEMORY,
    TRAIN_GRAD_NORM,
    TRAIN_LOSS,
    TRAIN_TERM,
    VAL_TOP1,
)
from antioversmooth.runs.result import epoch_records
from antioversmooth.training.data.loading import OK, Batch, Loaders
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.evaluator import Evaluator
from antioversmooth.training.run.attempt import SUPERSEDED, Attempt, is_full
from antioversmooth.training.run.checkpoint import CheckpointWriter, State
from antioversmooth.training.run.clock import EpochClock
from antioversmooth.training.run.signals import StepAction, StepAgreement, StopRequest
from antioversmooth.training.step.distillation import Teacher
from antioversmooth.training.step.learner import Learner
from antioversmooth.training.step.meter import Meter, MeterReading
from antioversmooth.training.step.optimisation import learning_rates
from antioversmooth.training.weights.recorded import record_of

REASONS = {
    action: SUPERSEDED if action is StepAction.superseded else EndReason[action.name].value
    for action in StepAction
    if action.stops
}
"""End reason of the attempt, by the action that the ranks agreed on."""


class Trainer:
    """Trains a run to its end, from its first step or from a checkpoint.

    Args:
        model: With its initial weights, on the device.
        images: The training set.
        classes: Names of its classes, in order.
        teacher: None: the model learns from the labels only.
        evaluator: Evaluates the model after each epoch.
    """

    def __init__(
        self,
        attempt: Attempt,
        model: nn.Module,
        images: Images,
        *,
        classes: Sequence[str],
        teacher: Teacher | None,
        loaders: Loaders,
        evaluator: Evaluator,
        stop: StopRequest,
    ) -> None:
        self.attempt, self.run, self.ranks = attempt, attempt.run, attempt.ranks
        self.config = self.run.experiment
        self.recipe, self.runtime = self.config.recipe, self.config.runtime
        self.images, self.loaders, self.evaluator, self.stop = images, loaders, evaluator, stop
        self.classes = list(classes)
        self.micro_batches = MicroBatches.of(
            self.config,
            seed=self.run.seed,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            start_step=self.step,
        )
        self.learner = Learner(
            model,
            self.recipe,
            self.config.data,
            self.micro_batches,
            self.ranks,
            teacher=teacher,
            compiler=self.runtime.compile,
            seed=self.run.seed,
        )
        self.meter = Meter(self.ranks, self.learner.terms.names)
        self.agreement = StepAgreement(self.ranks)
        self.writer = CheckpointWriter(self.run, attempt.number, attempt.is_superseded)
        self.best: tuple[float, int] | None = None
        """Highest val/top1 so far, and its step."""
        self.clock = EpochClock()
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._fence_checked_at = time.monotonic()
        self._unreadable: set[str] = set()
        self._failure: BaseException | None = None

    @property
    def step(self) -> int:
        """Completed steps of the run."""
        return self.attempt.step

    def load_state(self, state: State) -> None:
        """Resumes from the state of a checkpoint.

        Raises:
            DataError: It was trained on other classes.
            CheckpointError: The steps to go would be trained with other draws.
        """
        names = state.get("classes", self.classes)
        if names != self.classes:
            raise DataError(describe_difference(self.classes, names))
        reason = other_draws_reason(self.run, self.run.attempts(), state.get("draws", 1))
        if reason and self.step < self.config.total_steps:
            raise CheckpointError(reason)
        self.learner.load_state(state)
        self.meter.load_state(state["meter"])
        self.clock = EpochClock(state["epoch_s"])
        self.best = (state["best"][0], state["best"][1]) if state["best"] else None
        self._saved_step = self.step

    def _state(self) -> State:
        return {
            **self.learner.state(),
            "id": self.run.id,
            "classes": self.classes,
            METADATA: record_of(self.run.experiment.model),
            "draws": DRAWS,
            "step": self.step,
            "meter": self.meter.state(),
            "epoch_s": self.clock.epoch_s(),
            "best": list(self.best) if self.best else None,
        }

    def fit(self) -> None:
        """Trains to the end of the run.

        Raises:
            AttemptEnded: The attempt ends early, with the reason; the state is saved unless the
                reason forbids it.
        """
        try:
            self._train()
            self.agreement.wait()
            self.writer.wait()
        finally:
            self.writer.close()

    def _train(self) -> None:
        self.clock.start(self.step)
        if self.ranks.from_main(self.ranks.is_main and self._lacks_evaluation()):
            self._evaluate()
        self._check_step_limit()
        batches = self._checked(self.loaders.training(self.images, self.micro_batches))
        while self.step < self.config.total_steps:
            self.meter.add(self.step, *self.learner.train_step(self.step, batches))
            self.attempt.step += 1
            ends_epoch = self.step % self.config.steps_per_epoch == 0
            if ends_epoch or self.step % self.runtime.log_every == 0:
                self._record_training()
            if ends_epoch:
                self._end_of_epoch()
            self._end_of_step()

    def _checked(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; journals unreadable images, and stops the run if there are too many.

        A rank that finds one counts those of all ranks that are in the journal by then.
        """
        cache = self.images.folder if isinstance(self.images, DecodedImages) else None
        for batch in batches:
            self.ranks.progress.mark()
            found = {
                self.images.name(index) for index in batch.corrupt[batch.corrupt != OK].tolist()
            }
            if not found <= self._unreadable:
                self._unreadable = self.attempt.note_unreadable(found)
                try:
                    check_unreadable(self._unreadable, self.config.data.max_corrupt, cache)
                except DataError as err:
                    self._failure = err
            yield batch

    def _record_training(self) -> None:
        reading = self._check_finite(self.meter.read())
        images_per_s = self.clock.lap(self.step) * self.recipe.global_batch
        metrics = {
            TRAIN_LOSS: reading.loss,
            **learning_rates(self.learner.optimizer),
            IMAGES_PER_SECOND: images_per_s,
            **{TRAIN_TERM + name: value for name, value in reading.terms.items()},
        }
        if self.recipe.clip_grad is not None:
            metrics[TRAIN_GRAD_NORM] = reading.grad_norm
        if self.ranks.device.type == "cuda":
            metrics[PEAK_MEMORY] = torch.cuda.max_memory_allocated() / 2**30
        self.attempt.record(self.step, epoch=self.step / self.config.steps_per_epoch, **metrics)
        self.meter.reset()

    def _end_of_epoch(self) -> None:
        self._evaluate({EPOCH_SECONDS: self.clock.epoch_s()})
        self.clock = EpochClock()
        self.clock.start(self.step)
        self._save()

    def _lacks_evaluation(self) -> bool:
        """Whether the run stands at the end of an epoch whose evaluation its journal has lost."""
        ends_epoch = self.step > 0 and self.step % self.config.steps_per_epoch == 0
        evaluated = epoch_records(self.run.metrics()) if ends_epoch else []
        return ends_epoch and self.step not in {record["step"] for record in evaluated}

    def _evaluate(self, measured: Mapping[str, float] | None = None) -> None:
        """Evaluates the model, and journals it before any checkpoint of this step can be there.

        Args:
            measured: Other metrics of the epoch.
        """
        ema = self.learner.ema
        averages = [] if ema is None else [ema.module]
        evaluation, *of_averages = self.evaluator.each([self.learner.model, *averages])
        if evaluation.unreadable and self.ranks.is_main:
            self.attempt.note_unreadable(evaluation.unreadable)
        metrics = evaluation.metrics()
        for average in of_averages:
            metrics |= {EMA_TOP1: average.top1, EMA_TOP5: average.top5}
        epoch = self.step // self.config.steps_per_epoch
        self.attempt.record(self.step, epoch=epoch, **metrics, **(measured or {}))
        self.best = max(
            self.best or (-1.0, 0), (metrics[VAL_TOP1], self.step), key=lambda best: best[0]
        )

    def _end_of_step(self) -> None:
        """Does what the ranks agree on: nothing, a checkpoint, or the end of the attempt."""
        self._check_step_limit()
        action = self.agreement.all_reduce_max(self._requested_action())
        if action is StepAction.crash:
            self._end(action, "another rank failed; see its log")
        if action.stops:
            self._end(action, f"{REASONS[action]} after step {self.step}; the next start resumes")
        if action is StepAction.save:
            self._save()

    def _check_step_limit(self) -> None:
        if 0 < self.runtime.max_steps <= self.step < self.config.total_steps:
            self._end(StepAction.cancelled, f"runtime.max_steps = {self.runtime.max_steps} reached")

    def _requested_action(self) -> StepAction:
        self.stop.check_parents()
        if self._failure is not None:
            self.stop.add(StepAction.crash)
        if not self.ranks.is_main:
            return self.stop.action
        self._check_writer()
        self._check_superseded()
        return max(self.stop.action, self._checkpoint_if_due())

    def _check_writer(self) -> None:
        failure = self.writer.failed()
        if failure is not None:
            self._failure = failure
            self.stop.add(StepAction.disk_full if is_full(failure) else StepAction.crash)

    def _check_superseded(self) -> None:
        now = time.monotonic()
        if now - self._fence_checked_at > self.runtime.heartbeat_s:
            self._fence_checked_at = now
            if self.attempt.is_superseded():
                self.stop.add(StepAction.superseded)

    def _checkpoint_if_due(self) -> StepAction:
        """Requests each checkpoint once, since the agreement comes a step later."""
        now = time.monotonic()
        if now - self._saved_at <= self.runtime.checkpoint_every_s:
            return StepAction.proceed
        self._saved_at = now
        return StepAction.save

    def _check_finite(self, reading: MeterReading) -> MeterReading:
        """The reading; ends the attempt, before anything is saved, if a loss is not finite."""
        if reading.diverged_at is None:
            return reading
        step = reading.diverged_at
        scale = self.learner.scaler.get_scale()
        images = [view.image for view in self.micro_batches.order.views(step)]
        self.attempt.note("diverged", step=step, loss_scale=scale, samples=images)
        raise AttemptEnded(
            EndReason.crash.value,
            f"the loss of step {step} is not a finite number (loss scale {scale:g}); the images of"
            f" its batch are in {self.run.attempts_path.name}, the last good checkpoint remains",
        )

    def _save(self) -> None:
        """Saves a checkpoint unless this step has one; all ranks call this together."""
        self._check_finite(self.meter.read())
        if self.step == self._saved_step:
            return
        if not self.learner.has_finite_weights():
            raise AttemptEnded(
                EndReason.crash.value, f"the weights after step {self.step} are not finite numbers"
            )
        state = self._state()
        if self.ranks.is_main:
            self.writer.save(state, step=self.step, best_step=self.best[1] if self.best else None)
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def _end(self, action: StepAction, message: str) -> None:
        """Ends the attempt, by an error, for the reason that the ranks agreed on."""
        if action.saves:
            self._save()
            self.writer.wait()
        # as an attribute it would keep its traceback alive, and with it the loaders
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        raise AttemptEnded(REASONS[action], message)
