"""The page of pictures."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from fabricated import Lab

from antioversmooth import files
from antioversmooth.analysis import drawing
from antioversmooth.analysis.drawing import Picture
from antioversmooth.analysis.panels import Curve, PanelData
from antioversmooth.errors import UserError
from antioversmooth.reporting.rendering import gallery, page
from antioversmooth.reporting.table import document


def picture(name: str, title: str) -> Picture:
    panel = PanelData(
        "Tokens", "layer", "mean |cos|", False, [], [Curve("DeiT-S", "DeiT-S", [1, 2], [0.25, 0.5])]
    )
    return Picture(name, title, ["Seed 0 & <one> note."], [panel])


class Links(HTMLParser):
    """The links of a page, and its unclosed tags."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value or "" for key, value in attrs if key in ("href", "src")]
        if tag not in ("meta", "img", "html"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "html":
            assert self.open.pop() == tag


def test_a_page_holds_every_picture_of_its_folder_and_needs_nothing_else(tmp_path: Path) -> None:
    for name in ("b", "a"):
        drawing.write_picture(picture(name, f"Picture <{name}>"), tmp_path)
    text = gallery.write_gallery(tmp_path, "Figures & more").read_text()
    links = Links()
    links.feed(text)
    assert links.open == []
    assert "<h1>Figures &amp; more</h1>" in text
    assert [text.index(f"Picture &lt;{name}&gt;</h2>") for name in "ab"] == sorted(
        text.index(f"Picture &lt;{name}&gt;</h2>") for name in "ab"
    )
    assert "Seed 0 &amp; &lt;one&gt; note." in text
    assert 'alt="Picture &lt;a&gt;: Tokens (mean |cos| by layer)"' in text
    images = [target for target in links.targets if target.startswith("data:")]
    drawn = [base64.b64decode(target.partition("base64,")[2]) for target in images]
    assert drawn == [(tmp_path / f"{name}.svg").read_bytes() for name in "ab"]
    beside = [target for target in links.targets if not target.startswith("data:")]
    assert beside == [f"./{name}.{end}" for name in "ab" for end in ("csv", "json", "png", "svg")]
    assert not re.search(r"https?:", re.sub(r"base64,[^\"]*", "", text)), "nothing is fetched"


def test_the_page_of_a_table_leads_to_its_figures(lab: Lab) -> None:
    link = '<a href="figures/index.html">'
    assert link not in page.render(lab.collect(0)), "it names none"
    table = replace(lab.table(), figures=["similarity"])
    assert link in page.render(document.collect(table, lab.request(), [0], lab.results))


def test_the_same_pictures_are_the_same_page(tmp_path: Path) -> None:
    drawing.write_picture(picture("a", "A"), tmp_path)
    first = gallery.write_gallery(tmp_path).read_bytes()
    files.write_atomic(tmp_path / "notes.txt", "not a picture")
    assert gallery.write_gallery(tmp_path).read_bytes() == first


@pytest.mark.parametrize(
    "numbers",
    ["", "{", "[]", '{"name": "a"}', '{"name": "a", "title": "t", "notes": [], "panels": 1}'],
)
def test_a_picture_whose_numbers_are_not_its_own_is_named(numbers: str, tmp_path: Path) -> None:
    drawing.write_picture(picture("a", "A"), tmp_path)
    (tmp_path / "a.json").write_text(numbers)
    with pytest.raises(UserError, match=r"a\.json"):
        gallery.write_gallery(tmp_path)
    (tmp_path / "a.json").unlink()
    with pytest.raises(UserError, match=r"a\.json is not what was drawn as a\.svg"):
        gallery.write_gallery(tmp_path)


def test_no_name_of_a_file_leads_elsewhere(tmp_path: Path) -> None:
    made = picture("a", "A")
    for name in ("javascript:alert(1)", "a b#c?d%41", '"><img src=x>'):
        drawing.write_picture(replace(made, name=name), tmp_path)
    links = Links()
    links.feed(gallery.write_gallery(tmp_path).read_text())
    targets = [target for target in links.targets if not target.startswith("data:")]
    assert len(targets) == 12
    assert all((tmp_path / unquote(target)).is_file() for target in targets)
    assert all(target.startswith("./") for target in targets)
