"""What several test files share: a headless browser."""

import os

import pytest
from browsing import LACKING, find_browser

os.environ.pop("COLUMNS", None)  # the workers of pytest-xdist have the width of the terminal, and tables would fit it


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium: the program that CHROMIUM names, else one on the PATH.

    Without one the tests that need it are skipped, or fail if REQUIRE_BROWSER is set.
    """
    program = find_browser()
    if program is None:
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(LACKING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program)
        yield chromium
        chromium.close()
