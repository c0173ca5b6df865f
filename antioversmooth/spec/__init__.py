"""From YAML files and `key=value` overrides to typed experiments, or a SpecError with all mistakes.

request     a command line's rows and tables
rows        one row: its files (defaults, source) and overrides (commandline)
pages       one table or figure, and the kinds of spec files
check       types and keys (scalars, fields); build: interpolations and rules
schema      the dataclasses of config/ as JSON Schema, for editors
draft       a new row from an old one; fitting: values that fit another data set
data_spec   the text of a data spec
"""

from antioversmooth.spec.request import Request, load, load_experiment, load_figure, load_table

__all__ = ["Request", "load", "load_experiment", "load_figure", "load_table"]
