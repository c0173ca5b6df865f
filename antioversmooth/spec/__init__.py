"""From YAML files and `key=value` overrides to typed experiments; every mistake in them ends here,
as a SpecError.

request     what a command line asks for: rows and tables, with all their mistakes in one error
rows        one row: its files (defaults, source) and overrides (commandline), held against config/ (check, scalars)
pages       one table or figure
kinds       which kind of spec a file is, by its folder
compose     hydra and OmegaConf, which make the values; the rest only judges and explains
schema      the same dataclasses as JSON Schema, for editors
draft       a new row from an old one
"""

from antioversmooth.spec.request import Request, load, load_experiment, load_figure, load_table

__all__ = ["Request", "load", "load_experiment", "load_figure", "load_table"]
