"""A headless Chromium for tests of pages: layout, clicks, print and the dark colour scheme."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from programs import program

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SWITCHES = (
    "--headless",
    # the sandbox does not work as root, as in containers
    "--no-sandbox",
    "--disable-gpu",
    # /dev/shm has 64 MiB in containers
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One Chromium for all tests of a process, with a profile of its own; without Chromium:
    skipped, in CI failed."""
    chromium = program("chromium", "chromium-browser", package="chromium")
    driver = program("chromedriver", package="chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("chromium")
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # temporary files that Chromium leaves are removed with the profile
    environment = {**os.environ, "TMPDIR": str(profile)}
    # selenium would download a driver if none were given
    service = webdriver.ChromeService(driver, env=environment)
    started = webdriver.Chrome(options, service)
    try:
        yield started
    finally:
        started.quit()
        shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def browser(chromium: Chrome) -> Chrome:
    """The browser as it starts: an empty page of 1280 x 900 on a light screen, nothing in its
    log."""
    chromium.set_window_size(1280, 900)
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    emulate(chromium)
    chromium.get("about:blank")
    chromium.delete_all_cookies()
    chromium.get_log("browser")
    return chromium


def emulate(browser: Chrome, *, dark: bool = False, media: str = "") -> None:
    """Emulates a light or a dark colour scheme, or `media="print"`."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})


def narrow(browser: Chrome, width: int, height: int = 900) -> None:
    """The window of a phone, narrower than Chromium's own limit."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def complaints(browser: Chrome) -> list[str]:
    """New lines of the browser's log: errors of scripts, refused requests, missing files."""
    return [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] in ("SEVERE", "WARNING")
    ]
