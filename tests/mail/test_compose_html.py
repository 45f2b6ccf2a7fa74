"""The requirements of mail clients for the HTML, checked for every mail type."""

import re
import tomllib
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest

from services.cli.mail.preview import SAMPLE_SHOP
from services.closing.daily_mail import DAILY_ANOMALIES_MAIL, MAX_SHOWN, plan_anomaly_context, sample_break
from services.mail.compose import compose_mail
from services.mail.message import Mail, MailInvalid
from services.mail.template_loader import inline_css
from tests.mail.sample_mail_types import KINDS, chart, sample_mail

ROOT = Path(__file__).parents[2]
MAIL_TEMPLATES = [
    p for p in sorted(ROOT.glob("services/**/templates/*.html")) if not {"console", "ingress"} & {*p.parts}
]
VOID = {"meta", "img", "br", "hr", "link", "input"}
FETCHED = {"src", "srcset", "background", "poster", "data", "action"}
ALL = (*KINDS, "letter_with_picture")


class Page(HTMLParser):
    """A mail's HTML: its tags, its visible text, and the tags that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.faults: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag, _ in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fields = {name: value or "" for name, value in attrs}
        self.tags.append((tag, fields))
        if tag not in VOID:
            is_unseen = tag in ("head", "style", "title") or "hidden" in fields.get("class", "").split()
            self._open.append((tag, is_unseen or bool(self._open and self._open[-1][1])))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1][0] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:]}")
            return
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and not self._open[-1][1]:
            self.words.append(data)


def composed(kind: str, **changed: object) -> Mail:
    if kind == "letter_with_picture":
        return sample_mail(kind, images={"chart": chart()}, unsubscribe="https://example.com/u", **changed)
    return sample_mail(kind, **changed)


@pytest.fixture(params=ALL)
def mail(request: pytest.FixtureRequest) -> Mail:
    return composed(request.param)


def test_every_tag_is_closed_in_its_place(mail: Mail) -> None:
    assert Page(mail.html).faults == []


def test_page_has_language_title_and_colour_schemes(mail: Mail) -> None:
    page = Page(mail.html)
    metas = {fields.get("name"): fields.get("content") for tag, fields in page.tags if tag == "meta"}

    assert mail.html.startswith("<!DOCTYPE html>")
    assert dict(page.tags)["html"]["lang"] == "en"
    assert f"<title>{mail.subject}</title>" in mail.html.replace("&#39;", "'")
    assert metas["color-scheme"] == "light dark"
    assert "width=device-width" in str(metas["viewport"])


def test_page_loads_nothing_and_has_no_script(mail: Mail) -> None:
    for tag, fields in Page(mail.html).tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form", "base", "video", "audio"), (
            tag
        )
        assert not [name for name in fields if name.startswith("on")], fields
        for name in FETCHED & fields.keys():
            assert fields[name].startswith("cid:"), f"{tag} {name}={fields[name]}"
        if tag == "a":
            assert fields["href"].startswith(("https://", "mailto:")), fields
    assert "url(" not in mail.html
    assert "@import" not in mail.html


def test_every_picture_has_a_description(mail: Mail) -> None:
    assert all(fields.get("alt") for tag, fields in Page(mail.html).tags if tag == "img")


def test_every_class_is_also_a_style_of_its_tag(mail: Mail) -> None:
    bare = [
        fields["class"] for _, fields in Page(mail.html).tags if "class" in fields and "style" not in fields
    ]
    assert bare == []


def test_every_layout_table_has_the_role_presentation(mail: Mail) -> None:
    for tag, fields in Page(mail.html).tags:
        if tag == "table" and fields.get("class") not in ("facts", "rows", "chart"):
            assert fields.get("role") == "presentation", fields


def test_media_queries_stay_in_the_head(mail: Mail) -> None:
    head = mail.html.partition("</head>")[0]

    assert "@media (max-width: 480px)" in head
    assert "@media (prefers-color-scheme: dark)" in head
    assert "[data-ogsc] .card" in head
    assert "!important" in head
    # Gmail ignores every style of a mail if one block is over 8,192 characters.
    assert max(len(block) for block in re.findall(r"<style>(.*?)</style>", head, re.DOTALL)) < 8192


def test_mail_is_smaller_than_gmails_limit(mail: Mail) -> None:
    assert len(mail.html.encode()) < 100_000


def test_no_jinja_remains(mail: Mail) -> None:
    for seen in (mail.html, mail.text, mail.subject, mail.preview):
        assert not re.search(r"\{[{%#]|[}%#]\}(?!\s*\})|jinja", seen)


def test_hidden_preview_comes_before_all_other_text(mail: Mail) -> None:
    body = mail.html.partition("<body")[2]
    hidden = re.search(r'<div class="hidden"[^>]*display: none[^>]*>([^<]*)', body)

    assert hidden
    assert hidden[1].replace("&#39;", "'").startswith(mail.preview)
    assert hidden.start() < body.index('class="brand"')


def test_text_has_the_same_figures_as_the_html(mail: Mail) -> None:
    figures = r"[+−]?\d[\d,.:]*\d|\d"
    shown = set(re.findall(figures, " ".join(Page(mail.html).words)))
    in_text = set(re.findall(figures, re.sub(r"https://\S+", "", mail.text)))

    assert shown == in_text
    assert "<" not in mail.text.replace("<shopfleet@localhost>", "")


def test_text_has_short_lines_and_ends_with_the_reason(mail: Mail) -> None:
    sender = "Harbour Coffee" if mail.list_unsubscribe else "Shopfleet, Harbour Coffee"
    assert f"\n-- \n{sender}. You get this because" in mail.text
    assert mail.text.endswith(f"\nUnsubscribe: {mail.list_unsubscribe}\n") == bool(mail.list_unsubscribe)
    assert "\n\n\n" not in mail.text
    assert mail.text.endswith("\n")


@pytest.mark.parametrize(
    "source",
    [
        "<table>{% for a in b %}<tr><td>{{ a }}</td></tr>{% endfor %}</table>",
        "<table><tbody><tr>{{ a }}<td>b</td></tr></tbody></table>",
        '<p {% if a %}class="lead"{% endif %}>b</p>',
        "<p>a<div>b</div></p>",
    ],
)
def test_template_that_the_inliner_would_change_is_refused(source: str) -> None:
    page = f"<!DOCTYPE html><html><head><title>a</title></head><body>{source}</body></html>"
    with pytest.raises(MailInvalid, match="is not valid HTML"):
        inline_css("odd", page)


def test_every_dark_colour_belongs_to_a_class_of_the_sheet() -> None:
    folder = Path(__file__).parents[2] / "services" / "mail" / "templates"
    names = {
        file: set(re.findall(r"^\.([\w-]+)", (folder / file).read_text(), re.M))
        for file in ("mail.css", "dark.css")
    }

    assert names["dark.css"] <= names["mail.css"]


def test_a_mail_has_the_dark_colours_of_all_its_classes(mail: Mail) -> None:
    dark = set(re.findall(r"^\.([\w-]+)", (ROOT / "services/mail/templates/dark.css").read_text(), re.M))
    used = {name for _, fields in Page(mail.html).tags for name in fields.get("class", "").split()}
    written = re.findall(r"^\[data-ogsc\] \.([\w-]+)", mail.html, re.M)

    assert used & dark <= set(written)


def test_a_mail_has_no_dark_colours_of_other_mails() -> None:
    html = sample_mail("outreach_mail").html

    assert ".card {" in html
    assert ".chart-day" not in html


def test_every_template_is_installed_with_the_package() -> None:
    root = Path(__file__).parents[2]
    shipped = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "services"
    ]
    suffixes = {file.suffix for file in (root / "services").glob("**/templates/*") if file.is_file()}

    assert {f"**/*{suffix}" for suffix in suffixes} <= set(shipped)


def test_hundreds_of_breaks_stay_under_the_limit() -> None:
    paid = {"amount_cents": 123_456_789, "currency": "CAD", "status": "paid"}
    breaks = [
        sample_break("amount", f"ch_3QK8fT2eZvKYlo2C1gX0{n:04}", paid, {**paid, "amount_cents": n})
        for n in range(900)
    ]
    mail = compose_mail(
        DAILY_ANOMALIES_MAIL,
        plan_anomaly_context(date(2026, 11, 20), breaks, [], [], []),
        shop=SAMPLE_SHOP,
        recipient="owner@example.com",
        period="2026-11-20",
    )

    assert len(mail.html.encode()) < 100_000
    assert f"These are the {MAX_SHOWN} largest of 900 payments." in mail.html
    assert Page(mail.html).faults == []


@pytest.mark.parametrize("path", MAIL_TEMPLATES, ids=lambda path: path.stem)
def test_no_class_of_a_mail_is_computed(path: Path) -> None:
    computed = re.findall(r'class="[^"]*\{[{%]', path.read_text())
    assert computed == [], "styles are put in before the template is filled"
