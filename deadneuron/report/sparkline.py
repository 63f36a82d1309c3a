"""Small pictures in text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(shares: Sequence[float], width: int) -> str:
    """Shares between 0 and 1 as bars from an empty to a full one, pooled by their maximum to at most `width`.

    The scale is fixed, so that lines can be compared; 0 is a dot, to be told from a little.

    >>> sparkline([0, 0.01, 0.5, 1.0], width=8)
    '·▁▅█'
    """
    if len(shares) > width:
        edges = [round(i * len(shares) / width) for i in range(width + 1)]
        shares = [max(shares[a:b]) for a, b in pairwise(edges)]
    return "".join("·" if share <= 0 else _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)] for share in shares)


def bar(share: float, width: int) -> str:
    """A share between 0 and 1 as a bar of up to `width` characters, to an eighth of one.

    >>> bar(0.4, width=8)
    '███▎'
    """
    eighths = round(max(0.0, min(share, 1.0)) * width * 8)
    rest = " ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else ""
    return "█" * (eighths // 8) + rest
