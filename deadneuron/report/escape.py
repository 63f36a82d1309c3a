"""Text that stays text in GitHub-flavoured Markdown: no markup, link, mention, emoji or formula comes of a name."""

from __future__ import annotations

import re

_GAP = "\N{ZERO WIDTH SPACE}"  # between "@" and a name it keeps GitHub from telling that person
_LIVE = re.compile(r"@(?=\S)|#(?=\w)|:(?=//|[\w+-]+:)|\bwww(?=\.)", re.IGNORECASE)  # @me, #12, http://…, :smile:
_SPECIAL = {ord(char): f"&#{ord(char)};" for char in f"&<>\\`|${_GAP}"} | {ord(char): f"\\{char}" for char in "*_[]~"}
_OPENING = re.compile(r"^(?:([-+=#])(?!\w)|(\d+)([.)])(?!\S))")  # of a list, a heading or a rule, where a line begins
_TICKS = re.compile(r"`+")


def escaped(text: str) -> str:
    """A sentence that reads as it stands, in a paragraph, a list or a table's cell. Line ends become blanks.

    >>> print(escaped("a|b <script> @me *x* #7"))
    a&#124;b &#60;script&#62; @&#8203;me \\*x\\* #&#8203;7
    """
    text = " ".join(text.split())
    text = _LIVE.sub(lambda match: match[0] + _GAP, text).translate(_SPECIAL)
    return _OPENING.sub(lambda match: f"{match[2] or ''}\\{match[1] or match[3]}", text)


def code(text: str, *, cell: bool = False) -> str:
    """A name or a command in a span of code, where nothing has a meaning; nothing for an empty one.

    `cell`: it stands in a table, where a bar would begin the next cell.

    >>> print(code("layers.0"), code("a`b"), code("a|b", cell=True))
    `layers.0` ``a`b`` `a\\|b`
    """
    text = " ".join(text.split())
    if not text:
        return ""
    fence = "`" * (max(map(len, _TICKS.findall(text)), default=0) + 1)
    edge = " " if text[0] == "`" or text[-1] == "`" else ""
    shown = text.replace("|", "\\|") if cell else text
    return f"{fence}{edge}{shown}{edge}{fence}"
