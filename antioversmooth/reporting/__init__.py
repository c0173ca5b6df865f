"""Reports of runs: tables and figures, MLflow, and what others need to check them.

- `table/`: observations of runs, rows and columns, captions, the JSON document, its files.
- `rendering/`: one document as Markdown, LaTeX, CSV, HTML (`templates/`) and on a terminal.
- `tracking/`: run directories mirrored into MLflow, its server, and logged models.
- `sharing/`: bundles of runs (export, import), and the verification of committed tables.
- `figures`, `evaluations`: pictures of a spec, and the numbers of an evaluation.
- `publish`: tables, figures and MLflow after a launch.
"""
