"""The training that each program does, as a JSON file: the same model, images, batch and recipe."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
from torch import nn

STEP, EPOCH = "step", "epoch"
"""Events: the first step is done; an epoch is trained and evaluated, and not saved yet."""


@dataclass(frozen=True)
class Task:
    """A training."""

    tag: str
    """timm's name of the model."""
    sizes: dict[str, Any]
    """Arguments that differ from those of timm's model."""
    images: str
    """Folder with train/<class>/ and val/<class>/."""
    classes: int
    batch: int
    epochs: int
    recipe: dict[str, Any]
    """As config/recipe.py has it."""
    folder: str
    """For checkpoints and events."""
    ends_at_first_step: bool = False
    workers: int = 1

    @classmethod
    def read(cls, path: str) -> Task:
        """The task of a file."""
        return cls(**json.loads(Path(path).read_text()))

    def write(self) -> Path:
        """Writes the task into its folder, which is made; returns its path."""
        Path(self.folder).mkdir(parents=True)
        path = Path(self.folder) / "task.json"
        path.write_text(json.dumps(asdict(self)))
        return path

    def model(self) -> nn.Module:
        """timm's model with random weights."""
        rate = self.recipe["drop_path"]
        model: nn.Module = timm.create_model(
            self.tag, num_classes=self.classes, drop_path_rate=rate, **self.sizes
        )
        return model

    def note(self, event: str) -> None:
        """Adds an event with its time."""
        with (Path(self.folder) / "events.jsonl").open("a") as file:
            file.write(json.dumps({"event": event, "time": time.time()}) + "\n")

    def times(self, event: str) -> list[float]:
        """Times of an event, in order."""
        lines = (Path(self.folder) / "events.jsonl").read_text().splitlines()
        found = map(json.loads, lines)
        return [float(one["time"]) for one in found if one["event"] == event]
