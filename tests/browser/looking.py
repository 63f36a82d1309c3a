"""What tests ask of a page in the browser: pixels of its pictures, its tip, its keys, and what it asked for."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver.common.action_chains import ActionChains

# [active, rare, silent, dead, not seen], light and dark: as deadneuron/report/web/palette.js has them.
LIGHT = [(226, 233, 238), (116, 192, 238), (218, 143, 0), (165, 15, 40), (255, 255, 255)]
DARK = [(38, 50, 60), (86, 180, 233), (240, 180, 40), (222, 45, 60), (18, 22, 26)]

HERE = "http://"

PIXELS = """
const canvas = document.querySelectorAll('.dn-raster')[arguments[0]];
const [rows, thick] = [Number(canvas.dataset.rows), Number(canvas.dataset.thick)];
const ratio = canvas.height / (rows * thick);
const context = canvas.getContext('2d');
return [...Array(rows).keys()].map((row) => arguments[1].map((share) => {
  const x = Math.min(Math.floor(share * canvas.width), canvas.width - 1);
  return [...context.getImageData(x, Math.floor((row + 0.5) * thick * ratio), 1, 1).data].slice(0, 3);
}));
"""


class Look:
    """One browser, for one test."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.js = driver.execute_script
        self.allowed: tuple[str, ...] = ()  # words of messages in the console that a test brings about

    def fresh(self) -> None:
        self.driver.switch_to.default_content()
        self.driver.get("about:blank")
        self.media()
        self.size(1300, 1000)
        for log in ("browser", "performance"):
            self.driver.get_log(log)

    def open(self, address: str) -> None:
        """A report page, and wait until it is drawn."""
        self.driver.get(address)
        self.until(lambda: self.js("return document.querySelector('#picture')?.dataset.drawn === 'true'"))

    def until(self, true: Callable[[], Any], seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < deadline, self.js("return document.body.innerText")
            time.sleep(0.05)
        return found

    def settle(self) -> None:
        """Wait until what is drawn stays as it is: a scroll bar, or states that arrive, have it drawn anew."""
        drawn = "[...document.querySelectorAll('.dn-rates')]"
        self.js(f"{drawn}.forEach((one) => delete one.dataset.seen)")
        while not self.js(f"return {drawn}.every((one) => one.dataset.seen)"):
            self.js(f"{drawn}.forEach((one) => {{ one.dataset.seen = '1' }})")
            time.sleep(0.3)

    def text(self, selector: str) -> str:
        """The text of the first such element; "" where there is none yet."""
        return self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def media(self, *, dark: bool = False, kind: str = "") -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": features})

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def keys(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def point(self, element: Any, x: float, y: float) -> str:
        """The tip's text after the pointer went to that pixel of an element."""
        size = element.size
        place = (round(x - size["width"] / 2), round(y - size["height"] / 2))
        ActionChains(self.driver).move_to_element_with_offset(element, *place).perform()
        return self.tip()

    def drag(self, element: Any, from_x: float, to_x: float) -> None:
        middle = element.size["width"] / 2
        chain = ActionChains(self.driver).move_to_element_with_offset(element, round(from_x - middle), 0)
        chain.click_and_hold().move_by_offset(round(to_x - from_x), 0).release().perform()

    def zoom(self, which: int = 0) -> list[int]:
        """The first and the last step that are shown; [] where all are."""
        return [int(found) for found in re.findall(r"\d+", self.all(".dn-bar")[which].text)]

    def tip(self) -> str:
        return self.js("const t = document.querySelector('.dn-tip'); return t && !t.hidden ? t.innerText : ''")

    def states(self, shares: list[float], *, raster: int = 0, dark: bool = False) -> list[list[int]]:
        """[rows][places] the state that each row of a raster shows at those shares of its width."""
        colours = DARK if dark else LIGHT
        return [[colours.index(tuple(pixel)) for pixel in row] for row in self.js(PIXELS, raster, shares)]

    def names(self) -> list[str]:
        return self.js("return [...document.querySelectorAll('.dn-site')].map((one) => one.textContent)")

    def overflow(self) -> list[str]:
        """Elements of the picture that stick out of the page to the right."""
        return self.js(
            """const wide = document.documentElement.clientWidth;
            const shown = [...document.querySelectorAll('.dn *')].filter((one) => !one.closest('svg *, .dn-site'));
            const cut = shown.filter((one) => one.getBoundingClientRect().right > wide + 0.5);
            return cut.map((one) => one.outerHTML.slice(0, 99));"""
        )

    def errors(self) -> list[str]:
        """What the console said, of our own files."""
        # TensorBoard's own; a server that the test has stopped; and what these tests do to canvases.
        foreign = ("Three.js", "software WebGL", "/index.js?_file_hash", "favicon.ico")
        stopped = ("ERR_EMPTY_RESPONSE", "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "willReadFrequently")
        said = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "DEBUG"]
        return [one for one in said if not any(word in one for word in foreign + stopped + self.allowed)]

    def outside(self) -> list[str]:
        """Addresses that were asked for beyond this machine."""
        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        local = ("file://", "data:", "blob:", "about:", f"{HERE}127.0.0.1:", f"{HERE}localhost:", "chrome")
        return [address for address in asked if not address.startswith(local)]

    def photograph(self, folder: Path | None, name: str) -> None:
        if folder is not None:
            shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
            (folder / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))
