"""Handlers of the commands about specs: data, schema, new, completion."""

from __future__ import annotations

from argparse import Namespace

from antioversmooth.cli.completion import completion_script
from antioversmooth.cli.exit_codes import OK
from antioversmooth.cli.requests import load_request, print_json
from antioversmooth.config import DataConfig
from antioversmooth.datasets import dataset
from antioversmooth.project import find_root, find_spec
from antioversmooth.spec.draft import draft
from antioversmooth.spec.schema import json_schema


def data_command(args: Namespace) -> int:
    """Prints the facts of data sets, then raises DataError if they differ from the spec."""
    request, _ = load_request(args.specs)
    configs: list[DataConfig] = []
    for experiment in request.experiments:
        configs += [experiment.data] if experiment.data not in configs else []
    found = [dataset.dataset_facts(config, anew=args.anew) for config in configs]
    if args.json:
        print_json(found)
    else:
        lines = [f"{key:<12} {value}" for facts in found for key, value in facts.items()]
        print("\n".join(lines), flush=True)
    for config, facts in zip(configs, found, strict=True):
        dataset.check_facts(config, facts)
    return OK


def schema_command(args: Namespace) -> int:
    """Prints the JSON Schema of a kind of spec."""
    print_json(json_schema(args.kind))
    return OK


def new_command(args: Namespace) -> int:
    """Writes a new row as a copy of another one."""
    path = draft(args.name, find_spec(args.origin, find_root()))
    print_json({"written": str(path)}) if args.json else print(path)
    return OK


def completion_command(args: Namespace) -> int:
    """Prints the completion script for a shell."""
    print(completion_script(args.shell))
    return OK
