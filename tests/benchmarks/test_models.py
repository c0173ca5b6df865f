"""Compared variants compute the same function, and all their measures are recorded."""

from __future__ import annotations

import copy

import pytest
import torch

from benchmarks.models import PLAIN, QUICK_CASES, Case, compare, variants_of
from benchmarks.timing import cpu_clock

VARIANTS = {PLAIN, "attnscale", "attnscale, explicit", "featscale", "featscale, explicit"}


@pytest.mark.parametrize("case", QUICK_CASES, ids=lambda case: case.name)
def test_both_forms_of_a_scaling_give_the_same_logits_and_others_than_the_plain_model(case: Case):
    torch.manual_seed(0)
    images = torch.randn(case.images_shape, dtype=torch.float64)
    logits = {name: model.double().eval()(images) for name, model in variants_of(case).items()}
    assert set(logits) == VARIANTS
    for name in ("attnscale", "featscale"):
        torch.testing.assert_close(logits[name], logits[f"{name}, explicit"], rtol=1e-9, atol=1e-12)
        assert not torch.equal(logits[name], logits[PLAIN])


@pytest.mark.parametrize("case", QUICK_CASES, ids=lambda case: case.name)
def test_the_explicit_form_is_copied_whole(case: Case):
    """Hooks are copied, too: the copy computes with its own scales."""
    model = copy.deepcopy(variants_of(case)["featscale, explicit"]).eval()
    model(torch.randn(case.images_shape)).square().sum().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "lamb" in name)


def test_every_measure_covers_every_variant():
    found = compare(QUICK_CASES[0], torch.device("cpu"), cpu_clock, rounds=2)
    assert all(len(found[key][name]) == 2 for key in ("forward_s", "step_s") for name in VARIANTS)
    assert all(set(found[key]) == VARIANTS for key in ("saved_bytes", "moved_bytes", "peak_bytes"))
