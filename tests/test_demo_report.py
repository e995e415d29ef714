"""The report of a real study, opened: ``LRSCALE_DEMO_STUDY`` names the study folder; ``nox -s demo`` sets it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser


def test_the_report_opens_without_an_error_or_a_request(browser_path: str) -> None:
    folder = os.environ.get("LRSCALE_DEMO_STUDY")
    if not folder:
        pytest.skip("LRSCALE_DEMO_STUDY names no study")
    report = (Path(folder) / "report.html").resolve().as_uri()
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    requests: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page()
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(report, wait_until="load")
            text = page.inner_text("body")
        finally:
            browser.close()
    assert errors == []
    assert [url for url in requests if url != report and not url.startswith(("data:", "blob:"))] == []
    assert "digits" in text
