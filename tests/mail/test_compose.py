"""The content of a composed mail, and the inputs that are refused."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.policy import SMTP
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from jinja2 import UndefinedError

from services.cli.mail.preview import MAIL_TYPES, SAMPLE_SHOP
from services.mail.compose import _load_templates, compose_mail
from services.mail.formatting import change, moment, money, one_line, span
from services.mail.message import Attachment, MailInvalid, MailType
from services.mail.system_mails import TEST_MAIL, plan_audit_failed, plan_job_late
from tests.mail.mails import to_email_message
from tests.mail.sample_mail_types import KINDS, LETTER, NOW, chart, png, sample_mail

SERVICES = Path(__file__).parents[2] / "services"
NASTY = 'Harbour\r\nBcc: x@example.com\x00\x1b[31m\u202e\u2028 <script>alert(1)</script> & "Sons"'


@pytest.mark.parametrize("kind", KINDS)
def test_dedupe_key_has_kind_period_and_recipient(kind: str) -> None:
    mail = sample_mail(kind, replace(SAMPLE_SHOP, id=7))

    assert (mail.shop_id, mail.kind, mail.period) == (7, kind, "2026-11-20")
    assert mail.dedupe_key == f"{kind}:2026-11-20:owner@example.com"
    assert mail.subject
    assert mail.preview
    assert f"<title>{mail.subject}</title>" in mail.html.replace("&#39;", "'")


def test_same_context_gives_the_same_mail() -> None:
    assert sample_mail("job_late") == sample_mail("job_late")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not MAIL_TYPES[kind].can_unsubscribe])
def test_mail_of_the_whole_fleet_needs_no_shop(kind: str) -> None:
    mail_type = MAIL_TYPES[kind]
    mail = compose_mail(
        mail_type, mail_type.sample(None, NOW), shop=None, recipient="ops@example.com", period="1"
    )

    assert mail.shop_id is None
    assert "The whole fleet" in mail.html
    assert "None" not in mail.text


@pytest.mark.parametrize("kind", KINDS)
def test_script_and_control_characters_in_a_shops_name_are_harmless(kind: str) -> None:
    mail = sample_mail(kind, replace(SAMPLE_SHOP, name=NASTY))

    assert "<script" not in mail.html
    assert "Harbour Bcc: x@example.com" in mail.html
    assert "&lt;script&gt;" in mail.html
    for seen in (mail.subject, mail.preview, mail.text, mail.html):
        assert not set(seen) & set("\x00\x1b\r\u202e\u2028"), repr(seen)
    assert "\n" not in mail.subject + mail.preview
    assert "\nBcc:" not in mail.text
    message = to_email_message(mail, sender="Shopfleet <fleet@example.org>", message_id="1@x", date=NOW)
    assert message["Bcc"] is None
    assert message["Subject"] == mail.subject
    assert b"\nBcc:" not in message.as_bytes(policy=SMTP)


@pytest.mark.parametrize(
    "recipient", ["", "ada", "a@example.com\r\nBcc: b@example.com", "a@example.com, b@example.com", "a@b\x00"]
)
def test_recipient_must_be_one_address(recipient: str) -> None:
    with pytest.raises(MailInvalid, match="should be one mail address"):
        sample_mail("test", recipient=recipient)


def test_error_lists_missing_and_unknown_names() -> None:
    with pytest.raises(MailInvalid, match=r"missing: requested_at, requested_by, sender; unknown: colour"):
        compose_mail(
            TEST_MAIL, {"transport": "smtp", "colour": "red"}, shop=None, recipient="a@b.example", period="1"
        )


def test_every_mail_type_of_the_code_is_listed_once() -> None:
    texts = [path.read_text() for path in SERVICES.rglob("*.py")]
    named = [name for text in texts for name in re.findall(r'= MailType\(\n    name="(\w+)"', text)]

    assert sorted(named) == list(MAIL_TYPES)


def test_long_subject_is_cut() -> None:
    mail = sample_mail("job_late", replace(SAMPLE_SHOP, name="Harbour " * 60))

    assert len(mail.subject) <= 180
    assert mail.subject.endswith("…")


def compose_letter(**changed: object) -> object:
    return sample_mail(
        "letter_with_picture",
        **({"images": {"chart": chart()}, "unsubscribe": "https://example.com/u?a=1&b=2"} | changed),
    )


def test_picture_is_shown_by_name_and_is_part_of_the_mail() -> None:
    mail = sample_mail(
        "letter_with_picture",
        images={"chart": chart()},
        attachments=(Attachment(name="figures.csv", content_type="text/csv", content=b"a,b\r\n"),),
        unsubscribe="mailto:fleet@example.org?subject=unsubscribe",
    )
    message = to_email_message(mail, sender="fleet@example.org", message_id="1@x", date=NOW)

    assert 'src="cid:chart@shopfleet"' in mail.html
    pictures = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert [part["Content-ID"] for part in pictures] == ["<chart@shopfleet>"]
    assert pictures[0].get_payload(decode=True) == png()
    assert [part.get_filename() for part in message.iter_attachments()] == ["figures.csv"]
    assert "The figures are in figures.csv." in mail.text
    assert "The figures are in figures.csv." in mail.html


def test_picture_that_is_not_given_or_not_shown_is_refused() -> None:
    with pytest.raises(MailInvalid, match="shows the image 'chart', which was not given"):
        compose_letter(images={})
    with pytest.raises(MailInvalid, match="does not show logo"):
        compose_letter(images={"chart": chart(), "logo": chart()})


def test_letter_can_be_unsubscribed_in_header_text_and_html() -> None:
    mail = sample_mail(
        "letter_with_picture", images={"chart": chart()}, unsubscribe="https://example.com/u?a=1&b=2"
    )
    message = to_email_message(mail, sender="fleet@example.org", message_id="1@x", date=NOW)

    assert message["List-Unsubscribe"] == "<https://example.com/u?a=1&b=2>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "Unsubscribe: https://example.com/u?a=1&b=2\n" in mail.text
    assert 'href="https://example.com/u?a=1&amp;b=2"' in mail.html


def test_alert_cannot_be_unsubscribed_and_a_letter_must_be() -> None:
    with pytest.raises(MailInvalid, match="cannot be unsubscribed"):
        sample_mail("job_late", unsubscribe="https://example.com/u")
    with pytest.raises(MailInvalid, match="needs a way to unsubscribe"):
        compose_letter(unsubscribe="")
    assert sample_mail("job_late").list_unsubscribe == ""


@pytest.mark.parametrize(
    "bad", ["javascript:alert(1)", "https://x/ \r\nBcc: b@example.com", "https://x/>,<http://y"]
)
def test_unsubscribe_must_be_an_https_url_or_mailto(bad: str) -> None:
    with pytest.raises(MailInvalid, match="should be an https URL or a mailto:"):
        compose_letter(unsubscribe=bad)


def test_template_with_an_unknown_name_is_an_error() -> None:
    kind = replace(LETTER, name="letter_with_picture", sample=lambda _shop, _now: {})
    ready = _load_templates(kind)
    with pytest.raises(UndefinedError, match="'who' is undefined"):
        ready.text.render({})


def test_amounts_have_separators_and_a_sign_and_are_not_rounded() -> None:
    assert money(125000, "CAD") == "1,250.00 CAD"
    assert money(-1999, "JPY") == "−1,999 JPY"
    assert money(1, "KWD") == "0.001 KWD"
    assert money(5, "coins") == "5 minor units of coins"
    assert [change(minor, "CAD") for minor in (5, 0, -5)] == ["+0.05 CAD", "0.00 CAD", "−0.05 CAD"]


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("America/Los_Angeles", "Sun 1 Nov 2026, 01:30 -07:00"),
        ("Australia/Lord_Howe", "Sun 1 Nov 2026, 19:30 +11:00"),
        ("UTC", "Sun 1 Nov 2026, 08:30 UTC"),
    ],
)
def test_times_are_in_the_recipients_zone_and_name_it(zone: str, expected: str) -> None:
    context = {"zone": ZoneInfo(zone)}
    assert moment(context, datetime(2026, 11, 1, 8, 30, tzinfo=UTC)) == expected


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        moment({"zone": UTC}, datetime(2026, 11, 1))  # noqa: DTZ001


def test_durations_show_their_two_largest_units() -> None:
    lengths = [
        timedelta(0),
        timedelta(seconds=42),
        timedelta(minutes=45),
        timedelta(days=3, minutes=5, seconds=7),
    ]
    assert [span(length) for length in lengths] == ["0 s", "42 s", "45 min", "3 d 5 min"]


def test_one_line_keeps_normal_text() -> None:
    for name in ("Café “Zoë”", "ஹார்பர்", "👩\u200d🍳 Kitchen", "O'Neill & Sons"):
        assert one_line(name) == name
    assert one_line("a\n b\t\x07c\u202ed") == "a b cd"


def test_commands_in_a_mail_contain_the_shop_and_the_period() -> None:
    late = plan_job_late(
        job="digest",
        period="2026-W47",
        shop_slug="harbour",
        expected_at=NOW,
        zone_name="UTC",
        grace=timedelta(hours=1),
        started_at=None,
        seen="nothing",
    )
    fleet = plan_audit_failed(
        chain="fleet", kind="missing", seq=9, event_id=None, detail="the next is row 11", found_at=NOW
    )

    assert late["steps"][-1][1] == "fleet jobs run digest --shop harbour --period 2026-W47"
    assert fleet["steps"][0][1] == "fleet audit export"
    assert fleet["fault"] == "row 9 is missing"


def test_missing_template_names_the_package() -> None:
    kind = MailType(
        name="nowhere", package="tests.mail", about="", reader="", why="", sample=lambda _shop, _now: {}
    )
    with pytest.raises(MailInvalid, match=r"tests\.mail has no templates/nowhere\.txt"):
        _load_templates(kind)
