"""A real browser without a network, for tests of pages."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")

NOWHERE = "http://127.0.0.1:9"
"""A proxy that nothing answers at: whatever is asked for over the network fails."""


def installed_browser() -> str:
    """Path of the installed Chromium; the test is skipped without one."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)} is on the path")
    return found


@asynccontextmanager
async def started_browser() -> AsyncIterator[Browser]:
    """A browser whose network leads nowhere."""
    path = installed_browser()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"], proxy={"server": NOWHERE, "bypass": "<-loopback>"}
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Opened:
    """A page that is open, and what happened on it."""

    page: Page
    requested: list[str] = field(default_factory=list)
    """Addresses that it asked for, beside itself."""

    complaints: list[str] = field(default_factory=list)
    """Errors of its scripts, and what the console says."""

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)


@asynccontextmanager
async def opened(browser: Browser, file: Path, **options: object) -> AsyncIterator[Opened]:
    """A file in the browser, once it says that it is ready. It may ask for nothing, complain of nothing."""
    context = await browser.new_context(viewport={"width": 1440, "height": 1000}, offline=True, **options)  # pyright: ignore[reportArgumentType] -- as the caller names them
    try:
        found = Opened(await context.new_page())
        own = file.as_uri()
        found.page.on("request", lambda asked: found.requested.append(asked.url))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("console", lambda message: found.complaints.append(message.text))
        await found.page.goto(own)
        await found.page.wait_for_selector("html[data-ready]", state="attached")
        yield found
        others = [url for url in found.requested if url.split("#")[0] != own]
        assert not others, others
        assert not found.complaints, found.complaints
    finally:
        await context.close()
