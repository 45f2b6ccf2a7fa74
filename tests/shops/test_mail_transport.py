"""Mail transport of a shop: validated, stored with its other settings, audited."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, text

from services.shops.mail_transport import (
    MailChoice,
    find_mail_choices,
    get_mail_choice,
    list_choice_faults,
    plan_mail_choice,
    record_mail_choice,
)
from services.shops.shops import Shop, ShopInvalid, add_shop

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
UUID = "3f2b8c1e-1111-2222-3333-444455556666"
GRAPH = MailChoice(transport="graph", tenant_id=UUID, client_id=UUID, mailbox="mail@harbour.example")


@pytest.fixture
def shop(tx: Connection) -> Shop:
    return add_shop(
        tx, slug="harbour", name="Harbour", timezone="America/Los_Angeles", currency="CAD", now=NOW
    )


def audit_summaries(tx: Connection) -> list[str]:
    found = tx.execute(
        text(
            "select m.summary from audit_events e join audit_mutations m on m.event_id = e.id "
            "where e.action = 'shop.mail' order by e.id"
        )
    )
    return list(found.scalars())


def test_a_choice_is_kept_and_the_same_again_is_neither_new_nor_audited(tx: Connection, shop: Shop) -> None:
    assert record_mail_choice(tx, shop, GRAPH, now=NOW)
    assert not record_mail_choice(tx, shop, GRAPH, now=NOW)

    assert find_mail_choices(tx, [shop.id]) == {shop.id: GRAPH}
    assert audit_summaries(tx) == [
        "mail of harbour is sent through graph (mailbox mail@harbour.example); "
        "before, through the fleet's transport"
    ]


def test_a_shop_without_a_row_of_settings_gets_one(tx: Connection, shop: Shop) -> None:
    tx.execute(text("delete from shop_config"))

    assert record_mail_choice(tx, shop, MailChoice(sender="mail@harbour.example"), now=NOW)

    assert get_mail_choice(tx, shop.id) == MailChoice(sender="mail@harbour.example")


def test_a_wrong_choice_is_refused_and_leaves_the_one_before(tx: Connection, shop: Shop) -> None:
    record_mail_choice(tx, shop, GRAPH, now=NOW)

    with pytest.raises(ShopInvalid, match="mailbox is only for graph"):
        record_mail_choice(tx, shop, MailChoice(transport="smtp", mailbox="mail@harbour.example"), now=NOW)

    assert get_mail_choice(tx, shop.id) == GRAPH


def test_settings_stored_by_hand_are_read_as_far_as_they_are_valid(tx: Connection, shop: Shop) -> None:
    tx.execute(text("""update shop_config set settings = '{"mail": {"transport": "pigeon", "loft": 7}}'"""))

    choice = get_mail_choice(tx, shop.id)

    assert choice == MailChoice(transport="pigeon")
    assert list_choice_faults(choice) == [
        "transport='pigeon' should be one of smtp, graph, sendgrid, resend, file"
    ]


def test_another_transport_keeps_the_sender_and_drops_what_was_graphs() -> None:
    before = plan_mail_choice(GRAPH, {"sender": " mail@harbour.example "})

    assert before.mailbox == GRAPH.mailbox
    assert plan_mail_choice(before, {"transport": "smtp"}) == MailChoice(
        transport="smtp", sender="mail@harbour.example"
    )


@pytest.mark.parametrize(
    ("sender", "is_right"),
    [
        ("mail@harbour.example", True),
        ("Müller <mail@müller.example>", True),
        ('"Harbour, Inc." <mail@harbour.example>', True),
        ("Harbour, Inc. <mail@harbour.example>", False),
        ("a@b.example, c@d.example", False),
        ("Harbour <mail@harbour.example>\nBcc: x@y.example", False),
        ("Harbour", False),
        ("Harbour <mail@harbour>", False),
    ],
)
def test_a_sender_is_one_address_with_or_without_a_name(sender: str, is_right: bool) -> None:
    assert (list_choice_faults(MailChoice(sender=sender)) == []) == is_right


@pytest.mark.parametrize("tenant", ["common", "organizations", "harbour", "-a.example", "a b.example"])
def test_a_tenant_is_an_id_or_a_domain_and_not_everybody(tenant: str) -> None:
    (fault,) = list_choice_faults(plan_mail_choice(GRAPH, {"tenant_id": tenant}))

    assert fault.startswith("tenant_id=")
