"""The bytes of a mail: any server accepts them, any client reads them, and no header can be forged."""

import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mail.message import Attachment, Mail
from services.providers.mime import render_mime
from services.providers.outgoing_mail import AddressInvalid, OutgoingMail, mask_address
from tests.mail.mails import to_email_message, to_outgoing_mail

NOW = datetime(2026, 11, 22, 9, 0, 0, 123456, tzinfo=UTC)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)


def make_mail(**changes: Any) -> OutgoingMail:
    fields: dict[str, Any] = {
        "sender": "Shopfleet <fleet@example.org>",
        "recipient": "owner@example.com",
        "subject": "Hello",
        "text": "Good morning.\n",
        "html": "<p>Good morning.</p>\n",
        "message_id": "42@example.org",
        "date": NOW,
    }
    return OutgoingMail(**(fields | changes))


def parse(content: bytes) -> EmailMessage:
    message = message_from_bytes(content, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def lines(text: str) -> list[str]:
    return text.splitlines()


@settings(max_examples=150, deadline=None)
@given(text=WORDS, html=WORDS, subject=WORDS)
def test_any_text_is_read_back_unchanged_in_short_ascii_lines(text: str, html: str, subject: str) -> None:
    content = render_mime(make_mail(text=text, html=html, subject=subject))

    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", content)
    message = parse(content)
    assert lines(message.get_body(("plain",)).get_content()) == lines(text) + [""] * (not text)  # type: ignore[union-attr]
    assert lines(message.get_body(("html",)).get_content()) == lines(html) + [""] * (not html)  # type: ignore[union-attr]
    assert [name for name in message if name.lower() == "subject"] == ["Subject"]
    assert message["Bcc"] is None


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x0b", "\x85", "\u2028", "\0"])
def test_a_header_value_cannot_start_another_header(end: str) -> None:
    forged = f"x{end}Bcc: spy@example.net"
    content = render_mime(
        make_mail(subject=forged, sender=f"{forged} <fleet@example.org>", headers={"X-Shop": forged})
    )

    message = parse(content)
    assert message["Bcc"] is None
    assert "Bcc: spy@example.net" in message["Subject"]


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "owner",
        "a@b@c",
        "a b@example.com",
        "a@example.com, b@example.com",
        "<a@example.com>",
        "ö@example.com",
    ],
)
def test_an_invalid_address_is_refused(recipient: str) -> None:
    with pytest.raises(AddressInvalid, match="address"):
        render_mime(make_mail(recipient=recipient))


def test_a_domain_beyond_ascii_is_written_as_idna() -> None:
    assert (
        parse(render_mime(make_mail(recipient="owner@bücher.example")))["To"] == "owner@xn--bcher-kva.example"
    )


def test_a_text_that_contains_the_boundary_stays_in_its_part() -> None:
    mark = re.search(rb'boundary="([^"]+)"', render_mime(make_mail()))
    assert mark is not None
    forged = f"--{mark[1].decode()}--\nafter"

    message = parse(render_mime(make_mail(text=forged)))
    assert lines(message.get_body(("plain",)).get_content()) == lines(forged)  # type: ignore[union-attr]
    assert message.get_body(("html",)) is not None


def test_unsubscribing_by_url_takes_one_click() -> None:
    fields: dict[str, Any] = {
        "shop_id": 1, "kind": "digest", "period": "2026-11", "recipient": "o@example.com", "subject": "s",
        "text": "t", "html": "h",
    }  # fmt: skip

    def headers(unsubscribe: str) -> EmailMessage:
        mail = Mail(**fields, list_unsubscribe=unsubscribe)
        return to_email_message(mail, sender="f@example.org", message_id="1@x", date=NOW)

    by_url = headers("https://example.org/stop?key=1")
    assert by_url["List-Unsubscribe"] == "<https://example.org/stop?key=1>"
    assert by_url["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    by_mail = headers("mailto:stop@example.org")
    assert (by_mail["List-Unsubscribe"], by_mail["List-Unsubscribe-Post"]) == (
        "<mailto:stop@example.org>",
        None,
    )
    none = headers("")
    assert (none["List-Unsubscribe"], none["Auto-Submitted"]) == (None, "auto-generated")


def test_the_same_mail_gives_the_same_bytes() -> None:
    fields: dict[str, Any] = {
        "attachments": (Attachment(name="a.csv", content_type="text/csv", content=b"1"),),
        "inline": (Attachment(name="b.png", content_type="image/png", content=b"2", content_id="b"),),
    }

    assert render_mime(make_mail(**fields)) == render_mime(make_mail(**fields))


def test_repr_and_masked_address_show_no_personal_data() -> None:
    mail = Mail(
        shop_id=1,
        kind="k",
        period="p",
        recipient="o@example.com",
        subject="s",
        text="private",
        html="private",
    )

    assert "private" not in repr(mail)
    assert "private" not in repr(to_outgoing_mail(mail, sender="f@example.org", message_id="1@x", date=NOW))
    assert mask_address("owner@example.com") == "o***@example.com"
    assert mask_address("nonsense") == "***"
