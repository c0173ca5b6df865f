from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser import complaints
from conftest import Lab

from antioversmooth.reporting import tables

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.browser


@pytest.fixture
def page(lab: Lab, browser: Chrome) -> Chrome:
    """The page of the filled table, opened from the file system."""
    lab.fill()
    tables.write(lab.collect(0, 1), lab.results)
    browser.get((lab.results / "small.html").as_uri())
    return browser


def test_the_page_opens_without_a_complaint(page: Chrome) -> None:
    assert page.title == "Scalings, 50 % off & more on Digits (mini profile)"
    assert complaints(page) == []
