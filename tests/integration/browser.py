"""A real browser on a page that a real server serves, for the tests of the dashboard."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from starlette.applications import Starlette

from streams.records import ExperimentState

CHROMIUM = "/usr/bin/chromium"
DRIVER = "/usr/bin/chromedriver"
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
WAIT_S = 30


class Running:
    """Says of no experiment that it is stopped, without a broker."""

    def read(self) -> dict[str, ExperimentState]:
        return {}


class Page:
    """A browser on the dashboard."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, place: str = "") -> None:
        # A new address with the same path would not load anew.
        self.driver.get("about:blank")
        self.driver.get(self.url + place)

    def text(self, selector: str) -> str:
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found[0].text if found else ""

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def click(self, selector: str, text: str = "") -> None:
        until(lambda: self._click(selector, text), f"{selector} with {text!r}")

    def _click(self, selector: str, text: str) -> bool:
        for found in self.driver.find_elements(By.CSS_SELECTOR, selector):
            if text in found.text:
                self.run("window.scrollTo(0, 0)")
                self.driver.execute_script("arguments[0].click()", found)
                return True
        return False

    def resize(self, width: int, height: int = 900) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )

    def prefer(self, colours: str) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": colours}]}
        )

    def complaints(self) -> list[str]:
        return [f"{line['level']}: {line['message']}" for line in cast(Any, self.driver).get_log("browser")]


def until(holds: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait until `holds` gives something true; fail with `what` otherwise."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"expected within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


@contextmanager
def serving(app: Starlette, port: int) -> Iterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, "the server to start")
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(10)


@contextmanager
def browsing(url: str, profile: Path) -> Iterator[Page]:
    """Open a browser with a fresh profile; skips where there is none."""
    if not (Path(CHROMIUM).exists() and Path(DRIVER).exists()):
        pytest.skip(f"needs {CHROMIUM} and {DRIVER} (Debian packages chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER, env=dict(os.environ)))
    # A window that no desktop has given the focus tells its page nothing of the keyboard's focus.
    driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    page = Page(driver, url)
    page.resize(1280)
    yield page
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


def luminance(page: Page) -> float:
    colour = page.run("return getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3


def too_wide(page: Page, width: int) -> list[str]:
    """Return the elements that stick out of a page of this width, scrolling boxes aside."""
    assert page.run("return document.documentElement.scrollWidth") <= width
    wide = (
        "return [...document.querySelectorAll('main *')].filter((node) => !node.closest('.scroll, .chart')"
        f" && node.getBoundingClientRect().right > {width + 1}).map((node) => node.outerHTML.slice(0, 80))"
    )
    return cast(list[str], page.run(wide))
