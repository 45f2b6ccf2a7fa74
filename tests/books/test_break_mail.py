"""The mail on a break: what it says, and what it comes to when the mail server is odd. Over real SMTP."""

import socket
from datetime import UTC, date, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.books.break_letter import LINES, OpenBreak, compose_break_mail
from services.books.break_mail import BreakMail
from services.core.db import transaction
from services.core.errors import Misconfigured, OutcomeUnknown, Refused, RetryLater, WorkError
from services.ledger.work import Done, Outcome, Prepared, WorkItem
from services.mail.smtp import send_mail
from tests.books.smtp_sink import Sink, scripted_server, smtp_server
from tests.storefront.bodies import add_shop

NOW = datetime(2026, 11, 21, 8, 10, tzinfo=UTC)
PAID = {"amount_cents": 125000, "currency": "CAD", "status": "paid"}


def compose(*breaks: OpenBreak, **changed: Any) -> EmailMessage:
    facts: dict[str, Any] = {
        "work_id": 42,
        "shop": "Harbour & <Sons>\r\nBcc: x@example.com",
        "day": date(2026, 11, 20),
        "breaks": breaks,
        "to": "owner@example.com",
        "sender": "Shopfleet <fleet@example.org>",
        "now": NOW,
    }
    return compose_break_mail(**(facts | changed))


def test_mail_lists_each_break_with_both_sides_in_text_and_html() -> None:
    message = compose(
        OpenBreak("missing_here", "ch_1", None, PAID),
        OpenBreak("amount", "ch_<2>", PAID, {"amount_cents": 1999, "currency": "JPY", "status": "paid"}),
    )

    plain = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    html = message.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "2026-11-20 does not agree with Stripe" in plain
    assert "2 differences" in plain
    for words in ("ch_1", "Stripe has this payment, our books do not", "1250.00 CAD, paid", "1999 JPY, paid"):
        assert words in plain
        assert words in html
    assert "Harbour & <Sons>" in plain
    assert "Harbour &amp; &lt;Sons&gt;" in html
    assert "ch_&lt;2&gt;" in html
    assert message["Message-ID"] == "<reconciliation-mail.42@example.org>"
    assert message["Bcc"] is None


def test_mail_on_a_thousand_breaks_lists_the_first_and_counts_the_rest() -> None:
    message = compose(*(OpenBreak("missing_here", f"ch_{n}", None, PAID) for n in range(1000)))

    plain = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert plain.count("ch_") == LINES
    assert f"and {1000 - LINES} more." in plain


def item(payload: dict[str, Any] | None = None) -> WorkItem:
    return WorkItem(
        id=42,
        shop_id=1,
        topic="reconciliation_mail",
        key="2026-11-20",
        payload={"day": "2026-11-20"} if payload is None else payload,
        retry_count=0,
    )


def prepare(engine: Engine, given: WorkItem | None = None) -> Prepared | Outcome:
    with transaction(engine) as tx:
        return BreakMail().prepare(tx, [given or item()], NOW)[0]


@pytest.fixture
def shop(engine: Engine) -> Engine:
    """A shop with an owner, one open break and one closed one."""
    add_shop(engine)
    with transaction(engine) as tx:
        tx.exec_driver_sql("update shop_config set owner_email = 'owner@example.com'")
        for number, closed in ((1, None), (2, NOW)):
            tx.execute(
                text(
                    "insert into reconciliation_breaks (shop_id, day, kind, provider_id, theirs, found_at, "
                    "closed_at) values (1, '2026-11-20', 'missing_here', :id, "
                    """'{"amount_cents": 700, "currency": "CAD", "status": "paid"}', now(), :closed)"""
                ),
                {"id": f"ch_{number}", "closed": closed},
            )
    return engine


def test_mail_reaches_the_owner_over_smtp(shop: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.core.settings import get_settings

    sink = Sink()
    with smtp_server(sink) as url:
        monkeypatch.setenv("SMTP_URL", url)
        get_settings.cache_clear()
        ready = prepare(shop)
        assert isinstance(ready, Prepared)
        assert ready.act() == Done("sent")
    get_settings.cache_clear()

    (mail,) = sink.mails
    assert mail["To"] == "owner@example.com"
    assert mail["Subject"] == "Harbour: 2026-11-20 does not agree with Stripe (1)"
    words = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert "ch_1" in words
    assert "7.00 CAD, paid" in words
    assert "ch_2" not in words


def test_shop_without_an_owners_mail_has_no_recipient(shop: Engine) -> None:
    with transaction(shop) as tx:
        tx.exec_driver_sql("update shop_config set owner_email = ''")

    assert prepare(shop) == Done("no_recipient")


def test_breaks_that_closed_meanwhile_send_nothing(shop: Engine) -> None:
    with transaction(shop) as tx:
        tx.exec_driver_sql("update reconciliation_breaks set closed_at = now()")

    assert prepare(shop) == Done("no_breaks")


def test_payload_without_a_day_is_refused(shop: Engine) -> None:
    outcome = prepare(shop, item({}))

    assert isinstance(outcome, Refused)


def fault_of(url: str) -> WorkError:
    with pytest.raises(WorkError) as caught:
        send_mail(url, compose(OpenBreak("missing_here", "ch_1", None, PAID)), timeout_seconds=2)
    return caught.value


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [("451 later", RetryLater, "mail.unavailable"), ("554 spam", Refused, "mail.refused")],
)
def test_answer_to_the_text_decides_what_happens_next(answer: str, kind: type[WorkError], code: str) -> None:
    with smtp_server(Sink(answer)) as url:
        fault = fault_of(url)

    assert type(fault) is kind
    assert fault.code == code
    assert answer in fault.detail


def test_server_that_is_away_is_tried_later() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        fault = fault_of(f"smtp://127.0.0.1:{free.getsockname()[1]}")

    assert type(fault) is RetryLater
    assert fault.code == "mail.unavailable"


def test_silence_after_the_text_is_an_unknown_outcome() -> None:
    with scripted_server("220 hi", "250 hi", "250 from", "250 to", "354 go on") as url:
        fault = fault_of(url)

    assert type(fault) is OutcomeUnknown
    assert fault.code == "mail.no_answer"


def test_hanging_up_before_the_text_is_tried_later() -> None:
    with scripted_server("220 hi", "250 hi", "250 from") as url:
        fault = fault_of(url)

    assert type(fault) is RetryLater


def test_recipient_that_the_server_does_not_know_is_refused() -> None:
    with scripted_server("220 hi", "250 hi", "250 from", "550 no such user", "221 bye") as url:
        fault = fault_of(url)

    assert type(fault) is Refused
    assert "550 no such user" in fault.detail


@pytest.mark.parametrize("url", ["http://mail", "smtp://", "mail"])
def test_address_of_no_mail_server_says_what_would_be_right(url: str) -> None:
    fault = fault_of(url)

    assert isinstance(fault, Misconfigured)
    assert "SMTP_URL should begin with one of smtp, smtp+starttls, smtps" in fault.detail
