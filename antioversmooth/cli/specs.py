"""Handlers of the commands about specs: init, data, schema, new, completion."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from antioversmooth.cli.completion import completion_script
from antioversmooth.cli.exit_codes import FAILED, OK
from antioversmooth.cli.own_data import own_data, own_folder
from antioversmooth.cli.requests import load_request, print_json
from antioversmooth.config import DataConfig
from antioversmooth.datasets import dataset
from antioversmooth.datasets.decoded import decoded_cache
from antioversmooth.errors import DataError, SpecError
from antioversmooth.orchestration import devices
from antioversmooth.project import find_root, find_spec, make_project
from antioversmooth.spec import load_experiment
from antioversmooth.spec.draft import OwnData, draft
from antioversmooth.spec.public_weights import is_downloaded
from antioversmooth.spec.schema import json_schema
from antioversmooth.text import one_line, open_console

if TYPE_CHECKING:
    from antioversmooth.training.data.inspection import Inspection


def data_command(args: Namespace) -> int:
    """Prints the facts of data sets, then raises DataError if they differ from the spec.

    With `--decode` it decodes their images too, and fails if one is damaged. With `--build-cache`
    it makes what is missing of their decoded caches. Of a folder or tar file that no spec
    describes, it writes the data spec.
    """
    if (own := own_folder(args)) is not None:
        return own_data(own, args)
    request, _ = load_request(args.specs)
    configs: list[DataConfig] = []
    for experiment in request.experiments:
        configs += [experiment.data] if experiment.data not in configs else []
    found = [dataset.dataset_facts(config, anew=args.anew) for config in configs]
    if not args.json:
        lines = [f"{key:<12} {value}" for facts in found for key, value in facts.items()]
        print("\n".join(lines), flush=True)
    elif not args.decode:
        print_json(found)
    for config, facts in zip(configs, found, strict=True):
        dataset.check_facts(config, facts)
    if args.build_cache:
        _build_caches(configs, *args.share)
    if not args.decode:
        return OK
    inspections = [_decode(config) for config in configs]
    if args.json:
        decoded = [_as_json(inspection) for inspection in inspections]
        print_json([{**f, "decoded": d} for f, d in zip(found, decoded, strict=True)])
    else:
        print("\n".join(line for inspection in inspections for line in _lines(inspection)))
    return FAILED if any(inspection.damaged for inspection in inspections) else OK


def _decode(config: DataConfig) -> Inspection:
    """Decodes all images of a data set; on a terminal with a bar on stderr."""
    from rich.progress import track

    # takes seconds, and imports torch
    from antioversmooth.training.data.inspection import Inspection, decoded_images

    opened, inspection = dataset.open_dataset(config), Inspection()
    images = decoded_images(opened, processes=max(1, devices.cpus() - 1))
    console = open_console(sys.stderr)
    for image in track(
        images,
        f"decoding {config.name}",
        total=len(opened.train.labels) + len(opened.val.labels),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        inspection.add(image)
    return inspection


def _build_caches(configs: Sequence[DataConfig], share: int, shares: int) -> None:
    """Checks one share of the parts of each cache, and makes those that are missing or damaged.

    Raises:
        SpecError: A spec has no cache.
        DataError: The cache cannot be written.
    """
    for config in configs:
        if config.cache is None:
            raise SpecError(
                f"data.cache: {config.name} has no cache to build; set data.cache=256 for a short"
                " side of 256 pixels, and data.cache_root for its folder"
            )
        _build_cache(config, config.cache, share, shares)


def _build_cache(config: DataConfig, side: int, share: int, shares: int) -> None:
    # imports torch
    from antioversmooth.training.data.caching import make_parts

    cache = decoded_cache(config, dataset.open_dataset(config))
    missing = set(cache.missing())
    mine = cache.parts[share - 1 :: shares]
    damaged = cache.damaged([part for part in mine if part not in missing])
    wanted = sorted({*damaged, *missing.intersection(mine)})
    processes = max(1, devices.cpus() - 1)
    try:
        for done, _ in enumerate(make_parts(cache, wanted, side=side, processes=processes), 1):
            print(f"cache        {done} of {len(wanted)} parts made", file=sys.stderr, flush=True)
    except OSError as err:
        raise DataError(f"data.cache_root: {cache.folder} cannot be written ({err})") from err
    left = len(cache.missing())
    state = f"{left} of {len(cache.parts)} parts are missing" if left else "whole"
    print(f"cache        {cache.folder}: {len(wanted)} parts made, {state}", file=sys.stderr)


def _lines(inspection: Inspection) -> list[str]:
    """The outcome of decoding, as printed."""
    if not inspection.num_images:
        return ["decoded      nothing: the pixels are stored as arrays"]
    damaged = inspection.damaged
    kinds = (f"{count:,} {kind}" for kind, count in inspection.kinds.most_common())
    lines = [f"decoded      {inspection.num_images:,} images", f"kinds        {', '.join(kinds)}"]
    if inspection.sizes:
        sizes = sorted(inspection.sizes, key=lambda size: size[0] * size[1])
        small, large = (f"{width} x {height}" for width, height in (sizes[0], sizes[-1]))
        lines.append(f"sizes        {len(sizes):,}, from {small} to {large} pixels")
    lines.append(f"damaged      {len(damaged):,}")
    lines += [one_line(f"{name}: {reason}") for name, reason in damaged.items()]
    if damaged:
        lines.append(
            f"restore them, or set data.max_corrupt={len(damaged)} to replace them by neighbours in"
            " training and leave them out of evaluations"
        )
    return lines


def _as_json(inspection: Inspection) -> dict[str, object]:
    sizes = {f"{width}x{height}": count for (width, height), count in inspection.sizes.items()}
    return {
        "images": inspection.num_images,
        "kinds": dict(inspection.kinds),
        "sizes": sizes,
        "damaged": inspection.damaged,
        "max_corrupt": len(inspection.damaged),
    }


def schema_command(args: Namespace) -> int:
    """Prints the JSON Schema of a kind of spec."""
    print_json(json_schema(args.kind))
    return OK


def init_command(args: Namespace) -> int:
    """Makes a project folder, and says how to begin in it."""
    written = make_project(args.folder)
    if args.json:
        print_json([str(path) for path in written])
        return OK
    folder = shlex.quote(str(args.folder))
    print(f"{args.folder}: {len(written)} files written")
    print("experiments/ holds rows, tables and figures; edit cluster/my_site.yaml there for SLURM")
    print(f"begin with: cd {folder} && antioversmooth launch smoke profile=mini --dry-run")
    return OK


def new_command(args: Namespace) -> int:
    """Writes a new row as a copy of another one."""
    data = OwnData(args.data, args.weights, args.from_scratch) if args.data else None
    if data is None and (args.weights or args.from_scratch):
        raise SpecError("is for a row on other data; name it with --data", where="--weights")
    path = draft(args.name, find_spec(args.origin, find_root()), data)
    print_json({"written": str(path)}) if args.json else print(path)
    if data:
        _report_weights(load_experiment(path).recipe.init_from)
    return OK


def _report_weights(origin: str | None) -> None:
    """Says where the weights come from that are not on this machine."""
    kind, _, tag = (origin or "").partition(":")
    if kind == "timm" and not is_downloaded(tag):
        print(
            f"It starts from {origin}, which is not on this machine: the first run downloads it."
            " Without a network, copy the folder $HF_HOME (~/.cache/huggingface) of a machine that"
            " has it and set HF_HUB_OFFLINE=1; or write the row with --weights file:PATH, PATH"
            f" being model.safetensors of huggingface.co/timm/{tag}; or with --from-scratch.",
            file=sys.stderr,
        )


def completion_command(args: Namespace) -> int:
    """Prints the completion script for a shell."""
    print(completion_script(args.shell))
    return OK
