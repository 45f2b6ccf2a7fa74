"""Loads a mail type's templates: puts them into the layout and inlines the CSS once, before any rendering.

Inlining CSS is slower than rendering, so it is done to the template and not to each mail. Before the HTML is
parsed, Jinja's statements become comments and its expressions become words. The parser may change attributes
only. If it moves a tag or a placeholder, as HTML parsers do in tables, the template is refused.
"""

import re
from collections.abc import Container
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from typing import TYPE_CHECKING

from services.core.counts import format_count
from services.mail.message import MailInvalid

if TYPE_CHECKING:
    from css_inline import CSSInliner

_PACKAGE = "services.mail"
_SLOT = "<!-- content -->"
_JINJA = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)
_PLACEHOLDER = re.compile(r"<!--jinja(\d+)-->|jinja(\d+)end")
_STATEMENT_IN_TAG = re.compile(r"<[a-z][^<>]*(?=<!--jinja)")
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_CLASSES = re.compile(r'class="([^"]*)"')
_WORD = re.compile(r"[\w-]+")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def load_source(package: str, name: str) -> tuple[str, str, str, str]:
    """Return subject, preview, text and HTML of a mail type as Jinja templates. Slow: once per process."""
    subject, preview, text = _split_text(name, _read(package, f"{name}.txt"))
    body = _read(package, f"{name}.html")
    html = _read(_PACKAGE, "layout.html").replace(_SLOT, body.strip())
    html = html.replace("<!-- dark -->", _dark_css(set(_WORD.findall(" ".join(_CLASSES.findall(html))))))
    layout = _read(_PACKAGE, "layout.txt")
    return subject, preview, layout.replace(_SLOT, text.strip("\n")), inline_css(name, html)


def inline_css(name: str, source: str) -> str:
    """Return the template ``source`` with the style sheet written into its tags."""
    found: list[str] = []

    def hide(match: re.Match[str]) -> str:
        found.append(match[0])
        number = len(found) - 1
        return f"<!--jinja{number}-->" if match[0].startswith("{%") else f"jinja{number}end"

    hidden = _JINJA.sub(hide, source)
    if inside := _STATEMENT_IN_TAG.search(hidden):
        raise MailInvalid(f"{name}.html is not valid HTML: a statement is inside a tag, {inside[0][:60]!r}")
    inlined = _make_inliner().inline(hidden)
    _compare_shapes(name, hidden, inlined)
    return _PLACEHOLDER.sub(lambda match: found[int(match[1] or match[2])], inlined)


def _compare_shapes(name: str, before: str, after: str) -> None:
    wanted, got = _HtmlShape(before).seen, _HtmlShape(after).seen
    for before_tag, after_tag in zip(wanted, got, strict=False):
        if before_tag != after_tag:
            raise MailInvalid(
                f"{name}.html is not valid HTML: {before_tag} became {after_tag}. Write every tbody, close "
                "every tag, and put only rows and cells into tables"
            )
    if len(wanted) != len(got):
        raise MailInvalid(
            f"{name}.html is not valid HTML: it has {format_count(len(wanted), 'tag')}, read as {len(got)}"
        )


class _HtmlShape(HTMLParser):
    """The tags of a document, comments and the placeholders between them, in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        filled = [value for _, value in sorted(attrs) if value and _PLACEHOLDER.search(value)]
        self.seen.append(" ".join([f"<{tag}>", *filled]))

    def handle_endtag(self, tag: str) -> None:
        self.seen.append(f"</{tag}>")

    def handle_comment(self, data: str) -> None:
        self.seen.append(f"<!--{data}-->")

    def handle_data(self, data: str) -> None:
        self.seen.extend(match[0] for match in _PLACEHOLDER.finditer(data))


def _split_text(name: str, source: str) -> tuple[str, str, str]:
    head, _, text = source.partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    if set(fields) != {"Subject", "Preview"}:
        raise MailInvalid(
            f"{name}.txt should begin with a line Subject: and a line Preview:, then an empty one"
        )
    return fields["Subject"], fields["Preview"], text


def _read(package: str, file: str) -> str:
    try:
        return (files(package) / "templates" / file).read_text("utf-8")
    except FileNotFoundError:
        raise MailInvalid(f"{package} has no templates/{file}") from None


def _dark_css(classes: Container[str]) -> str:
    """Return the dark colours of ``classes`` twice: as a media query, and for Outlook.com and Outlook's
    mobile apps, which set ``data-ogsc`` and ``data-ogsb`` on the mail.
    """
    rules = [
        (selector.strip(), body.strip().replace(";", " !important;"))
        for selector, body in _RULE.findall(_COMMENT.sub("", _read(_PACKAGE, "dark.css")))
        if selector.strip().removeprefix(".") in classes
    ]
    preferred = "\n".join(f"  {selector} {{ {body} }}" for selector, body in rules)
    marked = "\n".join(
        f"[data-ogsc] {selector}, [data-ogsb] {selector} {{ {body} }}" for selector, body in rules
    )
    return f"\n@media (prefers-color-scheme: dark) {{\n{preferred}\n}}\n</style>\n<style>\n{marked}\n"


@cache
def _make_inliner() -> "CSSInliner":
    from css_inline import CSSInliner

    return CSSInliner(
        inline_style_tags=False,
        keep_style_tags=True,
        load_remote_stylesheets=False,
        extra_css=_COMMENT.sub("", _read(_PACKAGE, "mail.css")),
    )
