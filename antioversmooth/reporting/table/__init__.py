"""Tables: runs (`observe`), rows (`aggregate`, `columns`), JSON (`document`), files (`tables`).

`captions` and `deviations` write the sentences of a table.
"""
