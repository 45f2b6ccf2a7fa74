"""Events of mail services: each counts once, and the final state does not depend on how they arrive."""

from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from services.alerts.own_figures import QUERIES, bind_values
from services.cli.main import main
from services.core.db import transaction
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import FLEET
from services.mail.events import ingest_mail_events
from services.mail.suppressions import unsuppress
from services.providers.mail_event_payload import EVENT_KINDS
from tests.fakes.mail_events import AT, resend_body, sendgrid_body, sendgrid_event
from tests.ledger_rows import accept, new_event
from tests.mail.mails import NOW, audit_of, mails_of, new_mail, queue, work_of
from tests.shopify.sample_payloads import add_shop, rows

SUPPRESSED = "select shop_id, address, reason from mail_suppressions order by address, reason"
SIGNED = [0]


def receive(engine: Engine, body: bytes, *, shop_id: int = FLEET, topic: str = "events") -> None:
    """Record ``body`` as the ingress does, and do all its work."""
    provider = "sendgrid" if topic == "events" else "resend"
    SIGNED[0] += 1
    key = f"delivery-{SIGNED[0]}"
    accept(engine, new_event(1, shop_id=shop_id, provider=provider, topic=topic, delivery_key=key, body=body))
    work(engine)


def work(engine: Engine) -> None:
    runner = TransactionalRunner(engine, "tester", Random(1))
    while runner.run_batch(TOPICS["mail_event"], ingest_mail_events).done:
        pass


