"""Handlers of the commands about specs: init, data, schema, new, completion."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from antioversmooth.cli.completion import completion_script
from antioversmooth.cli.exit_codes import FAILED, OK
from antioversmooth.cli.own_data import own_data, own_folder
from antioversmooth.cli.requests import load_request, print_json
from antioversmooth.config import DataConfig
from antioversmooth.datasets import dataset
from antioversmooth.datasets.decoded import decoded_cache
from antioversmooth.datasets.facts import check_facts
from antioversmooth.errors import DataError, SpecError
from antioversmooth.orchestration import devices
from antioversmooth.project import find_root, find_spec, make_project
from antioversmooth.spec import load_experiment
from antioversmooth.spec.draft import OwnData, draft
from antioversmooth.spec.fitting import SMALL
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
    if args.share and not args.build_cache:
        raise SpecError("is for --build-cache", where="--share")
    found = [dataset.dataset_facts(config, anew=args.anew) for config in configs]
    if not args.build_cache:
        for config, facts in zip(configs, found, strict=True):
            facts |= _cache_facts(config)
    if not args.json:
        lines = [f"{key:<12} {value}" for facts in found for key, value in facts.items()]
        print("\n".join(lines), flush=True)
    elif not args.decode:
        print_json(found)
    for config, facts in zip(configs, found, strict=True):
        check_facts(config, facts)
    lacking = args.build_cache and _build_caches(configs, *args.share or (1, 1))
    if not args.decode:
        return FAILED if lacking else OK
    inspections = [_decode(config) for config in configs]
    if args.json:
        decoded = [_as_json(inspection) for inspection in inspections]
        print_json([{**f, "decoded": d} for f, d in zip(found, decoded, strict=True)])
    else:
        print("\n".join(line for inspection in inspections for line in _lines(inspection)))
    damaged = any(inspection.damaged for inspection in inspections)
    return FAILED if damaged or lacking else OK


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


def _cache_facts(config: DataConfig) -> dict[str, str]:
    """The folder and the state of a cache, if the spec has one."""
    if config.cache is None:
        return {}
    cache = decoded_cache(config, dataset.open_unchecked(config))
    return {"cache": f"{cache.folder}: {cache.state}"}


def _build_caches(configs: Sequence[DataConfig], share: int, shares: int) -> bool:
    """Checks one share of the parts of each cache, and makes those that are missing, are damaged,
    or can have more images. Returns whether one lacks more images than `data.max_corrupt`.

    Raises:
        SpecError: A spec has no cache.
        DataError: A cache cannot be read or written, or would lie inside the data.
    """
    for config in configs:
        if config.cache is None:
            raise SpecError(
                f"data.cache: {config.name} has no cache to build; set data.cache=256 for a short"
                " side of 256 pixels, and data.cache_root for its folder"
            )
        root, folder = Path(config.root or ""), Path(config.cache_root or "")
        if config.root and folder.resolve().is_relative_to(root.resolve()):
            raise DataError(
                f"data.cache_root: {folder} lies inside the data, data.root={root}, where its files"
                " would be taken for a part of them; choose a folder outside"
            )
    lacking = [_build_cache(config, share, shares) for config in configs]
    return any(lacking)


def _build_cache(config: DataConfig, share: int, shares: int) -> bool:
    assert config.cache is not None
    # imports torch
    from antioversmooth.training.data.caching import make_parts, readable_again

    cache = decoded_cache(config, dataset.open_dataset(config))
    mine, processes = cache.parts[share - 1 :: shares], max(1, devices.cpus() - 1)
    try:
        missing = set(cache.missing())
        there = [part for part in mine if part not in missing]
        more = (part for part in there if readable_again(cache, part))
        wanted = sorted({*missing.intersection(mine), *cache.damaged(there), *more})
        made = make_parts(cache, wanted, side=config.cache, processes=processes)
        for done, _ in enumerate(made, 1):
            print(f"cache        {done} of {len(wanted)} part(s) made", file=sys.stderr, flush=True)
    except OSError as err:
        raise DataError(
            f"data.cache_root: {cache.folder} cannot be read or written ({err})"
        ) from err
    print(
        f"cache        {cache.folder}: {len(wanted)} part(s) made, {cache.state}", file=sys.stderr
    )
    lacking = sum(len(cache.unreadable(part)) for part in cache.parts)
    return lacking > config.max_corrupt


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
        row = load_experiment(path)
        _report_weights(row.recipe.init_from)
        if data.from_scratch and row.data.num_train < SMALL:
            print(
                f"It starts from random weights, which is for tens of thousands of images, and"
                f" {data.name} has {row.data.num_train:,} for training: a transformer learns little"
                " from so few. Without --from-scratch a row is fine-tuned from public weights.",
                file=sys.stderr,
            )
    return OK


def _report_weights(origin: str | None) -> None:
    """Says where the weights come from that are not on this machine."""
    kind, _, tag = (origin or "").partition(":")
    if kind == "file" and not Path(tag).is_file():
        print(
            f"It starts from {tag}, which is not on this machine: put the file there before the"
            " first launch.",
            file=sys.stderr,
        )
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
