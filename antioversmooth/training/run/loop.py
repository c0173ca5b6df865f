"""The training loop: steps, records, epochs, checkpoints, and the agreed early end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import nn

from antioversmooth import runs
from antioversmooth.errors import AttemptEnded, DataError
from antioversmooth.runs.journal import EndReason
from antioversmooth.runs.metrics import (
    EMA_TOP1,
    EMA_TOP5,
    EPOCH_SECONDS,
    IMAGES_PER_SECOND,
    PEAK_MEMORY,
    TRAIN_GRAD_NORM,
    TRAIN_LOSS,
    TRAIN_LR,
    VAL_TOP1,
)
from antioversmooth.training.data.images import Images, check_readable
from antioversmooth.training.data.loading import WHOLE, Batch, Loaders
from antioversmooth.training.data.sampling import Blocks, SampleOrder
from antioversmooth.training.evaluator import Evaluator
from antioversmooth.training.run.attempt import SUPERSEDED, Attempt, is_full
from antioversmooth.training.run.checkpoint import CheckpointWriter, State
from antioversmooth.training.run.signals import Agreement, StopRequest, Vote
from antioversmooth.training.step.distillation import Teacher
from antioversmooth.training.step.learner import Learner
from antioversmooth.training.step.meter import Meter, Reading

REASONS = {
    Vote.cancelled: EndReason.cancelled.value,
    Vote.preempted: EndReason.preempted.value,
    Vote.timeout: EndReason.timeout.value,
    Vote.superseded: SUPERSEDED,
    Vote.disk_full: EndReason.disk_full.value,
    Vote.crash: EndReason.crash.value,
}
"""What the attempt's end is called, by what the ranks agreed on."""


