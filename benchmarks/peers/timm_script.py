"""Training as timm's train.py does it, with the calls that its documentation shows: timm's loader
with its prefetcher, mixing in the collation, schedule, average and checkpoints.

The package of timm on an index holds no train.py. Run as `python -m benchmarks.peers.timm_script
TASK.json`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from timm.data import FastCollateMixup, create_dataset, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import (
    AverageMeter,
    CheckpointSaver,
    ModelEmaV3,
    accuracy,
    random_seed,
    setup_default_logging,
    update_summary,
)
from torch import nn

from benchmarks.peers.task import EPOCH, STEP, Task

_CPU = torch.device("cpu")


def main() -> None:
    """Trains the task of the command line."""
    task = Task.read(sys.argv[1])
    setup_default_logging()
    random_seed(0)
    recipe, folder = task.recipe, Path(task.folder)
    model = task.model()
    optimizer = create_optimizer_v2(
        model,
        "adamw",
        lr=recipe["base_lr"],
        weight_decay=recipe["weight_decay"],
        eps=recipe["eps"],
        betas=recipe["betas"],
    )
    ema = ModelEmaV3(model, decay=recipe["ema_decay"])
    schedule, epochs = create_scheduler_v2(
        optimizer, num_epochs=task.epochs, min_lr=recipe["min_lr"], warmup_lr=recipe["warmup_lr"]
    )
    training, evaluation = _loaders(task)
    saver = CheckpointSaver(
        model, optimizer, model_ema=ema, checkpoint_dir=str(folder), recovery_dir=str(folder)
    )
    for epoch in range(epochs):
        loss = _train(task, model, training, optimizer, ema, is_first=epoch == 0)
        if task.ends_at_first_step:
            return
        _evaluate(model, evaluation)
        metrics = _evaluate(ema.module, evaluation)
        task.note(EPOCH)
        schedule.step(epoch + 1, metrics["top1"])
        summary = str(folder / "summary.csv")
        update_summary(epoch, {"loss": loss}, metrics, summary, write_header=epoch == 0)
        saver.save_checkpoint(epoch, metric=metrics["top1"])


def _loaders(task: Task) -> tuple[Any, Any]:
    """For training and for evaluation."""
    recipe = task.recipe
    mixing = FastCollateMixup(
        mixup_alpha=recipe["mixup"],
        cutmix_alpha=recipe["cutmix"],
        prob=recipe["mix_prob"],
        switch_prob=recipe["mix_switch_prob"],
        mode=recipe["mix_mode"],
        label_smoothing=recipe["label_smoothing"],
        num_classes=task.classes,
    )
    common: dict[str, Any] = {
        "input_size": (3, *2 * (task.sizes["img_size"],)),
        "batch_size": task.batch,
        "num_workers": task.workers,
        "interpolation": recipe["interpolation"],
        "device": _CPU,
    }
    training = create_loader(
        create_dataset("", root=task.images, split="train", is_training=True),
        is_training=True,
        re_prob=recipe["random_erasing"],
        re_mode=recipe["erasing_mode"],
        re_count=recipe["erasing_count"],
        scale=recipe["crop_scale"],
        ratio=recipe["crop_ratio"],
        hflip=recipe["hflip"],
        color_jitter=recipe["color_jitter"],
        auto_augment=recipe["rand_augment"],
        collate_fn=mixing,
        **common,
    )
    images = create_dataset("", root=task.images, split="val")
    return training, create_loader(images, crop_pct=recipe["eval_crop"], **common)


def _train(
    task: Task,
    model: nn.Module,
    loader: Any,
    optimizer: torch.optim.Optimizer,
    ema: ModelEmaV3,
    *,
    is_first: bool,
) -> float:
    """Trains an epoch, or its first step alone; returns the mean loss."""
    criterion, losses = SoftTargetCrossEntropy(), AverageMeter()
    model.train()
    for step, (images, targets) in enumerate(loader):
        loss = criterion(model(images), targets)
        losses.update(loss.item(), len(images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model)
        if is_first and step == 0:
            task.note(STEP)
            if task.ends_at_first_step:
                break
    return float(losses.avg)


@torch.no_grad()
def _evaluate(model: nn.Module, loader: Any) -> dict[str, float]:
    model.eval()
    criterion = nn.CrossEntropyLoss()
    losses, top1s = AverageMeter(), AverageMeter()
    for images, targets in loader:
        logits = model(images)
        (top1,) = accuracy(logits, targets)
        losses.update(criterion(logits, targets).item(), len(images))
        top1s.update(top1.item(), len(images))
    return {"loss": float(losses.avg), "top1": float(top1s.avg)}


if __name__ == "__main__":
    main()
