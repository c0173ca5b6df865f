"""The profile, and data and weights of the runs, as far as this machine sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from antioversmooth.errors import UserError
from antioversmooth.finding import Finding, Level, Place
from antioversmooth.orchestration import preflight
from antioversmooth.orchestration.doctor.site import Site, found_on_login


def profile(site: Site) -> Iterator[Finding]:
    """Whether a launch would accept the programs, lines and images that the profile names."""
    clusters = [site.cluster, *(run.experiment.cluster for run in site.runs)]
    preflight.check_profiles(clusters, submits=site.on_slurm)
    text = f"{site.cluster.name}: a launch accepts it"
    yield found_on_login("profile", Level.ok, text)


def data(site: Site) -> Iterator[Finding]:
    """Whether the data sets of the runs are there, and what their specs say."""
    read = [run.experiment.data_read for run in site.runs]
    configs = {repr(config): config for config in read}
    for config in configs.values():
        try:
            preflight.check_data(config)
        except UserError as err:
            yield found_on_login("data", Level.wrong, str(err), place=Place.data)
            continue
        root = config.root or f"packaged with {config.source.value}"
        is_here = not config.root or Path(config.root).exists()
        where = "" if is_here else ": not on this machine (data.on_nodes_only)"
        text = f"{config.name}: {root}{where}"
        yield found_on_login("data", Level.ok, text, place=Place.data)


def weights(site: Site) -> Iterator[Finding]:
    """Whether the files are there that runs take weights from."""
    files = [run for run in site.runs if run.files]
    for run in files:
        try:
            preflight.check_weights(run)
        except UserError as err:
            text = f"{run.name}: {err}"
            yield found_on_login("files of weights", Level.wrong, text, place=Place.data)
    if files:
        text = f"{len(files)} runs take weights from files"
        yield found_on_login("files of weights", Level.ok, text, place=Place.data)
