"""What the dataclasses of config/ say about themselves: types, docstrings, which keys must have a
value."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from functools import cache
from typing import Any, TypeGuard

from omegaconf import MISSING

from antioversmooth.config import Experiment

ELSEWHERE = {
    "learning_rate": "base_lr", "lr": "base_lr", "blr": "base_lr", "batch": "global_batch",
    "batch_size": "global_batch", "input_size": "image_size", "img_size": "image_size",
    "resolution": "image_size",
    "dim": "embed_dim",
    "heads": "num_heads", "layers": "depth", "num_layers": "depth", "smoothing": "label_smoothing",
    "drop": "dropout", "attn_drop": "attention_dropout", "attn_drop_rate": "attention_dropout",
    "drop_path_rate": "drop_path", "reprob": "random_erasing", "aa": "rand_augment",
    "auto_augment": "rand_augment",
    "clip": "clip_grad", "opt_eps": "eps", "opt_betas": "betas", "model_ema_decay": "ema_decay",
    "amp": "precision",
    "dtype": "precision", "finetune": "init_from", "pretrained": "init_from",
    "checkpoint": "init_from",
    "teacher_path": "teacher", "num_workers": "workers", "data_path": "root", "data_dir": "root",
    "path": "root",
    "nb_classes": "num_classes", "gpus": "gpus_per_node", "ngpus": "gpus_per_node",
    "timeout": "time_min",
    "time": "time_min", "mem": "mem_gb", "memory": "mem_gb",
    "use_checkpoint": "gradient_checkpointing",
}  # fmt: skip
"""What keys are called in DeiT's and Swin's code, in timm, in SLURM or by habit, and what they are
called here."""


@cache
def hints(schema: type) -> dict[str, Any]:
    """The type of each key."""
    return typing.get_type_hints(schema)


def unwrap(hint: Any) -> tuple[Any, bool]:
    """The type without its `| None`, and whether it had one."""
    if isinstance(hint, types.UnionType):
        (kind,) = (option for option in typing.get_args(hint) if option is not types.NoneType)
        return kind, True
    return hint, hint is Any


def is_config(kind: Any) -> TypeGuard[type]:
    """Whether a type is a dataclass of its own."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def element(kind: Any) -> Any:
    """Type of the elements of a list; None where the type is no list."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else None


@cache
def docs(schema: type) -> dict[str, str]:
    """The docstring under each field, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[statement.target.id] = " ".join(text.split())
    return found


def required(schema: type) -> list[str]:
    """Keys without a default."""
    return [field.name for field in dataclasses.fields(schema) if field.default == MISSING]


def defaults(schema: type) -> dict[str, Any]:
    """Values of the keys that have a default."""
    made = {}
    for field in dataclasses.fields(schema):
        if field.default_factory is not dataclasses.MISSING:
            made[field.name] = field.default_factory()
        elif field.default != MISSING:
            made[field.name] = field.default
    return made


@cache
def sections() -> dict[str, type]:
    """model, data, recipe, ...: the keys of an experiment that have keys of their own."""
    return {name: hint for name, hint in hints(Experiment).items() if is_config(hint)}


def homes(schema: type) -> dict[str, list[str]]:
    """Dotted keys of an experiment by their last part; none for the fields of a table or a
    figure."""
    found: dict[str, list[str]] = {}
    if schema is Experiment or schema in sections().values():
        for section, part in sections().items():
            for name in hints(part):
                found.setdefault(name, []).append(f"{section}.{name}")
    return found


def explain(schema: type, name: str) -> tuple[str, ...]:
    """The docstring of a key, as a note below a problem."""
    text = docs(schema).get(name)
    return (f"{name}: {text}",) if text else ()
