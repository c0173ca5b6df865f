"""Handlers of the commands about weights: analyze, evaluate, convert."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from antioversmooth.analysis.drawing import write_picture
from antioversmooth.analysis.overview import overview_pictures
from antioversmooth.analysis.record import Analysis
from antioversmooth.cli.exit_codes import OK
from antioversmooth.cli.requests import load_row, print_json, report_written
from antioversmooth.datasets.classes import read_class_map
from antioversmooth.datasets.validation import validation_config
from antioversmooth.errors import SpecError
from antioversmooth.reporting import evaluations
from antioversmooth.reporting.rendering import gallery
from antioversmooth.training.run.distributed import rank_from_env
from antioversmooth.training.weights.analyse import analyse
from antioversmooth.training.weights.convert import convert_weights
from antioversmooth.training.weights.evaluate import evaluate_weights
from antioversmooth.training.weights.published import analyse_published
from antioversmooth.training.weights.recorded import run_of_target


def analyze_command(args: Namespace) -> int:
    """Measures and draws the layers of a model."""
    record = _analysis(args)
    folder = args.output or _analysis_folder(args.target)
    changed = [f"note: {record.changed}"] if record.changed else []
    print("\n".join([*record.loaded, *changed]), file=sys.stderr)
    written = record.write(folder)
    for picture in overview_pictures(record):
        written += write_picture(picture, folder)
    written.append(gallery.write_gallery(folder, record.title))
    report_written(written, as_json=args.json)
    return OK


def _analysis(args: Namespace) -> Analysis:
    """The analysis that the arguments ask for: of weights with a spec, or of a timm model.

    Raises:
        UserError: They do not fit together, or something that they name is not there.
    """
    tag = _published_tag(args.target)
    if tag is None:
        if args.data:
            raise SpecError(f"--data {args.data} is for timm:TAG; a run has images of its own")
        return analyse(args.target, load_row(args.spec, args.overrides), num_images=args.images)
    if args.spec or args.overrides:
        raise SpecError(f"{args.target} is a model of timm; leave --spec and overrides out")
    if args.data is None:
        raise SpecError(f"{args.target} belongs to no data; name a folder of images: --data DIR")
    return analyse_published(tag, args.data, num_images=args.images)


def _analysis_folder(target: Path) -> Path:
    """Where the analysis of a target is written by default."""
    if tag := _published_tag(target):
        return Path(f"{tag}.analysis")
    return target / "analysis" if target.is_dir() else target.with_suffix(".analysis")


def _published_tag(target: Path) -> str | None:
    """The tag of a target `timm:TAG`; None of others."""
    kind, colon, tag = str(target).partition(":")
    return tag if (kind, colon) == ("timm", ":") else None


def evaluate_command(args: Namespace) -> int:
    """Evaluates weights, and prints the result."""
    experiment = load_row(args.spec, args.overrides) or run_of_target(args.target).experiment
    data = validation_config(experiment.data, args.data) if args.data else None
    measured = evaluate_weights(
        args.target,
        experiment,
        data=data,
        class_map=read_class_map(args.class_map) if args.class_map else None,
        average=args.average,
    )
    record = evaluations.record(args.target, experiment, measured, data)
    # under torchrun every process has the result
    if rank_from_env(os.environ).rank == 0:
        print_json(record) if args.json else print(evaluations.text(record))
    return OK


def convert_command(args: Namespace) -> int:
    """Writes weights in another layout."""
    row = load_row(args.spec, args.overrides)
    report = convert_weights(
        args.source, args.target, row, fold=args.fold, average=args.average, key=args.key
    )
    if args.json:
        print_json({**asdict(report), "written": str(args.target)})
    else:
        print("\n".join([*report.lines(), f"written: {args.target}"]))
    return OK
