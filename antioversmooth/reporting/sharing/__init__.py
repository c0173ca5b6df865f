"""Results for others: `bundle` exports runs, `unbundle` imports them, `verify` checks a table.

`report` shows what `verify` found.
"""
