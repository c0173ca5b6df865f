"""MLflow: `checks` and `database` open it, `experiments` finds a table's experiment.

`mirror` writes runs, `logged_models` their weights; `ui` serves it, and `supervisor` ends the
server with its parent.
"""
