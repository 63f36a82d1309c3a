"""The report as one HTML file: nothing loaded from elsewhere, readable without scripts, in the dark and on paper."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from functools import cache
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deadneuron.pictures import Picture
from deadneuron.records import Diagnosis
from deadneuron.report.bundle import bundle, web_file
from deadneuron.report.cells import columns_of, rows_of
from deadneuron.report.charts.drawn import figure_of
from deadneuron.report.charts.figures import BOTTOM, HEIGHT, SHAPES, TOP, Figure, Forest
from deadneuron.report.curve import HEIGHT as CURVE_HEIGHT
from deadneuron.report.curve import WIDTH as CURVE_WIDTH
from deadneuron.report.curve import curve_of
from deadneuron.report.legend import explain
from deadneuron.report.page import Chart, Grid, Line
from deadneuron.report.payload import payload_of, script_json
from deadneuron.report.sentences import page_of
from deadneuron.report.style import MARKS

_SPARK = "dead, over time"  # the column that is a picture here


def render_html(diagnosis: Diagnosis, picture: Picture | None = None) -> str:
    """The report as one self-contained HTML document; with `picture` it shows what is drawn of the run, too.

    Its Content-Security-Policy allows this file's own style sheet and, where there is a picture, the drawing code, each
    by its hash, and nothing else: whatever a layer, a run or a file is called, no script of its runs and nothing is
    loaded.
    """
    columns = [column for column in columns_of(diagnosis) if column.header != _SPARK]
    rows = rows_of(diagnosis)
    curves = [None if row.history is None else curve_of(row.history) for row in rows]
    page = page_of(diagnosis)
    style = _style(drawn=picture is not None)
    script = None if picture is None else _script()
    scripts = "" if script is None else f"script-src '{_hash(script)}'; "
    return (
        environment()
        .get_template("report.html")
        .render(
            page=page,
            rates=[_drawn(part) for part in page.rates],
            columns=columns,
            rows=list(zip(rows, curves, strict=True)),
            curved=any(curve is not None for curve in curves),
            shown=any(row.verdict.units for row in rows),
            legend=list(explain(diagnosis, [column.header for column in columns])),
            style=style,
            script=script,
            payload=None if picture is None else Markup(script_json(payload_of(picture))),  # it escapes itself
            policy=f"default-src 'none'; {scripts}style-src '{_hash(style)}'; base-uri 'none'; form-action 'none'",
        )
    )


def _drawn(part: Line | Grid | Chart) -> Line | Grid | Figure | Forest | None:
    return figure_of(part) if isinstance(part, Chart) else part


@cache
def environment() -> Environment:
    """The one of all templates: whatever is put into one is text."""
    made = Environment(
        loader=PackageLoader("deadneuron.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {"marks": MARKS, "curve_width": CURVE_WIDTH, "curve_height": CURVE_HEIGHT}
    made.globals |= {"shapes": SHAPES, "top": TOP, "bottom": BOTTOM, "height": HEIGHT}
    made.tests |= {"grid": _is(Grid), "figure": _is(Figure), "forest": _is(Forest)}
    return made


def _is(kind: type) -> Callable[[object], bool]:
    return lambda part: isinstance(part, kind)


def _style(*, drawn: bool) -> Markup:
    style = environment().get_template("report.css").render()
    return Markup(style + web_file("style.css") if drawn else style)  # files of this package: nothing to escape


@cache
def _script() -> Markup:
    return Markup(bundle("page") + "\n")


def _hash(style: str) -> str:
    return "sha256-" + b64encode(sha256(style.encode()).digest()).decode()
