"""Optimizers of a recipe, and the options that each of them reads."""

from __future__ import annotations

from collections.abc import Mapping

BETAS, EPS, MOMENTUM = "betas", "eps", "momentum"

OPTIMIZERS: Mapping[str, frozenset[str]] = {
    "adamw": frozenset({BETAS, EPS}),
    "sgd": frozenset({MOMENTUM}),
    "nesterov": frozenset({MOMENTUM}),
    "momentum": frozenset({MOMENTUM}),
    "adam": frozenset({BETAS, EPS}),
    "adabelief": frozenset({BETAS, EPS}),
    "nadam": frozenset({BETAS, EPS}),
    "radam": frozenset({BETAS, EPS}),
    "adamp": frozenset({BETAS, EPS}),
    "sgdp": frozenset({MOMENTUM, EPS}),
    "adadelta": frozenset({EPS}),
    "adafactor": frozenset({BETAS, EPS}),
    "rmsprop": frozenset({MOMENTUM, EPS}),
    "rmsproptf": frozenset({MOMENTUM, EPS}),
    "novograd": frozenset({BETAS, EPS}),
    "lamb": frozenset({BETAS, EPS}),
    "lion": frozenset({BETAS}),
}
"""By timm's names: those of timm 0.4.12, which the released code uses, with LAMB and Lion. Left out
are those that need a second derivative (adahessian), two sets of weights (lookahead) or NVIDIA's
apex (fused...). `sgd` and `nesterov` are the same."""
