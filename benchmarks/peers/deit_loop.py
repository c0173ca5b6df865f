"""Training as DeiT's main.py does it, written with stock timm: torchvision's image folder, timm's
transform, PyTorch's loader, mixing in the training process.

Run as `python -m benchmarks.peers.deit_loop TASK.json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from timm.data import Mixup, create_transform
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEma, accuracy
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchvision.datasets import ImageFolder

from benchmarks.peers.task import EPOCH, STEP, Task


def main() -> None:
    """Trains the task of the command line."""
    task = Task.read(sys.argv[1])
    torch.manual_seed(0)
    recipe, folder = task.recipe, Path(task.folder)
    training, evaluation = _loader(task, train=True), _loader(task, train=False)
    model = task.model()
    average = ModelEma(model, decay=recipe["ema_decay"])
    optimizer = create_optimizer_v2(
        model,
        "adamw",
        lr=recipe["base_lr"],
        weight_decay=recipe["weight_decay"],
        eps=recipe["eps"],
        betas=recipe["betas"],
    )
    schedule, _ = create_scheduler_v2(
        optimizer, num_epochs=task.epochs, min_lr=recipe["min_lr"], warmup_lr=recipe["warmup_lr"]
    )
    for epoch in range(task.epochs):
        loss = _train(task, model, training, optimizer, average, is_first=epoch == 0)
        if task.ends_at_first_step:
            return
        schedule.step(epoch)
        top1 = _evaluate(model, evaluation)
        task.note(EPOCH)
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": schedule.state_dict(),
            "epoch": epoch,
            "model_ema": average.ema.state_dict(),
        }
        torch.save(state, folder / "checkpoint.pth")
        with (folder / "log.txt").open("a") as log:
            log.write(json.dumps({"epoch": epoch, "train_loss": loss, "test_acc1": top1}) + "\n")


def _loader(task: Task, *, train: bool) -> Iterable[Any]:
    recipe, side = task.recipe, task.sizes["img_size"]
    if train:
        transform = create_transform(
            side,
            is_training=True,
            scale=recipe["crop_scale"],
            ratio=recipe["crop_ratio"],
            hflip=recipe["hflip"],
            color_jitter=recipe["color_jitter"],
            auto_augment=recipe["rand_augment"],
            interpolation=recipe["interpolation"],
            re_prob=recipe["random_erasing"],
            re_mode=recipe["erasing_mode"],
            re_count=recipe["erasing_count"],
        )
    else:
        transform = create_transform(
            side, interpolation=recipe["interpolation"], crop_pct=recipe["eval_crop"]
        )
    images = ImageFolder(str(Path(task.images) / ("train" if train else "val")), transform)
    return DataLoader(
        images,
        batch_size=task.batch,
        sampler=RandomSampler(images) if train else SequentialSampler(images),
        num_workers=task.workers,
        drop_last=train,
    )


def _train(
    task: Task,
    model: nn.Module,
    loader: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    average: ModelEma,
    *,
    is_first: bool,
) -> float:
    """Trains an epoch, or its first step alone; returns the mean loss."""
    recipe = task.recipe
    mixup = Mixup(
        mixup_alpha=recipe["mixup"],
        cutmix_alpha=recipe["cutmix"],
        prob=recipe["mix_prob"],
        switch_prob=recipe["mix_switch_prob"],
        mode=recipe["mix_mode"],
        label_smoothing=recipe["label_smoothing"],
        num_classes=task.classes,
    )
    criterion = SoftTargetCrossEntropy()
    losses: list[float] = []
    model.train()
    for step, batch in enumerate(loader):
        images, targets = mixup(*batch)
        loss = criterion(model(images), targets)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(model)
        if is_first and step == 0:
            task.note(STEP)
            if task.ends_at_first_step:
                break
    return sum(losses) / len(losses)


@torch.no_grad()
def _evaluate(model: nn.Module, loader: Iterable[Any]) -> float:
    """Top-1 in percent."""
    model.eval()
    criterion, hits, number = nn.CrossEntropyLoss(), 0.0, 0
    for images, targets in loader:
        logits = model(images)
        criterion(logits, targets)
        hits += float(accuracy(logits, targets)[0]) * len(images)
        number += len(images)
    return hits / number


if __name__ == "__main__":
    main()
