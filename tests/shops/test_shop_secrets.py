"""Secrets are sealed at rest, rotate with an overlap, and are never shown."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, insert, select, text

from services.core.crypto import SealBroken, Sealer
from services.core.db import transaction
from services.core.times import format_time
from services.providers.provider import SecretInvalid
from services.providers.registry import SECRET_KINDS, get_secret_kind
from services.shops.secrets import (
    WebhookKey,
    get_secret,
    list_secret_states,
    list_webhook_keys,
    record_secret,
)
from services.shops.shops import Shop, add_shop
from services.shops.tables import shop_secrets

NOW = datetime.now(UTC)
OLD, NEW, NEWEST = "shpss_" + "a" * 32, "shpss_" + "b" * 32, "shpss_" + "c" * 32


@pytest.fixture
def shop(tx: Connection) -> Shop:
    return add_shop(
        tx, slug="harbour", name="Harbour", timezone="America/Los_Angeles", currency="CAD", now=NOW
    )


def keys_of(tx: Connection) -> WebhookKey:
    (key,) = list_webhook_keys(tx)
    return key


def test_recorded_secret_is_read_back_and_is_sealed_in_its_row(tx: Connection, shop: Shop) -> None:
    record_secret(tx, shop.id, "shopify-webhook", OLD, NOW)

    assert get_secret(tx, shop.id, "shopify-webhook") == OLD
    assert OLD.encode() not in bytes(tx.scalars(select(shop_secrets.c.sealed)).one())


def test_secret_nobody_recorded_is_none(tx: Connection, shop: Shop) -> None:
    assert get_secret(tx, shop.id, "stripe-key") is None


def test_replaced_webhook_secret_stays_good_for_a_day(tx: Connection, shop: Shop) -> None:
    record_secret(tx, shop.id, "shopify-webhook", OLD, NOW)
    record_secret(tx, shop.id, "shopify-webhook", NEW, NOW)

    key = keys_of(tx)
    assert key.values == (NEW, OLD)
    assert key.expires == (None, NOW + timedelta(hours=24))
    assert key.live_values(NOW + timedelta(hours=23, minutes=59)) == (NEW, OLD)
    assert key.live_values(NOW + timedelta(hours=24)) == (NEW,)


def test_third_secret_ends_the_first_at_once(tx: Connection, shop: Shop) -> None:
    for value in (OLD, NEW, NEWEST):
        record_secret(tx, shop.id, "shopify-webhook", value, NOW)

    assert keys_of(tx).values == (NEWEST, NEW)


def test_replaced_token_is_gone_at_once(tx: Connection, shop: Shop) -> None:
    record_secret(tx, shop.id, "shopify-token", "shpat_" + "1" * 32, NOW)
    record_secret(tx, shop.id, "shopify-token", "shpat_" + "2" * 32, NOW)

    assert tx.scalar(text("select count(*) from shop_secrets")) == 1
    assert get_secret(tx, shop.id, "shopify-token") == "shpat_" + "2" * 32


def test_overlap_is_as_long_as_requested(tx: Connection, shop: Shop) -> None:
    record_secret(tx, shop.id, "shopify-webhook", OLD, NOW)
    record_secret(tx, shop.id, "shopify-webhook", NEW, NOW, timedelta(0))

    assert keys_of(tx).values == (NEW,)


def test_recording_the_current_value_again_does_not_end_the_overlap(tx: Connection, shop: Shop) -> None:
    record_secret(tx, shop.id, "shopify-webhook", OLD, NOW)
    record_secret(tx, shop.id, "shopify-webhook", NEW, NOW)

    assert record_secret(tx, shop.id, "shopify-webhook", NEW, NOW) is False
    assert keys_of(tx).values == (NEW, OLD)


def test_expired_secret_is_not_even_read(tx: Connection, shop: Shop) -> None:
    long_ago = NOW - timedelta(days=3)
    record_secret(tx, shop.id, "shopify-webhook", OLD, long_ago)
    record_secret(tx, shop.id, "shopify-webhook", NEW, long_ago)

    assert keys_of(tx).values == (NEW,)


def test_webhook_keys_hold_every_sender_and_no_token(tx: Connection, shop: Shop) -> None:
    record_secret(tx, shop.id, "stripe-webhook", "whsec_" + "s" * 32, NOW)
    record_secret(tx, shop.id, "standard-webhook/acme", "whsec_" + "c2VjcmV0" * 4, NOW)
    record_secret(tx, shop.id, "stripe-key", "sk_test_123", NOW)

    names = [(key.slug, key.name) for key in list_webhook_keys(tx)]
    assert names == [("harbour", "standard-webhook:acme"), ("harbour", "stripe-webhook")]


def test_unreadable_secret_is_reported_and_affects_no_other_shop(tx: Connection, shop: Shop) -> None:
    other = add_shop(tx, slug="mill", name="Mill", timezone="UTC", currency="EUR", now=NOW)
    lost = Sealer("another key " * 4)
    record_secret(tx, shop.id, "shopify-webhook", OLD, NOW, sealer=lost)
    record_secret(tx, other.id, "shopify-webhook", NEW, NOW)

    harbour, mill = list_webhook_keys(tx)
    assert (harbour.values, harbour.is_unreadable) == ((), True)
    assert (mill.values, mill.is_unreadable) == ((NEW,), False)
    with pytest.raises(SealBroken, match="SECRET_KEY_PREVIOUS"):
        get_secret(tx, shop.id, "shopify-webhook")


def test_unreadable_secret_is_replaced_whole(tx: Connection, shop: Shop) -> None:
    record_secret(tx, shop.id, "shopify-webhook", OLD, NOW, sealer=Sealer("another key " * 4))
    record_secret(tx, shop.id, "shopify-webhook", NEW, NOW)

    key = keys_of(tx)
    assert (key.values, key.is_unreadable) == ((NEW,), False)


def test_sealed_value_moved_to_another_shop_does_not_open(tx: Connection, shop: Shop) -> None:
    other = add_shop(tx, slug="mill", name="Mill", timezone="UTC", currency="EUR", now=NOW)
    record_secret(tx, shop.id, "shopify-webhook", OLD, NOW)
    sealed = tx.scalars(select(shop_secrets.c.sealed)).one()
    tx.execute(insert(shop_secrets).values(shop_id=other.id, name="shopify-webhook", sealed=sealed))

    with pytest.raises(SealBroken):
        get_secret(tx, other.id, "shopify-webhook")


def test_previous_secret_key_still_opens_and_the_new_one_seals() -> None:
    before, after = Sealer("k" * 32), Sealer("n" * 32, previous="k" * 32)

    assert after.open(before.seal(b"value", "place"), "place") == b"value"
    with pytest.raises(SealBroken):
        before.open(after.seal(b"value", "place"), "place")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("shopify-webhok", "x", "did you mean 'shopify-webhook'?"),
        ("standard-webhook:Acme!", "x", "did you mean 'standard-webhook:<source>'"),
        ("stripe-webhook", "sk_live_precious", "a Stripe secret key"),
        ("stripe-webhook", "", "is empty"),
        ("openphone-webhook", "not base64 precious", "white space"),
        ("standard-webhook:acme", "whsec_precious!", "not base64"),
    ],
)
def test_wrong_secret_is_refused_without_repeating_it(
    tx: Connection, shop: Shop, name: str, value: str, message: str
) -> None:
    with pytest.raises(SecretInvalid, match=message) as refused:
        record_secret(tx, shop.id, name, value, NOW)

    assert "precious" not in str(refused.value)


def test_secret_of_a_shop_that_is_not_there_is_refused(tx: Connection) -> None:
    with pytest.raises(SecretInvalid, match="no shop with the id 99"):
        record_secret(tx, 99, "shopify-webhook", OLD, NOW)


def test_no_repr_state_or_audit_row_holds_a_value(tx: Connection, shop: Shop) -> None:
    record_secret(tx, shop.id, "shopify-webhook", OLD, NOW, by="ada")
    record_secret(tx, shop.id, "shopify-webhook", NEW, NOW, by="ada")

    states = list_secret_states(tx, shop.id, NOW)
    audit = tx.execute(text("select * from audit_events e join audit_mutations m on m.event_id = e.id")).all()
    shown = repr(keys_of(tx)) + repr(states) + repr(audit)
    assert OLD not in shown
    assert NEW not in shown
    assert f"the previous one is valid until {format_time(NOW + timedelta(hours=24))}" in shown
    assert [state.previous_until for state in states] == [NOW + timedelta(hours=24)]
    assert [row.staff_label for row in audit if row.action == "shop.secret"] == ["ada", "ada"]


@pytest.mark.parametrize(
    "name", [*(name for name, kind in SECRET_KINDS.items() if kind.is_webhook), "standard-webhook:x"]
)
def test_generated_webhook_secret_is_one_that_may_be_recorded(tx: Connection, shop: Shop, name: str) -> None:
    assert record_secret(tx, shop.id, name, get_secret_kind(name).generate(), NOW) is True


def test_token_cannot_be_generated() -> None:
    with pytest.raises(SecretInvalid, match="issued by the provider"):
        get_secret_kind("shopify-token").generate()


def test_rotations_at_once_leave_one_current_and_one_previous(engine: Engine) -> None:
    with transaction(engine) as tx:
        shop_id = add_shop(tx, slug="harbour", name="H", timezone="UTC", currency="CAD", now=NOW).id
    begin = threading.Barrier(4)

    def rotate(number: int) -> None:
        begin.wait()
        with transaction(engine) as tx:
            record_secret(tx, shop_id, "shopify-webhook", f"secret-{number}", NOW)

    threads = [threading.Thread(target=rotate, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with transaction(engine) as tx:
        key = keys_of(tx)
    assert len(set(key.values)) == 2
    assert key.expires == (None, NOW + timedelta(hours=24))
