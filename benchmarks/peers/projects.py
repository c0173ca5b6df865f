"""Small projects for other tools, each with as much to do as a table of 12 rows and 3 seeds."""

from __future__ import annotations

from pathlib import Path

ROWS, SEEDS = 12, 3

_HYDRA_GROUPS = ("model", "recipe", "data", "cluster")
_HYDRA_APP = """\
import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    pass


main()
"""
_DORA_MAIN = """\
import argparse

from dora import argparse_main

parser = argparse.ArgumentParser()
parser.add_argument("--row", type=int, default=0)
parser.add_argument("--seed", type=int, default=0)


@argparse_main(parser=parser, dir="outputs")
def main():
    pass
"""
_DORA_GRID = f"""\
from dora import Explorer


def explore(launcher):
    for row in range({ROWS}):
        for seed in range({SEEDS}):
            launcher(row=row, seed=seed)


explorer = Explorer(explore)
"""
_SNAKEFILE = f"""\
RUNS = [f"row{{row}}-seed{{seed}}" for row in range({ROWS}) for seed in range({SEEDS})]

rule all:
    input: expand("results/{{run}}.json", run=RUNS)

rule train:
    output: "results/{{run}}.json"
    shell: "touch {{output}}"
"""


def hydra(folder: Path) -> None:
    """A program whose config is composed of four groups of 20 keys."""
    groups = ", ".join(f"{group}: one" for group in _HYDRA_GROUPS)
    _write(folder / "conf" / "config.yaml", f"defaults: [{groups}, _self_]\n")
    keys = "".join(f"key{number}: {number}\n" for number in range(20))
    for group in _HYDRA_GROUPS:
        _write(folder / "conf" / group / "one.yaml", keys)
    _write(folder / "app.py", _HYDRA_APP)


def dora(folder: Path) -> None:
    """A package `app` with the grid `table`."""
    _write(folder / "app" / "train.py", _DORA_MAIN)
    _write(folder / "app" / "grids" / "table.py", _DORA_GRID)
    for package in ("app", "app/grids"):
        _write(folder / package / "__init__.py", "")


def snakemake(folder: Path) -> None:
    """A workflow with a job for each run."""
    _write(folder / "Snakefile", _SNAKEFILE)


def dvc(folder: Path) -> None:
    """A pipeline with a stage for each run, of which none has run."""
    names = [f"row{row}-seed{seed}" for row in range(ROWS) for seed in range(SEEDS)]
    stages = [f"  {name}:\n    cmd: touch {name}\n    outs: [{name}]\n" for name in names]
    _write(folder / "dvc.yaml", "stages:\n" + "".join(stages))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
