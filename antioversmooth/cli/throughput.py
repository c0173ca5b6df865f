"""Handler of the command `throughput`."""

from __future__ import annotations

from argparse import Namespace

from antioversmooth.cli.exit_codes import OK
from antioversmooth.cli.requests import load_row, load_runs, print_json
from antioversmooth.config import Experiment, Precision
from antioversmooth.errors import SpecError
from antioversmooth.training.throughput import throughput_of_row, throughput_of_timm


def throughput_command(args: Namespace) -> int:
    """Measures images per second of a model's forward pass on this machine."""
    precision = Precision(args.precision) if args.precision else None
    kind, _, tag = args.target.partition(":")
    if kind == "timm" and not args.overrides:
        measured = throughput_of_timm(
            tag, batch=args.batch, precision=precision or Precision.float32
        )
    else:
        measured = throughput_of_row(_row(args), batch=args.batch, precision=precision)
    print_json(measured.record()) if args.json else print(measured.text())
    return OK


def _row(args: Namespace) -> Experiment:
    """The row, or that of the run, that the arguments name.

    Raises:
        SpecError: There is no such row, or overrides are given for what is fixed.
    """
    runs = load_runs([args.target])
    if args.overrides and (runs or args.target.startswith("timm:")):
        given = " ".join(args.overrides)
        raise SpecError(f"{given} changes a row, and {args.target} is none; name a row")
    row = runs[0].experiment if runs else load_row(args.target, args.overrides)
    # None only where no name is given
    assert row is not None
    return row
