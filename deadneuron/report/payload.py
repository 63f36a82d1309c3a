"""A `Picture` as JSON for the drawing code: arrays of bytes are deflated and in base64, which browsers unpack."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from deadneuron.pictures import Bytes, Death, Picture, SitePicture

PAYLOAD_VERSION = 1


def payload_of(picture: Picture) -> dict[str, Any]:
    """Plain dicts, lists, numbers and strings; numbers that JSON has no word for are null."""
    columns, sites = payload_of_sites(picture.sites)
    return {
        "version": PAYLOAD_VERSION,
        "name": picture.name,
        "steps": [picture.first_step, picture.last_step],
        "rates": [curve_payload(group, points) for group, points in picture.rates],
        "loss": [[step, _number(value)] for step, value in picture.loss],
        "columns": columns,
        "sites": sites,
    }


def payload_of_sites(sites: Iterable[SitePicture]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(columns, sites): layers that were drained together share their columns, which are written once."""
    places: dict[tuple[bytes, bytes], int] = {}
    columns: list[dict[str, Any]] = []
    made = []
    for site in sites:
        key = (site.first.tobytes(), site.last.tobytes())
        if key not in places:
            places[key] = len(columns)
            columns.append({"first": site.first.tolist(), "last": site.last.tolist()})
        made.append(site_payload(site) | {"columns": places[key]})
    return columns, made


def site_payload(site: SitePicture) -> dict[str, Any]:
    """One site, without its columns."""
    return {
        "number": site.number,
        "name": site.name,
        "op": site.op,
        "units": site.units,
        "dead": packed(site.dead),
        "silent": packed(site.silent),
        "rare": packed(site.rare),
        "rows": int(site.states.shape[0]),
        "states": packed(site.states),
        "perRow": site.per_row,
        "deaths": [death_payload(one) for one in site.deaths],
        "samples": site.samples,
        "bound": site.bound,
        "histogram": None if site.histogram is None else packed(site.histogram),
        "edges": [_number(edge) for edge in site.edges],
    }


def death_payload(one: Death) -> list[Any]:
    """One episode."""
    return [one.unit, one.first, one.last, None if one.rate is None else _number(one.rate), one.born, one.latest]


def curve_payload(group: str, points: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """The rate of one parameter group."""
    return {"group": group, "points": [[step, _number(value)] for step, value in points]}


def packed(array: Bytes, level: int = 9) -> str:
    """Row by row, deflated (zlib), in base64."""
    return base64.b64encode(zlib.compress(array.tobytes(), level)).decode("ascii")


def script_json(value: Any) -> str:
    """JSON that may stand inside a <script> element: no text in it can end the element or begin a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _number(value: float) -> float | None:
    """Six digits are more than a screen shows."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
