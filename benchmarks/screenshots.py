"""The README's pictures, made from the demo's runs in a real browser: the report page and the TensorBoard tab.

    make pictures

Needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver). Writes docs/pictures/*.png.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
RUNS = ROOT / "runs" / "demo"
_PAGE, _TAB = (1150, 1010), (1300, 760)  # pixels
_WAIT = 60  # seconds


def main() -> None:
    if not (RUNS / "lr0.2").is_dir():
        sys.exit("train the demo first: make demo")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser() as driver:
        page = Path(folder) / "report.html"
        deadneuron("report", "runs/demo/lr0.2", "-o", str(page))
        driver.set_window_size(*_PAGE)
        driver.get(page.as_uri())
        WebDriverWait(driver, _WAIT).until(lambda d: d.find_elements(By.CSS_SELECTOR, "canvas.dn-raster"))
        shoot(driver, "report.png")
        for run in ("lr0.05", "lr0.2"):
            target = str(Path(folder) / "tb" / run)
            deadneuron("report", f"runs/demo/{run}", "--to", "tensorboard", target)
        with tensorboard(Path(folder) / "tb") as address:
            driver.set_window_size(*_TAB)
            driver.get(f"{address}#deadneuron")
            wait = WebDriverWait(driver, _WAIT)
            wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, "iframe"))
            driver.switch_to.frame(driver.find_element(By.CSS_SELECTOR, "iframe"))
            wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, "[data-pick='1'] option"))
            driver.find_element(By.CSS_SELECTOR, "[data-pick='1'] option[value='lr0.2']").click()
            wait.until(lambda d: len(d.find_elements(By.CSS_SELECTOR, "canvas.dn-raster")) == 2)
            driver.switch_to.default_content()
            shoot(driver, "tab.png")


def deadneuron(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "deadneuron", *args], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def shoot(driver: webdriver.Chrome, name: str) -> None:
    time.sleep(1)  # what is drawn at the next frames
    driver.save_screenshot(str(PICTURES / name))
    print(f"wrote {PICTURES.relative_to(ROOT) / name}")


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A headless chromium with a profile of its own; nothing but this machine is reached."""
    where = shutil.which("chromium"), shutil.which("chromedriver")
    if None in where:
        sys.exit("chromium and chromedriver are needed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(where[0])
    with tempfile.TemporaryDirectory() as profile:
        for flag in (
            *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars"),
            *("disable-background-networking", "disable-component-update", "disable-sync"),
            f"user-data-dir={profile}",
        ):
            options.add_argument(f"--{flag}")
        driver = webdriver.Chrome(options=options, service=Service(where[1]))
        try:
            yield driver
        finally:
            driver.quit()


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """A TensorBoard server's address."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0", "--host", "127.0.0.1"]
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said, stderr=said) as server:
        try:
            until = time.monotonic() + _WAIT
            while time.monotonic() < until:
                said.seek(0)
                found = re.search(r"http://[\d.]+:\d+/", said.read())
                if found:
                    time.sleep(3)  # until it has read the runs
                    yield found[0]
                    return
                time.sleep(0.2)
            sys.exit("TensorBoard did not start")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
