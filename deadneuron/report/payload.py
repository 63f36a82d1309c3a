"""A `Picture` as JSON for the drawing code: arrays of bytes are deflated and in base64, which browsers unpack."""

from __future__ import annotations

import base64
import json
import math
import zlib
from typing import Any

from deadneuron.pictures import Bytes, Picture, SitePicture

PAYLOAD_VERSION = 1


def payload_of(picture: Picture) -> dict[str, Any]:
    """Plain dicts, lists, numbers and strings; numbers that JSON has no word for are null."""
    return {
        "version": PAYLOAD_VERSION,
        "name": picture.name,
        "steps": [picture.first_step, picture.last_step],
        "rates": [{"group": group, "points": [[s, _number(v)] for s, v in points]} for group, points in picture.rates],
        "loss": [[step, _number(value)] for step, value in picture.loss],
        "sites": [site_payload(site) for site in picture.sites],
    }


def site_payload(site: SitePicture) -> dict[str, Any]:
    """One site."""
    return {
        "number": site.number,
        "name": site.name,
        "op": site.op,
        "units": site.units,
        "first": site.first.tolist(),
        "last": site.last.tolist(),
        "dead": packed(site.dead),
        "silent": packed(site.silent),
        "rare": packed(site.rare),
        "rows": int(site.states.shape[0]),
        "states": packed(site.states),
        "perRow": site.per_row,
        "deaths": [
            [one.unit, one.first, one.last, None if one.rate is None else _number(one.rate), one.born, one.latest]
            for one in site.deaths
        ],
        "samples": site.samples,
        "bound": site.bound,
        "histogram": None if site.histogram is None else packed(site.histogram),
        "edges": [_number(edge) for edge in site.edges],
    }


def packed(array: Bytes) -> str:
    """Row by row, deflated (zlib), in base64."""
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")


def script_json(value: Any) -> str:
    """JSON that may stand inside a <script> element: no text in it can end the element or begin a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _number(value: float) -> float | None:
    """Six digits are more than a screen shows."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
