"""The check of a machine with one GPU, in at most eight minutes: `make check-gpu`.

`parts` runs `tests`, `resume`, `ranks`, `steps` and `compilation` one after the other, each in a
process of its own that is ended at its time limit; `report` says what was found and what was not
finished. Without a GPU it is a rehearsal on the CPU with tiny models.
"""