def send(engine: Engine, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
    """Store ``count`` mails as sent through SendGrid; return their rows."""
    queue(engine, *(new_mail(n, **fields) for n in range(count)))
    with transaction(engine) as tx:
        tx.execute(
            text(
                "update mail_outbox set status = 'sent', sent_at = created_at, transport = 'sendgrid', "
                "provider_id = 'provider-' || id"
            )
        )
        tx.execute(text("delete from work_queue"))
    return mails_of(engine)


def test_each_event_of_a_body_is_work_of_its_own_and_counts_once_for_ever(engine: Engine) -> None:
    (mail,) = send(engine)
    first = sendgrid_event("e1", "delivered", mail)
    second = sendgrid_event("e2", "bounce", mail, type="bounce", status="5.1.1", reason="550 <ada@b.ca> gone")
    receive(engine, sendgrid_body(first, second, first, sendgrid_event("e3", "open", mail)))
    assert work_of(engine) == [
        ("done", "split", None), ("done", "delivered", None), ("done", "bounced", None),
    ]  # fmt: skip
    with transaction(engine) as tx:
        unsuppress(tx, None, mail["recipient"], NOW, by="ada", why="it works")

    receive(engine, sendgrid_body(second, first))
    receive(engine, sendgrid_body(first, second, first, sendgrid_event("e3", "open", mail)))
    assert [row[1] for row in work_of(engine)][3:] == ["split", "split"]
    assert rows(engine, SUPPRESSED) == [], "an event that arrived again undoes no decision of a person"
    (after,) = mails_of(engine)
    assert (after["delivered_at"], after["bounced_at"], after["complained_at"]) == (AT, AT, None)
    shown = CliRunner().invoke(main, ["mail", "show", str(mail["id"])]).output
    assert "bounced_at" in shown
    assert "5.1.1 550 <[email]> gone" in shown
    assert "sent, bounced" in CliRunner().invoke(main, ["mail", "list", "--bounced"]).output
    details = rows(engine, "select kind, detail from mail_events where mail_id is not null order by id")
    assert details == [("delivered", ""), ("bounced", "5.1.1 550 <[email]> gone")]
    assert ("mail_event", "mail test to o***@example.com: bounced") in audit_of(engine)


KINDS: list[tuple[str, dict[str, Any], str, list[str]]] = [
    ("delivered", {}, "delivered", []),
    ("deferred", {"response": "400 try again later"}, "deferred", []),
    ("bounce", {"type": "bounce"}, "bounced", ["bounced"]),
    ("bounce", {}, "bounced", ["bounced"]),
    ("bounce", {"type": "blocked"}, "soft_bounced", []),
    ("blocked", {}, "soft_bounced", []),
    ("spamreport", {}, "complained", ["complained"]),
    ("unsubscribe", {}, "unsubscribed", ["unsubscribed"]),
    ("group_unsubscribe", {"asm_group_id": 10}, "unsubscribed", ["unsubscribed"]),
    ("dropped", {"reason": "Bounced Address"}, "dropped", ["bounced"]),
    ("dropped", {"reason": "Unsubscribed Address"}, "dropped", ["unsubscribed"]),
    ("dropped", {"reason": "Spam Reporting Address"}, "dropped", ["complained"]),
    ("dropped", {"reason": "Spam Content (if Spam Checker app enabled)"}, "dropped", []),
]


@pytest.mark.parametrize(("event", "fields", "kind", "reasons"), KINDS)
def test_events_of_sendgrid(
    engine: Engine, event: str, fields: dict[str, Any], kind: str, reasons: list[str]
) -> None:
    """django-anymail 379: a mail dropped for its "Bounced Address" is a bounce; novu 10635: ``blocked``."""
    shop_id = add_shop(engine)
    (mail,) = send(engine, shop_id=shop_id)
    receive(engine, sendgrid_body(sendgrid_event("e1", event, mail, **fields)), shop_id=shop_id)

    assert rows(engine, "select kind, mail_id from mail_events") == [(kind, mail["id"])]
    assert rows(engine, SUPPRESSED) == [(shop_id, "owner@example.com", reason) for reason in reasons]
    (after,) = mails_of(engine)
    is_bounce = kind in ("bounced", "soft_bounced", "dropped")
    assert (after["bounced_at"] is not None) == is_bounce
    assert (after["delivered_at"] is not None) == (kind == "delivered")
    assert (after["complained_at"] is not None) == (kind == "complained")


@pytest.mark.parametrize(
    ("topic", "bounce", "kind", "reasons"),
    [
        ("email.delivered", None, "delivered", []),
        (
            "email.bounced",
            {"type": "Permanent", "subType": "General", "message": "x"},
            "bounced",
            ["bounced"],
        ),
        ("email.bounced", {"type": "Transient", "subType": "MailboxFull"}, "soft_bounced", []),
        ("email.bounced", None, "soft_bounced", []),
        ("email.complained", None, "complained", ["complained"]),
        ("email.failed", None, "dropped", []),
    ],
)
def test_events_of_resend(
    engine: Engine, topic: str, bounce: dict[str, str] | None, kind: str, reasons: list[str]
) -> None:
    (mail,) = send(engine)
    body = resend_body(topic, mail, bounce=bounce)
    receive(engine, body, topic=topic)
    receive(engine, body, topic=topic)

    assert rows(engine, "select kind, mail_id from mail_events") == [(kind, mail["id"])]
    assert rows(engine, SUPPRESSED) == [(None, "owner@example.com", reason) for reason in reasons]
    assert [row[1] for row in work_of(engine)] == [kind, "duplicate"]


def test_a_mail_is_found_by_the_services_id_if_the_event_has_none_of_ours(engine: Engine) -> None:
    mail, other = send(engine, 2)
    event = sendgrid_event("e1", "delivered", sg_message_id="provider-1.recvd-5f-1.0", email="x@example.com")
    receive(engine, sendgrid_body(event))
    sent = {"transport": "resend", "provider_id": "p-2"}
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update mail_outbox set transport = %(transport)s, provider_id = %(provider_id)s where id = 2",
            sent,
        )
    body = resend_body("email.delivered", email_id="p-2", tags=[{"name": "a", "value": "b"}])
    receive(engine, body, topic="email.delivered")

    assert [row["delivered_at"] for row in mails_of(engine)] == [AT, AT]
    assert (mail["id"], other["id"]) == (1, 2)


def test_an_account_changes_no_mail_of_another_shop_or_installation(engine: Engine) -> None:
    shop_id, victim = add_shop(engine), add_shop(engine, "victim", "victim.myshopify.com")
    (mail,) = send(engine, shop_id=victim)
    stolen = sendgrid_event("e1", "bounce", mail, type="bounce")
    guessed = sendgrid_event("e2", "bounce", mail, type="bounce", shopfleet_message="shopfleet-other")
    named = sendgrid_event("e3", "bounce", sg_message_id="provider-1.x", email="owner@example.com")
    receive(engine, sendgrid_body(stolen, guessed, named), shop_id=shop_id)

    assert mails_of(engine)[0]["bounced_at"] is None
    assert rows(engine, SUPPRESSED) == [(shop_id, "owner@example.com", "bounced")]


