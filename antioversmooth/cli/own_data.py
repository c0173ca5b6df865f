"""`antioversmooth data DIR`: looks at a data set that no spec describes, and writes its spec."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from antioversmooth import files
from antioversmooth.cli.exit_codes import OK
from antioversmooth.cli.requests import print_json
from antioversmooth.config import DataConfig
from antioversmooth.datasets.dataset import ImageDataset
from antioversmooth.datasets.holdout import hold_out
from antioversmooth.datasets.recognition import open_recognised, recognise
from antioversmooth.errors import SpecError
from antioversmooth.orchestration import devices
from antioversmooth.project import find_root, readable_root
from antioversmooth.spec.data_spec import data_spec, data_spec_path, spec_name
from antioversmooth.text import one_line

if TYPE_CHECKING:
    from antioversmooth.datasets.survey import Survey

FEW = 1000
"""Images that one process reads sooner than others start."""


def own_folder(args: Namespace) -> Path | None:
    """The folder or file that the arguments name; None where they name specs.

    A word that names a spec is one: `./deit_s12` is the folder of this name.

    Raises:
        SpecError: An option or an override goes with the other kind of argument.
    """
    own_options = [f"--{key}" for key in ("name", "label", "split") if getattr(args, key)]
    paths = [word for word in args.specs if _is_own(word)]
    if not paths:
        if own_options:
            raise SpecError("is for a folder that no spec describes", where=own_options[0])
        return None
    if len(args.specs) > 1:
        others = [word for word in args.specs if word != paths[0]]
        message = "a folder is looked at by itself; a row and data.root=DIR compare it with a spec"
        raise SpecError(message, where=" ".join(others or paths))
    of_specs = [
        f"--{key}" for key in ("anew", "decode", "build_cache", "share") if getattr(args, key)
    ]
    if of_specs:
        option = of_specs[0].replace("_", "-")
        raise SpecError("is for the data of a row; name a row and data=NAME", where=option)
    return Path(paths[0]).expanduser().absolute()


def _is_own(word: str) -> bool:
    path = Path(word).expanduser()
    if "=" in word or path.suffix == ".yaml":
        return False
    if "/" in word:
        # also one that is not there: no spec has such a name
        return True
    specs = readable_root() / "experiments"
    is_spec = any((specs / place / f"{word}.yaml").is_file() for place in ("", "tables"))
    return path.exists() and not is_spec


def own_data(path: Path, args: Namespace) -> int:
    """Writes the data spec of a folder or tar file; prints what was found, and what is odd."""
    folder = find_root() / "experiments"
    spec = data_spec_path(folder, args.name or spec_name(path.name.removesuffix(".tar")))
    name = path.name
    if args.split:
        if args.label:
            raise SpecError(
                "the folder of an image is its label; leave this out", where=f"--label {args.label}"
            )
        hold_out(path, args.split.absolute())
        path = args.split.absolute()
    config, dataset, warnings = open_recognised(recognise(path, label=args.label))
    survey = _survey(config, dataset)
    config = replace(
        config,
        name=one_line(name),
        mean=[round(value, 4) for value in survey.mean],
        std=[max(round(value, 4), 0.0001) for value in survey.std],
        fingerprint=dataset.fingerprint,
        max_corrupt=len(survey.damaged),
    )
    warnings += survey.warnings()
    if dataset.passed_over.may_hold_images():
        warnings.append(f"passed over: {dataset.passed_over}")
    if (seen := len(survey.seen)) < survey.num_images:
        warnings.append(f"read {seen:,} of {survey.num_images:,} images, evenly spaced")
    counts = dict(zip(dataset.classes, survey.counts["train"], strict=True))
    text = data_spec(config, counts=counts, sizes=survey.sizes(), warnings=warnings)
    with files.naming(spec), spec.open("x") as file:
        file.write(text)
    _report(config, survey, warnings, spec, as_json=args.json)
    return OK


def _survey(config: DataConfig, dataset: ImageDataset) -> Survey:
    # takes a second, and imports torch
    from antioversmooth.training.survey import survey

    count = len(dataset.train.labels) + len(dataset.val.labels)
    processes = 0 if count < FEW else max(1, devices.cpus() - 1)
    return survey(dataset, str(config.root), processes=processes)


def _report(
    config: DataConfig, survey: Survey, warnings: list[str], spec: Path, *, as_json: bool
) -> None:
    counts = dict(zip(survey.classes, survey.counts["train"], strict=True))
    facts = {
        "name": config.name,
        "root": config.root,
        "source": config.source.value,
        "num_classes": config.num_classes,
        "num_train": config.num_train,
        "num_val": config.num_val,
    }
    if as_json:
        found = {"mean": config.mean, "std": config.std, "sizes": survey.sizes()}
        print_json(
            {**facts, **found, "classes": counts, "warnings": warnings, "written": str(spec)}
        )
        return
    facts["classes"] = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
    facts["sizes"] = survey.sizes()
    facts["mean"], facts["std"] = (
        ", ".join(f"{v:.4f}" for v in x) for x in (config.mean, config.std)
    )
    for key, value in facts.items():
        print(f"{key:<12} {one_line(str(value))}")
    for warning in warnings:
        print(f"warning: {one_line(warning)}")
    print(f"written      {spec}", flush=True)
    new = f"antioversmooth new ROW --from deit_s12_attnscale --data {spec.stem}"
    print(f"A row that is fine-tuned on it: {new}", file=sys.stderr)
