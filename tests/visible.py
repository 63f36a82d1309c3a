"""What a reader sees of a page: its text and its tables, by parsers that know nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

from markdown_it import MarkdownIt

VOID = {"meta", "br", "hr", "img", "link", "input"}
HIDDEN = {"style", "title"}


@dataclass
class Seen:
    """A document, read."""

    words: list[str] = field(default_factory=list)  # text nodes that are shown, code aside
    code: list[str] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)  # rows of cells, the header first
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)  # text of <style> and <title>

    @property
    def text(self) -> str:
        return plain(" ".join(self.words + self.code))


def plain(text: str) -> str:
    """Blanks as a browser shows them, and without the joints that keep names from being links."""
    return " ".join(text.replace("\u200b", "").split())


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen, self.open = Seen(), []

    def handle_starttag(self, tag, attrs):
        self.seen.tags.append((tag, dict(attrs)))
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "table":
            self.seen.tables.append([])
        elif tag == "tr":
            self.seen.tables[-1].append([])
        elif tag in ("td", "th"):
            self.seen.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.seen.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert tag == self.open.pop(), f"</{tag}> closes nothing"

    def handle_data(self, data):
        hidden = next((tag for tag in reversed(self.open) if tag in HIDDEN), None)
        if hidden is not None:
            self.seen.hidden[hidden] = self.seen.hidden.get(hidden, "") + data
            return
        (self.seen.code if "code" in self.open else self.seen.words).append(data)
        if {"td", "th"} & set(self.open):
            self.seen.tables[-1][-1][-1] += data

    def handle_decl(self, decl):
        assert decl == "doctype html"

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")


def read_html(page: str) -> Seen:
    """Raises AssertionError where a tag is not closed, or closes another."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader.seen


def read_markdown(page: str) -> Seen:
    """As GitHub would show it: CommonMark with tables and HTML."""
    return read_html(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(page))
