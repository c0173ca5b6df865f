"""Docstrings, defaults and names of the fields of config/."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any

from antioversmooth.config import MISSING, Experiment
from antioversmooth.config.types import element_type, is_config, type_hints, unwrap_optional

ALIASES = {
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
    "scaling": "method",
}  # fmt: skip
"""Names of keys in DeiT's and Swin's code, in timm, in SLURM, by habit or formerly; the names here.
"""


GIVEN = {
    "name": "the name of a spec is that of its file",
    "row": "a table names its rows",
}
"""Keys of a spec that no file sets, and the reason."""


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


def missing(schema: type, content: Mapping[str, Any], key: str) -> Iterator[tuple[type, str]]:
    """Required keys that plain values lack, dotted, and the dataclasses that need them; also in
    the dataclasses that the values hold.

    Args:
        key: Dotted key of the values.
    """
    yield from ((schema, f"{key}.{name}") for name in required(schema) if name not in content)
    for name, hint in type_hints(schema).items():
        inner, value = unwrap_optional(hint)[0], content.get(name)
        if is_config(inner) and isinstance(value, dict):
            yield from missing(inner, value, f"{key}.{name}")


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
    return {name: hint for name, hint in type_hints(Experiment).items() if is_config(hint)}


def qualified_names(schema: type) -> dict[str, list[str]]:
    """Dotted keys of an experiment by their last part; none for the fields of other specs."""
    found: dict[str, list[str]] = {}
    if schema is Experiment or schema in sections().values():
        for section, part in sections().items():
            for name in type_hints(part):
                found.setdefault(name, []).append(f"{section}.{name}")
    return found


def identifies(key: str) -> bool:
    """Whether a dotted key of an experiment is part of a run's identity, as its metadata says."""
    schema: type | None = Experiment
    for name in key.split("."):
        for field in dataclasses.fields(schema) if schema else ():
            if field.name == name and not field.metadata.get("identity", True):
                return False
        schema = sections().get(name)
    return True


def kind_of(key: str) -> Any:
    """Type of a dotted key of an experiment, without its `| None`; None where there is no key."""
    section, _, name = key.partition(".")
    schema = sections().get(section) if name else Experiment
    return unwrap_optional(type_hints(schema).get(name or section) if schema else None)[0]


def schema_of(schema: type, key: str) -> type:
    """The dataclass that holds a dotted key, as `rows[2].paper.top1` of a table."""
    for name in key.split(".")[:-1]:
        kind = unwrap_optional(type_hints(schema)[name.partition("[")[0]])[0]
        kind = element_type(kind) or kind
        if not is_config(kind):
            break
        schema = kind
    return schema


def field_of(schema: type, key: str) -> dataclasses.Field[Any]:
    """The field of a dotted key."""
    fields = dataclasses.fields(schema_of(schema, key))
    return next(field for field in fields if field.name == key.rpartition(".")[2])


def length(field: dataclasses.Field[Any]) -> int | None:
    """The length of a field's lists where it is fixed."""
    for one in field.metadata.get("constraints", ()):
        if "minItems" in one.keywords and one.keywords["minItems"] == one.keywords.get("maxItems"):
            return int(one.keywords["minItems"])
    return None


def choices(field: dataclasses.Field[Any], kind: Any) -> list[str]:
    """The names that a field of this type may have; empty where they are not listed."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [choice.name for choice in kind]
    listed = (one.keywords.get("enum", ()) for one in field.metadata.get("constraints", ()))
    return [name for names in listed for name in names if kind is str]


def notes(schema: type, name: str) -> tuple[str, ...]:
    """The docstring of a key, as a note below a problem."""
    text = docs(schema).get(name)
    return (f"{name}: {text}",) if text else ()
