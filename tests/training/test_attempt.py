from __future__ import annotations

import errno

import pytest
import torch

from antioversmooth.errors import AttemptEnded, DataError
from antioversmooth.journal import EndReason
from antioversmooth.training.attempt import SUPERSEDED, end_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no"), EndReason.crash),
        (DataError("no images"), EndReason.crash),
        (RuntimeError("[gloo] Timed out waiting 1000ms for recv operation to complete"), EndReason.hang),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nIf reserved but"),
            EndReason.out_of_memory,
        ),
        (MemoryError(), EndReason.out_of_memory),
        (OSError(errno.ENOSPC, "No space left on device"), EndReason.disk_full),
        (KeyboardInterrupt(), EndReason.cancelled),
        (AttemptEnded("timeout", "told to"), EndReason.timeout),
        (AttemptEnded(SUPERSEDED, "replaced"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_raised_says_why_an_attempt_ended(error: BaseException, reason: EndReason | None) -> None:
    assert end_of(error)[0] is reason


def test_lack_of_memory_says_what_makes_the_step_smaller() -> None:
    _, message = end_of(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nIf reserved but"))
    assert message.startswith("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.; runtime.device_batch")
