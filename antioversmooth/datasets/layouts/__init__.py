"""Layouts of data sets, one a file.

`scan_split(config, split)` lists images that are read one by one; `read_splits(config)` reads
tables and arrays as a whole. `dataset.py` chooses by `data.source`.
"""
