"""The drawing code as one script, for a page that is a single file: each ES module becomes a function of its own scope.

The modules in web/ use plain imports of named things from each other (`import { a, b } from "./x.js";`) and exported
functions, constants and classes, and nothing else of the module syntax: a test holds them to that.
"""

from __future__ import annotations

import re
from importlib import resources

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([a-z]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (async function|function|const|class) (\w+)", re.MULTILINE)


def bundle(entry: str = "app") -> str:
    """The module `entry` and all that it imports, in an order in which each finds what it needs.

    Every module is a constant `module_<name>` that holds what it exports.
    """
    order: list[str] = []
    _visit(entry, order, ())
    return "\n".join(_wrapped(name) for name in order)


def web_file(name: str) -> str:
    """The text of one file of deadneuron/report/web/."""
    return resources.files("deadneuron.report").joinpath("web", name).read_text("utf-8")


def _visit(name: str, order: list[str], above: tuple[str, ...]) -> None:
    if name in above:
        raise ValueError(f"the modules import each other in a circle: {' > '.join((*above, name))}")
    for _, needed in _IMPORT.findall(web_file(f"{name}.js")):
        _visit(needed, order, (*above, name))
    if name not in order:
        order.append(name)


def _wrapped(name: str) -> str:
    text = web_file(f"{name}.js")
    exports = ", ".join(found for _, found in _EXPORT.findall(text))
    text = _IMPORT.sub(lambda match: f"const {{{match[1]}}} = module_{match[2]};\n", text)
    text = _EXPORT.sub(r"\1 \2", text)
    return f"const module_{name} = (() => {{\n{text}return {{ {exports} }};\n}})();"
