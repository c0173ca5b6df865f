"""Speed and memory of this project beside timm's own models and usual input pipelines.

`python -m benchmarks` runs `suite`: `models` (with `textbook`, the explicit forms), `methods`,
`host`, `compiled`, `pipeline`, `startup`, `mlflow_sync`, `table_command` and `size` (on runs that
`fabricated` makes) and `listings`, timed by `timing`. `goals`, `markdown_report` and `ratio_chart`
say what the numbers mean. `python -m benchmarks.gpu` checks a machine with a GPU.
"""
