"""The last use of a secret: of which one, and how seldom it is written."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

from services.core.db import transaction
from services.core.errors import Misconfigured
from services.providers.call_outcomes import CallOutcomes
from services.providers.registry import SECRET_KINDS, SENDERS
from services.shops.secret_uses import SecretUses, find_call_secret, list_accepted, write_secret_uses
from services.shops.secrets import record_secret
from services.shops.shops import add_shop

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD, NEW = "sk_test_" + "a" * 24, "sk_test_" + "b" * 24


@pytest.fixture
def shop_id(engine: Engine) -> int:
    with transaction(engine) as tx:
        found = add_shop(tx, slug="a", name="A", timezone="UTC", currency="CAD", now=NOW).id
        record_secret(tx, found, "stripe-key", OLD, NOW - 2 * HOUR)
        record_secret(tx, found, "stripe-key", NEW, NOW - HOUR, timedelta(days=1))
        return found


def read_uses(tx: Connection) -> dict[int, datetime | None]:
    return {row.id: row.last_used_at for row in tx.execute(text("select * from shop_secrets order by id"))}


def read_in_order(engine: Engine) -> list[datetime | None]:
    with transaction(engine) as tx:
        return list(read_uses(tx).values())


@pytest.mark.parametrize("name", SENDERS)
@pytest.mark.parametrize("signer", [0, 1])
def test_a_delivery_has_the_position_of_the_secret_that_signed_it(name: str, signer: int) -> None:
    provider = SENDERS[name]
    sender = next(one for one in provider.senders if one.name == name)
    kind = provider.webhook_secret
    secrets = [kind.generate().encode() for _ in range(2)]
    headers = sender.sign(
        b'{"id": "evt_1", "type": "a.b"}', secrets[signer],
        topic="orders/create", webhook_id="w-1", domain="a.myshopify.com", now=NOW,
    )  # fmt: skip
    headers = {key.lower(): value for key, value in headers.items()}
    assert provider.read is not None

    delivery = provider.read(headers, b'{"id": "evt_1", "type": "a.b"}', secrets, NOW)

    assert delivery.secret_index == signer


@pytest.mark.usefixtures("shop_id")
def test_a_use_is_written_at_most_once_an_hour_and_never_goes_back(engine: Engine) -> None:
    with transaction(engine) as tx:
        old, new = read_uses(tx)
        for at in (NOW, NOW + HOUR / 2, NOW - 3 * HOUR):
            write_secret_uses(tx, {new: at})
            assert read_uses(tx) == {old: None, new: NOW}
        write_secret_uses(tx, {new: NOW + HOUR, old: NOW})
        assert read_uses(tx) == {old: NOW, new: NOW + HOUR}


@pytest.mark.usefixtures("shop_id")
def test_a_secret_that_is_being_replaced_is_not_waited_for(engine: Engine) -> None:
    with transaction(engine) as other, transaction(engine) as tx:
        old, new = read_uses(tx)
        other.execute(text("select 1 from shop_secrets where id = :id for update"), {"id": new})
        tx.execute(text("set local lock_timeout = '1s'"))
        write_secret_uses(tx, {old: NOW, new: NOW})
        assert read_uses(tx) == {old: NOW, new: None}


def test_calls_use_the_current_secret_of_their_provider_and_cost_a_query_in_ten_minutes(
    engine: Engine, shop_id: int
) -> None:
    uses, statements = SecretUses(), []
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    for minutes in (0, 1, 9):
        uses.record_calls(engine, [(shop_id, "stripe"), (shop_id, "twilio")], NOW + minutes * HOUR / 60)
    assert len(statements) == 2
    assert read_in_order(engine) == [None, NOW]

    uses.record_calls(engine, [(shop_id, "stripe")], NOW + HOUR)

    assert read_in_order(engine) == [None, NOW + HOUR]


def test_a_use_that_could_not_be_written_is_written_with_the_next_one(engine: Engine, shop_id: int) -> None:
    uses = SecretUses()
    unreachable = create_engine("postgresql+psycopg://127.0.0.1:1/nowhere")
    uses.record_calls(unreachable, [(shop_id, "stripe")], NOW)
    uses.record_calls(engine, [(shop_id, "stripe")], NOW)

    assert read_in_order(engine) == [None, NOW]


def test_a_refused_call_is_no_use() -> None:
    calls = CallOutcomes()
    calls.note("stripe", "", Misconfigured("stripe.key_refused", "HTTP 401"))
    calls.note("shopify", "orders", None)

    assert list_accepted([(7, calls)]) == {(7, "shopify")}


@pytest.mark.parametrize(
    ("provider", "name"),
    [("shopify", "shopify-token"), ("stripe", "stripe-key"), ("resend", "resend-key"), ("none", "")],
)
def test_a_provider_is_called_with_one_secret(provider: str, name: str) -> None:
    assert find_call_secret(provider) == name
    assert not name or not SECRET_KINDS[name].is_webhook
