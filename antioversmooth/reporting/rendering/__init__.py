"""Renderings of a table's document, one module and one function that escapes for each format.

`cells` has the texts that all share; `page` and `gallery` fill the HTML in `templates/`.
"""
