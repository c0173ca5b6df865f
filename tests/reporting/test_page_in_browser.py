"""The page of a table in Chromium: sorted, unfolded, printed, on a phone, in dark mode."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from browser import complaints, emulate, narrow
from fabricated import Lab

from antioversmooth.reporting.table import tables

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.browser


@pytest.fixture
def page(lab: Lab, browser: Chrome) -> Chrome:
    """The page of the filled table, opened from the file system."""
    lab.fill()
    tables.write_table(lab.collect(0, 1), lab.results)
    browser.get((lab.results / "small.html").as_uri())
    return browser


def all_of(page: Chrome, selector: str) -> list[WebElement]:
    return page.find_elements("css selector", selector)


def labels(page: Chrome) -> list[str]:
    """Labels of the rows, in their current order."""
    return [cell.text for cell in all_of(page, ".results > tbody > tr:first-child > th")]


def heading(page: Chrome, text: str) -> WebElement:
    return next(
        button for button in all_of(page, ".results > thead button") if button.text.startswith(text)
    )


def luminance(page: Chrome, selector: str, of: str) -> float:
    """Relative luminance (WCAG 2) of an element's colour or background."""
    colour = page.execute_script(
        "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, of
    )
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(page: Chrome, selector: str) -> float:
    one, other = luminance(page, selector, "color"), luminance(page, "body", "backgroundColor")
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_the_page_opens_without_a_complaint_and_shows_the_numbers(page: Chrome) -> None:
    assert page.title == "Scalings, 50 % off & more on Digits (mini profile)"
    assert labels(page) == ["Deep", "Deep + FeatScale <b>|$x_1$*^~{}", "Wide", "ResNet-152"]
    first = all_of(page, ".results > tbody > tr:first-child")[0].text
    assert "90.3 ± 0.4" in first
    assert "79.8 Q [1]" in first
    assert "done (n=2)" in first
    assert complaints(page) == []


def test_an_incomplete_table_says_so_above_everything(page: Chrome) -> None:
    (warning,) = all_of(page, "p.incomplete")
    assert warning.text == "INCOMPLETE: 2 of 3 rows are done."
    assert warning.location["y"] < all_of(page, "table.results")[0].location["y"]


def test_a_heading_sorts_up_then_down_then_as_it_was_and_nothing_comes_last(page: Chrome) -> None:
    before = labels(page)
    column = heading(page, "top-1")
    column.click()
    assert labels(page)[:2] == ["Deep", before[1]]
    column.click()
    assert labels(page)[:2] == [before[1], "Deep"]
    assert set(labels(page)[2:]) == {"Wide", "ResNet-152"}
    column.click()
    assert labels(page) == before


def test_sorting_works_from_the_keyboard_and_is_announced(page: Chrome) -> None:
    column = heading(page, "params")
    page.execute_script("arguments[0].focus()", column)
    column.send_keys("\n")
    header = column.find_element("xpath", "..")
    assert header.get_attribute("aria-sort") == "ascending"
    assert (
        page.execute_script("return getComputedStyle(arguments[0]).outlineStyle", column) != "none"
    )


def test_a_cell_unfolds_where_its_number_comes_from(page: Chrome) -> None:
    assert not all_of(page, ".facts")[0].is_displayed()
    all_of(page, ".results > tbody > tr:first-child > .number")[0].click()
    text = all_of(page, ".more > td")[0].text
    for fact in (
        "c0ffee",
        "5a5a5a5a5a5a",
        "node7",
        "4711",
        "torch 2.14.1",
        "sha256 abab",
        "completed",
        "Digits",
        "fingerprint 09f66e6debdee2cd",
    ):
        assert fact in text
    all_of(page, ".more summary + div + details > summary")[0].click()
    assert "family: vit" in all_of(page, "pre")[0].text


def test_everything_unfolds_and_folds_at_once(page: Chrome) -> None:
    (button,) = all_of(page, "#unfold")
    button.click()
    assert all(facts.is_displayed() for facts in all_of(page, ".facts"))
    assert button.text == "Fold all provenance"
    button.click()
    assert not any(facts.is_displayed() for facts in all_of(page, ".facts"))


def test_curves_are_drawn_in_lines_that_differ_without_colour(page: Chrome) -> None:
    figure = all_of(page, ".figures figure")[0]
    assert figure.size["height"] > 150
    style = "return getComputedStyle(arguments[0]).strokeDasharray"
    dashes = {
        page.execute_script(style, line)
        for line in figure.find_elements("css selector", "polyline")
    }
    # two rows, of two seeds each
    assert len(dashes) == 2
    assert [entry.text for entry in figure.find_elements("css selector", ".legend li")] == labels(
        page
    )[:2]


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_by_day_and_by_night(page: Chrome, dark: bool) -> None:
    """WCAG AA requires a contrast of 4.5 for text, and of 3 for graphics."""
    emulate(page, dark=dark)
    assert (luminance(page, "body", "backgroundColor") < 0.1) is dark
    for selector in ("body", "summary", "footer", ".incomplete", ".legend"):
        assert contrast(page, selector) >= 4.5, selector
    assert contrast(page, "polyline") >= 3


def test_on_a_phone_nothing_but_the_table_scrolls_sideways_and_the_model_stays(
    page: Chrome,
) -> None:
    narrow(page, 400)
    page.refresh()
    all_of(page, "#unfold")[0].click()
    assert page.execute_script("return document.documentElement.scrollWidth") <= 400
    page.execute_script("document.querySelector('.wide').scrollLeft = 300")
    (model, *_) = all_of(page, ".results > tbody > tr:first-child > th")
    assert 0 <= model.rect["x"] < 60
    assert "Deep_24" in model.text
    assert all(figure.rect["width"] <= 400 for figure in all_of(page, "figure"))


def test_a_print_has_the_unfolded_rows_and_no_buttons(page: Chrome) -> None:
    folded = printed_pages(page)
    emulate(page, media="print")
    assert not all_of(page, "#unfold")[0].is_displayed()
    assert not all_of(page, "summary")[0].is_displayed()
    emulate(page)
    all_of(page, "#unfold")[0].click()
    assert 1 <= folded <= printed_pages(page)
    emulate(page, media="print")
    assert all(facts.is_displayed() for facts in all_of(page, ".facts"))


def printed_pages(page: Chrome) -> int:
    printed = page.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
    return base64.b64decode(printed).count(b"/Type /Page\n")


def test_hostile_names_stay_text(lab: Lab, browser: Chrome) -> None:
    lab.fill()
    made = lab.collect(0, 1)
    evil = (
        '</script><script>document.title = "taken"</script><img src=x onerror="document.title = 1">'
    )
    made["notes"][0] = made["sources"][0] = evil
    for row in made["rows"]:
        row["group"] = row["label"] = row["device"] = evil
        for seed in row["seeds"]:
            seed["problem"] = evil
            seed["provenance"] = (
                {"hosts": [evil], "packages": {evil: evil}} if seed["provenance"] else None
            )
    tables.write_table(made, lab.results)
    browser.get((lab.results / "small.html").as_uri())
    assert browser.title == made["title"]
    assert not all_of(browser, "img")
    assert evil in browser.find_element("tag name", "footer").text
    assert complaints(browser) == []
