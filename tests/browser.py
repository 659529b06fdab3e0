"""The system's Chromium, without a window."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SECONDS = 60
# Where both of Prefect's UIs keep what was typed at their login.
PREFECT_KEEPS = "prefect-password"


@pytest.fixture
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


def new_page(browser: "Browser") -> "Page":
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(1000 * SECONDS)
    return page


def stay_logged_in(page: "Page", auth_string: str) -> None:
    """As after a login at Prefect's page that the browser remembers."""
    page.add_init_script(f"localStorage.setItem('{PREFECT_KEEPS}', btoa('{auth_string}'))")