@pytest.mark.parametrize(
    ("event", "reasons"),
    [("bounce", ["bounced"]), ("spamreport", ["complained"]), ("unsubscribe", []), ("blocked", [])],
)
def test_an_unknown_mail_suppresses_by_a_hard_bounce_or_a_complaint(
    engine: Engine, event: str, reasons: list[str]
) -> None:
    receive(engine, sendgrid_body(sendgrid_event("e1", event), sendgrid_event("e2", event, email="no mail")))

    assert rows(engine, SUPPRESSED) == [(None, "stranger@example.com", reason) for reason in reasons]


@pytest.mark.parametrize(
    ("days", "mails", "is_stopped"),
    [((0, 3, 6.9), 3, True), ((0, 3, 7.1), 3, False), ((0, 0, 0), 1, False), ((0, 4, 8, 10), 4, True)],
)
def test_three_soft_bounces_of_different_mails_within_7_days_suppress(
    engine: Engine, days: Sequence[float], mails: int, is_stopped: bool
) -> None:
    sent = send(engine, mails)
    events = [
        sendgrid_event(
            f"e{n}", "blocked", sent[n % mails], timestamp=int((AT + timedelta(days=day)).timestamp())
        )
        for n, day in enumerate(days)
    ]
    for event in reversed(events):
        receive(engine, sendgrid_body(event))

    assert rows(engine, SUPPRESSED) == [(None, "owner@example.com", "bounced")] * is_stopped


def final_state(engine: Engine) -> tuple[Any, ...]:
    mails = [
        {name: row[name] for name in ("id", "status", "delivered_at", "bounced_at", "complained_at")}
        for row in mails_of(engine)
    ]
    events = "select event_id, kind, at, mail_id, address_hash, detail from mail_events order by event_id"
    return mails, rows(engine, events), rows(engine, SUPPRESSED)


@pytest.mark.parametrize("days", [(1, 3), (3, 1)])
def test_the_first_time_of_a_kind_stays_in_any_order(engine: Engine, days: Sequence[int]) -> None:
    (mail,) = send(engine)
    for day in days:
        at = int((AT + timedelta(days=day)).timestamp())
        receive(engine, sendgrid_body(sendgrid_event(f"e{day}", "bounce", mail, timestamp=at)))

    assert mails_of(engine)[0]["bounced_at"] == AT + timedelta(days=1)


def test_bounces_count_in_the_alert_rule_and_suppressed_commercial_mail_does_not(engine: Engine) -> None:
    (mail, *_) = send(engine, 3)
    receive(engine, sendgrid_body(sendgrid_event("e1", "bounce", mail)))
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "update mail_outbox set status = 'refused', error_code = 'mail.suppressed', "
            "is_commercial = id = 2 where id > 1"
        )
        found = tx.exec_driver_sql(
            QUERIES["mails_refused"], bind_values("mails_refused", NOW + timedelta(hours=1))
        ).all()
    assert [(row.value, row.shop_id, row.code) for row in found] == [(2, None, "mail.suppressed")]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["delivered", "deferred", "bounce", "blocked", "spamreport", "unsubscribe", "open"]),
        st.integers(0, 2),
        st.integers(0, 9),
    ),
    max_size=9,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=EVENTS, data=st.data())
def test_any_split_order_and_repetition_gives_one_final_state(
    engine: Engine, facts: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    states = []
    for is_shuffled in (False, True):
        with transaction(engine) as tx:
            for table in ("mail_parts", "mail_outbox", "mail_events", "mail_suppressions", "work_queue"):
                tx.exec_driver_sql(f"delete from {table}")  # noqa: S608
        sent = send(engine, 3)
        first = sent[0]["id"]
        events = [
            sendgrid_event(
                f"e{n}",
                event,
                sent[which] if which < 2 else None,
                timestamp=int((AT + timedelta(days=day)).timestamp()),
            )
            for n, (event, which, day) in enumerate(facts)
        ]
        if is_shuffled:
            extra = data.draw(st.lists(st.sampled_from(events), max_size=5)) if events else []
            events = data.draw(st.permutations(events + extra))
        while events:
            size = data.draw(st.integers(1, len(events))) if is_shuffled else len(events)
            receive(engine, sendgrid_body(*events[:size]))
            events = events[size:]
        mails, stored, stopped = final_state(engine)
        for mail in mails:
            mail["id"] -= first
        stored = [(*row[:3], row[3] and row[3] - first, *row[4:]) for row in stored]
        states.append((mails, stored, stopped))

    assert states[0] == states[1]
    assert {row[1] for row in states[0][1]} <= set(EVENT_KINDS)
