"""Arguments of the benchmarks, checked before anything is measured."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from antioversmooth.errors import UserError


def count(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return number


def device(text: str) -> torch.device:
    """The CPU, or a CUDA device of this machine."""
    try:
        found = torch.device(text)
    except RuntimeError:
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text!r} is no device, as cpu, cuda or cuda:1")
    number = torch.cuda.device_count()
    if found.type == "cuda" and (found.index or 0) >= number:
        message = f"{text!r} is not there: this machine has {number} CUDA devices; cpu always is"
        raise argparse.ArgumentTypeError(message)
    return found


def writable(folder: Path) -> Path:
    """The folder that results will be written to, made where it is not there.

    Raises:
        UserError: Nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as err:
        raise UserError(
            f"{folder}: nothing can be written there ({err.strerror}); name another folder with"
            " --output"
        ) from err
