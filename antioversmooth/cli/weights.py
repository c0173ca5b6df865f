"""Handlers of the commands about weights: analyze, evaluate, convert."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from dataclasses import asdict

from antioversmooth.analysis.drawing import write_picture
from antioversmooth.analysis.overview import overview_pictures
from antioversmooth.cli.exit_codes import OK
from antioversmooth.cli.requests import load_row, print_json, report_written
from antioversmooth.datasets.classes import read_class_map
from antioversmooth.datasets.validation import validation_config
from antioversmooth.reporting import evaluations
from antioversmooth.reporting.rendering import gallery
from antioversmooth.training.run.distributed import rank_from_env
from antioversmooth.training.weights.analyse import analyse
from antioversmooth.training.weights.convert import convert_weights
from antioversmooth.training.weights.evaluate import evaluate_weights
from antioversmooth.training.weights.recorded import run_of_target


def analyze_command(args: Namespace) -> int:
    """Measures and draws the layers of a model."""
    record = analyse(args.target, load_row(args.spec, args.overrides), num_images=args.images)
    is_run = args.target.is_dir()
    default = args.target / "analysis" if is_run else args.target.with_suffix(".analysis")
    folder = args.output or default
    changed = [f"note: {record.changed}"] if record.changed else []
    print("\n".join([*record.loaded, *changed]), file=sys.stderr)
    written = record.write(folder)
    for picture in overview_pictures(record):
        written += write_picture(picture, folder)
    written.append(gallery.write_gallery(folder, record.title))
    report_written(written, as_json=args.json)
    return OK


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
