"""MLflow's pages of mirrored runs in Chromium, behind the links of `antioversmooth ui`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from fabricated import NOON, Lab

from antioversmooth.reporting.table import tables
from antioversmooth.runs import journal

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PATIENCE_S = 90
"""Seconds that a page may take on a busy machine."""


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The pages that `ui` names, by their names, while it serves a filled lab."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.fill()
    tables.write_table(lab.collect(0, 1), lab.results / "mini")
    for second in range(5):
        record = {
            "time": NOON + second,
            "attempt": 1,
            "step": second,
            "system/cpu_utilization_percentage": 40.0,
        }
        journal.append(lab.run("deep").metrics_path, record)
    command = [sys.executable, "-u", "-m", "antioversmooth", "ui", "--port", "0", "--no-models"]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    with subprocess.Popen(
        command, cwd=lab.root, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "Ctrl-C ends.\n":
                break
        yield dict(re.findall(r"^  (\w+) +(http\S+)$", "".join(lines), re.MULTILINE))
        process.terminate()


def words(driver: Chrome) -> str:
    """All text on the page."""
    return str(driver.execute_script("return document.body.innerText"))


def wait(driver: Chrome, until: Callable[[Chrome], bool]) -> None:
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        WebDriverWait(driver, PATIENCE_S).until(until)
    except TimeoutException:
        pytest.fail(f"{driver.current_url} shows only:\n{words(driver)}")


@pytest.fixture
def see(browser: Chrome) -> Callable[..., str]:
    """`see(address, ...)`: the text of a page, once it shows all expected texts."""

    def see(address: str, *named: str) -> str:
        browser.set_window_size(1800, 1400)
        # an address that differs only after its # would not load the page again
        browser.get("about:blank")
        browser.get(address)
        wait(browser, lambda driver: all(text in words(driver) for text in named))
        return words(browser)

    return see


def test_the_table_of_runs_shows_each_row_with_its_seeds_folded(
    links: dict[str, str], see: Callable[..., str], browser: Chrome
) -> None:
    from selenium.webdriver.common.by import By

    text = see(
        links["table"],
        "Row deep",
        "Row deep_featscale",
        "Row wide",
        "small (files)",
        "9 matching runs",
    )
    assert "small (mini: Digits)" in text
    assert "deep seed 0" not in text
    (row,) = (
        row
        for row in browser.find_elements(By.CSS_SELECTOR, "[role=row]")
        if "\nRow deep\n" in row.text
    )
    row.find_element(By.CSS_SELECTOR, "[col-id='attributes.`Run Name`'] button").click()
    wait(browser, lambda driver: {"deep seed 0", "deep seed 1"} <= set(words(driver).split("\n")))


def test_the_charts_show_the_curves_of_the_seeds(
    links: dict[str, str], see: Callable[..., str], browser: Chrome
) -> None:
    from selenium.webdriver.common.by import By

    see(links["charts"], "deep seed 0", "deep_featscale seed 1", "wide seed 0", "System metrics")
    browser.find_element(By.CSS_SELECTOR, "input[placeholder='Search metric charts']").send_keys(
        "val/top1"
    )
    wait(browser, lambda driver: [8, 16, 24, 32] in curves(driver))


def curves(driver: Chrome) -> list[list[float]]:
    """The steps of each curve."""
    plots = "[...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data)"
    return driver.execute_script(
        f"return {plots}.filter(curve => curve.x).map(curve => Array.from(curve.x))"
    )


def test_rows_are_compared_by_their_differences(
    links: dict[str, str], see: Callable[..., str]
) -> None:
    text = see(links["compare"], "Comparing 3 Runs", "model.scaling", "featscale", "val/top1")
    assert "deep seed 0" in text
    assert "deep_featscale seed 0" in text


def test_a_run_shows_the_load_of_its_machine(
    links: dict[str, str], see: Callable[..., str]
) -> None:
    first = re.search(r"%22(\w+)%22", links["compare"])
    assert first is not None
    run = links["table"].partition("?")[0] + f"/{first.group(1)}"
    see(f"{run}/system-metrics", "deep seed 0", "cpu_utilization_percentage")
    see(f"{run}/artifacts", "provenance.json", "result.json", "spec.yaml")
