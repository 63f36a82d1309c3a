"""A real TensorBoard server over a log folder, for tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

SECONDS = 120  # that a server may take to start


@dataclass
class Server:
    """Where it is, what it said so far, and what its routes of our plugin answer."""

    address: str
    said: Path
    process: Any

    @property
    def tab(self) -> str:
        return f"{self.address}#deadneuron"

    def ask(self, route: str, **query: Any) -> Any:
        """What a route answers: its JSON, errors as well."""
        url = f"{self.address}data/plugin/deadneuron/{route}?{urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def wait(self, route: str, true: Any, **query: Any) -> Any:
        deadline = time.monotonic() + SECONDS
        while not true(found := self.ask(route, **query)):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found


@contextmanager
def serving(logs: Path, said: Path, *options: str, code: str | None = None) -> Iterator[Server]:
    """A server on a free port; `code` runs before TensorBoard begins, in its process."""
    main = [sys.executable, "-m", "tensorboard.main"]
    if code is not None:
        main = [sys.executable, "-c", f"{code}\nfrom tensorboard.main import run_main; run_main()"]
    flags = ["--logdir", str(logs), "--port", "0", "--host", "127.0.0.1", "--reload_interval", "1", *options]
    with said.open("w") as out:
        process = subprocess.Popen([*main, *flags], stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(r" at (http://[0-9.]+:[0-9]+/)", said.read_text())):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.1)
        yield Server(found[1], said, process)
        assert process.poll() is None, said.read_text()
    finally:
        process.terminate()
        process.wait(60)
