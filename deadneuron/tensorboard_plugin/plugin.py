"""What TensorBoard loads: routes of the tab. Nothing here may raise while TensorBoard starts, or it would not start."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from typing import Any

from tensorboard.plugins import base_plugin

PLUGIN = "deadneuron"
SAMPLES = 2000  # of a tag; TensorBoard keeps 10 or 100 by default
_TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
Environ = Mapping[str, Any]
Start = Callable[[str, list[tuple[str, str]]], Any]


class DeadNeuronsLoader(base_plugin.TBLoader):  # type: ignore[misc]
    """The entry point in the group `tensorboard_plugins`."""

    def fix_flags(self, flags: Any) -> None:
        """Keep enough samples of our tags, unless the user has said how many."""
        flags.samples_per_plugin.setdefault(PLUGIN, SAMPLES)

    def load(self, context: Any) -> DeadNeuronsPlugin:
        return DeadNeuronsPlugin(context)


class DeadNeuronsPlugin(base_plugin.TBPlugin):  # type: ignore[misc]
    """The tab's files and its data."""

    plugin_name = PLUGIN

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._provider = context.data_provider
        self._kept: dict[Any, Any] = {}  # what was read of runs that have not grown since

    def get_plugin_apps(self) -> dict[str, Callable[..., Iterable[bytes]]]:
        try:
            apps = {f"/{name}": _static(folder, name) for folder, name in _files()}
        except Exception as error:
            traceback.print_exc()
            return {"/index.js": _message(f"The tab cannot be shown: {type(error).__name__}: {error}")}
        return apps | {
            "/runs": self._answer("runs"),
            "/overview": self._answer("overview"),
            "/site": self._answer("site"),
        }

    def is_active(self) -> bool:
        return False  # tags that carry this plugin's name make the tab active

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Dead neurons")

    def _answer(self, name: str) -> Callable[..., Iterable[bytes]]:
        """A route that gives JSON: what was asked for, or {"error": …} with status 500."""

        def app(environ: Environ, start: Start) -> Iterable[bytes]:
            try:
                from urllib.parse import parse_qs

                from tensorboard import context
                from tensorboard.backend.experiment_id import WSGI_ENVIRON_KEY

                from deadneuron.tensorboard_plugin import reading
                from deadneuron.tensorboard_plugin.source import Source

                query = {key: values[-1] for key, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
                experiment = str(environ.get(WSGI_ENVIRON_KEY, ""))
                source = Source(self._provider, context.from_environ(environ), experiment, self._kept)
                body, status = getattr(reading, name)(source, query), "200 OK"
            except Exception as error:
                traceback.print_exc()
                body, status = {"error": f"{type(error).__name__}: {error}"}, "500 Internal Server Error"
            return _send(start, status, "application/json", json.dumps(body).encode())

        return app


def _files() -> Iterable[tuple[Any, str]]:
    """(folder, name) of the files that the tab is made of: those of the report page, and its own."""
    shared = resources.files("deadneuron.report") / "web"
    for folder in (shared, resources.files("deadneuron.tensorboard_plugin")):
        for file in folder.iterdir():
            if file.name.rpartition(".")[2] in _TYPES:
                yield folder, file.name


def _message(text: str) -> Callable[..., Iterable[bytes]]:
    """A tab that says one thing."""
    script = f"export function render() {{ document.body.textContent = {json.dumps(text)}; }}\n"

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        return _send(start, "200 OK", _TYPES["js"], script.encode())

    return app


def _static(folder: Any, name: str) -> Callable[..., Iterable[bytes]]:
    """One file of the tab."""

    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        return _send(start, "200 OK", _TYPES[name.rpartition(".")[2]], folder.joinpath(name).read_bytes())

    return app


def _send(start: Start, status: str, kind: str, body: bytes) -> Iterable[bytes]:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("X-Content-Type-Options", "nosniff")]
    start(status, [*headers, ("Cache-Control", "no-cache")])
    return [body]
