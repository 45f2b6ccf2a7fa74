"""The mail about the breaks of a day."""

import csv
from datetime import date
from io import StringIO
from typing import Any

from services.cli.mail.preview import SAMPLE_SHOP
from services.closing.daily_mail import (
    DAILY_ANOMALIES_MAIL,
    MAX_SHOWN,
    plan_anomaly_context,
    plan_break_attachments,
    plan_break_context,
    sample_break,
)
from services.mail.compose import compose_mail
from services.mail.message import Mail
from services.payments.breaks import PaymentBreak

DAY = date(2026, 11, 20)


def side(minor: int, status: str = "paid", currency: str = "CAD") -> dict[str, Any]:
    return {"amount_cents": minor, "currency": currency, "status": status}


def mail_on(*breaks: PaymentBreak) -> Mail:
    return compose_mail(
        DAILY_ANOMALIES_MAIL,
        plan_anomaly_context(DAY, breaks, [], [], []),
        shop=SAMPLE_SHOP,
        recipient="owner@example.com",
        period=DAY.isoformat(),
        attachments=plan_break_attachments(DAY, breaks),
    )


def test_mail_lists_each_payment_with_both_sides_and_the_difference() -> None:
    mail = mail_on(
        sample_break("missing_here", "ch_1", None, side(125000)),
        sample_break("amount", "ch_2", side(1999, currency="JPY"), side(1500, currency="JPY")),
    )

    assert mail.subject == "Harbour Coffee, Fri 20 Nov 2026: 2 payments differ"
    assert mail.preview == "In all +1,250.00 CAD and −499 JPY. Nothing was changed."
    for seen in (mail.text, mail.html):
        for words in (
            "Stripe has this payment, our books do not",
            "ch_1",
            "+1,250.00 CAD",
            "−499 JPY",
            "nothing",
        ):
            assert words in seen
        assert "https://dashboard.stripe.com/payments/ch_1" in seen


def test_one_payment_is_written_in_the_singular() -> None:
    mail = mail_on(sample_break("missing_there", "ch_1", side(700), None))

    assert mail.subject == "Harbour Coffee, Fri 20 Nov 2026: 1 payment differs"
    assert "1 payment does not agree with Stripe" in mail.html


def test_several_breaks_of_a_payment_are_one_entry() -> None:
    facts = plan_break_context(
        DAY,
        [
            sample_break("status", "ch_1", side(500), side(700, "failed")),
            sample_break("amount", "ch_1", side(500), side(700, "failed")),
        ],
    )

    assert facts["count"] == 1
    assert facts["charges"][0]["what"] == "The amounts differ; the states differ"
    assert facts["charges"][0]["difference"] == "−5.00 CAD"
    assert facts["nets"] == ["−5.00 CAD"]


def test_payment_in_two_currencies_has_no_difference_and_counts_in_both() -> None:
    facts = plan_break_context(DAY, [sample_break("currency", "ch_1", side(500), side(500, currency="USD"))])

    assert facts["charges"][0]["difference"] == "other currency"
    assert facts["nets"] == ["−5.00 CAD", "+5.00 USD"]


def test_more_payments_than_a_mail_shows_are_attached_as_a_table() -> None:
    breaks = [
        sample_break("missing_here", f"ch_{number:04}", None, side(100 + number))
        for number in range(MAX_SHOWN + 5)
    ]
    mail = mail_on(*breaks)

    (part,) = mail.attachments
    rows = list(csv.DictReader(StringIO(part.content.decode("utf-8-sig"))))
    assert part.name == "breaks-2026-11-20.csv"
    assert len(rows) == MAX_SHOWN + 5
    assert rows[-1]["stripe_minor_units"] == str(100 + MAX_SHOWN + 4)
    assert mail.text.count("https://") == MAX_SHOWN
    assert f"ch_{MAX_SHOWN + 4:04}" in mail.text
    assert "ch_0000" not in mail.text
    assert "in the attached breaks-2026-11-20.csv" in " ".join(mail.text.split())
    assert mail_on(*breaks[:MAX_SHOWN]).attachments == ()


def test_id_that_a_spreadsheet_would_run_is_defused() -> None:
    breaks = [
        sample_break("missing_here", f'=cmd|"{number}"', None, side(1)) for number in range(MAX_SHOWN + 1)
    ]

    rows = list(csv.DictReader(StringIO(plan_break_attachments(DAY, breaks)[0].content.decode("utf-8-sig"))))

    assert rows[0]["payment"] == '\'=cmd|"0"'


def test_id_with_markup_stays_text_and_its_address_is_encoded() -> None:
    mail = mail_on(sample_break("missing_here", 'ch_"><b>', None, side(1)))

    assert "<b>" not in mail.html
    assert 'href="https://dashboard.stripe.com/payments/ch_%22%3E%3Cb%3E"' in mail.html
