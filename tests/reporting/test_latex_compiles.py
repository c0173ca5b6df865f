"""The LaTeX of tables compiles, and fits on a page."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from fabricated import Lab
from programs import program

from antioversmooth.reporting.rendering import latex
from antioversmooth.reporting.table import document

COMMITTED = Path(__file__).parents[2] / "results" / "mini" / "table2.json"
TEXT_WIDTH = "5.5in"
"""Width of the paper's conference style."""


@pytest.fixture
def compiler() -> str:
    return program("pdflatex", "tectonic", package="texlive-latex-recommended")


def compiled(compiler: str, folder: Path, table: str) -> str:
    """Compiles a document with the table; returns the compiler's output."""
    page = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}\setlength{{\textwidth}}{{{TEXT_WIDTH}}}"
    )
    (folder / "table.tex").write_text(f"{page}\n\\begin{{document}}\n{table}\n\\end{{document}}\n")
    options = (
        ["-interaction=nonstopmode", "-halt-on-error"] if compiler.endswith("pdflatex") else []
    )
    # fonts that it makes are not left behind
    environment = {**os.environ, "TEXMFVAR": str(folder / "texmf")}
    done = subprocess.run(
        [compiler, *options, "table.tex"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert (folder / "table.pdf").read_bytes().startswith(b"%PDF")
    return done.stdout + done.stderr


def test_the_committed_table_compiles_and_fits_the_page(compiler: str, tmp_path: Path) -> None:
    output = compiled(compiler, tmp_path, latex.render(document.load_document(COMMITTED)))
    assert "Overfull" not in output


@pytest.mark.slow
def test_names_with_every_special_character_compile(
    compiler: str, lab: Lab, tmp_path: Path
) -> None:
    lab.fill()
    made = lab.collect(0, 1)
    for row in made["rows"]:
        row["label"] = row["group"] = (
            "\\ & % $ # _ { } ~ ^ | < > [ ] ± − × ² – — \" ' ` \\end{table}"
            " \x1b\x00\x9b\u202e é α ≤ 中 😀 « đ"
        )
    made["title"] = made["rows"][0]["label"]
    (tmp_path / "latex").mkdir()
    compiled(compiler, tmp_path / "latex", latex.render(made))
