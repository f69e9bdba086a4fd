"""A headless Chromium, where there is one: what a page looks like after its scripts have run."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextlib.contextmanager
def chromium_page() -> Iterator[Any]:
    """A Playwright page of the Chromium that is installed, or that CHROMIUM names; it is closed at the end.

    Skips the test where there is none: Playwright's own is a download of its own.
    """
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not program:
        pytest.skip("needs Chromium: install the package chromium, or let CHROMIUM name one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser.new_page(viewport={"width": 1100, "height": 900})
        finally:
            browser.close()
