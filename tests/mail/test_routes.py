"""Which transport a mail uses, faults in its settings, and threads that share a write."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, SettingsInvalid
from services.core.settings import read_settings
from services.ledger.work import FLEET
from services.mail.routes import find_routes
from services.mail.transports import MailRoute, OpenTransports
from services.providers.provider import SecretInvalid
from services.providers.registry import get_secret_kind
from services.shops.connections import (
    list_connections,
    record_connection_broken,
    record_connection_ok,
)
from services.shops.secrets import record_secret
from tests.fakes.mail_services import Resend
from tests.fakes.smtp import Scripted
from tests.mail.mails import mail_settings, mails_of, new_mail, queue, run, work_of
from tests.shopify.sample_payloads import add_shop

NEEDED = {
    "DATABASE_URL": "postgresql://u@h/d",
    "BROKER_URL": "redis://h",
    "SECRET_KEY": "k" * 40,
}


def give(engine: Engine, shop_id: int, mail: str, **secrets: str) -> None:
    """Store the JSON ``mail`` as the shop's mail settings, and its ``secrets``."""
    with transaction(engine) as tx:
        tx.execute(
            text(
                "update shop_config set settings = jsonb_build_object('mail', cast(:mail as jsonb)) "
                "where shop_id = :id"
            ),
            {"mail": mail, "id": shop_id},
        )
        for name, value in secrets.items():
            record_secret(tx, shop_id, name.replace("_", "-"), value, utc_now())


def route_of(engine: Engine, shop_id: int | None) -> MailRoute | Misconfigured:
    with transaction(engine) as tx:
        return find_routes(tx, {shop_id})[shop_id]


