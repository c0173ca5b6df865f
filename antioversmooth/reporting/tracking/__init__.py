"""MLflow: `database` opens it, `mirror` writes runs, `logged_models` their weights, `ui` serves it.

`supervisor` ends the server with its parent.
"""
