"""The report as one HTML file: no script, nothing loaded from elsewhere, readable in the dark and on paper."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deadneuron.records import Diagnosis
from deadneuron.report.cells import columns_of, rows_of
from deadneuron.report.curve import HEIGHT, WIDTH, curve_of
from deadneuron.report.legend import explain
from deadneuron.report.page import Grid
from deadneuron.report.sentences import page_of
from deadneuron.report.style import MARKS

_SPARK = "dead, over time"  # the column that is a picture here


def render_html(diagnosis: Diagnosis) -> str:
    """The report as one self-contained HTML document.

    Its Content-Security-Policy allows this file's own style sheet and nothing else: whatever a layer, a run or a file
    is called, no script runs and nothing is loaded.
    """
    columns = [column for column in columns_of(diagnosis) if column.header != _SPARK]
    rows = rows_of(diagnosis)
    curves = [None if row.history is None else curve_of(row.history) for row in rows]
    style = _style()
    return (
        _environment()
        .get_template("report.html")
        .render(
            page=page_of(diagnosis),
            columns=columns,
            rows=list(zip(rows, curves, strict=True)),
            curved=any(curve is not None for curve in curves),
            shown=any(row.verdict.units for row in rows),
            legend=list(explain(diagnosis, [column.header for column in columns])),
            style=style,
            policy=f"default-src 'none'; style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'",
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("deadneuron.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"marks": MARKS, "curve_width": WIDTH, "curve_height": HEIGHT}
    environment.tests["grid"] = lambda part: isinstance(part, Grid)
    return environment


def _style() -> Markup:
    return Markup(_environment().get_template("report.css").render())  # a file of this package: nothing to escape


def _hash(style: str) -> str:
    return "sha256-" + b64encode(sha256(style.encode()).digest()).decode()
