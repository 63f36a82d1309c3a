"""A headless Chromium that may ask nobody but this machine. Without one these tests are skipped."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("looking", "serving")

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--window-size=1300,1000",
]


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: .ci/browser installs it")
    return found


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """One browser a session, with a new and empty profile."""
    chromium, chromedriver = program("chromium"), program("chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path given, selenium looks for none, and downloads none.
    made = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        made.set_page_load_timeout(60)
        made.set_script_timeout(60)
        yield made
    finally:
        made.quit()


@pytest.fixture
def look(driver):
    """A `Look` at pages: light, wide, with empty logs; afterwards nothing may have gone wrong or left the machine."""
    from looking import Look

    made = Look(driver)
    made.fresh()
    yield made
    assert made.outside() == []
    assert made.errors() == []


@pytest.fixture(scope="session")
def kept():
    """A folder for screenshots that are to be looked at, or None: DEADNEURON_SCREENSHOTS names it."""
    folder = os.environ.get("DEADNEURON_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) if folder else None


@pytest.fixture
def write_page(tmp_path):
    """Write the report page of a run that was made by hand, and give its address."""
    from deadneuron.analysis.diagnosis import diagnose
    from deadneuron.analysis.picture import picture_of
    from deadneuron.report.html import render_html

    def write(run):
        diagnosis = diagnose(run)
        file = tmp_path / "report.html"
        file.write_text(render_html(diagnosis, picture_of(run, diagnosis)), "utf-8")
        return file.as_uri()

    return write