class Trainer:
    """Takes a run from where it stands to its end.

    Args:
        attempt: The start of the run that this is.
        model: With its first weights, on the device.
        images: The training set.
        teacher: Whom the model learns from, beside the labels.
        loaders: Make its batches.
        evaluator: Measures a model after each epoch.
        stop: Collects reasons to end early.
    """

    def __init__(
        self,
        attempt: Attempt,
        model: nn.Module,
        images: Images,
        *,
        teacher: Teacher | None,
        loaders: Loaders,
        evaluator: Evaluator,
        stop: StopRequest,
    ) -> None:
        self.attempt, self.run, self.ranks = attempt, attempt.run, attempt.ranks
        self.config = self.run.experiment
        self.recipe, self.runtime = self.config.recipe, self.config.runtime
        self.images, self.loaders, self.evaluator, self.stop = images, loaders, evaluator, stop
        self.blocks = self._blocks()
        self.learner = Learner(
            model,
            self.recipe,
            self.config.data,
            self.blocks,
            self.ranks,
            teacher=teacher,
            compiler=self.runtime.compile,
            seed=self.run.seed,
        )
        self.meter = Meter(self.ranks)
        self.agreement = Agreement(self.ranks)
        self.writer = CheckpointWriter(self.run, attempt.number, attempt.is_superseded)
        self.best: tuple[float, int] | None = None
        """Highest val/top1 so far, and its step."""
        self.clock = Clock()
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._fence_checked_at = time.monotonic()
        self._unreadable: set[str] = set()
        self._failure: BaseException | None = None

    @property
    def step(self) -> int:
        """Steps of the run that are done."""
        return self.attempt.step

    def _blocks(self) -> Blocks:
        size, passes = runs.split_batch(
            self.recipe.global_batch,
            self.ranks.world_size,
            limit=self.runtime.device_batch,
            group=self.recipe.mix_group if self.recipe.mixes else 1,
        )
        order = SampleOrder(
            self.config.data.num_train,
            self.recipe.global_batch,
            seed=self.run.seed,
            repeats=self.recipe.repeated_augmentation,
        )
        return Blocks(order, size, passes, self.ranks.rank, self.step, self.config.total_steps)

    def load(self, state: State) -> None:
        """Goes on from a checkpoint's state."""
        self.learner.load(state)
        self.meter.load(state["meter"])
        self.clock = Clock(state["epoch_s"])
        self.best = (state["best"][0], state["best"][1]) if state["best"] else None
        self._saved_step = self.step

    def _state(self) -> State:
        return {
            **self.learner.state(),
            "id": self.run.id,
            "step": self.step,
            "meter": self.meter.state(),
            "epoch_s": self.clock.epoch_s(),
            "best": list(self.best) if self.best else None,
        }

    def fit(self) -> None:
        """Trains to the end of the run.

        Raises:
            AttemptEnded: Before the end, with the reason; the state is saved where that makes
                sense.
        """
        try:
            self._train_to_the_end()
            self.agreement.last()
            self.writer.wait()
        finally:
            self.writer.close()

    def _train_to_the_end(self) -> None:
        self.clock.start(self.step)
        self._heed_limit()
        batches = self._watched(self.loaders.training(self.images, self.blocks))
        while self.step < self.config.total_steps:
            loss, grad_norm = self.learner.learn(self.step, batches)
            self.meter.add(self.step, loss, grad_norm)
            self.attempt.step += 1
            ends_epoch = self.step % self.config.steps_per_epoch == 0
            if ends_epoch or self.step % self.runtime.log_every == 0:
                self._record_training()
            if ends_epoch:
                self._finish_epoch()
            self._boundary()

    def _watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; images that could not be read are named in the journal, and end the run
        beyond the limit.

        Those of all ranks count together, as far as they stand in the journal when a rank finds
        another one.
        """
        for batch in batches:
            self.ranks.progress.mark()
            found = {
                self.images.name(index) for index in batch.corrupt[batch.corrupt != WHOLE].tolist()
            }
            if not found <= self._unreadable:
                self._unreadable = self.attempt.note_unreadable(found)
                try:
                    check_readable(self._unreadable, self.config.data.max_corrupt)
                except DataError as err:
                    self._failure = err
            yield batch

    def _record_training(self) -> None:
        reading = self._healthy(self.meter.read())
        images_per_s = self.clock.lap(self.step) * self.recipe.global_batch
        metrics = {
            TRAIN_LOSS: reading.loss,
            TRAIN_LR: self.learner.optimizer.param_groups[0]["lr"],
            IMAGES_PER_SECOND: images_per_s,
        }
        if self.recipe.clip_grad is not None:
            metrics[TRAIN_GRAD_NORM] = reading.grad_norm
        if self.ranks.device.type == "cuda":
            metrics[PEAK_MEMORY] = torch.cuda.max_memory_allocated() / 2**30
        self.attempt.record(self.step, epoch=self.step / self.config.steps_per_epoch, **metrics)
        self.meter.reset()

    def _finish_epoch(self) -> None:
        epoch_s = self.clock.epoch_s()
        evaluation = self.evaluator(self.learner.model)
        if evaluation.unreadable and self.ranks.is_main:
            self.attempt.note_unreadable(evaluation.unreadable)
        metrics = evaluation.metrics()
        if self.learner.ema is not None:
            average = self.evaluator(self.learner.ema.module)
            metrics |= {EMA_TOP1: average.top1, EMA_TOP5: average.top5}
        metrics[EPOCH_SECONDS] = epoch_s
        self.attempt.record(self.step, epoch=self.step // self.config.steps_per_epoch, **metrics)
        self.best = max(
            self.best or (-1.0, 0), (metrics[VAL_TOP1], self.step), key=lambda best: best[0]
        )
        self.clock = Clock()
        self.clock.start(self.step)
        self._save()

    def _healthy(self, reading: Reading) -> Reading:
        """The reading; a loss that is no number ends the attempt before anything is saved."""
        if reading.diverged_at is None:
            return reading
        step = reading.diverged_at
        scale = self.learner.scaler.get_scale()
        images = [view.image for view in self.blocks.order.views(step)]
        self.attempt.note("diverged", step=step, loss_scale=scale, samples=images)
        raise AttemptEnded(
            EndReason.crash.value,
            f"the loss of step {step} is not a finite number (loss scale {scale:g}); the images of"
            f" its batch are in {self.run.attempts_path.name}, the last good checkpoint is kept",
        )

    def _boundary(self) -> None:
        """Between two steps: what the ranks agree on is done, together."""
        self._heed_limit()
        vote = self.agreement.on(self._vote())
        if vote.stops:
            self._end(vote, _told(vote, self.step))
        if vote is Vote.save:
            self._save()

    def _heed_limit(self) -> None:
        if 0 < self.runtime.max_steps <= self.step < self.config.total_steps:
            self._end(Vote.cancelled, f"runtime.max_steps = {self.runtime.max_steps} reached")

    def _vote(self) -> Vote:
        self.stop.check_parents()
        if self._failure is not None:
            self.stop.set(Vote.crash)
        if self.ranks.is_main:
            self._check_writing()
        return max(self.stop.vote, self._vote_to_save())

    def _vote_to_save(self) -> Vote:
        """Asks once for every due checkpoint: the agreement on it comes a step later."""
        now = time.monotonic()
        if not self.ranks.is_main or now - self._saved_at <= self.runtime.checkpoint_every_s:
            return Vote.go_on
        self._saved_at = now
        return Vote.save

    def _check_writing(self) -> None:
        failure = self.writer.failed()
        if failure is not None:
            self._failure = failure
            self.stop.set(Vote.disk_full if is_full(failure) else Vote.crash)
        now = time.monotonic()
        if now - self._fence_checked_at > self.runtime.heartbeat_s:
            self._fence_checked_at = now
            if self.attempt.is_superseded():
                self.stop.set(Vote.superseded)

    def _save(self) -> None:
        """Hands the state to the writer, unless this step's is there already; every rank calls this
        together."""
        self._healthy(self.meter.read())
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

    def _end(self, vote: Vote, message: str) -> None:
        """Ends the attempt for the reason that the ranks agreed on."""
        if vote.saves:
            self._save()
            self.writer.wait()
        # kept here it would keep itself, and the loaders with it
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        raise AttemptEnded(REASONS[vote], message)


def _told(vote: Vote, step: int) -> str:
    if vote is Vote.crash:
        return "another rank failed; its log says why"
    return f"{REASONS[vote]} after step {step}; the next start goes on from there"


class Clock:
    """Wall time of training within an epoch, without evaluation.

    Args:
        epoch_s: What the epoch has taken so far, in an earlier attempt.
    """

    def __init__(self, epoch_s: float = 0.0) -> None:
        self._epoch_s = epoch_s

    def start(self, step: int) -> None:
        """Time runs from here."""
        self._step, self._lap_started = step, time.perf_counter()

    def lap(self, step: int) -> float:
        """Steps per second since the lap before, or since the start."""
        now = time.perf_counter()
        steps, seconds = step - self._step, now - self._lap_started
        self._step, self._lap_started = step, now
        self._epoch_s += seconds
        return steps / seconds

    def epoch_s(self) -> float:
        """Seconds of this epoch so far."""
        return self._epoch_s + time.perf_counter() - self._lap_started