def test_a_shop_uses_its_own_transport_or_the_fleets(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = add_shop(engine, "harbour"), add_shop(engine, "meadow", "meadow.myshopify.com")
    give(
        engine,
        own,
        '{"transport": "resend", "sender": "Harbour <mail@harbour.example>"}',
        resend_key=Resend.KEY,
    )
    queue(engine, new_mail(shop_id=own), new_mail(shop_id=other), new_mail())
    resend = Resend()
    with (
        Scripted().serving() as fleet,
        resend.serving(),
        mail_settings(monkeypatch, SMTP_URL=fleet.url, RESEND_API_BASE=resend.url),
    ):
        run(engine)

    assert len(fleet.mails) == 2
    (mail,) = resend.mails
    assert mail["from"] == '"Harbour" <mail@harbour.example>'
    assert [row["transport"] for row in mails_of(engine)] == ["smtp", "resend", "smtp"]
    with transaction(engine) as tx:
        assert [(c.shop_id, c.provider) for c in list_connections(tx)] == [(None, "smtp"), (own, "resend")]


def test_a_shop_may_have_only_its_own_sender(engine: Engine, settings: object) -> None:
    shop_id = add_shop(engine)
    give(engine, shop_id, '{"sender": "Harbour <mail@harbour.example>"}')

    route = route_of(engine, shop_id)

    assert isinstance(route, MailRoute)
    assert (route.transport, route.sender) == ("smtp", "Harbour <mail@harbour.example>")
    assert (route.owner, route.account) == (shop_id, FLEET)


@pytest.mark.parametrize(
    ("mail", "code"),
    [
        ('{"transport": "pigeon"}', "mail.transport_unknown"),
        ('{"transport": "sendgrid"}', "mail.no_secret"),
        ('{"sender": "nobody"}', "mail.sender_invalid"),
    ],
)
def test_wrong_settings_of_a_shop_do_not_stop_other_shops(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, mail: str, code: str
) -> None:
    shop_id = add_shop(engine)
    give(engine, shop_id, mail)
    queue(engine, new_mail(shop_id=shop_id), new_mail())
    with Scripted().serving() as server, mail_settings(monkeypatch, SMTP_URL=server.url):
        run(engine)

    assert len(server.mails) == 1
    assert sorted(work_of(engine)) == [("dead", None, code), ("done", "sent", None)]


def test_routes_of_one_account_share_its_connections(engine: Engine, settings: object) -> None:
    shop_id = add_shop(engine)
    give(engine, shop_id, '{"sender": "mail@harbour.example"}')
    opened = OpenTransports()
    routes = [route_of(engine, shop_id), route_of(engine, None)]

    first, second = [opened.get(route) for route in routes if isinstance(route, MailRoute)]
    opened.close()

    assert first is second


def test_a_route_shows_no_secret(engine: Engine, settings: object) -> None:
    shop_id = add_shop(engine)
    give(engine, shop_id, '{"transport": "sendgrid"}', sendgrid_key="SG.abcdefgh.ijklmnop")

    assert "SG.abc" not in repr(route_of(engine, shop_id))


def test_every_fault_of_the_mail_settings_is_reported_together() -> None:
    wrong = {
        "MAIL_TRANSPORT": "graph",
        "GRAPH_TENANT_ID": "contoso.example",
        "MAIL_FROM": "nobody",
        "MAIL_RATE_PER_SECOND": "fast",
        "MAIL_CONNECTIONS": "0",
        "SMTP_URL": "http://mail",
    }

    with pytest.raises(SettingsInvalid) as caught:
        read_settings(NEEDED | wrong)

    message = str(caught.value)
    for words in (
        "GRAPH_CLIENT_ID is missing: MAIL_TRANSPORT=graph needs it",
        "GRAPH_CLIENT_SECRET is missing",
        "GRAPH_SENDER is missing",
        "MAIL_FROM='nobody'",
        "MAIL_RATE_PER_SECOND='fast'",
        "MAIL_CONNECTIONS='0'",
        "SMTP_URL begins with http://, it should begin with one of smtp, smtp+starttls, smtps",
    ):
        assert words in message
    assert "GRAPH_TENANT_ID" not in message


def test_settings_show_no_secret_of_a_mail_service(tmp_path: Path) -> None:
    secrets = {
        "MAIL_TRANSPORT": "sendgrid",
        "SENDGRID_API_KEY": "SG.hidden",
        "RESEND_API_KEY": "re_hidden",
        "GRAPH_CLIENT_SECRET": "hidden",
    }

    assert "hidden" not in repr(read_settings(NEEDED | secrets))


@pytest.mark.parametrize(
    ("name", "pasted", "words"),
    [
        ("sendgrid-key", "re_abcdefgh_12345678", "looks like a Resend API key"),
        ("sendgrid-key", "abcdef", "does not begin with SG."),
        ("resend-key", "SG.abcdefgh.ijkl", "looks like a SendGrid API key"),
        ("graph-client-secret", "3f2b8c1e-1111-2222-3333-444455556666", "the secret's id"),
        ("smtp-url", "https://mail.example", "names no mail server"),
    ],
)
def test_a_wrong_secret_is_refused_with_the_reason(name: str, pasted: str, words: str) -> None:
    with pytest.raises(SecretInvalid, match=words):
        get_secret_kind(name).parse(pasted)


def test_a_connection_stores_since_when_it_is_broken(engine: Engine) -> None:
    first, later = utc_now(), utc_now()
    with transaction(engine) as tx:
        assert record_connection_ok(tx, None, "smtp", first) == []
        broken = record_connection_broken(tx, None, "smtp", "smtp.credentials_refused", "535", first)
        again = record_connection_broken(tx, None, "smtp", "smtp.credentials_refused", "535", later)
        (state,) = list_connections(tx)
        mended = record_connection_ok(tx, None, "smtp", later)

    assert ([entry.action for entry in broken], again) == (["connection.broken"], [])
    assert (state.status, state.since, state.updated_at) == ("broken", first, first)
    assert [entry.action for entry in mended] == ["connection.mended"]
