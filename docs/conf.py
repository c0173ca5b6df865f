"""The site made of these pages and of README.md: `make docs`. A dead link or a missing page fails the build."""

from pathlib import Path

project = "antioversmooth"
author = "The antioversmooth authors"
README = Path(__file__).parents[1] / "README.md"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # links to #headings are checked, too
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
html_theme = "furo"
html_title = "Anti-oversmoothing, reproduced"
html_show_copyright = False
html_show_sourcelink = False


def put_readme_on_the_front_page(app, docname, source):
    """Its links start at the root of the repository, those of a page in docs/."""
    if docname == "index":
        readme = README.read_text().replace("](docs/", "](").replace("](results/", "](../results/")
        source[0] = readme + "\n" + source[0]
        app.env.note_dependency(str(README))


def setup(app):
    app.connect("source-read", put_readme_on_the_front_page)
